//! Reads `[package]`: which formats are published. How they are written is elsewhere.

use super::fields::Fields;
use super::keys;
use super::ladder::{Package, PackageFormat};
use super::problems::{Problems, Read};

pub(super) fn read(root: &mut Fields<'_>, problems: &mut Problems) -> Read<Package> {
    let Some(mut fields) = root.table("package", &keys::PACKAGE, problems)? else {
        return Ok(default());
    };
    let formats =
        fields.optional("formats", |entry| entry.choices("format", "nothing would be published", problems));
    fields.finish(problems);
    Ok(formats?.map_or_else(default, |formats| Package { formats }))
}

fn default() -> Package {
    Package { formats: vec![PackageFormat::Hls] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::testing::{SPEC, has, invalid, ladder};

    fn spec(formats: &str) -> String {
        format!("{SPEC}[package]\nformats = {formats}\n")
    }

    #[test]
    fn hls_is_the_default() {
        assert_eq!(ladder(SPEC).package.formats, [PackageFormat::Hls]);
        assert_eq!(ladder(&format!("{SPEC}[package]")).package, ladder(SPEC).package);
        assert_eq!(ladder(&spec("['hls']")).package, ladder(SPEC).package);
    }

    #[test]
    fn formats_to_come_are_told_from_unknown_ones() {
        has(
            &invalid(&spec("['hls', 'dash', 'mp4']")),
            &[
                "error: `dash` for `formats` in `[package]` is reserved for a later version of rivet",
                "error: `mp4` for `formats` in `[package]` is reserved for a later version of rivet",
                "help: remove it; the format is `\"hls\"`",
            ],
        );
        has(
            &invalid(&spec("['HLS']")),
            &["`formats` in `[package]` must be `hls`", "did you mean `\"hls\"`?"],
        );
    }

    #[test]
    fn formats_are_a_list_of_something_and_nothing_twice() {
        has(&invalid(&spec("[]")), &["is an empty array", "nothing would be published"]);
        has(
            &invalid(&spec("'hls'")),
            &["`formats` in `[package]` must be an array", "for example: `formats = [\"hls\"]`"],
        );
        has(
            &invalid(&spec("['hls', 'hls']")),
            &["duplicate format `hls`", "first listed here", "remove one"],
        );
        has(&invalid(&spec("[1]")), &["must be a string"]);
    }
}
