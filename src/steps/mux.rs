//! A segment of a track: the samples of one encode in the container that players read.

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::package::{self, Composition, Sample};
use crate::stream::{SyncRule, Track};
use crate::title::chunk::Chunk;
use crate::title::ids::{ChunkId, TrackId};
use crate::title::part::Part;
use crate::title::track::Medium;
use crate::title::Title;

use super::audio::EncodeWindow;
use super::composed::{CacheBlobs, composed, content_of, is_composed, not_composed};
use super::context::{Grant, StepContext, facts};
use super::encode::{EncodeChunk, EncodeFacts, time_range, track_label};
use super::error::{StepError, Stop};
use super::live::Live;
use super::recipe::Recipe;
use super::view::View;
use super::{Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MuxSegment {
    pub track: TrackId,
    pub chunk: ChunkId,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    payload: BlobRef,
    /// Bytes of each sample in the payload.
    sizes: Vec<u32>,
    mux: TrackMux,
    position: SegmentPosition,
}

/// What the segments of a track have in common, as far as it is in their bytes. The keys of a segment and of
/// a pack of segments both have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TrackMux {
    sync: SyncRule,
    /// Whether the segments have a `roll` sample group, and its distance.
    roll: Option<i16>,
}

impl TrackMux {
    pub fn of(title: &Title, track: TrackId) -> Result<TrackMux, StepError> {
        let Track { sync, roll, .. } = title.described(track).ok_or_else(StepError::early)?;
        Ok(TrackMux { sync, roll })
    }

    pub fn fields(&self, recipe: Recipe) -> Recipe {
        let TrackMux { sync, roll } = self;
        let sync = match sync {
            SyncRule::FirstOfChunk => "first of chunk",
            SyncRule::Every => "every",
        };
        recipe.text("sync samples", sync).number("roll distance", roll.unwrap_or(0))
    }
}

/// Where a segment stands among its track's, and how long its samples last. The keys of a segment and of a
/// pack of segments both have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SegmentPosition {
    /// From 1.
    number: u32,
    /// Ticks from the track's start.
    start: u64,
    /// As runs: so many samples of so many ticks.
    durations: Vec<(u32, u32)>,
}

impl SegmentPosition {
    pub fn of(id: ChunkId, chunk: &Chunk) -> SegmentPosition {
        let number = u32::try_from(id.index() + 1).unwrap_or(u32::MAX);
        SegmentPosition { number, start: chunk.start, durations: chunk.durations.clone() }
    }

    pub fn fields(&self, recipe: Recipe) -> Recipe {
        let SegmentPosition { number, start, durations } = self;
        let mut runs = blake3::Hasher::new();
        for (count, ticks) in durations {
            runs.update(&count.to_le_bytes()).update(&ticks.to_le_bytes());
        }
        recipe
            .number("sequence number", *number)
            .number("start", i64::try_from(*start).unwrap_or(i64::MAX))
            .digest("durations", runs.finalize().into())
    }
}

struct Key<'a> {
    mux: &'a TrackMux,
    encode: Digest,
    position: &'a SegmentPosition,
}

impl Key<'_> {
    fn recipe(&self) -> Recipe {
        let Key { mux, encode, position } = *self;
        position.fields(mux.fields(Recipe::new("mux", MuxSegment::VERSION)).digest("encode", encode))
    }
}

impl StepKind for MuxSegment {
    const KIND: Kind = Kind::Mux;
    const VERSION: u32 = 3;

    type Fact = ();
    type Work = Work;

    fn label(self, title: &Title) -> String {
        format!("{}/{}/mux", track_label(title, self.track), self.chunk)
    }

    fn group(self, title: &Title) -> String {
        format!("{}/mux", track_label(title, self.track))
    }

    fn detail(self, title: &Title) -> String {
        time_range(title, self.track, self.chunk)
    }

    fn row(self) -> (usize, Option<usize>) {
        (self.track.index(), Some(self.chunk.index()))
    }

    fn all(part: Part, title: &Title) -> Vec<MuxSegment> {
        match part {
            Part::Segments(track, pack) => {
                title.unpacked_segments(track, pack).map(|chunk| MuxSegment { track, chunk }).collect()
            }
            Part::Source | Part::Spans(_) | Part::Chunks | Part::Audio | Part::Package => Vec::new(),
        }
    }

    fn count(title: &Title) -> u64 {
        title.track_ids().map(|track| title.chunks_of(track).len() as u64).sum()
    }

    fn inputs(self, title: &Title) -> Vec<Step> {
        let MuxSegment { track, chunk } = self;
        match title.track(track).map(|track| &track.medium) {
            Some(Medium::Video(_)) => vec![EncodeChunk { track, chunk }.into()],
            Some(Medium::Audio(_)) => vec![EncodeWindow { track, window: chunk }.into()],
            None => Vec::new(),
        }
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn made_from(self, _: &Title) -> Vec<Step> {
        Vec::new()
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
        let mux = &TrackMux::of(view.title, self.track)?;
        let encode = view.encode(self.track, self.chunk)?.digest();
        let position = &SegmentPosition::of(self.chunk, view.chunk(self.track, self.chunk)?);
        Ok(LookUp::Keys(vec![Key { mux, encode, position }.recipe()]))
    }

    fn accept(self, _: &View<'_>, result: &EntryResult, _: &dyn Cache) -> Result<Option<()>, StepError> {
        Ok(is_composed(result).then_some(()))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let encode = view.encode(self.track, self.chunk)?;
        Ok(Work {
            payload: super::view::blob(encode)?,
            sizes: facts::<EncodeFacts>(encode)?.sizes,
            mux: TrackMux::of(view.title, self.track)?,
            position: SegmentPosition::of(self.chunk, view.chunk(self.track, self.chunk)?),
        })
    }

    /// Describes the segment. The payload is only read for the segment's digest.
    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<()>, Stop> {
        let Work { payload, sizes, mux, position } = work;
        let runs = position.durations.iter();
        let ticks = runs.flat_map(|&(count, ticks)| std::iter::repeat_n(ticks, count as usize));
        let samples = sizes.iter().zip(ticks).enumerate();
        let samples = samples.map(|(number, (&size, duration))| Sample {
            size,
            duration,
            sync: mux.sync.is_sync(number),
        });
        let samples: Vec<Sample> = samples.collect();
        if samples.len() != sizes.len() {
            return Err(Stop::Lost(payload));
        }
        let segment = package::Segment {
            sequence_number: position.number,
            base_decode_time: position.start,
            rolls: mux.roll.is_some(),
            samples: &samples,
        };
        let parts = package::segment(&segment, content_of(&payload)).map_err(StepError::internal)?;
        let segment = Composition::of(parts, &mut CacheBlobs(&context.cache)).map_err(not_composed)?;
        Ok(Output::new(composed(&segment)?, ()))
    }

    fn learn(self, _: &mut Title, _: &mut Live, (): (), _: &Learning<'_>) -> Learned {
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let positions = example_positions();
        let muxes = example_muxes();
        let of =
            |mux, encode, position| Key { mux, encode: Digest([encode; 32]), position }.recipe();
        let mut keys = vec![of(&muxes[0], 1, &positions[0]), of(&muxes[0], 2, &positions[0])];
        keys.extend(muxes[1..].iter().map(|mux| of(mux, 1, &positions[0])));
        keys.extend(positions[1..].iter().map(|position| of(&muxes[0], 1, position)));
        vec![keys]
    }
}

/// Of which each differs from the first in one field.
#[cfg(test)]
pub(crate) fn example_muxes() -> Vec<TrackMux> {
    let base = TrackMux { sync: SyncRule::FirstOfChunk, roll: None };
    vec![
        base.clone(),
        TrackMux { sync: SyncRule::Every, ..base.clone() },
        TrackMux { roll: Some(-1), ..base },
    ]
}

/// Positions of which each differs from the first in one field.
#[cfg(test)]
pub(crate) fn example_positions() -> Vec<SegmentPosition> {
    let base = SegmentPosition { number: 1, start: 0, durations: vec![(2, 5)] };
    vec![
        base.clone(),
        SegmentPosition { number: 2, ..base.clone() },
        SegmentPosition { start: 1, ..base.clone() },
        SegmentPosition { durations: vec![(2, 6)], ..base.clone() },
        SegmentPosition { durations: vec![(1, 5), (1, 5)], ..base },
    ]
}
