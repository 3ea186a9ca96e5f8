//! The default folders of the cache and of the user's configuration, by the XDG base directory specification.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Digest;

/// `$XDG_CACHE_HOME/rivet`, or `~/.cache/rivet`; `None` without a home folder.
/// A relative `XDG_CACHE_HOME` is ignored, as the XDG base directory specification asks.
pub fn default_folder() -> Option<PathBuf> {
    base_dir(std::env::var_os("XDG_CACHE_HOME"), std::env::home_dir(), ".cache")
}

/// `$XDG_CONFIG_HOME/rivet`, or `~/.config/rivet`, by the same rules.
pub(super) fn config_folder() -> Option<PathBuf> {
    base_dir(std::env::var_os("XDG_CONFIG_HOME"), std::env::home_dir(), ".config")
}

/// The isolated namespace within the cache in `folder` for results of builds that trust more than the user
/// does: see [`Trust::extra_trust`](super::trust::Trust::extra_trust). The name is not shortened: keys could
/// be generated until a short name collides.
pub fn isolated_namespace(folder: &Path, name: &Digest) -> PathBuf {
    folder.join("isolated").join(name.to_string())
}

/// The isolated namespaces within the cache in `folder`, in order. Symbolic links are skipped: another user
/// of a shared folder could have a cache elsewhere cleaned through one.
pub fn isolated_namespaces(folder: &Path) -> Vec<PathBuf> {
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let within = folder.join("isolated");
    if !is_folder(&within) {
        return Vec::new();
    }
    let folders = std::fs::read_dir(within).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| is_folder(path) && path.file_name().and_then(Digest::of_name).is_some();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).filter(is_one).collect();
    folders.sort();
    folders
}

fn base_dir(xdg: Option<OsString>, home: Option<PathBuf>, within_home: &str) -> Option<PathBuf> {
    xdg.map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home.filter(|h| h.is_absolute()).map(|home| home.join(within_home)))
        .map(|base| base.join("rivet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_rules() {
        let home = Some(PathBuf::from("/home/ann"));
        let base_dir = |xdg: Option<&str>, home| base_dir(xdg.map(OsString::from), home, ".cache");
        assert_eq!(base_dir(Some("/x"), home.clone()), Some("/x/rivet".into()));
        assert_eq!(base_dir(Some("x"), home.clone()), Some("/home/ann/.cache/rivet".into()));
        assert_eq!(base_dir(None, home), Some("/home/ann/.cache/rivet".into()));
        assert_eq!(base_dir(None, None), None);
    }

    #[test]
    fn links_are_no_caches_that_lie_apart() {
        let place = tempfile::tempdir().unwrap();
        let [shared, private, linked] = ["shared", "private", "linked"].map(|name| place.path().join(name));
        let [one, other] = [b"one", b"two"].map(|name| Digest::of(name));
        std::fs::create_dir_all(isolated_namespace(&shared, &one)).unwrap();
        std::fs::create_dir(&private).unwrap();
        std::os::unix::fs::symlink(&private, isolated_namespace(&shared, &other)).unwrap();
        assert_eq!(isolated_namespaces(&shared), [isolated_namespace(&shared, &one)]);
        std::fs::create_dir(&linked).unwrap();
        std::os::unix::fs::symlink(shared.join("isolated"), linked.join("isolated")).unwrap();
        assert_eq!(isolated_namespaces(&linked), [] as [PathBuf; 0]);
    }
}
