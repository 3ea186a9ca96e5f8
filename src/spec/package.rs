//! Reads `[package]`: which formats are published. How they are written is elsewhere.

use super::entry::Entry;
use super::fields::Fields;
use super::keys;
use super::ladder::{Package, PackageFormat};
use super::problems::{Diagnostic, Problems, Read, Span};

pub(super) fn read(root: &mut Fields<'_>, problems: &mut Problems) -> Read<Package> {
    let Some(mut fields) = root.table("package", &keys::PACKAGE, problems)? else {
        return Ok(default());
    };
    let formats = fields.optional("formats", |entry| formats(&entry, problems));
    fields.finish(problems);
    Ok(formats?.map_or_else(default, |formats| Package { formats }))
}

fn default() -> Package {
    Package { formats: vec![PackageFormat::Hls] }
}

fn formats(entry: &Entry<'_>, problems: &mut Problems) -> Read<Vec<PackageFormat>> {
    let elements = entry.elements(problems)?;
    if elements.is_empty() {
        return Err(problems
            .report(entry.problem("is an empty list", "nothing would be published").help(entry.example())));
    }
    let mut seen: Vec<(PackageFormat, Span)> = Vec::new();
    let formats: Vec<Read<PackageFormat>> = elements
        .into_iter()
        .map(|element| {
            let format: PackageFormat = element.choice(problems)?;
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == format) {
                return Err(problems.report(
                    Diagnostic::new(format!("the format `{format}` is given twice"))
                        .at(element.span, "this is the second")
                        .and(first.clone(), "this is the first")
                        .help("leave one out"),
                ));
            }
            seen.push((format, element.span));
            Ok(format)
        })
        .collect();
    formats.into_iter().collect()
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
                "error: `dash` is not available in this version of rivet",
                "error: `mp4` is not available in this version of rivet",
                "for `formats` in `[package]`",
                "help: available: `hls`",
            ],
        );
        has(
            &invalid(&spec("['HLS']")),
            &["`formats` in `[package]` must be `hls`", "did you mean `\"hls\"`?"],
        );
    }

    #[test]
    fn formats_are_a_list_of_something_and_nothing_twice() {
        has(&invalid(&spec("[]")), &["is an empty list", "nothing would be published"]);
        has(
            &invalid(&spec("'hls'")),
            &["`formats` in `[package]` must be a list", "for example: `formats = [\"hls\"]`"],
        );
        has(
            &invalid(&spec("['hls', 'hls']")),
            &["the format `hls` is given twice", "this is the first", "leave one out"],
        );
        has(&invalid(&spec("[1]")), &["must be a string"]);
    }
}
