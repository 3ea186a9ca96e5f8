//! Reads `[video]` and every `[[rung]]`, and merges them with the encoders' own tables: a rung inherits
//! what it does not say. It does not work out sizes or bit depths that follow from the source.

use std::ops::RangeInclusive;

use super::catalog::{self, EncoderInfo, NvencOptions, Rav1eOptions, SvtAv1Options};
use super::encoder::{self, OwnValues, Shared, Tables};
use super::entry::{Choice, Entry};
use super::fault::OptionCheck;
use super::fields::Fields;
use super::keys;
use super::ladder::{BitDepth, Crf, Encoder, MAX_SIDE, Rung};
use super::names::Names;
use super::problems::{Diagnostic, Problems, Read, Reported, Span};

const SIDE: RangeInclusive<u32> = 16..=MAX_SIDE;

/// The only thing that `color` can be for now, so that nothing needs to keep it.
#[derive(Clone, Copy)]
struct AsSource;

impl Choice for AsSource {
    const ALL: &'static [(&'static str, Self)] = &[("source", AsSource)];
}

/// What `[video]` sets for every rung, and a rung for itself. `None`: not set here.
#[derive(Default)]
struct VideoSettings<'t> {
    encoders: Option<Vec<Encoder>>,
    /// Options of encoders.
    shared: Vec<Shared<'t>>,
    crf: Option<Crf>,
    bit_depth: Option<BitDepth>,
}

impl<'t> VideoSettings<'t> {
    fn read(fields: &mut Fields<'t>, problems: &mut Problems) -> Read<VideoSettings<'t>> {
        let encoders = fields.optional("encoder", |entry| encoder::encoders(&entry, problems));
        let shared = encoder::shared(fields, problems);
        let crf = fields.optional("crf", |entry| crf(&entry, problems));
        let bit_depth = fields.optional("bit_depth", |entry| bit_depth(&entry, problems));
        let color = fields.optional("color", |entry| entry.choice::<AsSource>(problems));
        color?;
        Ok(VideoSettings { encoders: encoders?, shared: shared?, crf: crf?, bit_depth: bit_depth? })
    }
}

/// What a rung sets, before `[video]` is merged into it.
struct Draft<'t> {
    name: String,
    width: Option<u32>,
    height: Option<u32>,
    settings: VideoSettings<'t>,
}

pub(super) fn read<'t>(
    root: &mut Fields<'t>,
    names: &mut Names<'t>,
    check: OptionCheck<'_>,
    problems: &mut Problems,
) -> Read<Vec<Rung>> {
    let video = video(root, problems);
    let tables = encoder::tables(root, check, problems);
    let drafts = drafts(root, names, problems);
    let (video, tables) = (video?, tables?);
    let mut reported = Vec::new();
    let rungs: Vec<Read<Rung>> =
        drafts?.into_iter().map(|draft| merge(draft, &video, &tables, &mut reported, problems)).collect();
    rungs.into_iter().collect()
}

/// The setting nearest to the rung wins: its own, then `[video]`, then the encoder's table. `reported` holds
/// values that were reported for an earlier rung.
fn merge(
    rung: Draft<'_>,
    video: &VideoSettings<'_>,
    tables: &Tables,
    reported: &mut Vec<(Span, Reported)>,
    problems: &mut Problems,
) -> Read<Rung> {
    let own = rung.settings;
    let encoders = own.encoders.or(video.encoders.clone()).unwrap_or_else(|| vec![Encoder::Rav1e]);
    let nearest = catalog::SHARED
        .iter()
        .filter_map(|key| own.shared.iter().chain(&video.shared).find(|one| one.entry.key == key));
    let nearest: Vec<Read<_>> =
        nearest.map(|shared| encoder::assigned(shared, &encoders, reported, problems)).collect();
    let nearest: Vec<Option<_>> = nearest.into_iter().collect::<Read<_>>()?;
    let values: OwnValues = tables.own.clone().into_iter().chain(nearest.into_iter().flatten()).collect();
    let of = |encoder: &EncoderInfo, key: &str| values.get(&(encoder.name, key)).copied();
    let ffmpeg = tables.ffmpeg.iter().filter(|(name, _)| encoders.iter().any(|one| one.name() == *name));
    Ok(Rung {
        name: rung.name,
        width: rung.width,
        height: rung.height,
        crf: own.crf.or(video.crf).unwrap_or_default(),
        bit_depth: own.bit_depth.or(video.bit_depth),
        rav1e: Rav1eOptions::with(|key| of(&catalog::RAV1E, key)),
        svt_av1: SvtAv1Options::with(|key| of(&catalog::SVT_AV1, key)),
        nvenc: NvencOptions::with(|key| of(&catalog::NVENC, key)),
        ffmpeg: ffmpeg.map(|(name, options)| (name.clone(), options.clone())).collect(),
        encoders,
    })
}

/// `[video]`
fn video<'t>(root: &mut Fields<'t>, problems: &mut Problems) -> Read<VideoSettings<'t>> {
    let Some(mut fields) = root.table("video", &keys::VIDEO, problems)? else {
        return Ok(VideoSettings::default());
    };
    let settings = VideoSettings::read(&mut fields, problems);
    fields.finish(problems);
    settings
}

fn drafts<'t>(root: &mut Fields<'t>, names: &mut Names<'t>, problems: &mut Problems) -> Read<Vec<Draft<'t>>> {
    let tables = root.tables("rung", &keys::RUNG, problems)?;
    if tables.is_empty() {
        return Err(problems.report(
            Diagnostic::new("missing table `[[rung]]`")
                .help("add one:\n[[rung]]\nname = \"720p\"\nheight = 720"),
        ));
    }
    let drafts: Vec<Read<Draft<'t>>> =
        tables.into_iter().map(|fields| draft(fields, names, problems)).collect();
    drafts.into_iter().collect()
}

/// `[[rung]]`
fn draft<'t>(mut fields: Fields<'t>, names: &mut Names<'t>, problems: &mut Problems) -> Read<Draft<'t>> {
    let name = match fields.required("name", problems) {
        Ok(entry) => names.folder_name(&entry, problems),
        Err(reported) => Err(reported),
    };
    let width = fields.optional("width", |entry| side(&entry, problems));
    let height = fields.optional("height", |entry| side(&entry, problems));
    let settings = VideoSettings::read(&mut fields, problems);
    let span = fields.span();
    fields.finish(problems);
    let (width, height) = (width?, height?);
    if width.is_none() && height.is_none() {
        return Err(problems.report(
            Diagnostic::new("missing key `height` or `width` in `[[rung]]`")
                .at(span, "no size is set here")
                .help("add `height = 720`; the width follows from the display aspect ratio"),
        ));
    }
    Ok(Draft { name: name?, width, height, settings: settings? })
}

/// A width or a height. Even, because chroma of half the size must come out whole.
fn side(entry: &Entry<'_>, problems: &mut Problems) -> Read<u32> {
    let side = entry.integer(SIDE, problems)?;
    if !side.is_multiple_of(2) {
        return Err(problems.report(entry.problem("must be even", "odd number").help(format!(
            "write `{key} = {}` or `{key} = {}`",
            side - 1,
            side + 1,
            key = entry.key.name
        ))));
    }
    Ok(side)
}

fn crf(entry: &Entry<'_>, problems: &mut Problems) -> Read<Crf> {
    let value = entry.integer(0..=Crf::MAX.get(), problems)?;
    Crf::new(value).ok_or_else(|| entry.not("an integer", problems))
}

fn bit_depth(entry: &Entry<'_>, problems: &mut Problems) -> Read<BitDepth> {
    match entry.integer(i64::MIN..=i64::MAX, problems)? {
        8 => Ok(BitDepth::Eight),
        10 => Ok(BitDepth::Ten),
        _ => Err(problems.report(
            entry
                .problem("must be 8 or 10", "unsupported bit depth")
                .help("remove it to keep the depth of the source"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::spec::testing::{HEAD, has, invalid, ladder};

    /// A spec with these lines before a rung that has its own.
    fn spec(before: &str, rung: &str) -> String {
        format!("{HEAD}{before}\n[[rung]]\nname = '720p'\n{rung}\n")
    }

    fn rung(before: &str, lines: &str) -> Rung {
        ladder(&spec(before, &format!("height = 720\n{lines}"))).rungs.remove(0)
    }

    fn refused(lines: &str, parts: &[&str]) {
        has(&invalid(&spec("", &format!("height = 720\n{lines}"))), parts);
    }

    #[test]
    fn a_rung_needs_little() {
        assert_eq!(
            rung("", ""),
            Rung {
                name: "720p".to_owned(),
                width: None,
                height: Some(720),
                encoders: vec![Encoder::Rav1e],
                crf: Crf::new(32).unwrap(),
                bit_depth: None,
                rav1e: Rav1eOptions { speed: 9, tiles: None },
                svt_av1: SvtAv1Options { preset: 8 },
                nvenc: NvencOptions { preset: 5 },
                ffmpeg: BTreeMap::new(),
            }
        );
        let wide = ladder(&spec("", "width = 1280")).rungs.remove(0);
        assert_eq!((wide.width, wide.height), (Some(1280), None));
        assert_eq!(rung("", "width = 8192").width, Some(8192));
        assert_eq!(rung("", "width = 0x10").width, Some(16));
    }

    #[test]
    fn a_rung_overrides_what_it_inherits() {
        let video = "[video]\nencoder = 'rav1e'\ncrf = 28\nbit_depth = 10\ncolor = 'source'\n";
        let inherited = rung(video, "");
        assert_eq!(inherited.crf.get(), 28);
        assert_eq!(inherited.bit_depth, Some(BitDepth::Ten));
        let own = rung(video, "crf = 40\nbit_depth = 8\ncolor = 'source'\nencoder = 'rav1e'");
        assert_eq!(own.crf.get(), 40);
        assert_eq!(own.bit_depth, Some(BitDepth::Eight));
    }

    #[test]
    fn the_nearest_speed_counts() {
        let table = "[encoder.rav1e]\nspeed = 3\ntiles = 8\n";
        let video = "[video]\nspeed = 5\n";
        assert_eq!(rung("", "").rav1e.speed, 9);
        assert_eq!(rung(table, "").rav1e.speed, 3);
        assert_eq!(rung(&format!("{table}{video}"), "").rav1e.speed, 5);
        assert_eq!(rung(&format!("{table}{video}"), "speed = 0").rav1e.speed, 0);
        assert_eq!(rung(table, "").rav1e.tiles, Some(8));
        let inline = format!("encoder.rav1e = {{ tiles = 2 }}\n{}", spec("", "height = 720"));
        assert_eq!(ladder(&inline).rungs[0].rav1e.tiles, Some(2));
        assert_eq!(rung("[encoder]", "").rav1e, Rav1eOptions::default());
    }

    #[test]
    fn rungs_may_be_alike_but_for_their_names() {
        let two = "height = 720\n[[rung]]\nname = '720p-b'\nheight = 720";
        assert_eq!(ladder(&spec("", two)).rungs.len(), 2);
    }

    #[test]
    fn a_ladder_needs_a_rung() {
        has(
            &invalid(HEAD),
            &[
                "error: missing table `[[rung]]`",
                "= help: add one:\n         [[rung]]\n         name = \"720p\"",
            ],
        );
        has(&invalid(&format!("rung = []\n{HEAD}")), &["missing table `[[rung]]`"]);
        has(
            &invalid(&format!("{HEAD}[rung]\nname = 'a'\nheight = 720")),
            &["error: `rung` must be an array of tables", "help: write `[[rung]]` for each"],
        );
        has(
            &invalid(&format!("rung = [{{ name = 'a', height = 720 }}, 7]\n{HEAD}")),
            &["`rung` at the top level must be an array of tables", "found an integer"],
        );
        has(
            &invalid(&format!("{HEAD}[[video]]\ncrf = 1\n")),
            &["error: `[video]` must be a single table", "help: write `[video]`, once"],
        );
    }

    #[test]
    fn a_rung_needs_a_name_and_a_size() {
        has(
            &invalid(&spec("", "[[rung]]\nheight = 360")),
            &[
                "error: missing key `height` or `width` in `[[rung]]`",
                "^^^^^^^^ no size is set here",
                "help: add `height = 720`",
                "error: missing key `name` in `[[rung]]`",
                "help: add `name = \"720p\"`",
            ],
        );
    }

    #[test]
    fn sizes_have_limits() {
        for (line, label) in [
            ("width = 14", "too small"),
            ("width = 8194", "too large"),
            ("width = -2", "too small"),
            ("width = 99999999999999999999999999999999999999999", "out of range"),
        ] {
            let headline = "`width` in `[[rung]]` must be from 16 to 8192";
            refused(line, &[headline, label, "for example: `width = 1280`"]);
        }
        refused("width = 853", &["must be even", "write `width = 852` or `width = 854`"]);
    }

    #[test]
    fn scales_have_ends() {
        refused("crf = 64", &["`crf` in `[[rung]]` must be from 0 to 63", "too large"]);
        refused("crf = -1", &["must be from 0 to 63", "too small"]);
        refused("speed = 11", &["`speed` in `[[rung]]` must be from 0 to 10"]);
        refused("bit_depth = 12", &["`bit_depth` in `[[rung]]` must be 8 or 10"]);
        let tiles = |n| invalid(&spec(&format!("[encoder.rav1e]\ntiles = {n}"), "height = 720"));
        has(&tiles(0), &["`tiles` in `[encoder.rav1e]` must be from 1 to 64"]);
        has(&tiles(65), &["`tiles` in `[encoder.rav1e]` must be from 1 to 64"]);
        let both = invalid(&spec("[video]\ncrf = 99", "height = 720\ncrf = 98"));
        has(&both, &["`crf` in `[video]` must", "`crf` in `[[rung]]` must"]);
    }

    #[test]
    fn colours_are_the_sources() {
        refused("color = 'bt709'", &["`color` in `[[rung]]` must be `source`"]);
    }
}
