//! A track of a title as it is made: a rung or an audio rendition, its pieces' nodes, and the
//! reels that they are wound on.
//!
//! A reel is a run of up to [`REEL`] segments of one track, or of decoded spans. It is looked up
//! before any of them: where nothing in it has changed, that one look stands for hundreds, and
//! nodes for its encodes and segments, or decodes, are never made. A film of ten hours on eight
//! rungs is 144,000 encodes, and 1,128 reels.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde::{Deserialize, Serialize};

use crate::package::ContentId;
use crate::stream::{AudioCodec, Language};

use super::rung::RungPlan;

/// Segments of a reel, or decoded spans.
pub const REEL: usize = 128;

pub struct Track {
    pub name: String,
    pub medium: Medium,
    /// By piece; as many as are known.
    pub pieces: Vec<PieceNodes>,
    pub reels: Vec<Reel>,
    pub contract: Option<NodeIndex>,
    pub init: Option<NodeIndex>,
    pub playlist: Option<NodeIndex>,
    /// Executors that make no more of it, by number, and why.
    pub retired: Vec<(usize, String)>,
    /// How often in a row each has failed on it.
    pub failures: BTreeMap<usize, u32>,
}

pub enum Medium {
    Video(Arc<RungPlan>),
    Audio(Arc<Rendition>),
}

/// An audio rendition of the spec, fitted to a source.
#[derive(Clone, Debug)]
pub struct Rendition {
    /// The sound of the title that it is made of.
    pub sound: usize,
    pub codec: AudioCodec,
    pub bitrate: u32,
    pub language: Option<Language>,
}

/// The nodes of one piece; none where its reel was found.
#[derive(Clone, Copy, Default)]
pub struct PieceNodes {
    pub encode: Option<NodeIndex>,
    pub segment: Option<NodeIndex>,
}

pub struct Reel {
    pub node: NodeIndex,
    pub pieces: Range<usize>,
    /// Whether its pieces have nodes.
    pub expanded: bool,
    /// Its segments, once they are known.
    pub segments: Option<Arc<Vec<ContentId>>>,
}

/// A reel of decoded spans.
pub struct SpanReel {
    pub node: NodeIndex,
    pub spans: Range<usize>,
    /// Whether its spans have nodes.
    pub expanded: bool,
}

/// What a reel's result says beside its blobs: the list of its segments, and what each is made of.
#[derive(Serialize, Deserialize)]
pub struct ReelFacts {
    /// The distinct sequence headers of its encodes.
    pub headers: Vec<Vec<u8>>,
}

impl Track {
    pub fn new(name: &str, medium: Medium) -> Track {
        Track {
            name: name.to_owned(),
            medium,
            pieces: Vec::new(),
            reels: Vec::new(),
            contract: None,
            init: None,
            playlist: None,
            retired: Vec::new(),
            failures: BTreeMap::new(),
        }
    }

    pub fn rung(&self) -> Option<&Arc<RungPlan>> {
        match &self.medium {
            Medium::Video(plan) => Some(plan),
            Medium::Audio(_) => None,
        }
    }

    pub fn rendition(&self) -> Option<&Arc<Rendition>> {
        match &self.medium {
            Medium::Video(_) => None,
            Medium::Audio(plan) => Some(plan),
        }
    }

    pub fn has_retired(&self, executor: usize) -> bool {
        self.retired.iter().any(|(retired, _)| *retired == executor)
    }

    /// All segments, in order; `None` until every reel is done.
    pub fn segments(&self) -> Option<Vec<ContentId>> {
        let mut all = Vec::with_capacity(self.pieces.len());
        for reel in &self.reels {
            all.extend_from_slice(reel.segments.as_deref()?);
        }
        (all.len() == self.pieces.len()).then_some(all)
    }

    /// The names of its steps begin with this.
    pub fn label(&self) -> String {
        match self.medium {
            Medium::Video(_) => self.name.clone(),
            Medium::Audio(_) => format!("audio/{}", self.name),
        }
    }

    /// What its segments hold, in keys.
    pub fn medium_name(&self) -> &'static str {
        match self.medium {
            Medium::Video(_) => "video",
            Medium::Audio(_) => "audio",
        }
    }
}
