//! Every table and key of `ladder.toml`, each with an example.
//! One list for reading, for "did you mean" and for the help in messages. It says which keys
//! there are and nothing about what they mean. Keys of encoders come from `catalog`.

use super::catalog;

/// A key of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// How it is written, for a help line: `height = 720`, or a table's header.
    pub(super) example: &'static str,
}

/// A table of the spec.
#[derive(Debug)]
pub(super) struct Table {
    /// As it stands in the file, brackets and all. Empty for the file itself.
    pub(super) header: &'static str,
    /// What it may hold, in groups that tables can share.
    pub(super) keys: &'static [&'static [Key]],
}

impl Table {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.all().find(|key| key.name == name)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.keys.iter().copied().flatten()
    }

    /// Where a key stands, for a message: "in `[video]`".
    pub(super) fn place(&self) -> String {
        match self.header {
            "" => "at the top level".to_owned(),
            header => format!("in `{header}`"),
        }
    }
}

/// Every table but those of encoders, in the order in which a spec is usually written; of the title, its
/// usual form.
const TABLES: [&Table; 9] = [&ROOT, &TITLE, &SEGMENTS, &VIDEO, &ENCODER, &RUNG, &AUDIO, &PACKAGE, &CACHE];

/// Every table.
pub(super) fn tables() -> impl Iterator<Item = &'static Table> {
    let encoders = catalog::OWN.into_iter().filter_map(|encoder| encoder.own.as_ref());
    TABLES.into_iter().chain(encoders.map(|own| &own.table))
}

pub(super) const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

pub(super) static ROOT: Table = Table {
    header: "",
    keys: &[&[
        key("title", "[title]"),
        key("segments", "[segments]"),
        key("video", "[video]"),
        key("encoder", "[encoder.rav1e]"),
        key("rung", "[[rung]]"),
        key("audio", "[[audio]]"),
        key("package", "[package]"),
        key("cache", "[cache]"),
    ]],
};

const TITLE_KEYS: &[Key] = &[
    key("name", r#"name = "bunny""#),
    key("source", r#"source = "media/bunny.mp4""#),
    key("output", r#"output = "dist/bunny""#),
];

/// The only title.
pub(super) static TITLE: Table = Table { header: "[title]", keys: &[TITLE_KEYS] };

/// One of many titles.
pub(super) static TITLES: Table = Table { header: "[[title]]", keys: &[TITLE_KEYS] };

pub(super) static SEGMENTS: Table = Table {
    header: "[segments]",
    keys: &[&[
        key("mode", r#"mode = "content""#),
        key("target", r#"target = "2s""#),
        key("min", r#"min = "500ms""#),
        key("max", r#"max = "4s""#),
    ]],
};

/// What `[video]` sets for every rung, and a rung for itself.
const VIDEO_KEYS: &[Key] = &[
    key("encoder", r#"encoder = "rav1e""#),
    key("crf", "crf = 32"),
    key("bit_depth", "bit_depth = 10"),
    key("color", r#"color = "source""#),
];

pub(super) static VIDEO: Table = Table { header: "[video]", keys: &[VIDEO_KEYS, catalog::SHARED] };

/// Beside these it holds tables whose names and keys are FFmpeg's; see `ffmpeg`.
pub(super) static ENCODER: Table = Table { header: "[encoder]", keys: &[&ENCODER_KEYS] };

/// A table for each encoder whose options rivet names.
const ENCODER_KEYS: [Key; catalog::OWN.len()] = {
    let mut keys = [key("", ""); catalog::OWN.len()];
    let mut at = 0;
    while at < keys.len() {
        if let Some(own) = &catalog::OWN[at].own {
            keys[at] = key(catalog::OWN[at].name, own.table.header);
        }
        at += 1;
    }
    keys
};

pub(super) static RUNG: Table = Table {
    header: "[[rung]]",
    keys: &[
        &[key("name", r#"name = "720p""#), key("width", "width = 1280"), key("height", "height = 720")],
        VIDEO_KEYS,
        catalog::SHARED,
    ],
};

pub(super) static AUDIO: Table = Table {
    header: "[[audio]]",
    keys: &[&[
        key("name", r#"name = "main""#),
        key("codec", r#"codec = "opus""#),
        key("bitrate", r#"bitrate = "128k""#),
        key("channels", "channels = 2"),
        key("language", r#"language = "en""#),
        key("track", "track = 0"),
    ]],
};

pub(super) static PACKAGE: Table =
    Table { header: "[package]", keys: &[&[key("formats", r#"formats = ["hls"]"#)]] };

pub(super) static CACHE: Table = Table {
    header: "[cache]",
    keys: &[&[
        key("dir", r#"dir = ".rivet-cache""#),
        key("remote", r#"remote = "s3://bucket/prefix?region=eu-central-1""#),
        key(
            "trusted-keys",
            r#"trusted-keys = ["rivet-ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"]"#,
        ),
    ]],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::testing::ladder;

    #[test]
    fn the_examples_of_all_keys_make_a_valid_spec() {
        let mut text = String::new();
        // The file itself and `[encoder]` only hold tables.
        let written = tables().filter(|table| !["", "[encoder]"].contains(&table.header));
        for table in written {
            text += &format!("{}\n", table.header);
            for key in table.all() {
                text += &format!("{}\n", key.example);
            }
        }
        let ladder = ladder(&text);
        assert_eq!(ladder.titles[0].name, "bunny");
        assert_eq!(ladder.rungs[0].rav1e.tiles, Some(4));
        assert_eq!(ladder.audio[0].language.as_deref(), Some("en"));
    }

    /// The part of docs/spec.md under the heading of a table.
    fn documented(header: &str) -> &'static str {
        let sections = include_str!("../../docs/spec.md").split("\n## ");
        let quoted = format!("`{header}`");
        let mut of_it = sections.filter(|section| section.lines().next().unwrap().contains(&quoted));
        of_it.next().unwrap_or_else(|| panic!("docs/spec.md has no heading of {header}"))
    }

    #[test]
    fn the_documentation_tells_of_every_key() {
        // Those of the file itself and of `[encoder]` are tables, with headings of their own.
        for table in tables().filter(|table| !["", "[encoder]"].contains(&table.header)) {
            let mut text = documented(table.header).to_owned();
            if table.header == RUNG.header {
                assert!(text.contains("any key of `[video]`"));
                text += documented(VIDEO.header);
            }
            for key in table.all() {
                let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
                let is_documented =
                    rows.map(|(keys, _)| keys).any(|keys| keys.contains(&format!("`{}`", key.name)));
                assert!(is_documented, "docs/spec.md says nothing of `{}` in {}", key.name, table.header);
            }
        }
        assert!(documented(TITLES.header).contains("`[[title]]`"));
    }

    #[test]
    fn an_example_shows_its_key() {
        for key in tables().flat_map(|table| table.all()) {
            assert!(key.example.contains(key.name), "{key:?}");
        }
    }
}
