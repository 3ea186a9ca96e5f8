//! Where a source is cut into chunks: the step whose result decides which encodes exist.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::media::{MediaError, VideoTrack};
use crate::title::Title;
use crate::title::assemble::ChunkList;
use crate::title::chunking::{ChunkMode, ChunkPolicy};
use crate::title::ids::PackId;
use crate::title::part::Part;

use super::context::{Grant, StepContext, encoded, read};
use super::decode::begin_tracks;
use super::decode_pack::PackSpans;
use super::error::{StepError, Stop};
use super::live::Live;
use super::recipe::Recipe;
use super::view::View;
use super::{Effect, Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CutChunks;

#[derive(Serialize, Deserialize)]
pub(crate) enum Work {
    /// The list of chunks was put together while the source was being decoded.
    Store(ChunkList),
    Assemble {
        source: PathBuf,
        track: Box<VideoTrack>,
        /// The packs of decoded spans, in order.
        packs: Vec<BlobRef>,
        policy: ChunkPolicy,
    },
}

struct Key<'a> {
    /// Results of the packs of decoded spans.
    decoded: Vec<Digest>,
    /// Stands for time stamps and claimed frame rates.
    timing: Digest,
    policy: &'a ChunkPolicy,
}

impl Key<'_> {
    fn recipe(&self) -> Recipe {
        let Key { decoded, timing, policy } = self;
        let recipe = Recipe::new("chunk", CutChunks::VERSION)
            .list("decoded packs", decoded.iter().copied())
            .digest("timing", *timing);
        policy_fields(recipe, policy)
    }
}

/// The fields of a policy: those that matter in its mode.
pub(crate) fn policy_fields(recipe: Recipe, policy: &ChunkPolicy) -> Recipe {
    let ChunkPolicy { mode, target, min, max } = policy;
    let ms = |value: &u64| i64::try_from(*value).unwrap_or(i64::MAX);
    let name = match mode {
        ChunkMode::Content => "content",
        ChunkMode::Fixed => "fixed",
    };
    let recipe = recipe.text("segments.mode", name).number("segments.target (ms)", ms(target));
    match mode {
        ChunkMode::Content => {
            recipe.number("segments.min (ms)", ms(min)).number("segments.max (ms)", ms(max))
        }
        ChunkMode::Fixed => recipe,
    }
}

/// Policies of which each differs from the first in one field.
#[cfg(test)]
pub(crate) fn example_policies() -> Vec<ChunkPolicy> {
    let content = ChunkPolicy { mode: ChunkMode::Content, target: 2000, min: 500, max: 4000 };
    vec![
        content,
        ChunkPolicy { mode: ChunkMode::Fixed, ..content },
        ChunkPolicy { target: 2001, ..content },
        ChunkPolicy { min: 501, ..content },
        ChunkPolicy { max: 4001, ..content },
    ]
}

impl StepKind for CutChunks {
    const KIND: Kind = Kind::Chunk;
    const VERSION: u32 = 3;

    type Fact = Arc<ChunkList>;
    type Work = Work;

    fn label(self, _: &Title) -> String {
        "chunk".to_owned()
    }

    fn group(self, title: &Title) -> String {
        self.label(title)
    }

    fn detail(self, _: &Title) -> String {
        String::new()
    }

    fn row(self) -> (usize, Option<usize>) {
        (0, None)
    }

    fn all(part: Part, title: &Title) -> Vec<CutChunks> {
        if part == Part::Chunks && title.index().is_some() { vec![CutChunks] } else { Vec::new() }
    }

    fn count(_: &Title) -> u64 {
        1
    }

    fn inputs(self, title: &Title) -> Vec<Step> {
        packs(title).map(Step::from).collect()
    }

    fn told_by(self, _: &Title) -> Vec<Step> {
        Vec::new()
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

    fn forget(self, _: &mut Title) {}

    fn look_up(self, view: &View<'_>) -> Result<LookUp<Arc<ChunkList>>, StepError> {
        let track = view.title.video().ok_or_else(StepError::early)?;
        let decoded = packs(view.title).map(|pack| Ok(view.result(pack)?.digest()));
        let decoded = decoded.collect::<Result<_, StepError>>()?;
        let key = Key { decoded, timing: timing_of(track)?, policy: &view.title.policy };
        Ok(LookUp::Keys(vec![key.recipe()]))
    }

    fn accept(
        self,
        _: &View<'_>,
        result: &EntryResult,
        cache: &dyn Cache,
    ) -> Result<Option<Arc<ChunkList>>, StepError> {
        Ok(read(result, cache)?.map(Arc::new))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        if let Some(list) = view.live.chunker.as_ref().and_then(|chunker| chunker.chunk_list()) {
            return Ok(Work::Store(list));
        }
        let track = view.title.video().ok_or_else(StepError::early)?;
        let packs = packs(view.title).map(|pack| view.blob(pack));
        Ok(Work::Assemble {
            source: view.title.source.clone(),
            track: Box::new(track.clone()),
            packs: packs.collect::<Result<_, _>>()?,
            policy: view.title.policy,
        })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<Arc<ChunkList>>, Stop> {
        let list = match work {
            Work::Store(list) => list,
            Work::Assemble { source, track, packs, policy } => {
                let load = |pack: usize| context.load(&packs[pack]);
                let list = ChunkList::assemble(&Arc::new(*track), packs.len(), &load, &policy)?;
                let nothing = || MediaError::Damaged {
                    path: source,
                    detail: "not one of its pictures could be decoded".to_owned(),
                };
                list.ok_or_else(nothing).map_err(StepError::from)?
            }
        };
        Ok(Output::new(context.store(&encoded(&list)?, Vec::new())?, Arc::new(list)))
    }

    fn learn(
        self,
        title: &mut Title,
        live: &mut Live,
        list: Arc<ChunkList>,
        learning: &Learning<'_>,
    ) -> Learned {
        let mut effects = Vec::new();
        if title.is_chunked() {
            return Ok(effects);
        }
        live.close_readers();
        if title.timing.is_some() && !title.agrees_with(&list) {
            live.frames = None;
            title.withdraw_tracks();
            effects.push(Effect::ChunksWithdrawn);
        }
        if title.timing.is_none() {
            begin_tracks(title, live, list.timing.clone(), list.duration(), learning, &mut effects)?;
        }
        title.learn_chunks(&list);
        effects.push(Effect::Chunked(list.chunks.len() as u64));
        Ok(effects)
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let policies = example_policies();
        let of = |decoded: &[u8], timing, policy| {
            let decoded = decoded.iter().map(|&decoded| Digest([decoded; 32])).collect();
            Key { decoded, timing: Digest([timing; 32]), policy }.recipe()
        };
        let mut keys = vec![of(&[1, 2], 1, &policies[0]), of(&[2, 1], 1, &policies[0])];
        keys.extend([of(&[1], 1, &policies[0]), of(&[1, 2], 2, &policies[0])]);
        keys.extend(policies[1..].iter().map(|policy| of(&[1, 2], 1, policy)));
        vec![keys]
    }
}

fn packs(title: &Title) -> impl Iterator<Item = PackSpans> + use<> {
    (0..title.span_packs()).map(|pack| PackSpans { pack: PackId::new(pack) })
}

/// What the times of a source's frames follow from.
fn timing_of(track: &VideoTrack) -> Result<Digest, StepError> {
    let parts =
        (&track.stamps, &track.sorted_stamps, track.time_base, &track.claimed_rates, track.last_duration);
    Ok(Digest::of(&encoded(&parts)?))
}
