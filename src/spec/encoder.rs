//! Reads which encoders a rung may use, and what the encoders' own tables say, `[encoder.…]`. Whether
//! an encoder is on this machine, and knows an option that is FFmpeg's, is found out elsewhere.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::entry::Entry;
use super::fault::OptionCheck;
use super::fields::Fields;
use super::ladder::{Encoder, FfmpegOptions};
use super::problems::{Problems, Read, Reported, Span, alternatives};
use super::{ffmpeg, keys};
use crate::suggest;

/// rav1e's own scale.
pub(super) const SPEED: RangeInclusive<u8> = 0..=10;
const TILES: RangeInclusive<u32> = 1..=64;
/// SVT-AV1's own scale.
pub(super) const SVT_AV1_PRESET: RangeInclusive<u8> = 0..=13;
/// NVIDIA's own scale.
pub(super) const NVENC_PRESET: RangeInclusive<u8> = 1..=7;

/// What the encoders' own tables say. `None`: not said here.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) speed: Option<u8>,
    pub(super) tiles: Option<u32>,
    pub(super) svt_av1_preset: Option<u8>,
    pub(super) nvenc_preset: Option<u8>,
    pub(super) ffmpeg: BTreeMap<String, FfmpegOptions>,
}

/// One encoder, or several in order of preference.
pub(super) fn encoders(entry: &Entry<'_>, problems: &mut Problems) -> Read<Vec<Encoder>> {
    match entry.is_list() {
        true => entry.distinct("encoder", "nothing would be encoded", problems, encoder),
        false => Ok(vec![encoder(entry, problems)?]),
    }
}

fn encoder(entry: &Entry<'_>, problems: &mut Problems) -> Read<Encoder> {
    let name = entry.text(problems)?;
    if let Some(own) = Encoder::OWN.into_iter().find(|own| own.name() == name) {
        return Ok(own);
    }
    if let Some(own) = ffmpeg::own_name(name) {
        return Err(problems.report(
            entry
                .problem(&format!("names {own} as FFmpeg does"), "rivet has another name for it")
                .help(format!("write `\"{own}\"`")),
        ));
    }
    let is_ffmpegs = ffmpeg::is_name(name);
    let meant = match is_ffmpegs {
        true => suggest::one_slip_from(name, ffmpeg::KNOWN),
        false => suggest::nearest(name, Encoder::OWN.iter().map(Encoder::name).chain(ffmpeg::KNOWN)),
    };
    if is_ffmpegs && meant.is_none() {
        return Ok(Encoder::Ffmpeg(name.to_owned()));
    }
    let names: Vec<&str> = Encoder::OWN.iter().map(Encoder::name).collect();
    let problem = entry.problem(
        &format!("must be {}, or FFmpeg's name of an AV1 encoder", alternatives(&names)),
        "this is none that rivet knows",
    );
    Err(problems.report(match meant {
        Some(meant) => problem.help(format!("did you mean `\"{meant}\"`?")),
        None => problem
            .help(entry.example())
            .help("FFmpeg's names of AV1 encoders hold `av1`: `\"libaom-av1\"`, `\"av1_qsv\"` and the like"),
    }))
}

/// `[encoder]`, which holds a table for each encoder.
pub(super) fn tables(root: &mut Fields<'_>, check: OptionCheck<'_>, problems: &mut Problems) -> Read<Tables> {
    let Some(mut fields) = root.table("encoder", &keys::ENCODER, problems)? else {
        return Ok(Tables::default());
    };
    let rav1e = fields.table("rav1e", &keys::RAV1E, problems);
    let svt_av1 = fields.table("svt-av1", &keys::SVT_AV1, problems);
    let nvenc = fields.table("nvenc", &keys::NVENC, problems);
    let others = fields.free(ffmpeg::is_name);
    fields.finish(problems);
    // All is read before the first `?`, so that all problems come to light.
    let ffmpeg: Vec<Read<(String, FfmpegOptions)>> =
        others.into_iter().map(|table| ffmpeg::table(&table, check, problems)).collect();
    let rav1e = rav1e.map(|fields| {
        fields.map(|mut fields| {
            let speed = fields.optional("speed", |entry| entry.integer(SPEED, problems));
            let tiles = fields.optional("tiles", |entry| entry.integer(TILES, problems));
            fields.finish(problems);
            (speed, tiles)
        })
    });
    let svt_av1 = svt_av1.map(|fields| fields.map(|fields| preset(fields, SVT_AV1_PRESET, problems)));
    let nvenc = nvenc.map(|fields| fields.map(|fields| preset(fields, NVENC_PRESET, problems)));
    let mut tables = Tables::default();
    if let Some((speed, tiles)) = rav1e? {
        (tables.speed, tables.tiles) = (speed?, tiles?);
    }
    tables.svt_av1_preset = svt_av1?.transpose()?.flatten();
    tables.nvenc_preset = nvenc?.transpose()?.flatten();
    tables.ffmpeg = ffmpeg.into_iter().collect::<Read<_>>()?;
    Ok(tables)
}

/// The table of an encoder that has nothing but a preset.
fn preset(mut fields: Fields<'_>, range: RangeInclusive<u8>, problems: &mut Problems) -> Read<Option<u8>> {
    let preset = fields.optional("preset", |entry| entry.integer(range, problems));
    fields.finish(problems);
    preset
}

/// A `preset`, with its place: whose it is follows from the encoders of the rung that it comes to.
pub(super) struct Preset<'t> {
    pub(super) value: u8,
    pub(super) entry: Entry<'t>,
}

/// Whose a `preset` is.
#[derive(Default)]
pub(super) struct Presets {
    pub(super) svt_av1: Option<u8>,
    pub(super) nvenc: Option<u8>,
}

/// A preset is SVT-AV1's, but NVENC's where that is the one that the rung may use. For a rung that
/// may use either it would be a guess: their scales run in opposite directions. `told` holds presets
/// that were found wrong for an earlier rung.
pub(super) fn presets(
    preset: Option<&Preset<'_>>,
    encoders: &[Encoder],
    told: &mut Vec<(Span, Reported)>,
    problems: &mut Problems,
) -> Read<Presets> {
    let Some(Preset { value, entry }) = preset else { return Ok(Presets::default()) };
    let problem = match (encoders.contains(&Encoder::SvtAv1), encoders.contains(&Encoder::Nvenc)) {
        (_, false) => return Ok(Presets { svt_av1: Some(*value), nvenc: None }),
        (false, true) if NVENC_PRESET.contains(value) => {
            return Ok(Presets { svt_av1: None, nvenc: Some(*value) });
        }
        (false, true) => entry
            .problem("must be from 1 to 7 for nvenc", "this is not on NVIDIA's scale")
            .help("1 is the fastest, 7 the best"),
        (true, true) => {
            entry.problem("could be svt-av1's or nvenc's", "a rung that this is for may use both").help(
                "their scales differ: say `preset` in `[encoder.svt-av1]` and in `[encoder.nvenc]` instead",
            )
        }
    };
    if let Some((_, reported)) = told.iter().find(|(span, _)| *span == entry.span) {
        return Err(*reported);
    }
    let reported = problems.report(problem);
    told.push((entry.span.clone(), reported));
    Err(reported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Rung;
    use crate::spec::testing::{HEAD, has, invalid, ladder};

    /// A spec with these lines before a rung that has its own.
    fn spec(before: &str, rung: &str) -> String {
        format!("{HEAD}{before}\n[[rung]]\nname = '720p'\nheight = 720\n{rung}\n")
    }

    fn rung(before: &str, lines: &str) -> Rung {
        ladder(&spec(before, lines)).rungs.remove(0)
    }

    fn refused(lines: &str, parts: &[&str]) {
        has(&invalid(&spec("", lines)), parts);
    }

    fn ffmpegs(name: &str) -> Encoder {
        Encoder::Ffmpeg(name.to_owned())
    }

    #[test]
    fn encoders_come_in_order_of_preference() {
        use Encoder::{Nvenc, Rav1e, SvtAv1};
        assert_eq!(rung("", "encoder = 'svt-av1'").encoders, [SvtAv1]);
        assert_eq!(rung("", "encoder = ['nvenc', 'svt-av1', 'rav1e']").encoders, [Nvenc, SvtAv1, Rav1e]);
        assert_eq!(rung("[video]\nencoder = ['svt-av1', 'rav1e']\n", "").encoders, [SvtAv1, Rav1e]);
        assert_eq!(rung("[video]\nencoder = ['svt-av1', 'rav1e']\n", "encoder = 'rav1e'").encoders, [Rav1e]);
        refused("encoder = []", &["`encoder` in `[[rung]]` is an empty list", "nothing would be encoded"]);
        refused("encoder = ['rav1e', 'rav1e']", &["the encoder `rav1e` is given twice", "leave one out"]);
    }

    #[test]
    fn ffmpegs_encoders_go_by_ffmpegs_names() {
        for name in ["libaom-av1", "av1_qsv", "av1_vaapi", "av1_amf", "av1_nvenc", "av1_mf", "libnew-av1"] {
            assert_eq!(rung("", &format!("encoder = '{name}'")).encoders, [ffmpegs(name)]);
        }
        let both = rung("", "encoder = ['av1_vaapi', 'svt-av1']");
        assert_eq!(both.encoders, [ffmpegs("av1_vaapi"), Encoder::SvtAv1]);
        refused("encoder = ['av1_qsv', 'av1_qsv']", &["the encoder `av1_qsv` is given twice"]);
        refused(
            "encoder = 'libsvtav1'",
            &["`encoder` in `[[rung]]` names svt-av1 as FFmpeg does", "help: write `\"svt-av1\"`"],
        );
        refused("encoder = ['librav1e']", &["names rav1e as FFmpeg does", "help: write `\"rav1e\"`"]);
    }

    #[test]
    fn slips_in_names_are_told_from_other_names() {
        for (written, meant) in [
            ("raw1e", "rav1e"),
            ("svt_av1", "svt-av1"),
            ("NVENC", "nvenc"),
            ("nvnec", "nvenc"),
            ("libaom_av1", "libaom-av1"),
            ("av1-vaapi", "av1_vaapi"),
            ("av1_qvs", "av1_qsv"),
        ] {
            refused(&format!("encoder = '{written}'"), &[&format!("did you mean `\"{meant}\"`?")]);
        }
        for other in ["'x264'", "'libx264'", "['svt-av1', 'libx264']", "'libvpx-vp9'"] {
            refused(
                &format!("encoder = {other}"),
                &[
                    "`encoder` in `[[rung]]` must be `rav1e`, `svt-av1` or `nvenc`, or FFmpeg's name of an AV1 encoder",
                    "for example: `encoder = \"rav1e\"`",
                    "FFmpeg's names of AV1 encoders hold `av1`: `\"libaom-av1\"`",
                ],
            );
        }
        refused("encoder = 'libaom'", &["did you mean `\"libaom-av1\"`?"]);
        refused("encoder = 'lib'", &["must be `rav1e`"]);
        refused("encoder = 'libAOM av1'", &["must be `rav1e`"]);
    }

    #[test]
    fn tables_belong_to_encoders() {
        let table = "[encoder.nvenc]\npreset = 7\n";
        assert_eq!(rung(table, "").nvenc.preset, 7);
        assert_eq!(rung("", "").nvenc.preset, 5);
        for wrong in [0, 8] {
            let text = invalid(&spec(&format!("[encoder.nvenc]\npreset = {wrong}\n"), ""));
            has(&text, &["`preset` in `[encoder.nvenc]` must be from 1 to 7", "for example: `preset = 5`"]);
        }
        has(
            &invalid(&spec("[encoder.libsvtav1]\npreset = 4\n", "")),
            &["`libsvtav1` in `[encoder]` names svt-av1 as FFmpeg does", "help: write `[encoder.svt-av1]`"],
        );
        has(
            &invalid(&spec("[encoder.x264]\npreset = 4\n", "")),
            &["unknown table `x264` in `[encoder]`", "known here: `rav1e`, `svt-av1`, `nvenc`"],
        );
        has(&invalid(&spec("[encoder.nvnec]\npreset = 4\n", "")), &["did you mean `nvenc`?"]);
    }

    #[test]
    fn mistakes_of_all_tables_are_told_together() {
        let text = invalid(&spec(
            "[encoder.rav1e]\nspeed = 11\ntiles = 0\n[encoder.svt-av1]\npreset = 14\n[encoder.nvenc]\npreset = 8\n\
             [encoder.libaom-av1]\ng = 1.5\ncpu-used = 1.5\n",
            "",
        ));
        let told = ["`speed`", "`tiles`", "`preset` in `[encoder.svt-av1]`", "`preset` in `[encoder.nvenc]`"];
        has(&text, &told);
        has(&text, &["`g` in `[encoder.libaom-av1]` is set", "`cpu-used` in `[encoder.libaom-av1]` must be"]);
    }

    #[test]
    fn the_nearest_preset_counts() {
        assert_eq!(rung("", "").svt_av1.preset, 8);
        assert_eq!(rung("[encoder.svt-av1]\npreset = 4\n", "").svt_av1.preset, 4);
        assert_eq!(rung("[encoder.svt-av1]\npreset = 4\n[video]\npreset = 5\n", "").svt_av1.preset, 5);
        assert_eq!(rung("[encoder.svt-av1]\npreset = 4\n", "preset = 13").svt_av1.preset, 13);
        refused("preset = 14", &["`preset` in `[[rung]]` must be from 0 to 13", "this is too large"]);
    }

    #[test]
    fn a_preset_is_that_of_the_rungs_encoder() {
        let presets = |before: &str, lines: &str| {
            let rung = rung(before, lines);
            (rung.svt_av1.preset, rung.nvenc.preset)
        };
        assert_eq!(presets("", "encoder = 'nvenc'\npreset = 7"), (8, 7));
        assert_eq!(presets("", "encoder = ['nvenc', 'rav1e']\npreset = 1"), (8, 1));
        assert_eq!(presets("", "encoder = 'svt-av1'\npreset = 7"), (7, 5));
        assert_eq!(presets("", "preset = 7"), (7, 5));
        let tables = "[encoder.svt-av1]\npreset = 10\n[encoder.nvenc]\npreset = 3\n";
        assert_eq!(presets(tables, "encoder = ['nvenc', 'svt-av1']"), (10, 3));
        assert_eq!(presets(tables, "encoder = 'nvenc'\npreset = 6"), (10, 6));
        for wrong in [0, 8, 13] {
            refused(
                &format!("encoder = 'nvenc'\npreset = {wrong}"),
                &["`preset` in `[[rung]]` must be from 1 to 7 for nvenc", "not on NVIDIA's scale"],
            );
        }
        refused(
            "encoder = ['nvenc', 'svt-av1']\npreset = 5",
            &[
                "`preset` in `[[rung]]` could be svt-av1's or nvenc's",
                "say `preset` in `[encoder.svt-av1]` and in `[encoder.nvenc]` instead",
            ],
        );
        // One that comes to several rungs is one mistake.
        let video = "[video]\npreset = 5\nencoder = ['nvenc', 'svt-av1']\n";
        let text = invalid(&spec(video, "[[rung]]\nname = 'b'\nheight = 90"));
        has(&text, &["`preset` in `[video]` could be"]);
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }
}
