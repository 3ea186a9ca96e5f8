//! The steps of a build, as nodes of the graph: what each is, and the state that it is in.

use std::sync::Arc;

use crate::cache::{ActionKey, ActionResult};

use super::event::{Kind, Origin};
use super::work::Job;

/// One step of one title. Tracks, pieces, spans and sounds are numbered from 0; the tracks are
/// the rungs, then the audio renditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Source,
    Index,
    DecodeSpan {
        span: usize,
    },
    /// A run of decoded spans, looked up as one.
    SpanReel {
        reel: usize,
    },
    /// The PCM of one way of mixing one audio track.
    DecodeSound {
        sound: usize,
    },
    Chunk,
    /// A chunk on a rung.
    Encode {
        track: usize,
        piece: usize,
    },
    /// A window of a rendition.
    Audio {
        track: usize,
        piece: usize,
    },
    Segment {
        track: usize,
        piece: usize,
    },
    /// A run of segments of one track, looked up as one.
    Reel {
        track: usize,
        reel: usize,
    },
    Contract {
        track: usize,
    },
    Init {
        track: usize,
    },
    Playlist {
        track: usize,
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
            Step::SpanReel { .. } | Step::Reel { .. } => Kind::Reel,
            Step::Init { .. } | Step::Segment { .. } => Kind::Mux,
            Step::Playlist { .. } | Step::Multivariant => Kind::Manifest,
            Step::Publish => Kind::Publish,
        }
    }

    /// How far from the source: a step needs only steps of smaller numbers, so the longest
    /// remaining path is that of the smallest.
    pub fn stage(self) -> u8 {
        match self {
            Step::Source => 0,
            Step::Index => 1,
            Step::DecodeSpan { .. } => 2,
            Step::SpanReel { .. } => 3,
            Step::Chunk => 4,
            Step::DecodeSound { .. } => 5,
            Step::Encode { .. } | Step::Audio { .. } => 6,
            Step::Segment { .. } => 7,
            Step::Reel { .. } => 8,
            Step::Contract { .. } => 9,
            Step::Init { .. } => 10,
            Step::Playlist { .. } => 11,
            Step::Multivariant => 12,
            Step::Publish => 13,
        }
    }
}

pub struct Node {
    pub title: usize,
    pub step: Step,
    pub state: State,
    /// Inputs that are not done yet.
    pub missing: usize,
    pub key: Option<ActionKey>,
    /// Its latest result, also while it runs again because that was lost.
    pub last: Option<Arc<ActionResult>>,
    /// How often its result was lost and it had to run again.
    pub repairs: u8,
    /// Of an encode, which of its rung's choices it tries.
    pub choice: usize,
    /// Whether something is filed under its key that is not believed, or of no use.
    pub disbelieved: bool,
}

pub enum State {
    /// Some input is not done, or its key has not been looked up yet.
    Waiting,
    /// Not in the cache: runs when a slot and memory are free. `None` where the job is made only
    /// then, out of what is at hand.
    Queued(Option<Job>),
    Running,
    /// Another process that shares the cache is at it: it is looked up again after a pause.
    Elsewhere,
    /// Another node with the same key is queued or running; its result will be this one's, too.
    Following,
    Done {
        result: Arc<ActionResult>,
        origin: Origin,
    },
    /// Ran and failed.
    Failed,
    /// Never ran, as something that it needs failed; or nobody wants it any more.
    Skipped,
    /// In a dry run: not in the cache, or dependent on something that is not.
    WouldRun,
}

impl Node {
    pub fn new(title: usize, step: Step, missing: usize) -> Node {
        Node {
            title,
            step,
            state: State::Waiting,
            missing,
            key: None,
            last: None,
            repairs: 0,
            choice: 0,
            disbelieved: false,
        }
    }

    /// Whether its inputs are done, and what becomes of it has not been decided.
    pub fn is_fresh(&self) -> bool {
        matches!(self.state, State::Waiting) && self.missing == 0
    }

    pub fn result(&self) -> Option<&Arc<ActionResult>> {
        match &self.state {
            State::Done { result, .. } => Some(result),
            _ => None,
        }
    }
}
