//! The steps of a build, as nodes of the graph: what each is, and the state that it is in.

use std::sync::Arc;

use crate::cache::{ActionKey, ActionResult};

use super::event::{Kind, Origin};
use super::work::Job;

/// One step of one title. Rungs, renditions, spans and chunks are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Source,
    Index,
    DecodeSpan {
        span: usize,
    },
    /// The PCM of one way of mixing one audio track.
    DecodeSound {
        sound: usize,
    },
    Chunk,
    Encode {
        rung: usize,
        chunk: usize,
    },
    Audio {
        rendition: usize,
    },
    Contract {
        rung: usize,
    },
    VideoInit {
        rung: usize,
    },
    VideoSegment {
        rung: usize,
        chunk: usize,
    },
    AudioInit {
        rendition: usize,
    },
    AudioSegment {
        rendition: usize,
        segment: usize,
    },
    VideoPlaylist {
        rung: usize,
    },
    AudioPlaylist {
        rendition: usize,
    },
    Multivariant,
    Publish,
}

impl Step {
    pub fn kind(self) -> Kind {
        match self {
            Step::Source => Kind::Source,
            Step::Index => Kind::Index,
            Step::DecodeSpan { .. } | Step::DecodeSound { .. } => Kind::Decode,
            Step::Chunk => Kind::Chunk,
            Step::Encode { .. } => Kind::Encode,
            Step::Audio { .. } => Kind::Audio,
            Step::Contract { .. } => Kind::Contract,
            Step::VideoInit { .. }
            | Step::VideoSegment { .. }
            | Step::AudioInit { .. }
            | Step::AudioSegment { .. } => Kind::Mux,
            Step::VideoPlaylist { .. } | Step::AudioPlaylist { .. } | Step::Multivariant => Kind::Manifest,
            Step::Publish => Kind::Publish,
        }
    }
}

pub struct Node {
    pub title: usize,
    pub step: Step,
    pub state: State,
    /// Inputs that are not done yet.
    pub missing: usize,
    /// The estimated work on the longest path from here to the end, this step included.
    pub path: u64,
    pub key: Option<ActionKey>,
    /// Its latest result, also while it runs again because that was lost.
    pub last: Option<Arc<ActionResult>>,
    /// How often its result was lost and it had to run again.
    pub repairs: u8,
}

pub enum State {
    /// Some input is not done, or its key has not been looked up yet.
    Waiting,
    /// Not in the cache: runs when a slot and memory are free.
    Queued(Job),
    Running,
    /// Another node with the same key is queued or running; its result will be this one's, too.
    Following,
    Done {
        result: Arc<ActionResult>,
        origin: Origin,
    },
    /// Ran and failed.
    Failed,
    /// Never ran, as something that it needs failed.
    Skipped,
    /// In a dry run: not in the cache, or dependent on something that is not.
    WouldRun,
}

impl Node {
    pub fn new(title: usize, step: Step, missing: usize) -> Node {
        Node { title, step, state: State::Waiting, missing, path: 0, key: None, last: None, repairs: 0 }
    }

    pub fn result(&self) -> Option<&Arc<ActionResult>> {
        match &self.state {
            State::Done { result, .. } => Some(result),
            _ => None,
        }
    }
}
