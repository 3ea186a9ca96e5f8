//! The analysis of an audio input: decoded once to find its windows. A window is cut like a chunk of the
//! video, with a packet for a frame.

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::media::{AudioSource, Blocks, FrameDigest, Rational};
use crate::stream::Framing;
use crate::title::Title;
use crate::title::chunk::{AudioFacts, Chunk};
use crate::title::chunking::{ChunkMode, ChunkPolicy, CutFrame, Cutter};
use crate::title::ids::AudioId;
use crate::title::part::Part;

use super::chunk::policy_fields;
use super::context::{Grant, StepContext, encoded, facts, read};
use super::error::{StepError, Stop};
use super::index::IndexSource;
use super::live::Live;
use super::recipe::Recipe;
use super::view::View;
use super::{Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AnalyzeAudio {
    pub audio: AudioId,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    source: AudioSource,
    framing: Framing,
    policy: ChunkPolicy,
}

pub(crate) struct Fact {
    facts: AudioFacts,
    windows: Vec<Chunk>,
}

struct Key<'a> {
    packets: Digest,
    /// When the video starts, and in units of what.
    origin: (i64, Rational),
    /// That the audio is mixed to.
    channels: u8,
    policy: &'a ChunkPolicy,
    decoder: &'a str,
    resampler: &'a str,
}

impl Key<'_> {
    fn recipe(&self) -> Recipe {
        let Key { packets, origin, channels, policy, decoder, resampler } = *self;
        let recipe = Recipe::new("audio analysis", AnalyzeAudio::VERSION)
            .digest("audio packets", packets)
            .number("video starts at", origin.0)
            .rational("in units of", origin.1)
            .number("channels", channels);
        policy_fields(recipe, policy).text("decoder", decoder).text("resampler", resampler)
    }
}

impl StepKind for AnalyzeAudio {
    const KIND: Kind = Kind::Decode;
    const VERSION: u32 = 3;

    type Fact = Fact;
    type Work = Work;

    fn label(self, _: &Title) -> String {
        format!("decode/audio/{}", self.audio)
    }

    fn group(self, title: &Title) -> String {
        self.label(title)
    }

    fn detail(self, _: &Title) -> String {
        String::new()
    }

    fn row(self) -> (usize, Option<usize>) {
        (self.audio.index(), None)
    }

    fn all(part: Part, title: &Title) -> Vec<AnalyzeAudio> {
        match part {
            Part::Audio => (0..title.audio.len()).map(|n| AnalyzeAudio { audio: AudioId::new(n) }).collect(),
            Part::Source | Part::Spans(_) | Part::Chunks | Part::Segments(..) | Part::Package => Vec::new(),
        }
    }

    fn count(title: &Title) -> u64 {
        title.audio.len() as u64
    }

    fn inputs(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        vec![IndexSource.into()]
    }

    fn made_from(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn packing(self, _: &Title) -> Packing {
        Packing::Alone
    }

    fn unpack(self, _: &mut Title) {}

    fn holds(self, _: &Title, _: &EntryResult, _: &dyn Cache) -> Vec<(Step, BlobRef)> {
        Vec::new()
    }

    fn forget(self, title: &mut Title) {
        title.withdraw_audio(self.audio);
    }

    fn look_up(self, view: &View<'_>) -> Result<LookUp<Fact>, StepError> {
        let source = &view.title.audio.get(self.audio.index()).ok_or_else(StepError::early)?.source;
        let key = Key {
            packets: Digest(source.track.packets_digest),
            origin: source.origin,
            channels: source.channels,
            policy: &window_policy(&view.title.policy),
            decoder: &view.tools.audio_decoder_of(&source.track),
            resampler: &view.tools.libraries.resampler,
        };
        Ok(LookUp::Keys(vec![key.recipe()]))
    }

    fn accept(
        self,
        _: &View<'_>,
        result: &EntryResult,
        cache: &dyn Cache,
    ) -> Result<Option<Fact>, StepError> {
        let facts = facts::<AudioFacts>(result).ok();
        Ok(read(result, cache)?.zip(facts).map(|(windows, facts)| Fact { facts, windows }))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let source = view.title.audio.get(self.audio.index()).ok_or_else(StepError::early)?.source.clone();
        let framing = view.title.framing(self.audio).ok_or_else(StepError::early)?;
        Ok(Work { source, framing, policy: window_policy(&view.title.policy) })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<Fact>, Stop> {
        let Work { source, framing, policy } = work;
        let packet = u64::from(framing.packet);
        let mut blocks = Blocks::new(source.channels);
        let mut digests: Vec<FrameDigest> = Vec::new();
        let mut cutter = Cutter::new(framing.rate, policy);
        let mut take = |block: &[i32]| {
            let digest = digest_of(block);
            cutter.push(CutFrame { score: 0, digest }, digests.len() as u64 * packet);
            digests.push(digest);
            Ok(())
        };
        let cancelled = || context.is_cancelled();
        let mut sink = |samples: &[i32]| blocks.push(samples, &mut take);
        let offset = context.codecs.decode_audio(&source, &cancelled, &mut sink).map_err(StepError::from)?;
        let samples = blocks.finish(&mut take).map_err(StepError::from)?;
        let audible = samples + u64::from(framing.pre_skip);
        let count = digests.len() as u64;
        cutter.finish(count * packet);
        let windows = std::iter::from_fn(|| cutter.next_chunk()).map(|range| {
            let frames = (range.end - range.start) as u32;
            // Of the last packet only a part may be audible.
            let last = audible.saturating_sub((range.end - 1) * packet).clamp(1, packet) as u32;
            let durations = if last == framing.packet || range.end < count {
                vec![(frames, framing.packet)]
            } else {
                let runs = [(frames - 1, framing.packet), (1, last)];
                runs.into_iter().filter(|&(count, _)| count > 0).collect()
            };
            let blocks = &digests[lead_of(range.start, framing) as usize..range.end as usize];
            Chunk {
                first: range.start,
                frames,
                start: range.start * packet,
                durations,
                identity: identity(blocks, frames as usize),
            }
        });
        let windows: Vec<Chunk> = windows.collect();
        let facts = AudioFacts { samples, offset };
        let result = context.store(&encoded(&windows)?, encoded(&facts)?)?;
        Ok(Output::new(result, Fact { facts, windows }))
    }

    fn learn(self, title: &mut Title, _: &mut Live, fact: Fact, _: &Learning<'_>) -> Learned {
        title.learn_audio(self.audio, fact.facts, fact.windows);
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let policies = super::chunk::example_policies();
        let tick = |num| Rational { num, den: 90_000 };
        let base = || Key {
            packets: Digest([1; 32]),
            origin: (1, tick(1)),
            channels: 2,
            policy: &policies[0],
            decoder: "a",
            resampler: "a",
        };
        let mut keys = vec![
            base().recipe(),
            Key { packets: Digest([2; 32]), ..base() }.recipe(),
            Key { origin: (2, tick(1)), ..base() }.recipe(),
            Key { origin: (1, tick(2)), ..base() }.recipe(),
            Key { channels: 1, ..base() }.recipe(),
            Key { decoder: "b", ..base() }.recipe(),
            Key { resampler: "b", ..base() }.recipe(),
        ];
        keys.extend(policies[1..].iter().map(|policy| Key { policy, ..base() }.recipe()));
        vec![keys]
    }
}

/// The digest of one frame of samples.
pub(crate) fn digest_of(block: &[i32]) -> FrameDigest {
    let mut hasher = blake3::Hasher::new_derive_key("rivet pcm v1");
    for sample in block {
        hasher.update(&sample.to_le_bytes());
    }
    FrameDigest(*hasher.finalize().as_bytes())
}

/// What a window is encoded from: its own frames, and those before it that lead up to it.
pub(crate) fn identity(frames: &[FrameDigest], own: usize) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("rivet window v1");
    hasher.update(&(own as u64).to_le_bytes());
    for frame in frames {
        hasher.update(&frame.0);
    }
    hasher.finalize().into()
}

/// The first frame of the audio that the encoder of a window that starts with this one is fed.
pub(crate) fn lead_of(first: u64, framing: Framing) -> u64 {
    first.saturating_sub(u64::from(framing.lead))
}

/// How audio is cut: windows are about as long as the target. Each begins with packets that do without
/// prediction, and short ones are not worth that.
pub(crate) fn window_policy(video: &ChunkPolicy) -> ChunkPolicy {
    match video.mode {
        ChunkMode::Fixed => *video,
        ChunkMode::Content => ChunkPolicy {
            mode: ChunkMode::Content,
            target: video.target.saturating_mul(2),
            min: video.target / 4,
            max: video.max.max(video.target.saturating_mul(2)),
        },
    }
}
