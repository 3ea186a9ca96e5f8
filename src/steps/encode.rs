//! A chunk on a rung: one closed sequence, by one of the encoders that the rung allows.

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::executors::{Contract, EncodeJob, EncodeSettings, EncodeTask, EncoderSettings};
use crate::media::{Colour, HdrMetadata, FrameFormat, Rotation};
use crate::title::ids::{ChunkId, TrackId};
use crate::title::part::Part;
use crate::title::rung::Choice;
use crate::title::{Title, span_ids};

use super::context::{Grant, StepContext, encoded, facts};
use super::chunk::CutChunks;
use super::decode::DecodeSpan;
use super::error::{StepError, Stop};
use super::live::Live;
use super::recipe::Recipe;
use super::tools::Tools;
use super::view::View;
use super::{
    Bytes, EncodeWork, Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind,
};

/// Frames that an encoder holds at most: its look-ahead and its references, with their
/// half-size copies and motion data.
const ENCODER_FRAMES: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EncodeChunk {
    pub track: TrackId,
    pub chunk: ChunkId,
}

/// The frames are those of the chunk; whoever encodes has them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    /// Of the chunk, by which its frames are told from others.
    identity: Digest,
    task: EncodeTask,
}

/// What is known of a chunk that was encoded, or of a window. Its one blob is all samples, one after another,
/// as `mdat` holds them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EncodeFacts {
    /// What the sample entry takes of it: for AV1 the sequence header OBU. Empty for audio.
    pub header: Vec<u8>,
    /// Bytes of each sample.
    pub sizes: Vec<u32>,
}

impl EncodeFacts {
    /// Of a result whose blob holds so many samples, and no bytes besides; `None` where it does not.
    pub fn of(result: &EntryResult, samples: u32) -> Option<EncodeFacts> {
        let facts: EncodeFacts = facts(result).ok()?;
        let bytes = facts.sizes.iter().map(|&size| u64::from(size)).sum::<u64>();
        let is_whole = matches!(&result.blobs[..], [blob] if blob.size == bytes);
        (is_whole && facts.sizes.len() == samples as usize).then_some(facts)
    }
}

/// Stores encoded samples.
pub(crate) fn store_samples(
    context: &StepContext,
    header: Vec<u8>,
    samples: &[Vec<u8>],
) -> Result<EntryResult, StepError> {
    let sizes = samples.iter().map(|sample| u32::try_from(sample.len()));
    let sizes = sizes.collect::<Result<_, _>>().map_err(StepError::internal)?;
    let mut blob = context.cache.blob_writer()?;
    for sample in samples {
        blob.append(sample)?;
    }
    Ok(EntryResult { facts: encoded(&EncodeFacts { header, sizes })?, blobs: vec![blob.finish()?] })
}

/// Everything about a rung's encodes but which chunk it is.
pub(crate) struct RungKey<'a> {
    pub settings: &'a EncodeSettings,
    pub contract: &'a Contract,
    /// The encoder's identity.
    pub encoder: &'a str,
    pub scaler: &'a str,
}

impl RungKey<'_> {
    /// `frames` stands for the digests of the chunk's frames.
    pub fn recipe(&self, frames: Digest) -> Recipe {
        let RungKey { settings, contract, encoder, scaler } = *self;
        let EncodeSettings { format, hdr, crf, encoder: options } = settings;
        let header = contract.header();
        let recipe = picture_fields(Recipe::new("encode", EncodeChunk::VERSION).digest("frames", frames), format)
            .number("crf", *crf)
            .text("encoder", encoder)
            .text("scaler", scaler)
            .number("profile", header.seq_profile)
            .number("level", header.seq_level_idx)
            .number("tier", i64::from(header.seq_tier));
        encoder_fields(hdr_fields(recipe, hdr), options)
    }
}

fn encoder_fields(recipe: Recipe, options: &EncoderSettings) -> Recipe {
    match options {
        EncoderSettings::Rav1e { speed, tiles } => recipe.number("speed", *speed).number("tiles", *tiles),
        EncoderSettings::SvtAv1 { preset } => recipe.number("preset", *preset),
        EncoderSettings::Nvenc { preset } => recipe.number("nvenc.preset", *preset),
        // Sorted by their names, each with its value in one field: both are anybody's words, but
        // no name holds the sign between them.
        EncoderSettings::Ffmpeg { encoder, options } => options
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .fold(recipe.text("ffmpeg encoder", encoder), |recipe, option| recipe.text("option", option)),
    }
}

/// Nothing where there is none.
fn hdr_fields(mut recipe: Recipe, hdr: &HdrMetadata) -> Recipe {
    let HdrMetadata { mastering, content_light } = hdr;
    if let Some(display) = mastering {
        for value in display.primaries.iter().chain([&display.white_point]).flatten() {
            recipe = recipe.number("mastering display", *value);
        }
        recipe = recipe.number("max luminance", display.max_luminance);
        recipe = recipe.number("min luminance", display.min_luminance);
    }
    if let Some(light) = content_light {
        recipe = recipe.number("max cll", light.max_cll).number("max fall", light.max_fall);
    }
    recipe
}

fn picture_fields(recipe: Recipe, picture: &FrameFormat) -> Recipe {
    let FrameFormat { width, height, bit_depth, rotation, colour } = picture;
    let rotation = match rotation {
        Rotation::None => 0,
        Rotation::Rotate90 => 90,
        Rotation::Rotate180 => 180,
        Rotation::Rotate270 => 270,
    };
    let Colour { primaries, transfer, matrix, full_range, chroma_position } = colour;
    recipe
        .number("width", *width)
        .number("height", *height)
        .number("bit depth", *bit_depth)
        .number("rotation", rotation)
        .number("colour primaries", *primaries)
        .number("transfer characteristics", *transfer)
        .number("matrix coefficients", *matrix)
        .number("full range", i64::from(*full_range))
        .number("chroma sample position", *chroma_position)
}

/// The ways in which a rung may encode a chunk, in order of preference. `frames` stands for the digests of
/// the chunk's frames.
pub(crate) fn recipes(
    title: &Title,
    track: TrackId,
    frames: Digest,
    tools: &Tools,
) -> Result<Vec<Recipe>, StepError> {
    let plan = title.rung(track).ok_or_else(StepError::early)?;
    let recipes = plan.choices.iter().map(|Choice { settings, identity: encoder }| {
        let key = RungKey { settings, contract: &plan.contract, encoder, scaler: &tools.libraries.scaler };
        key.recipe(frames)
    });
    Ok(recipes.collect())
}

impl EncodeChunk {
    /// How much it is.
    pub fn amount(self, title: &Title) -> EncodeWork {
        let (Some(rung), Some(chunk)) = (title.rung(self.track), title.chunk(self.track, self.chunk)) else {
            return EncodeWork::default();
        };
        let samples = u64::from(rung.picture.width) * u64::from(rung.picture.height);
        let seconds = title.timing.as_ref().map_or(0.0, |timing| timing.seconds(chunk.duration()));
        EncodeWork { seconds, samples: samples * u64::from(chunk.frames) }
    }
}

impl StepKind for EncodeChunk {
    const KIND: Kind = Kind::Encode;
    const VERSION: u32 = 2;

    type Fact = ();
    type Work = Work;

    fn label(self, title: &Title) -> String {
        format!("{}/{}", track_label(title, self.track), self.chunk)
    }

    fn group(self, title: &Title) -> String {
        format!("{}/encode", track_label(title, self.track))
    }

    fn detail(self, title: &Title) -> String {
        time_range(title, self.track, self.chunk)
    }

    fn row(self) -> (usize, Option<usize>) {
        (self.track.index(), Some(self.chunk.index()))
    }

    fn all(part: Part, title: &Title) -> Vec<EncodeChunk> {
        match part {
            Part::Segments(track, pack) if title.rung(track).is_some() => {
                title.unpacked_segments(track, pack).map(|chunk| EncodeChunk { track, chunk }).collect()
            }
            Part::Source | Part::Spans(_) | Part::Chunks | Part::Audio | Part::Segments(..) | Part::Package => Vec::new(),
        }
    }

    fn count(title: &Title) -> u64 {
        let rungs = title.tracks.iter().filter(|track| track.rung().is_some()).count();
        (rungs * title.chunks().len()) as u64
    }

    fn inputs(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        vec![CutChunks.into()]
    }

    fn made_from(self, title: &Title) -> Vec<Step> {
        let spans = title.spans_under(self.chunk);
        span_ids(spans).map(|span| DecodeSpan { span }.into()).collect()
    }

    fn packing(self, _: &Title) -> Packing {
        Packing::InPack
    }

    fn unpack(self, _: &mut Title) {}

    fn holds(self, _: &Title, _: &EntryResult, _: &dyn Cache) -> Vec<(Step, BlobRef)> {
        Vec::new()
    }

    fn forget(self, _: &mut Title) {}

    fn look_up(self, view: &View<'_>) -> Result<LookUp<()>, StepError> {
        let frames = view.chunk(self.track, self.chunk)?.identity;
        Ok(LookUp::Keys(recipes(view.title, self.track, frames, view.tools)?))
    }

    fn accept(self, view: &View<'_>, result: &EntryResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        let contract = &view.rung(self.track)?.contract;
        let frames = view.chunk(self.track, self.chunk)?.frames;
        let Some(facts) = EncodeFacts::of(result, frames) else { return Ok(None) };
        Ok(match contract.check(&facts.header) {
            Ok(()) => Some(()),
            Err(error) => {
                let label = self.label(view.title);
                view.outside.notices.add(format!("{label}: a cached encode is not used: {error}"));
                None
            }
        })
    }

    fn needs(self, title: &Title, jobs: usize) -> Needs {
        let EncodeChunk { track, chunk } = self;
        let work = self.amount(title);
        let (Some(video), Some(rung), Some(of)) =
            (title.video(), title.rung(track), title.chunk(track, chunk))
        else {
            return Needs::Encode { track, chunk, work, bytes: Bytes::default() };
        };
        let (frames, picture) = (u64::from(of.frames), &rung.picture);
        let samples = u64::from(picture.width) * u64::from(picture.height);
        Needs::Encode {
            track,
            chunk,
            work,
            bytes: Bytes {
                frames: frames.saturating_mul(video.frame_bytes()),
                decoder: super::frames::decoder_bytes(video, jobs.min(super::frames::MAX_THREADS)),
                encoder: samples * 3 / 2 * picture.bytes_per_sample() as u64 * ENCODER_FRAMES,
            },
        }
    }

    fn work(self, view: &View<'_>, choice: usize) -> Result<Work, StepError> {
        let rung = view.rung(self.track)?;
        let settings = rung.choices.get(choice).ok_or_else(StepError::early)?.settings.clone();
        let identity = view.chunk(self.track, self.chunk)?.identity;
        Ok(Work { identity, task: EncodeTask { settings, contract: rung.contract.clone() } })
    }

    fn run(work: Work, context: &StepContext, grant: Grant) -> Result<Output<()>, Stop> {
        let Work { identity, task } = work;
        let Grant::Encode { frames, executor, threads } = grant else {
            return Err(StepError::internal("an encode without an encoder").into());
        };
        // What is stored under a key must be made of what the key names.
        if frames.identity() != identity {
            return Err(StepError::internal("the frames at hand are those of another chunk").into());
        }
        let missing = || StepError::internal("an encoder that is not here");
        let executor = context.executors.get(executor).ok_or_else(missing)?;
        let cancelled = || context.is_cancelled();
        let chunk = frames.with(&cancelled, |decoded| {
            let job = EncodeJob { task: &task, decoded, threads, cancelled: &cancelled };
            executor.encode(&job).map_err(StepError::Encode)
        })?;
        let result = store_samples(context, chunk.sequence_header, &chunk.units)?;
        Ok(Output { executor: Some(executor.name().to_owned()), ..Output::new(result, ()) })
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, stop: &Stop) -> Recovery {
        match stop {
            Stop::Failed(StepError::Encode(failure)) => Recovery::Reassign(failure.clone()),
            _ => Recovery::None,
        }
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        tests::example_keys()
    }
}

pub(crate) fn track_label(title: &Title, track: TrackId) -> String {
    title.track(track).map_or_else(|| "?".to_owned(), |track| track.label())
}

/// From when to when a chunk or window lasts.
pub(crate) fn time_range(title: &Title, track: TrackId, chunk: ChunkId) -> String {
    let rate = f64::from(title.timescale(track).max(1));
    let range = title.chunk(track, chunk).map(|chunk| {
        let (start, end) = (chunk.start, chunk.start + chunk.duration());
        format!("{:.2} s to {:.2} s", start as f64 / rate, end as f64 / rate)
    });
    range.unwrap_or_default()
}

#[cfg(test)]
pub(crate) use tests::format as example_format;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{ContentLight, MasteringDisplay, Rational};

    pub fn format() -> FrameFormat {
        let colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 0 };
        FrameFormat { width: 640, height: 360, bit_depth: 8, rotation: Rotation::None, colour }
    }

    fn settings() -> EncodeSettings {
        EncodeSettings {
            hdr: HdrMetadata::default(),
            format: format(),
            crf: 32,
            encoder: EncoderSettings::Rav1e { speed: 10, tiles: 1 },
        }
    }

    fn ffmpegs(encoder: &str, options: &[(&str, &str)]) -> EncoderSettings {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        EncoderSettings::Ffmpeg { encoder: encoder.to_owned(), options: options.collect() }
    }

    fn recipe(frames: u8, settings: &EncodeSettings, rate: u64, encoder: &str, scaler: &str) -> Recipe {
        let contract = Contract::new(&settings.format, Rational { num: rate, den: 1 }).unwrap();
        RungKey { settings, contract: &contract, encoder, scaler }.recipe(Digest([frames; 32]))
    }

    pub fn example_keys() -> Vec<Vec<Recipe>> {
        let base = settings();
        let family = |base: &EncodeSettings, changes: &[&dyn Fn(&mut EncodeSettings)]| {
            let changed = changes.iter().map(|change| {
                let mut other = base.clone();
                change(&mut other);
                recipe(1, &other, 25, "e", "s")
            });
            let mut family = vec![recipe(1, base, 25, "e", "s")];
            family.extend(changed);
            family
        };
        let mut first = family(
            &base,
            &[
                &|s| s.crf = 33,
                &|s| s.encoder = EncoderSettings::Rav1e { speed: 9, tiles: 1 },
                &|s| s.encoder = EncoderSettings::Rav1e { speed: 10, tiles: 2 },
                &|s| s.format.width = 642,
                &|s| s.format.height = 362,
                &|s| s.format.bit_depth = 10,
                &|s| s.format.rotation = Rotation::Rotate180,
                &|s| s.format.colour.primaries = 9,
                &|s| s.format.colour.transfer = 16,
                &|s| s.format.colour.matrix = 9,
                &|s| s.format.colour.full_range = true,
                &|s| s.format.colour.chroma_position = 1,
            ],
        );
        first.push(recipe(2, &base, 25, "e", "s"));
        first.push(recipe(1, &base, 25, "other", "s"));
        first.push(recipe(1, &base, 25, "e", "other"));
        // Another level; profile and tier follow from what is above.
        first.push(recipe(1, &base, 120, "e", "s"));
        let with = |encoder| EncodeSettings { encoder, ..settings() };
        let display = MasteringDisplay {
            primaries: [[1, 2], [3, 4], [5, 6]],
            white_point: [7, 8],
            max_luminance: 9,
            min_luminance: 10,
        };
        let light = ContentLight { max_cll: 1, max_fall: 2 };
        let mut bright = settings();
        bright.hdr = HdrMetadata { mastering: Some(display), content_light: Some(light) };
        vec![
            first,
            family(
                &with(EncoderSettings::SvtAv1 { preset: 10 }),
                &[&|s| s.encoder = EncoderSettings::SvtAv1 { preset: 9 }],
            ),
            family(
                &with(EncoderSettings::Nvenc { preset: 5 }),
                &[&|s| s.encoder = EncoderSettings::Nvenc { preset: 4 }],
            ),
            family(
                &with(ffmpegs("libaom-av1", &[("cpu-used", "8")])),
                &[
                    &|s| s.encoder = ffmpegs("av1_qsv", &[("cpu-used", "8")]),
                    &|s| s.encoder = ffmpegs("libaom-av1", &[("cpu-used", "7")]),
                    &|s| s.encoder = ffmpegs("libaom-av1", &[("cpu", "8")]),
                    &|s| s.encoder = ffmpegs("libaom-av1", &[("cpu-used", "8"), ("tune", "ssim")]),
                ],
            ),
            family(
                &bright,
                &[
                    &|s| s.hdr.mastering = None,
                    &|s| s.hdr.content_light = None,
                    &|s| s.hdr.mastering.as_mut().unwrap().primaries[2][1] = 7,
                    &|s| s.hdr.mastering.as_mut().unwrap().white_point[1] = 9,
                    &|s| s.hdr.mastering.as_mut().unwrap().max_luminance = 10,
                    &|s| s.hdr.mastering.as_mut().unwrap().min_luminance = 9,
                    &|s| s.hdr.content_light.as_mut().unwrap().max_cll = 2,
                    &|s| s.hdr.content_light.as_mut().unwrap().max_fall = 3,
                ],
            ),
        ]
    }

    #[test]
    fn a_frame_rate_of_the_same_level_makes_the_same_key() {
        let settings = settings();
        let key = |rate| recipe(1, &settings, rate, "e", "s").key();
        assert_eq!(key(25), key(24));
    }
}
