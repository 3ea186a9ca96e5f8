//! What the tests of this module share: short specs, and a place for them that does not exist.

use std::path::{Path, PathBuf};

use super::paths::BaseDir;
use super::problems::Problems;
use super::{Ladder, SpecErrors, parse_at};

/// The least that a spec must say.
pub(super) const SPEC: &str = "\
[title]
source = 'bunny.mp4'
output = 'dist/bunny'
[[rung]]
name = '720p'
height = 720
";

/// [`SPEC`] without its rung.
pub(super) const HEAD: &str = "[title]\nsource = 'bunny.mp4'\noutput = 'dist/bunny'\n";

/// [`SPEC`] without its title.
pub(super) const TAIL: &str = "[[rung]]\nname = '720p'\nheight = 720\n";

/// Reads a spec in `folder`; the home folder is `/home/me`.
pub(super) fn read_at(text: &str, folder: &Path) -> Result<Ladder, SpecErrors> {
    let base = BaseDir {
        spec: folder.join("ladder.toml"),
        folder: folder.to_owned(),
        home: Some(PathBuf::from("/home/me")),
    };
    let mut problems = Problems::default();
    match parse_at(text, &base, &|_, _| Vec::new(), &mut problems) {
        Ok(ladder) if problems.is_empty() => Ok(ladder),
        _ => Err(problems.into_errors(Path::new("ladder.toml"), text)),
    }
}

/// Reads a spec that stands in `/no/such`.
pub(super) fn read(text: &str) -> Result<Ladder, SpecErrors> {
    read_at(text, Path::new("/no/such"))
}

pub(super) fn ladder(text: &str) -> Ladder {
    read(text).unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"))
}

/// The errors of an invalid spec.
pub(super) fn invalid(text: &str) -> String {
    match read(text) {
        Ok(ladder) => panic!("valid: {ladder:?}\nin\n{text}"),
        Err(errors) => errors.to_string(),
    }
}

/// Asserts that each part stands in the text, and shows both if not.
#[track_caller]
pub(super) fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}
