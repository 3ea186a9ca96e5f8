//! A rung of the spec, fitted to a source: its picture, its contract, its encode settings.

use std::collections::{BTreeMap, BTreeSet};

use crate::executors::{self, Contract, EncodeSettings, EncoderSettings, Unusable};
use crate::media::{FrameFormat, Rational, VideoTrack};
use crate::spec;

use super::error::TitleError;

/// All that is the same for every segment of a rung.
#[derive(Clone, Debug)]
pub struct RungPlan {
    pub name: String,
    pub picture: FrameFormat,
    pub contract: Contract,
    /// The ways in which its chunks may be encoded, in order of preference: those of the spec whose
    /// encoders are here. At least one.
    pub choices: Vec<Choice>,
}

/// A way to encode a chunk.
#[derive(Clone, Debug)]
pub struct Choice {
    pub settings: EncodeSettings,
    /// Who the encoder is, for keys.
    pub identity: String,
}

/// Tells who of an encoder's name is on this machine, one or GPUs of several kinds; or why none is.
pub type Here<'a> = &'a dyn Fn(&str) -> Result<Vec<String>, String>;

/// `known` are the identities of encoders by the name that the spec has for them.
pub fn who_is_here<'a>(
    known: &'a BTreeMap<String, Vec<String>>,
    unusable: &'a [Unusable],
) -> impl Fn(&str) -> Result<Vec<String>, String> + 'a {
    |encoder| {
        known.get(encoder).cloned().ok_or_else(|| {
            let reason = unusable.iter().find(|one| one.encoder == encoder);
            reason.map_or("it was not found", |one| one.reason.as_str()).to_owned()
        })
    }
}

/// Holds the encoders' own options against FFmpeg's tables, before anything is done.
pub fn check_options(ladder: &spec::Ladder) -> Result<(), spec::SpecErrors> {
    let mut told = BTreeSet::new();
    let mut faults = Vec::new();
    for (encoder, options) in ladder.rungs.iter().flat_map(|rung| &rung.ffmpeg) {
        if !told.insert(encoder) {
            continue;
        }
        faults.extend(option_faults(encoder, options));
    }
    spec::no_faults(ladder, faults)
}

/// What is wrong with an encoder's own options, by FFmpeg's tables.
pub fn option_faults(encoder: &str, options: &spec::FfmpegOptions) -> Vec<spec::Fault> {
    let faults = executors::check_options(encoder, options).into_iter().map(|fault| spec::Fault {
        keys: ["encoder", encoder, &fault.option].map(str::to_owned).to_vec(),
        headline: format!("`{}` in `[encoder.{encoder}]` cannot be set", fault.option),
        label: fault.message,
        help: fault.hint,
    });
    faults.collect()
}

/// Holds each rung against the encoders of this machine before anything is done: the key of an encode
/// says who made it, so without any of a rung's encoders its encodes cannot even be looked up. Tells of
/// those that are passed over, each once.
pub fn check_encoders(ladder: &spec::Ladder, here: Here<'_>) -> Result<Vec<String>, TitleError> {
    let mut told = BTreeSet::new();
    let mut warnings = Vec::new();
    for rung in &ladder.rungs {
        if !rung.encoders.iter().any(|encoder| here(encoder.name()).is_ok()) {
            return Err(no_encoder(rung, here));
        }
        for name in rung.encoders.iter().map(spec::Encoder::name) {
            if let Err(reason) = here(name)
                && told.insert(name)
            {
                warnings
                    .push(format!("rungs that may use {name} are left to their other encoders: {reason}"));
            }
        }
    }
    Ok(warnings)
}

/// Why none of a rung's encoders will do.
fn no_encoder(rung: &spec::Rung, here: Here<'_>) -> TitleError {
    let reasons = rung.encoders.iter().map(spec::Encoder::name);
    let reasons = reasons.map(|name| format!("{name} ({})", here(name).err().unwrap_or_default()));
    TitleError::NoEncoder { rung: rung.name.clone(), encoders: reasons.collect::<Vec<_>>().join(", ") }
}

/// Luma samples of a tile: smaller tiles cost bytes, larger ones leave cores idle.
const SAMPLES_PER_TILE: u64 = 400_000;
const MOST_TILES: u64 = 16;

impl RungPlan {
    /// `here` tells who of an encoder's name is on this machine.
    pub fn new(
        rung: &spec::Rung,
        track: &VideoTrack,
        rate: Rational,
        here: Here<'_>,
    ) -> Result<RungPlan, TitleError> {
        let (width, height) = size(rung, track)?;
        let bit_depth = rung.bit_depth.map_or(if track.bit_depth > 8 { 10 } else { 8 }, spec::BitDepth::bits);
        let picture =
            FrameFormat { width, height, bit_depth, rotation: track.rotation, colour: track.colour };
        let contract = Contract::new(&picture, rate)
            .map_err(|error| TitleError::Spec(format!("rung {}: {error}", rung.name)))?;
        let knobs = |encoder: &spec::Encoder| match encoder {
            spec::Encoder::Rav1e => {
                let tiles = rung.rav1e.tiles.unwrap_or_else(|| tiles(width, height));
                EncoderSettings::Rav1e { speed: rung.rav1e.speed, tiles }
            }
            spec::Encoder::SvtAv1 => EncoderSettings::SvtAv1 { preset: rung.svt_av1.preset },
            spec::Encoder::Nvenc => EncoderSettings::Nvenc { preset: rung.nvenc.preset },
            spec::Encoder::Ffmpeg(encoder) => {
                let options = rung.ffmpeg.get(encoder).cloned().unwrap_or_default();
                EncoderSettings::Ffmpeg { encoder: encoder.clone(), options }
            }
        };
        let fitting =
            |name: &str| if takes(name, (width, height)) { here(name) } else { Err(too_small(name)) };
        let choices = rung.encoders.iter().flat_map(|encoder| {
            let settings = EncodeSettings {
                format: picture,
                hdr: track.hdr,
                crf: rung.crf.get(),
                encoder: knobs(encoder),
            };
            let identities = fitting(encoder.name()).unwrap_or_default().into_iter();
            identities.map(move |identity| Choice { settings: settings.clone(), identity })
        });
        let choices: Vec<Choice> = choices.collect();
        if choices.is_empty() {
            return Err(no_encoder(rung, &fitting));
        }
        Ok(RungPlan { name: rung.name.clone(), picture, contract, choices })
    }
}

/// Whether an encoder makes pictures of this size.
fn takes(encoder: &str, (width, height): (u32, u32)) -> bool {
    width.min(height) >= spec::catalog::min_side(encoder)
}

fn too_small(encoder: &str) -> String {
    let side = spec::catalog::min_side(encoder);
    format!("its pictures are at least {side}x{side}")
}

/// Holds a rung against the source's shape before anything is decoded: whether its pictures are of a size
/// that one of its encoders makes. Returns what there is to tell of those that do not.
pub fn check_size(rung: &spec::Rung, track: &VideoTrack) -> Result<Vec<String>, TitleError> {
    let (width, height) = size(rung, track)?;
    let names = || rung.encoders.iter().map(spec::Encoder::name);
    let idle = names().filter(|name| !takes(name, (width, height)));
    let idle = idle.map(|name| {
        format!(
            "{name} encodes nothing of rung {}, which is {width}x{height}: {}",
            rung.name,
            too_small(name)
        )
    });
    if names().any(|name| takes(name, (width, height))) {
        return Ok(idle.collect());
    }
    let reasons = names().map(|name| format!("{name} ({})", too_small(name))).collect::<Vec<_>>().join(", ");
    Err(TitleError::Spec(format!(
        "rung {}: its pictures would be {width}x{height}, which none of its encoders makes: {reasons}; \
         make it larger, or let it have `encoder = \"rav1e\"`",
        rung.name
    )))
}

/// The rung's size in square samples, both even. A side that the spec leaves open follows the
/// display shape of the source.
pub fn size(rung: &spec::Rung, track: &VideoTrack) -> Result<(u32, u32), TitleError> {
    let aspect = track.display_aspect();
    let even = |num: u128, den: u128| -> u32 {
        let den = den.max(1);
        u32::try_from((num + den) / (2 * den) * 2).unwrap_or(u32::MAX).max(16)
    };
    let (num, den) = (u128::from(aspect.num), u128::from(aspect.den));
    let (width, height) = match (rung.width, rung.height) {
        (Some(width), Some(height)) => (width, height),
        (None, Some(height)) => (even(u128::from(height) * num, den), height),
        (Some(width), None) => (width, even(u128::from(width) * den, num)),
        (None, None) => (even(u128::from(track.display_height()) * num, den), track.display_height()),
    };
    if width.max(height) > spec::MAX_SIDE {
        return Err(TitleError::Spec(format!(
            "rung {}: with the shape of this source ({}:{}) its pictures would be {width}x{height}; {} is the most",
            rung.name,
            aspect.num,
            aspect.den,
            spec::MAX_SIDE
        )));
    }
    Ok((width, height))
}

fn tiles(width: u32, height: u32) -> u32 {
    let wanted = u64::from(width) * u64::from(height) / SAMPLES_PER_TILE;
    let power = if wanted == 0 { 1 } else { 1 << wanted.ilog2() };
    power.min(MOST_TILES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_follow_the_picture() {
        assert_eq!(
            [(640, 360), (854, 480), (1280, 720), (1920, 1080), (3840, 2160)].map(|(w, h)| tiles(w, h)),
            [1, 1, 2, 4, 16]
        );
    }
}
