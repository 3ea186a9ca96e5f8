//! What a step may look at while it is looked up: its title, the results of its inputs, the tools of this
//! machine, and what lies outside the cache.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cache::{BlobRef, Digest, EntryResult, Tiers};
use crate::notices::Notices;
use crate::title::Title;
use crate::title::ids::TrackId;
use crate::title::rung::RungPlan;
use crate::title::track::{Medium, Rendition, Track};
use crate::title::{AudioInput, chunk::Chunk, ids::ChunkId};

use super::error::StepError;
use super::live::Live;
use super::tools::Tools;
use super::{EncodeChunk, EncodeWindow, Step, StepKind};

/// The results that steps of a title have by now.
pub(crate) trait Results: Sync {
    fn result(&self, step: Step) -> Option<&Arc<EntryResult>>;
    /// Of those, one that was found and not made in this build.
    fn cached(&self, step: Step) -> Option<&Arc<EntryResult>>;
}

pub(crate) struct View<'a> {
    pub title: &'a Title,
    pub live: &'a Live,
    pub results: &'a dyn Results,
    pub tools: &'a Tools,
    pub outside: Outside<'a>,
}

/// What lies outside the cache, and whether it is to be looked at.
#[derive(Clone, Copy)]
pub(crate) struct Outside<'a> {
    pub cache: &'a Tiers,
    pub notices: &'a Notices,
    /// Digests of sources, by title, that stand for the files themselves.
    pub sources: Option<&'a HashMap<String, Digest>>,
    /// Whether the output folders are left alone.
    pub unpublished: bool,
}

impl<'a> View<'a> {
    pub fn result(&self, step: impl StepKind) -> Result<&'a Arc<EntryResult>, StepError> {
        self.results.result(step.into()).ok_or_else(StepError::early)
    }

    pub fn blob(&self, step: impl StepKind) -> Result<BlobRef, StepError> {
        blob(self.result(step)?)
    }

    /// The result of a chunk's encode, or a window's.
    pub fn encode(&self, track: TrackId, chunk: ChunkId) -> Result<&'a Arc<EntryResult>, StepError> {
        match self.track(track)?.medium {
            Medium::Video(_) => self.result(EncodeChunk { track, chunk }),
            Medium::Audio(_) => self.result(EncodeWindow { track, window: chunk }),
        }
    }

    pub fn track(&self, track: TrackId) -> Result<&'a Track, StepError> {
        self.title.track(track).ok_or_else(StepError::early)
    }

    pub fn rung(&self, track: TrackId) -> Result<&'a Arc<RungPlan>, StepError> {
        self.title.rung(track).ok_or_else(StepError::early)
    }

    pub fn rendition(&self, track: TrackId) -> Result<(&'a Arc<Rendition>, &'a AudioInput), StepError> {
        self.title.rendition(track).ok_or_else(StepError::early)
    }

    pub fn chunk(&self, track: TrackId, chunk: ChunkId) -> Result<&'a Chunk, StepError> {
        self.title.chunk(track, chunk).ok_or_else(StepError::early)
    }
}

/// The one blob of a result.
pub(crate) fn blob(result: &EntryResult) -> Result<BlobRef, StepError> {
    result.blobs.first().copied().ok_or_else(|| StepError::internal("a result without its blob"))
}
