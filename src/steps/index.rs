//! The index of a source: its tracks, and the spans of its video that decode by themselves.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest};
use crate::media::{Index, MediaError};
use crate::title::Title;
use crate::title::part::Part;

use super::context::{Grant, Readers, StepContext, encoded, read};
use super::error::{StepError, Stop};
use super::live::Live;
use super::recipe::Recipe;
use super::source::{HashSource, known_source};
use super::view::View;
use super::{Effect, EncodeWork, Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IndexSource;

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    path: PathBuf,
    source: Digest,
}

struct Key<'a> {
    source: Digest,
    demuxer: &'a str,
}

impl Key<'_> {
    fn recipe(&self) -> Recipe {
        let Key { source, demuxer } = *self;
        Recipe::new("index", IndexSource::VERSION).digest("source", source).text("demuxer", demuxer)
    }
}

impl StepKind for IndexSource {
    const KIND: Kind = Kind::Index;
    const VERSION: u32 = 2;

    type Fact = Arc<Index>;
    type Work = Work;

    fn label(self, _: &Title) -> String {
        "index".to_owned()
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

    fn all(part: Part, title: &Title) -> Vec<IndexSource> {
        if part == Part::Source && title.digest.is_some() { vec![IndexSource] } else { Vec::new() }
    }

    fn count(_: &Title) -> u64 {
        1
    }

    fn inputs(self, _: &Title) -> Vec<Step> {
        vec![HashSource.into()]
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

    fn look_up(self, view: &View<'_>) -> Result<LookUp<Arc<Index>>, StepError> {
        let source = view.title.digest.ok_or_else(StepError::early)?;
        let key = Key { source, demuxer: &view.tools.libraries.demuxer };
        Ok(LookUp::Keys(vec![key.recipe()]))
    }

    fn accept(
        self,
        _: &View<'_>,
        result: &EntryResult,
        cache: &dyn Cache,
    ) -> Result<Option<Arc<Index>>, StepError> {
        Ok(read(result, cache)?.map(Arc::new))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: false }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        let source = view.title.digest.ok_or_else(StepError::early)?;
        Ok(Work { path: view.title.source.clone(), source })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<Arc<Index>>, Stop> {
        let Work { path, source } = work;
        let index = context.codecs.scan(&path, &|| context.is_cancelled()).map_err(StepError::from)?;
        // What was indexed is stored under the digest, so it must still be the file that has it.
        if known_source(context.cache.local(), &path) != Some(source) {
            return Err(StepError::from(MediaError::Changed { path }).into());
        }
        Ok(Output::new(store_index(context, &index)?, Arc::new(index)))
    }

    fn learn(self, title: &mut Title, live: &mut Live, index: Arc<Index>, _: &Learning<'_>) -> Learned {
        if title.index().is_some() {
            return Ok(Vec::new());
        }
        live.readers = Some(Arc::new(Readers::new(&title.source, Arc::new(index.video.clone()))));
        let mut effects: Vec<Effect> = title.learn_index(index)?.into_iter().map(Effect::Warn).collect();
        // By what the container says, for progress and estimates; nothing is decided by it.
        let (rungs, seconds, samples) = title.expected_work();
        effects.push(Effect::Totals { rungs, work: EncodeWork { seconds, samples } });
        Ok(effects)
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        let of = |source, demuxer| Key { source: Digest([source; 32]), demuxer }.recipe();
        vec![vec![of(1, "a"), of(2, "a"), of(1, "b")]]
    }
}

pub(crate) fn store_index(context: &StepContext, index: &Index) -> Result<EntryResult, StepError> {
    context.store(&encoded(index)?, Vec::new())
}
