//! Writes a spec for a source that has none: a place to start from, with a word on each choice.

use std::fmt::Write;

use super::catalog::{self, EncoderInfo};
use super::ladder::Crf;

/// What a spec is to be written for.
#[derive(Clone, Debug)]
pub struct Proposal<'a> {
    /// As the spec shall name it.
    pub source: &'a str,
    /// Where the stream shall go, within the spec's folder.
    pub output: &'a str,
    /// Size of the source as displayed, in square samples.
    pub width: u32,
    pub height: u32,
    /// Whether there is audio.
    pub audio: bool,
    /// Whether SVT-AV1 is there to encode with.
    pub has_svt_av1: bool,
}

/// The short sides of rungs that players and people expect.
const SIDES: [u32; 7] = [2160, 1440, 1080, 720, 480, 360, 240];
/// No proposal has more rungs.
const MAX_RUNGS: usize = 5;

/// The text of a spec.
pub fn propose(proposal: &Proposal<'_>) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{words}");
    };
    let Proposal { width, height, .. } = *proposal;
    line(format_args!(
        "# `rivet build` makes the stream, `rivet plan` tells what that would run: name this file if it is not \
         ladder.toml.\n# Every key: docs/spec.md."
    ));
    line(format_args!("\n[title]"));
    line(format_args!("source = {}", quoted(proposal.source)));
    line(format_args!("output = {}    # a folder for rivet alone", quoted(proposal.output)));
    line(format_args!("\n[segments]"));
    line(format_args!(
        "target = \"2s\"    # \"6s\" needs a third fewer bytes, and makes re-encodes after an edit larger"
    ));
    line(format_args!("\n[video]"));
    // Portrait rungs are named by their width, landscape ones by their height.
    let (short, key) = if width < height { (width, "width") } else { (height, "height") };
    let mut sides: Vec<u32> = SIDES.into_iter().filter(|&side| side <= short).take(MAX_RUNGS).collect();
    if sides.is_empty() {
        sides.push((short / 2 * 2).max(16));
    }
    let (rav1e, svt_av1) = (&catalog::RAV1E, &catalog::SVT_AV1);
    let fits = sides.iter().all(|&side| side >= svt_av1.min_side);
    let (encoder, remark) = match (proposal.has_svt_av1, fits) {
        (true, true) => (svt_av1, format!("{:?} is on every machine, and ten times as slow", rav1e.name)),
        (true, false) => (
            rav1e,
            format!("{:?} encodes nothing below {side}x{side}", svt_av1.name, side = svt_av1.min_side),
        ),
        (false, _) => (rav1e, format!("{:?}, where FFmpeg has it, is ten times as fast", svt_av1.name)),
    };
    line(format_args!("{:<22} # {remark}", format!("encoder = {:?}", encoder.name)));
    for (setting, scale) in shared_options(encoder) {
        line(format_args!("{setting:<22} # {scale}"));
    }
    line(format_args!("{:<22} # 0 (best) to {} (smallest)", format!("crf = {}", Crf::default()), Crf::MAX));
    line(format_args!(
        "\n# The source is {width}x{height}; the other side of each rung follows from its display aspect ratio."
    ));
    for side in sides {
        line(format_args!("\n[[rung]]\nname = \"{side}p\"\n{key} = {side}"));
    }
    if proposal.audio {
        line(format_args!("\n[[audio]]\nname = \"main\"\nbitrate = \"128k\"    # Opus"));
    }
    text
}

/// The options of an encoder that `[video]` may set, as they are without being set, each with its scale.
fn shared_options(encoder: &EncoderInfo) -> impl Iterator<Item = (String, String)> {
    let shared = |key: &str| catalog::SHARED.iter().any(|one| one.name == key);
    let options = encoder.own.as_ref().map(|own| own.options).unwrap_or_default().iter();
    options
        .filter(move |option| shared(option.key.name))
        .filter_map(|option| Some((format!("{} = {}", option.key.name, option.default?), option.scale())))
}

/// As a string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::{Encoder, parse};

    fn proposal(width: u32, height: u32) -> Proposal<'static> {
        Proposal { source: "a \"b\".mp4", output: "dist/a", width, height, audio: true, has_svt_av1: true }
    }

    fn sides(width: u32, height: u32) -> Vec<(Option<u32>, Option<u32>)> {
        let text = propose(&proposal(width, height));
        let ladder = parse(&text, Path::new("/here/ladder.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        ladder.rungs.iter().map(|rung| (rung.width, rung.height)).collect()
    }

    #[test]
    fn rungs_fit_the_source() {
        let high = |sides: &[u32]| sides.iter().map(|&side| (None, Some(side))).collect::<Vec<_>>();
        assert_eq!(sides(1920, 1080), high(&[1080, 720, 480, 360, 240]));
        assert_eq!(sides(3840, 2160), high(&[2160, 1440, 1080, 720, 480]));
        assert_eq!(sides(1280, 719), high(&[480, 360, 240]));
        assert_eq!(sides(1080, 1920)[..2], [(Some(1080), None), (Some(720), None)]);
        assert_eq!(sides(161, 91), high(&[90]));
        assert_eq!(sides(4, 4), high(&[16]));
    }

    #[test]
    fn what_svt_av1_does_not_make_is_left_to_rav1e() {
        for (width, height, encoder) in [
            (64, 36, Encoder::Rav1e),
            (36, 64, Encoder::Rav1e),
            (400, 63, Encoder::Rav1e),
            (64, 64, Encoder::SvtAv1),
        ] {
            let ladder = parse(&propose(&proposal(width, height)), Path::new("/here/ladder.toml")).unwrap();
            assert_eq!(ladder.rungs[0].encoders, [encoder], "{width}x{height}");
        }
    }

    #[test]
    fn what_is_there_is_written_down() {
        let text = propose(&proposal(1280, 720));
        let ladder = parse(&text, Path::new("/here/ladder.toml")).unwrap();
        assert_eq!(ladder.titles[0].source, Path::new("/here/a \"b\".mp4"));
        assert_eq!(ladder.titles[0].output, Path::new("/here/dist/a"));
        assert_eq!(ladder.rungs[0].encoders, [Encoder::SvtAv1]);
        assert_eq!(ladder.audio.len(), 1);
        let plain = Proposal { audio: false, has_svt_av1: false, ..proposal(1280, 720) };
        let ladder = parse(&propose(&plain), Path::new("/here/ladder.toml")).unwrap();
        assert_eq!((ladder.audio.len(), &ladder.rungs[0].encoders[..]), (0, &[Encoder::Rav1e][..]));
    }
}
