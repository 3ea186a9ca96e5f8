//! Reads which encoders a rung may use, and what the encoders' own tables set, `[encoder.…]`. Whether an
//! encoder is on this machine, and has an option of FFmpeg's, is found elsewhere.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::catalog::{self, EncoderInfo, OwnOptions};
use super::entry::Entry;
use super::fault::OptionCheck;
use super::fields::Fields;
use super::ladder::{Encoder, FfmpegOptions};
use super::problems::{Diagnostic, Problems, Read, Reported, Span, alternatives, quoted};
use super::{ffmpeg, keys};
use crate::suggest;

/// Values of rivet's own options, by encoder and option.
pub(super) type OwnValues = BTreeMap<(&'static str, &'static str), u32>;

/// What the encoders' own tables set.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) own: OwnValues,
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
    if let Some(own) = catalog::own_name(name) {
        return Err(problems.report(
            Diagnostic::new(format!("encoder `{name}` is named `{own}` in a spec"))
                .at(entry.span.clone(), "FFmpeg's name")
                .help(format!("write `\"{own}\"`")),
        ));
    }
    let is_ffmpegs = ffmpeg::is_name(name);
    let meant = match is_ffmpegs {
        true => suggest::one_slip_from(name, catalog::OF_FFMPEG.iter().map(|encoder| encoder.name)),
        false => suggest::nearest(name, catalog::all().map(|encoder| encoder.name)),
    };
    if is_ffmpegs && meant.is_none() {
        return Ok(Encoder::Ffmpeg(name.to_owned()));
    }
    let problem = Diagnostic::new(format!("unknown encoder {}", quoted(name)))
        .at(entry.span.clone(), format!("for {}", entry.name()));
    Err(problems.report(match meant {
        Some(meant) => problem.help(format!("did you mean `\"{meant}\"`?")),
        None => problem
            .help(format!(
                "expected {}, or FFmpeg's name of an AV1 encoder, such as `libaom-av1` or `av1_qsv`",
                alternatives(&catalog::OWN.map(|encoder| encoder.name)).replace(" or ", ", "),
            ))
            .help(entry.example()),
    }))
}

/// `[encoder]`, which holds a table for each encoder.
pub(super) fn tables(root: &mut Fields<'_>, check: OptionCheck<'_>, problems: &mut Problems) -> Read<Tables> {
    let Some(mut fields) = root.table("encoder", &keys::ENCODER, problems)? else {
        return Ok(Tables::default());
    };
    let own = catalog::OWN.into_iter().filter_map(|encoder| Some((encoder, encoder.own.as_ref()?)));
    let own: Vec<_> =
        own.map(|(encoder, own)| (encoder, own, fields.table(encoder.name, &own.table, problems))).collect();
    let others = fields.free(ffmpeg::is_name);
    fields.finish(problems);
    // All is read before the first `?`, so that all problems come to light.
    let ffmpeg: Vec<Read<(String, FfmpegOptions)>> =
        others.into_iter().map(|table| ffmpeg::table(&table, check, problems)).collect();
    let own: Vec<Read<OwnValues>> = own
        .into_iter()
        .map(|(encoder, own, fields)| match fields? {
            Some(fields) => own_table(encoder, own, fields, problems),
            None => Ok(OwnValues::new()),
        })
        .collect();
    let own: Vec<OwnValues> = own.into_iter().collect::<Read<_>>()?;
    Ok(Tables { own: own.into_iter().flatten().collect(), ffmpeg: ffmpeg.into_iter().collect::<Read<_>>()? })
}

/// The table of an encoder whose options rivet names.
fn own_table(
    encoder: &'static EncoderInfo,
    own: &'static OwnOptions,
    mut fields: Fields<'_>,
    problems: &mut Problems,
) -> Read<OwnValues> {
    let values: Vec<Read<Option<_>>> = own
        .options
        .iter()
        .map(|option| {
            fields.optional(option.key.name, |entry| {
                Ok(((encoder.name, option.key.name), entry.integer(option.range.clone(), problems)?))
            })
        })
        .collect();
    fields.finish(problems);
    values.into_iter().filter_map(Read::transpose).collect()
}

/// A key of `[video]` or a rung that is an option of some encoders. Which of them it is for follows from
/// the encoders of the rung that it comes to.
pub(super) struct Shared<'t> {
    value: u32,
    pub(super) entry: Entry<'t>,
}

/// The keys of a table that are options of encoders. Each may have any value that one of these takes.
pub(super) fn shared<'t>(fields: &mut Fields<'t>, problems: &mut Problems) -> Read<Vec<Shared<'t>>> {
    let values: Vec<Read<Option<Shared<'t>>>> = catalog::SHARED
        .iter()
        .map(|key| {
            fields.optional(key.name, |entry| {
                Ok(Shared { value: entry.integer(widest_range(key.name), problems)?, entry })
            })
        })
        .collect();
    values.into_iter().filter_map(Read::transpose).collect()
}

/// From the lowest to the highest value that any encoder takes for an option.
fn widest_range(option: &str) -> RangeInclusive<u32> {
    let ranges = catalog::owners(option).map(|(_, option)| option.range.clone());
    ranges.reduce(|a, b| *a.start().min(b.start())..=*a.end().max(b.end())).unwrap_or(0..=0)
}

/// The value of a shared key for a rung with these encoders: for the one encoder among them that has such
/// an option. With several it would be a guess, since their scales differ; with none it has no effect, and
/// the first encoder of the list keeps it. `reported_before` holds values that were reported for an earlier
/// rung.
pub(super) fn assigned(
    shared: &Shared<'_>,
    encoders: &[Encoder],
    reported_before: &mut Vec<(Span, Reported)>,
    problems: &mut Problems,
) -> Read<Option<((&'static str, &'static str), u32)>> {
    let Shared { value, entry } = shared;
    let key = entry.key.name;
    let is_named = |encoder: &EncoderInfo| encoders.iter().any(|named| named.name() == encoder.name);
    let named: Vec<_> = catalog::owners(key).filter(|(encoder, _)| is_named(encoder)).collect();
    let problem = match named[..] {
        [] => return Ok(catalog::owners(key).next().map(|(first, _)| ((first.name, key), *value))),
        [(encoder, option)] if option.range.contains(value) => {
            return Ok(Some(((encoder.name, key), *value)));
        }
        [(encoder, option)] => {
            let (low, high) = (option.range.start(), option.range.end());
            entry
                .problem(&format!("must be from {low} to {high} for {}", encoder.name), "out of range")
                .help(format!("the scale of {} is {}", encoder.name, option.scale()))
        }
        [..] => {
            let tables = named.iter().filter_map(|(encoder, _)| Some(encoder.own.as_ref()?.table.header));
            let tables: Vec<String> = tables.map(|header| format!("`{header}`")).collect();
            let names: Vec<&str> = named.iter().map(|(encoder, _)| encoder.name).collect();
            entry
                .problem(
                    &format!("is ambiguous: {} have different scales", names.join(" and ")),
                    format!("for a rung with `encoder = {names:?}`"),
                )
                .help(format!("remove it, and set `{key}` in {}", tables.join(" and ")))
        }
    };
    if let Some((_, reported)) = reported_before.iter().find(|(span, _)| *span == entry.span) {
        return Err(*reported);
    }
    let reported = problems.report(problem);
    reported_before.push((entry.span.clone(), reported));
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
        refused("encoder = []", &["`encoder` in `[[rung]]` is an empty array", "nothing would be encoded"]);
        refused("encoder = ['rav1e', 'rav1e']", &["duplicate encoder `rav1e`", "remove one"]);
    }

    #[test]
    fn ffmpegs_encoders_go_by_ffmpegs_names() {
        for name in ["libaom-av1", "av1_qsv", "av1_vaapi", "av1_amf", "av1_nvenc", "av1_mf", "libnew-av1"] {
            assert_eq!(rung("", &format!("encoder = '{name}'")).encoders, [ffmpegs(name)]);
        }
        let both = rung("", "encoder = ['av1_vaapi', 'svt-av1']");
        assert_eq!(both.encoders, [ffmpegs("av1_vaapi"), Encoder::SvtAv1]);
        refused("encoder = ['av1_qsv', 'av1_qsv']", &["duplicate encoder `av1_qsv`"]);
        refused(
            "encoder = 'libsvtav1'",
            &["encoder `libsvtav1` is named `svt-av1` in a spec", "help: write `\"svt-av1\"`"],
        );
        refused(
            "encoder = ['librav1e']",
            &["encoder `librav1e` is named `rav1e` in a spec", "help: write `\"rav1e\"`"],
        );
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
                    "error: unknown encoder `",
                    "for `encoder` in `[[rung]]`",
                    "expected `rav1e`, `svt-av1`, `nvenc`, or FFmpeg's name of an AV1 encoder, such as `libaom-av1`",
                    "for example: `encoder = \"rav1e\"`",
                ],
            );
        }
        refused("encoder = 'libaom'", &["did you mean `\"libaom-av1\"`?"]);
        refused("encoder = 'lib'", &["unknown encoder `lib"]);
        refused("encoder = 'libAOM av1'", &["unknown encoder `lib"]);
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
            &["encoder `libsvtav1` is named `svt-av1` in a spec", "help: write `[encoder.svt-av1]`"],
        );
        has(
            &invalid(&spec("[encoder.x264]\npreset = 4\n", "")),
            &["unknown table `x264` in `[encoder]`", "expected one of `rav1e`, `svt-av1`, `nvenc`"],
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
        refused("preset = 14", &["`preset` in `[[rung]]` must be from 0 to 13", "too large"]);
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
                &[
                    "`preset` in `[[rung]]` must be from 1 to 7 for nvenc",
                    "out of range",
                    "1 (fastest) to 7 (slowest, best)",
                ],
            );
        }
        refused(
            "encoder = ['nvenc', 'svt-av1']\npreset = 5",
            &[
                "`preset` in `[[rung]]` is ambiguous: svt-av1 and nvenc have different scales",
                "remove it, and set `preset` in `[encoder.svt-av1]` and `[encoder.nvenc]`",
            ],
        );
        // One that comes to several rungs is one mistake.
        let video = "[video]\npreset = 5\nencoder = ['nvenc', 'svt-av1']\n";
        let text = invalid(&spec(video, "[[rung]]\nname = 'b'\nheight = 90"));
        has(&text, &["`preset` in `[video]` is ambiguous"]);
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }
}
