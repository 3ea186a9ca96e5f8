//! Where the cache lies when nobody says: the XDG base directory rules.

use std::ffi::OsString;
use std::path::PathBuf;

/// `$XDG_CACHE_HOME/rivet`, or `~/.cache/rivet`; `None` without a home folder.
/// A relative `XDG_CACHE_HOME` is ignored, as the XDG base directory specification asks.
pub fn default_folder() -> Option<PathBuf> {
    choose(std::env::var_os("XDG_CACHE_HOME"), std::env::home_dir())
}

fn choose(xdg: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    xdg.map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home.filter(|h| h.is_absolute()).map(|home| home.join(".cache")))
        .map(|base| base.join("rivet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_rules() {
        let home = Some(PathBuf::from("/home/ann"));
        assert_eq!(choose(Some("/x".into()), home.clone()), Some("/x/rivet".into()));
        assert_eq!(choose(Some("x".into()), home.clone()), Some("/home/ann/.cache/rivet".into()));
        assert_eq!(choose(None, home), Some("/home/ann/.cache/rivet".into()));
        assert_eq!(choose(None, None), None);
    }
}
