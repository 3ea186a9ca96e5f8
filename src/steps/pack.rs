//! A pack of segments: one look-up that stands for up to 128 segments of a track, and the encodes that they
//! are made of. A source of ten hours, cut on a grid of 2 s for eight rungs, is 144,000 encodes and
//! 1,128 packs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::{EntryKey, EntryResult, BlobRef, Cache, Digest};
use crate::package::{Composition, ContentId};
use crate::title::Title;
use crate::title::ids::{ChunkId, PackId, TrackId};
use crate::title::part::Part;

use super::audio;
use super::composed::{blob_of, composition, compositions};
use super::context::{Grant, StepContext, encoded, facts, read};
use super::encode::{self, EncodeFacts, track_label};
use super::error::{StepError, Stop};
use super::live::Live;
use super::mux::{MuxSegment, SegmentPosition, TrackMux};
use super::recipe::Recipe;
use super::view::View;
use super::{
    EncodeChunk, EncodeWork, Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, StandsFor, Step,
    StepKind,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PackSegments {
    pub track: TrackId,
    pub pack: PackId,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    /// What each segment is made of.
    segments: Vec<Composition>,
    facts: PackFacts,
}

/// What a pack's result says beside its two blobs. One lists digests and sizes of its segments, which
/// playlists and a build that changes nothing need; the other says what each is made of, and is read only where
/// one of them is to be written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PackFacts {
    /// The distinct sequence headers of its encodes; none of audio.
    pub headers: Vec<Vec<u8>>,
}

struct Key<'a> {
    /// The keys of a track's encodes but for what they encode, in each way in which they may be made.
    encodes: Vec<EntryKey>,
    mux: &'a TrackMux,
    /// What each segment holds, and where it stands.
    segments: &'a [(Digest, SegmentPosition)],
}

impl Key<'_> {
    fn recipe(&self) -> Recipe {
        let Key { encodes, mux, segments } = self;
        // The same fields as in the segments' own keys.
        let listed = segments.iter().map(|(content, position)| {
            position.fields(Recipe::new("segment", 0).digest("content", *content)).key().0
        });
        let recipe = Recipe::new("pack", PackSegments::VERSION)
            .digests("encode settings", encodes.iter().map(|key| key.0))
            .number("mux version", MuxSegment::VERSION);
        mux.fields(recipe).list("segments", listed)
    }
}

impl PackSegments {
    fn chunks(self, title: &Title) -> impl Iterator<Item = ChunkId> + Clone + use<> {
        title.segments_of(self.track, self.pack).map(ChunkId::new)
    }
}

impl StepKind for PackSegments {
    const KIND: Kind = Kind::Pack;
    const VERSION: u32 = 2;

    type Fact = Arc<Vec<ContentId>>;
    type Work = Work;

    fn label(self, title: &Title) -> String {
        format!("{}/pack/{}", track_label(title, self.track), self.pack)
    }

    fn group(self, title: &Title) -> String {
        format!("{}/pack", track_label(title, self.track))
    }

    fn detail(self, _: &Title) -> String {
        String::new()
    }

    fn row(self) -> (usize, Option<usize>) {
        (self.track.index(), Some(self.pack.index()))
    }

    fn all(part: Part, title: &Title) -> Vec<PackSegments> {
        match part {
            Part::Segments(track, pack) if title.pack(track, pack).is_some() => {
                vec![PackSegments { track, pack }]
            }
            Part::Source | Part::Spans(_) | Part::Chunks | Part::Audio | Part::Segments(..) | Part::Package => Vec::new(),
        }
    }

    fn count(title: &Title) -> u64 {
        title.tracks.iter().map(|track| track.packs.len() as u64).sum()
    }

    fn inputs(self, title: &Title) -> Vec<Step> {
        let PackSegments { track, pack } = self;
        if !title.is_unpacked(track, pack) {
            return Vec::new();
        }
        self.chunks(title).map(|chunk| MuxSegment { track, chunk }.into()).collect()
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn made_from(self, _: &Title) -> Vec<Step> {
        Vec::new()
    }

    fn packing(self, title: &Title) -> Packing {
        let is_packed = !title.is_unpacked(self.track, self.pack);
        if !is_packed {
            return Packing::Pack { is_packed, stands_for: StandsFor::default() };
        }
        let hidden = self.chunks(title).filter(|chunk| !title.is_early(self.track, *chunk));
        let count = hidden.clone().count() as u64;
        let is_video = title.rung(self.track).is_some();
        let kind = if is_video { Kind::Encode } else { Kind::Audio };
        let encode = is_video.then(|| {
            let works = hidden.map(|chunk| EncodeChunk { track: self.track, chunk }.amount(title));
            works.fold(EncodeWork::default(), |sum, work| EncodeWork {
                seconds: sum.seconds + work.seconds,
                samples: sum.samples + work.samples,
            })
        });
        let steps = [(kind, count), (Kind::Mux, count)].into_iter().filter(|(_, count)| *count > 0).collect();
        Packing::Pack { is_packed, stands_for: StandsFor { steps, encode } }
    }

    fn unpack(self, title: &mut Title) {
        title.unpack(self.track, self.pack);
    }

    fn holds(self, title: &Title, result: &EntryResult, cache: &dyn Cache) -> Vec<(Step, BlobRef)> {
        let track = self.track;
        let made = result.blobs.get(1).and_then(|blob| compositions(cache, blob).ok()).unwrap_or_default();
        let steps = self.chunks(title).map(|chunk| MuxSegment { track, chunk }.into());
        let blobs = |(step, file): (Step, Composition)| -> Vec<(Step, BlobRef)> {
            file.blobs().map(|blob| (step, blob_of(&blob))).collect()
        };
        steps.zip(made).flat_map(blobs).collect()
    }

    fn forget(self, title: &mut Title) {
        title.learn_segments(self.track, self.pack, None);
    }

    fn look_up(self, view: &View<'_>) -> Result<LookUp<Self::Fact>, StepError> {
        let segments = self.chunks(view.title).map(|id| {
            let chunk = view.chunk(self.track, id)?;
            Ok((chunk.identity, SegmentPosition::of(id, chunk)))
        });
        let segments: Vec<_> = segments.collect::<Result<_, StepError>>()?;
        let nothing = Digest([0; 32]);
        let encodes = match view.title.rung(self.track) {
            Some(_) => encode::recipes(view.title, self.track, nothing, view.tools)?,
            None => vec![audio::recipe(view.title, self.track, nothing, view.tools)?],
        };
        let encodes = encodes.iter().map(Recipe::key).collect();
        let mux = &TrackMux::of(view.title, self.track)?;
        Ok(LookUp::Keys(vec![Key { encodes, mux, segments: &segments }.recipe()]))
    }

    fn accept(
        self,
        view: &View<'_>,
        result: &EntryResult,
        cache: &dyn Cache,
    ) -> Result<Option<Self::Fact>, StepError> {
        let segments: Option<Vec<ContentId>> = read(result, cache)?;
        let count = view.title.segments_of(self.track, self.pack).len();
        let agrees = |facts: &PackFacts| match view.title.rung(self.track) {
            Some(plan) => facts.headers.iter().all(|header| plan.contract.check(header).is_ok()),
            None => facts.headers.is_empty(),
        };
        let agrees = facts::<PackFacts>(result).is_ok_and(|facts| agrees(&facts));
        let is_whole = result.blobs.len() == 2;
        Ok(segments.filter(|segments| segments.len() == count && agrees && is_whole).map(Arc::new))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let track = self.track;
        let mut segments = Vec::new();
        let mut headers: Vec<Vec<u8>> = Vec::new();
        for chunk in self.chunks(view.title) {
            segments.push(composition(view.result(MuxSegment { track, chunk })?)?);
            if view.title.rung(track).is_some() {
                let facts: EncodeFacts = facts(view.encode(track, chunk)?)?;
                if !headers.contains(&facts.header) {
                    headers.push(facts.header);
                }
            }
        }
        Ok(Work { segments, facts: PackFacts { headers } })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<Self::Fact>, Stop> {
        let Work { segments, facts } = work;
        let listed: Vec<ContentId> = segments.iter().map(|segment| segment.content).collect();
        let put = |bytes: Vec<u8>| context.cache.put_blob(&bytes).map_err(StepError::from);
        let blobs = vec![put(encoded(&listed)?)?, put(encoded(&segments)?)?];
        Ok(Output::new(EntryResult { facts: encoded(&facts)?, blobs }, Arc::new(listed)))
    }

    fn learn(self, title: &mut Title, _: &mut Live, segments: Self::Fact, _: &Learning<'_>) -> Learned {
        title.learn_segments(self.track, self.pack, Some(segments));
        Ok(Vec::new())
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let positions = super::mux::example_positions();
        let muxes = super::mux::example_muxes();
        let of = |encodes: &[u8], mux, segments: &[(u8, usize)]| {
            let encodes = encodes.iter().map(|&key| EntryKey(Digest([key; 32]))).collect();
            let segments: Vec<_> = segments
                .iter()
                .map(|&(content, position)| (Digest([content; 32]), positions[position].clone()))
                .collect();
            Key { encodes, mux, segments: &segments }.recipe()
        };
        let (mux, two) = (&muxes[0], &[(1, 0), (2, 1)]);
        let mut keys = vec![of(&[1], mux, two), of(&[2], mux, two), of(&[1, 2], mux, two)];
        keys.push(of(&[1], mux, &[(3, 0), (2, 1)]));
        keys.push(of(&[1], mux, &[(1, 0)]));
        keys.extend(muxes[1..].iter().map(|mux| of(&[1], mux, two)));
        // Every field of a position.
        keys.extend((2..positions.len()).map(|position| of(&[1], mux, &[(1, position), (2, 1)])));
        vec![keys]
    }
}
