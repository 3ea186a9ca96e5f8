//! Names that the spec gives: which ones are allowed, and that no two are the same.
//! The names of rungs and audio renditions become folders of the output; those of titles do not.

use std::collections::HashMap;

use super::entry::Entry;
use super::problems::{Diagnostic, Problems, Read, Span, quoted};

/// Bytes of the longest name of a rung or an audio rendition.
const MAX_NAME: usize = 64;

/// Files that stand beside the rungs' folders in the output.
const TAKEN: [&str; 2] = ["master.m3u8", "manifest.mpd"];

/// The names given so far in one namespace.
pub(super) struct Names<'t> {
    given: Vec<(&'t str, Span)>,
    /// Help for a name that is given twice.
    rule: &'static str,
}

impl<'t> Names<'t> {
    /// The namespace of rungs and audio renditions.
    pub(super) fn of_renditions() -> Names<'t> {
        Names {
            given: Vec::new(),
            rule: "rename one: rungs and audio renditions become folders side by side, and some file systems \
                   ignore case",
        }
    }

    /// The namespace of titles.
    pub(super) fn of_titles() -> Names<'t> {
        Names { given: Vec::new(), rule: "rename one; case does not count" }
    }

    /// Reads a name that becomes a folder's.
    pub(super) fn folder_name(&mut self, entry: &Entry<'t>, problems: &mut Problems) -> Read<String> {
        let name = entry.text(problems)?;
        if let Some(fault) = folder_name_fault(name) {
            return Err(problems.report(
                entry
                    .problem("is not a valid folder name", fault)
                    .help(
                        "use letters a-z and A-Z, digits, `-`, `_` and `.`; start with a letter or digit, \
                         and do not end with `.`",
                    )
                    .help(entry.example()),
            ));
        }
        self.given.push((name, entry.span.clone()));
        Ok(name.to_owned())
    }

    /// Reads a name that is only shown.
    pub(super) fn free_name(&mut self, entry: &Entry<'t>, problems: &mut Problems) -> Read<String> {
        let name = entry.text(problems)?;
        let fault = if name.trim().is_empty() {
            "empty"
        } else if name.chars().any(char::is_control) {
            "contains a control character"
        } else if name.trim() != name {
            "starts or ends with a space"
        } else {
            self.given.push((name, entry.span.clone()));
            return Ok(name.to_owned());
        };
        Err(problems.report(entry.problem("is not a valid name", fault).help(entry.example())))
    }

    /// Reports every name that has been given before, in the order of the file. Names that differ only in
    /// case are equal, as folders are on some file systems.
    pub(super) fn finish(mut self, problems: &mut Problems) {
        self.given.sort_by_key(|(_, span)| span.start);
        let mut first: HashMap<String, Span> = HashMap::new();
        for (name, span) in self.given {
            let Some(earlier) = first.get(&name.to_lowercase()) else {
                first.insert(name.to_lowercase(), span);
                continue;
            };
            problems.report(
                Diagnostic::new(format!("duplicate name {}", quoted(name)))
                    .at(span, "used again here")
                    .and(earlier.clone(), "first used here")
                    .help(self.rule),
            );
        }
    }
}

/// Why a name is not made of POSIX's portable filename characters in a way that every file system,
/// shell and URL leaves alone.
fn folder_name_fault(name: &str) -> Option<String> {
    let Some(first) = name.chars().next() else {
        return Some("empty".to_owned());
    };
    let strange = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if let Some(c) = name.chars().find(strange) {
        return Some(format!("contains {}", quoted(&c.to_string())));
    }
    if !first.is_ascii_alphanumeric() {
        return Some(format!("starts with `{first}`"));
    }
    if name.ends_with('.') {
        return Some("ends with `.`".to_owned());
    }
    if name.len() > MAX_NAME {
        return Some(format!("longer than {MAX_NAME} characters"));
    }
    if TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
        return Some("reserved for a file of the output".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::testing::{HEAD, has, invalid, ladder};

    fn rungs(names: &[&str]) -> String {
        let rung = |name: &&str| format!("[[rung]]\nname = \"{name}\"\nheight = 720\n");
        HEAD.to_owned() + &names.iter().map(rung).collect::<String>()
    }

    #[test]
    fn portable_names_are_taken() {
        let longest = "x".repeat(MAX_NAME);
        let names = ["720p", "HD.full_range-2", "a", "4k-.-", &longest];
        let ladder = ladder(&rungs(&names));
        let read: Vec<&str> = ladder.rungs.iter().map(|rung| rung.name.as_str()).collect();
        assert_eq!(read, names);
    }

    #[test]
    fn other_names_are_refused_with_the_reason() {
        let too_long = "x".repeat(MAX_NAME + 1);
        for (name, reason) in [
            ("", "empty"),
            ("720 p", "contains ` `"),
            ("a/b", "contains `/`"),
            ("..", "starts with `.`"),
            ("-a", "starts with `-`"),
            ("_a", "starts with `_`"),
            ("a.", "ends with `.`"),
            ("größe", "contains `ö`"),
            ("a\\u0000", "contains `\\0`"),
            (&too_long, "longer than 64 characters"),
            ("Master.m3u8", "reserved for a file of the output"),
        ] {
            has(
                &invalid(&rungs(&[name])),
                &[
                    "`name` in `[[rung]]` is not a valid folder name",
                    reason,
                    "use letters a-z and A-Z",
                    "for example: `name = \"720p\"`",
                ],
            );
        }
    }

    #[test]
    fn the_second_of_two_equal_names_points_at_the_first() {
        let text = invalid(&rungs(&["720p", "360p", "720P"]));
        has(
            &text,
            &[
                "error: duplicate name `720P`",
                "ladder.toml:11:8",
                "------ first used here",
                "^^^^^^ used again here",
                "rename one: rungs and audio renditions",
            ],
        );
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }

    #[test]
    fn rungs_and_audio_share_a_namespace_in_the_order_of_the_file() {
        let spec = format!("{HEAD}[[audio]]\nname = \"main\"\n[[rung]]\nname = \"Main\"\nheight = 720");
        has(&invalid(&spec), &["duplicate name `Main`", "ladder.toml:7:8"]);
    }
}
