//! Tests of the hints in errors: a spec with a mistake is changed as its hint says, and read again.

use super::testing::{HEAD, SPEC, TAIL, has, ladder, read};

/// A spec with a line in a table.
pub(super) fn with_line(table: &str, line: &str) -> String {
    let (title, titles) = ("[title]\n", "[[title]]\nname = 'bunny'\n");
    match table {
        "" | "[[rung]]" => format!("{SPEC}{line}\n"),
        "[title]" => SPEC.replace(title, &format!("{title}{line}\n")),
        "[[title]]" => SPEC.replace(title, &format!("{titles}{line}\n")),
        "[[audio]]" => format!("{SPEC}[[audio]]\nname = 'main'\n{line}\n"),
        table => format!("{SPEC}{table}\n{line}\n"),
    }
}

/// The text changed as the first hint of its first error says. `None` where no hint can be followed
/// mechanically.
fn followed(text: &str) -> Option<String> {
    let errors = read(text).expect_err(text);
    let problem = errors.first();
    let replaced = |start: usize, end: usize, by: &str| format!("{}{by}{}", &text[..start], &text[end..]);
    problem.help.iter().find_map(|help| {
        if let Some(lines) = help.strip_prefix("add one:\n") {
            return Some(format!("{text}{lines}"));
        }
        let (span, _) = problem.primary.clone()?;
        let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at);
        if help.starts_with("remove ") {
            return Some(replaced(start, end, ""));
        }
        let example = help.split_once("for example: `").map(|(_, rest)| rest);
        let written = example.or(help.split_once('`').map(|(_, rest)| rest))?.split('`').next()?;
        let is_line = written.contains(" = ") || written.starts_with('[');
        if example.is_some() || is_line && help.starts_with("write ") {
            return Some(replaced(start, end, written));
        }
        match help.split('`').next()? {
            "did you mean " | "write " => Some(replaced(span.start, span.end, written)),
            "add " => Some(replaced(end, end, &format!("\n{written}"))),
            "it belongs in " => {
                Some(format!("{}\n{written}\n{}", replaced(start, end, ""), &text[start..end]))
            }
            "it is a table at the top level: " => Some(replaced(start, end, written)),
            _ => None,
        }
    })
}

/// Asserts that the mistake is gone, and no other made, when the hint is followed.
#[track_caller]
pub(super) fn is_helped(text: &str) {
    let errors = read(text).expect_err(text);
    let fixed = followed(text).unwrap_or_else(|| panic!("no hint that can be followed:\n{errors}"));
    if let Err(more) = read(&fixed) {
        panic!("{errors}\nafter its hint:\n{more}\nin\n{fixed}");
    }
}

#[test]
fn hints_work() {
    for (table, line) in [
        ("", "[segment]\nmode = 'fixed'"),
        ("", "[rung.audio]\nname = 'a'"),
        ("", "[[rung]]\nname = 'b'"),
        ("", "[[video]]\ncrf = 1"),
        ("[[rung]]", "widht = 1280"),
        ("[[rung]]", "bit-depth = 8"),
        ("[[rung]]", "tiles = 4"),
        ("[[rung]]", "formats = ['hls']"),
        ("[[rung]]", "width = 853"),
        ("[[rung]]", "width = 10"),
        ("[[rung]]", "crf = '32'"),
        ("[[rung]]", "crf = 32.5"),
        ("[[rung]]", "crf = 64"),
        ("[[rung]]", "bit_depth = 12"),
        ("[[rung]]", "color = 'bt709'"),
        ("[[rung]]", "encoder = 'raw1e'"),
        ("[[rung]]", "encoder = 'libx264'"),
        ("[[rung]]", "encoder = 'libsvtav1'"),
        ("[[rung]]", "encoder = ['rav1e', 'rav1e']"),
        ("[[rung]]", "encoder = ['nvenc', 'svt-av1']\npreset = 5"),
        ("[title]", "name = ''"),
        ("[segments]", "target = 2"),
        ("[segments]", "target = '2'"),
        ("[segments]", "target = '2 s'"),
        ("[segments]", "target = '61s'"),
        ("[segments]", "mode = 'contents'"),
        ("[segments]", "mode = 'fixed'\nmin = '1s'"),
        ("[segments]", "min = 1"),
        ("[[audio]]", "bitrate = 128"),
        ("[[audio]]", "bitrate = '128kbps'"),
        ("[[audio]]", "bitrate = '1k'"),
        ("[[audio]]", "channels = 6"),
        ("[[audio]]", "track = -1"),
        ("[[audio]]", "codec = 'flac'"),
        ("[[audio]]", "language = 'en_US'"),
        ("[[audio]]", "language = 'english'"),
        ("[package]", "formats = 'hls'"),
        ("[package]", "formats = ['HLS']"),
        ("[package]", "formats = []"),
        ("[package]", "formats = ['hls', 'hls']"),
        ("[cache]", "dir = ''"),
        ("[cache]", "dir = '~/cache'"),
        ("[cache]", "remote = 3"),
        ("[cache]", "trusted-keys = 'x'"),
        ("[encoder.nvenc]", "preset = 8"),
        ("[encoder.rav1e]", "tiles = 0"),
        ("[encoder.libaom-av1]", "g = 48"),
        ("[encoder.libaom-av1]", "tune = \"a\\u0000\""),
        ("[video]", "crf = 30\ncrf = 31"),
    ] {
        is_helped(&with_line(table, line));
    }
    for output in ["output = '.'", "output = '../x'", "output = '/'", "output = 7", "output = dist/a"] {
        is_helped(&SPEC.replace("output = 'dist/bunny'", output));
    }
    is_helped(&SPEC.replace("output = 'dist/bunny'\n", ""));
    is_helped(&format!("{HEAD}[[rung]]\nheight = 90\n"));
    is_helped(HEAD);
    is_helped(TAIL);
}

#[test]
fn hints_on_whole_tables_work() {
    let wrong = format!("{HEAD}[rung]\nname = 'a'\nheight = 90\n[rung]\nname = 'b'\nheight = 80\n");
    has(&read(&wrong).unwrap_err().to_string(), &["help: write `[[rung]]` for each"]);
    assert_eq!(ladder(&wrong.replace("[rung]", "[[rung]]")).rungs.len(), 2);
    let wrong = format!("{SPEC}[encoder.libsvtav1]\npreset = 4\n");
    has(&read(&wrong).unwrap_err().to_string(), &["help: write `[encoder.svt-av1]`"]);
    ladder(&wrong.replace("[encoder.libsvtav1]", "[encoder.svt-av1]"));
    let wrong = format!("{SPEC}[video]\ncrf = 30\n[package]\n[video]\nbit_depth = 8\n");
    let hint = "help: move its keys to the first, and remove this header";
    has(&read(&wrong).unwrap_err().to_string(), &[hint]);
    ladder(&format!("{SPEC}[video]\ncrf = 30\nbit_depth = 8\n[package]\n"));
}
