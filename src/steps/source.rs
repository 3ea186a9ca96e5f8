//! The source file's digest: the leaf that all keys rest on. Path, size and times only spare reading the
//! file again.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::cache::{EntryResult, BlobRef, Cache, Digest, FileStamp, LocalCache};
use crate::media::MediaError;
use crate::title::Title;
use crate::title::part::Part;

use super::context::{Grant, StepContext, hash_file};
use super::error::{StepError, Stop};
use super::live::Live;
#[cfg(test)]
use super::recipe::Recipe;
use super::view::View;
use super::{Effect, Kind, Learned, Learning, LookUp, Needs, Output, Packing, Recovery, Step, StepKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HashSource;

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    path: PathBuf,
}

impl StepKind for HashSource {
    const KIND: Kind = Kind::Source;
    const VERSION: u32 = 1;

    type Fact = Digest;
    type Work = Work;

    fn label(self, _: &Title) -> String {
        "source".to_owned()
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

    fn all(part: Part, _: &Title) -> Vec<HashSource> {
        if part == Part::Source { vec![HashSource] } else { Vec::new() }
    }

    fn count(_: &Title) -> u64 {
        1
    }

    fn inputs(self, _: &Title) -> Vec<Step> {
        Vec::new()
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

    fn look_up(self, view: &View<'_>) -> Result<LookUp<Digest>, StepError> {
        let known = match view.outside.sources {
            Some(sources) => sources.get(&view.title.name).copied(),
            None => known_source(view.outside.cache.local(), &view.title.source),
        };
        Ok(match known {
            Some(digest) => LookUp::Current(result_of(digest), digest),
            None if view.outside.sources.is_some() => LookUp::Unknown,
            None => LookUp::Stale,
        })
    }

    fn accept(
        self,
        _: &View<'_>,
        _: &EntryResult,
        _: &dyn Cache,
    ) -> Result<Option<Digest>, StepError> {
        Err(StepError::internal("a source in the cache"))
    }

    fn needs(self, _: &Title, _: usize) -> Needs {
        Needs::Slot { in_plans: true }
    }

    fn work(self, view: &View<'_>, _: usize) -> Result<Work, StepError> {
        Ok(Work { path: view.title.source.clone() })
    }

    fn run(work: Work, context: &StepContext, _: Grant) -> Result<Output<Digest>, Stop> {
        let digest = hash_source(context, &work.path)?;
        Ok(Output::new(result_of(digest), digest))
    }

    fn learn(self, title: &mut Title, _: &mut Live, digest: Digest, _: &Learning<'_>) -> Learned {
        if title.digest.is_some() {
            return Ok(Vec::new());
        }
        title.learn_digest(digest);
        Ok(vec![Effect::SourceKnown])
    }

    fn recover(self, _: &mut Title, _: &mut Live, _: &Stop) -> Recovery {
        Recovery::None
    }

    #[cfg(test)]
    fn example_keys() -> Vec<Vec<Recipe>> {
        // It is outside the cache.
        Vec::new()
    }
}

fn result_of(digest: Digest) -> EntryResult {
    EntryResult { facts: digest.0.to_vec(), blobs: Vec::new() }
}

/// The digest of a source file that was hashed before and has not been touched since.
pub(crate) fn known_source(cache: &LocalCache, path: &Path) -> Option<Digest> {
    let stamp = FileStamp::of(&std::fs::metadata(path).ok()?);
    cache.known_file(path, &stamp)
}

/// The digest of a source file, remembered for as long as it is not touched.
pub(crate) fn hash_source(context: &StepContext, path: &Path) -> Result<Digest, StepError> {
    let unopened = |error: std::io::Error| StepError::from(MediaError::opening(path, &error));
    let meta = std::fs::metadata(path).map_err(unopened)?;
    if !meta.is_file() {
        let reason = "it is not a regular file".to_owned();
        return Err(MediaError::Open { path: path.to_owned(), reason }.into());
    }
    let mut before = FileStamp::of(&meta);
    let wait = before.settles_in(SystemTime::now());
    if !wait.is_zero() {
        std::thread::sleep(wait);
        before = FileStamp::of(&std::fs::metadata(path).map_err(unopened)?);
    }
    let digest = hash_file(path, &|| context.is_cancelled())?;
    let after = std::fs::metadata(path).map_err(unopened)?;
    if FileStamp::of(&after) != before {
        return Err(MediaError::Changed { path: path.to_owned() }.into());
    }
    context.cache.local().remember_file(path, &before, digest)?;
    Ok(digest)
}
