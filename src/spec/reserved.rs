//! Keys and values that have a meaning in a later version. They get an error of their own, so that nobody
//! looks for a spelling that works. docs/spec.md lists them, too.

use super::entry::Entry;
use super::keys::Table;
use super::problems::{Diagnostic, Span, quoted};

/// Keys that are reserved in some tables.
#[derive(Debug)]
pub(super) struct Keys {
    /// Headers of the tables, as in `keys`.
    tables: &'static [&'static str],
    names: &'static [&'static str],
    /// What there is in this version.
    hint: &'static str,
}

/// Values that are reserved for a key of some table.
#[derive(Debug)]
pub(super) struct Values {
    tables: &'static [&'static str],
    key: &'static str,
    /// Empty for any text: the key only takes numbers in this version.
    values: &'static [&'static str],
    hint: &'static str,
}

const TITLE: &[&str] = &["[title]", "[[title]]"];
const VIDEO: &[&str] = &["[video]", "[[rung]]"];

pub(super) const KEYS: &[Keys] = &[
    Keys {
        tables: &[""],
        names: &["chunks"],
        hint: "remove it; `[segments]` sets how the source is cut into chunks, each of which is one segment",
    },
    Keys {
        tables: &[""],
        names: &["frame"],
        hint: "remove it; frames are scaled only, so deinterlace, crop or filter the source beforehand",
    },
    Keys { tables: &[""], names: &["subtitles"], hint: "remove it; the stream has video and audio only" },
    Keys {
        tables: TITLE,
        names: &["start", "end"],
        hint: "remove it; a source is used from its first to its last frame",
    },
    Keys { tables: TITLE, names: &["rungs"], hint: "remove it; every title gets every `[[rung]]`" },
    Keys {
        tables: TITLE,
        names: &["video", "frame", "audio"],
        hint: "remove it; `[video]`, `[[rung]]` and `[[audio]]` hold for every title",
    },
    Keys { tables: VIDEO, names: &["codec"], hint: "remove it; the video is AV1" },
    Keys {
        tables: VIDEO,
        names: &["effort"],
        hint: "remove it; `speed` (rav1e) and `preset` (SVT-AV1, NVENC) set how much time an encode takes",
    },
    Keys {
        tables: VIDEO,
        names: &["max_bitrate", "quality"],
        hint: "remove it; quality is constant, and `crf` sets it",
    },
    Keys {
        tables: &["[[rung]]"],
        names: &["short_side"],
        hint: "remove it; `width` or `height` sets the size",
    },
    Keys {
        tables: &["[encoder.svt-av1]"],
        names: &["film-grain"],
        hint: "remove it; SVT-AV1's only option here is `preset`",
    },
    Keys { tables: &["[[audio]]"], names: &["loudness"], hint: "remove it; the loudness is the source's" },
    Keys {
        tables: &["[package]"],
        names: &["trick_play", "thumbnails", "encryption"],
        hint: "remove it; a package has segments and playlists only",
    },
];

pub(super) const VALUES: &[Values] = &[
    Values {
        tables: &["[segments]"],
        key: "target",
        values: &["chunk"],
        hint: "remove it; every segment is one chunk",
    },
    Values {
        tables: VIDEO,
        key: "color",
        values: &["sdr", "hdr10", "hlg"],
        hint: "write `\"source\"`: the colours of the source are kept",
    },
    Values { tables: &["[[audio]]"], key: "codec", values: &["aac", "copy"], hint: "write `\"opus\"`" },
    Values {
        tables: &["[[audio]]"],
        key: "track",
        values: &[],
        hint: "remove it for the default track, or write the number of a track, from 0",
    },
    Values {
        tables: &["[[audio]]"],
        key: "channels",
        values: &["source", "stereo", "mono", "5.1"],
        hint: "write `2`, or `1` for mono",
    },
    Values {
        tables: &["[package]"],
        key: "formats",
        values: &["dash", "mp4"],
        hint: "remove it; the format is `\"hls\"`",
    },
];

/// The error for a key or a table, if it is reserved where it stands.
pub(super) fn key(table: &Table, name: &str, span: Span) -> Option<Diagnostic> {
    let found = KEYS.iter().find(|keys| keys.tables.contains(&table.header) && keys.names.contains(&name))?;
    let what = match table.header {
        "" => format!("table {}", quoted(name)),
        _ => format!("{} {}", quoted(name), table.place()),
    };
    Some(reserved(what, span, found.hint))
}

/// The error for a value, if it is reserved for its key.
pub(super) fn value(entry: &Entry<'_>, value: &str) -> Option<Diagnostic> {
    let matches = |one: &&Values| {
        one.tables.contains(&entry.table.header)
            && one.key == entry.key.name
            && (one.values.is_empty() || one.values.contains(&value))
    };
    let found = VALUES.iter().find(matches)?;
    Some(reserved(format!("{} for {}", quoted(value), entry.name()), entry.span.clone(), found.hint))
}

fn reserved(what: String, span: Span, hint: &str) -> Diagnostic {
    Diagnostic::new(format!("{what} is reserved for a later version of rivet"))
        .at(span, "not in this version")
        .help(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::hints::{is_helped, with_line};
    use crate::spec::keys;
    use crate::spec::testing::{has, invalid};

    /// Asserts that the only error is that the line is reserved, and that its hint works.
    fn is_reserved(table: &str, line: &str, headline: &str) {
        let spec = with_line(table, line);
        let text = invalid(&spec);
        has(
            &text,
            &[&format!("error: {headline} is reserved for a later version of rivet"), "not in this version"],
        );
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
        assert!(!text.contains("did you mean"), "{text}");
        is_helped(&spec);
    }

    #[test]
    fn reserved_keys_are_told_from_mistakes() {
        for Keys { tables, names, .. } in KEYS {
            for (table, name) in tables.iter().flat_map(|table| names.iter().map(move |name| (*table, *name)))
            {
                match table {
                    "" => {
                        is_reserved("", &format!("[{name}]"), &format!("table `{name}`"));
                        is_reserved("", &format!("[[{name}]]"), &format!("table `{name}`"));
                    }
                    _ => is_reserved(
                        table,
                        &format!("{name} = {{ x = 1 }}"),
                        &format!("`{name}` in `{table}`"),
                    ),
                }
                let known = keys::tables().find(|known| known.header == table);
                assert!(known.is_none_or(|known| known.key(name).is_none()), "`{name}` in `{table}` works");
            }
        }
    }

    #[test]
    fn reserved_values_are_told_from_mistakes() {
        for Values { tables, key, values, .. } in VALUES {
            let any = ["en"];
            let values = if values.is_empty() { &any[..] } else { values };
            for (table, value) in
                tables.iter().flat_map(|table| values.iter().map(move |value| (table, value)))
            {
                let line = match *key {
                    "formats" => format!("{key} = ['{value}']"),
                    _ => format!("{key} = '{value}'"),
                };
                is_reserved(table, &line, &format!("`{value}` for `{key}` in `{table}`"));
            }
        }
    }

    #[test]
    fn the_documentation_lists_what_is_reserved() {
        let documentation = include_str!("../../docs/spec.md");
        let (_, section) = documentation.split_once("\n## Reserved for later versions\n").unwrap();
        let has = |table: &str, words: &[&str]| {
            let table = if table.is_empty() { "the top level".to_owned() } else { format!("`{table}`") };
            let mut rows = section
                .lines()
                .filter(|line| line.split(" | ").next().is_some_and(|tables| tables.contains(&table)));
            let all = |row: &str| words.iter().all(|word| row.contains(&format!("`{word}`")));
            assert!(rows.any(all), "docs/spec.md does not say that {words:?} are reserved in {table}");
        };
        for Keys { tables, names, .. } in KEYS {
            tables.iter().for_each(|table| has(table, names));
        }
        for Values { tables, key, values, .. } in VALUES {
            let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
            let words: Vec<&str> = quoted.iter().map(String::as_str).chain([*key]).collect();
            tables.iter().for_each(|table| has(table, &words));
        }
    }
}
