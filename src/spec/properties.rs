//! Property tests of the whole module: nothing that a person or a program writes makes it panic,
//! and whatever it lets through keeps every promise of its types.

use std::path::Path;

use proptest::prelude::*;

use super::testing::{SPEC, read};
use super::{Encoder, Ladder, Rung, SegmentMode};

/// A spec that uses every key.
const FULL: &str = r#"# Äpfel, for a line that is not ASCII
[title]
name = "bunny"
source = "media/bunny.mp4"
output = "dist/bunny"
[segments]
mode = "content"
target = "2s"
min = "500ms"
max = "4s"
[video]
encoder = "rav1e"
speed = 8
crf = 32
bit_depth = 10
color = "source"
[encoder.rav1e]
speed = 9
tiles = 4
[encoder.svt-av1]
preset = 10
[encoder.nvenc]
preset = 6
[encoder.libaom-av1]
cpu-used = 8
tune = "ssim"
enable-cdef = true
[[rung]]
name = "720p"
width = 1280
height = 720
[[rung]]
name = "360p"
height = 360
crf = 36
encoder = ["nvenc", "svt-av1", "libaom-av1", "av1_vaapi", "rav1e"]
[[rung]]
name = "240p"
height = 240
encoder = "nvenc"
preset = 4
[[audio]]
name = "main"
codec = "opus"
bitrate = "128k"
channels = 2
language = "en"
track = 0
[package]
formats = ["hls"]
[cache]
dir = ".rivet-cache"
remote = "s3://bucket/prefix?region=eu-central-1"
trusted-keys = ["rivet-ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"]
"#;

/// What mutations insert: fragments of specs, and what does not belong there.
const FRAGMENTS: &[&str] = &[
    "[[",
    "]]",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "'''",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\t",
    " ",
    "#",
    "rung",
    "title",
    "audio",
    "[title]\n",
    "[[title]]\n",
    "[rung]\n",
    "[[rung]]\n",
    "[video]\n",
    "name",
    "name = \"a\"\n",
    "speed = 5\n",
    "preset = 8\n",
    "[encoder.av1_qsv]\n",
    "[chunks]\n",
    "effort = 5\n",
    "crf = 9\ncrf = 9\n",
    "\"chunk\"",
    "[encoder]\n",
    "\"nvenc\"",
    "\"libsvtav1\"",
    "[\"av1_amf\", \"svt-av1\"]",
    "libaom-av1",
    "cpu-used = 8\n",
    "crf",
    "mode = \"fixed\"\n",
    "-1",
    "0",
    "720",
    "0x7f",
    "1e400",
    "nan",
    "9999999999999999999999",
    "2s",
    "1979-05-27",
    "true",
    "\\u0000",
    "\\n",
    "..",
    "/",
    "~",
    "ä",
    "\u{301}",
    "🎞",
    "\u{200b}",
    "\u{202e}",
    "\u{feff}",
    "\0",
    "\u{1b}[31m",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(&'static str),
    Delete(usize),
    /// Copies some characters from elsewhere in the text.
    Copy(prop::sample::Index, usize),
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, Edit)>> {
    let edit = prop_oneof![
        prop::sample::select(FRAGMENTS).prop_map(Edit::Insert),
        (1usize..20).prop_map(Edit::Delete),
        (any::<prop::sample::Index>(), 1usize..60).prop_map(|(at, n)| Edit::Copy(at, n)),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), edit), 1..8)
}

fn edited(text: &str, edits: &[(prop::sample::Index, Edit)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, edit) in edits {
        let at = at.index(chars.len() + 1);
        match edit {
            Edit::Insert(fragment) => drop(chars.splice(at..at, fragment.chars())),
            Edit::Delete(count) => drop(chars.drain(at..(at + count).min(chars.len()))),
            Edit::Copy(from, count) => {
                let from = from.index(chars.len() + 1);
                let copy = chars[from..(from + count).min(chars.len())].to_vec();
                drop(chars.splice(at..at, copy));
            }
        }
    }
    chars.into_iter().collect()
}

/// Reads a text, and renders its errors or checks what the types of the ladder promise.
fn reads(text: &str) -> Result<(), TestCaseError> {
    match read(text) {
        Ok(ladder) => keeps_its_promises(&ladder),
        Err(errors) => {
            prop_assert!(errors.len() > 0);
            let plain = errors.render(false);
            prop_assert!(plain.starts_with("error: "), "{}", plain);
            prop_assert!(!plain.contains(['\u{1b}', '\0', '\u{202e}']), "{:?}", plain);
            prop_assert!(!errors.render(true).is_empty());
            Ok(())
        }
    }
}

fn keeps_its_promises(ladder: &Ladder) -> Result<(), TestCaseError> {
    prop_assert!(!ladder.titles.is_empty());
    for title in &ladder.titles {
        prop_assert!(!title.name.is_empty());
        for path in [&title.source, &title.output] {
            prop_assert!(path.is_absolute());
            prop_assert!(path.components().all(|c| c.as_os_str() != ".."));
        }
        prop_assert!(!title.source.starts_with(&title.output));
        prop_assert!(!title.output.starts_with(&title.source));
        prop_assert!(!ladder.path.starts_with(&title.output));
        prop_assert!(title.output != Path::new("/"));
    }
    let lengths = ladder.segments;
    prop_assert!(lengths.min <= lengths.target && lengths.target <= lengths.max);
    prop_assert!(lengths.min.0 >= 100 && lengths.max.0 <= 120_000);
    if lengths.mode == SegmentMode::Fixed {
        prop_assert_eq!(lengths.min, lengths.max);
    }
    prop_assert!(!ladder.rungs.is_empty());
    for rung in &ladder.rungs {
        prop_assert!(rung.width.or(rung.height).is_some());
        for side in [rung.width, rung.height].into_iter().flatten() {
            prop_assert!((16..=8192).contains(&side) && side % 2 == 0);
        }
        prop_assert!(rung.crf.get() <= 63 && rung.rav1e.speed <= 10);
        prop_assert!(rung.svt_av1.preset <= 13 && (1..=7).contains(&rung.nvenc.preset));
        keeps_encoders_apart(rung)?;
    }
    let names = ladder.rungs.iter().map(|rung| &rung.name);
    let names = names.chain(ladder.audio.iter().map(|audio| &audio.name));
    let mut names: Vec<String> = names.map(|name| name.to_lowercase()).collect();
    let portable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    for name in &names {
        prop_assert!(name.starts_with(|c: char| c.is_ascii_alphanumeric()));
        prop_assert!(name.chars().all(portable) && !name.ends_with('.') && name.len() <= 64);
    }
    let count = names.len();
    names.sort();
    names.dedup();
    prop_assert_eq!(names.len(), count);
    prop_assert!(!ladder.package.formats.is_empty());
    Ok(())
}

/// No encoder is named twice, FFmpeg's have names that FFmpeg could have, and options are only there
/// for encoders that may be used, with nothing in them that ends a C string.
fn keeps_encoders_apart(rung: &Rung) -> Result<(), TestCaseError> {
    let names: Vec<&str> = rung.encoders.iter().map(Encoder::name).collect();
    prop_assert!(!names.is_empty());
    for (place, encoder) in rung.encoders.iter().enumerate() {
        prop_assert!(!names[..place].contains(&encoder.name()));
        if let Encoder::Ffmpeg(name) = encoder {
            prop_assert!(name.starts_with("lib") || name.starts_with("av1_"));
            prop_assert!(name.is_ascii() && !["libsvtav1", "librav1e"].contains(&&**name));
        }
    }
    for (encoder, options) in &rung.ffmpeg {
        prop_assert!(names.contains(&&**encoder));
        for (name, value) in options {
            prop_assert!(name.is_ascii() && !name.is_empty() && !name.contains(['\0', '=', ':']));
            prop_assert!(!value.contains('\0') && name != "crf" && name != "g");
        }
    }
    Ok(())
}

#[test]
fn the_specs_that_are_mutated_are_valid() {
    for text in [SPEC, FULL] {
        let ladder = read(text).unwrap();
        assert!(keeps_its_promises(&ladder).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text: String) {
        reads(&text)?;
    }

    #[test]
    fn any_fragments_are_answered(fragments in prop::collection::vec(prop::sample::select(FRAGMENTS), 0..40)) {
        reads(&fragments.concat())?;
    }

    #[test]
    fn a_spec_with_slips_is_answered(edits in edits()) {
        reads(&edited(FULL, &edits))?;
    }

    #[test]
    fn any_value_of_any_key_is_answered(line in 0usize..80, value in prop::sample::select(FRAGMENTS)) {
        let lines: Vec<&str> = FULL.lines().collect();
        let line = line % lines.len();
        let mut text = lines.clone();
        let replaced = match lines[line].split_once(" = ") {
            Some((key, _)) => format!("{key} = {value}"),
            None => value.to_string(),
        };
        text[line] = &replaced;
        reads(&text.join("\n"))?;
    }
}
