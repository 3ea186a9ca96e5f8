//! Reads `[cache]`: where results are kept. The cache itself is elsewhere; here it is a path.

use super::fields::Fields;
use super::keys;
use super::outputs::Located;
use super::paths::{self, Place, Spot};
use super::problems::{Problems, Read};

/// The cache folder, if the spec names one. Unlike an output it may stand anywhere: nothing in it
/// is removed that the cache did not write.
pub(super) fn read(root: &mut Fields<'_>, place: &Place, problems: &mut Problems) -> Read<Option<Located>> {
    let Some(mut fields) = root.table("cache", &keys::CACHE, problems)? else {
        return Ok(None);
    };
    let dir = fields.optional("dir", |entry| {
        let path = paths::read(&entry, place, problems)?;
        if let Some(obstacle) = paths::obstacle(&path) {
            let headline = "must be a folder, or free to become one";
            return Err(problems.report(entry.problem(headline, obstacle.to_string()).help(entry.example())));
        }
        Ok(Located { spot: Spot::new(&path), span: entry.span })
    });
    fields.finish(problems);
    dir
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::spec::testing::{SPEC, has, invalid, ladder, read_at};

    fn spec(lines: &str) -> String {
        format!("{SPEC}[cache]\n{lines}\n")
    }

    #[test]
    fn the_folder_is_relative_to_the_spec() {
        let dir = |lines: &str| ladder(&spec(lines)).cache.dir;
        assert_eq!(ladder(SPEC).cache.dir, None);
        assert_eq!(dir(""), None);
        assert_eq!(dir("dir = '../cache'").as_deref(), Some(Path::new("/no/cache")));
        assert_eq!(dir("dir = '/no/c'").as_deref(), Some(Path::new("/no/c")));
    }

    #[test]
    fn a_remote_is_not_known_yet() {
        has(
            &invalid(&spec("remote = 's3://bucket'")),
            &["unknown key `remote` in `[cache]`", "known here: `dir`"],
        );
    }

    #[test]
    fn what_cannot_be_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let text = read_at(&spec("dir = 'file/x'"), folder.path()).unwrap_err().to_string();
        has(&text, &["`dir` in `[cache]` must be a folder, or free to become one", "is a file"]);
        has(&invalid(&spec("dir = ''")), &["`dir` in `[cache]` is empty"]);
    }
}
