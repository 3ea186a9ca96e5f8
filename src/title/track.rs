//! A track of a title's output: a rung or an audio rendition, and the packs of its segments.
//!
//! A pack is a run of up to [`PACK`] segments of one track, or of decoded spans, that is looked up as one.
//! Where nothing in it has changed, that one look-up stands for hundreds of steps, which then do not exist.

use std::sync::Arc;

use crate::package::ContentId;
use crate::stream::{AudioCodec, Language};

use super::ids::AudioId;
use super::rung::RungPlan;

/// Segments in a pack, or decoded spans.
pub const PACK: usize = 128;

pub struct Track {
    pub name: String,
    pub medium: Medium,
    /// As many as are known.
    pub packs: Vec<Pack>,
}

pub enum Medium {
    Video(Arc<RungPlan>),
    Audio(Arc<Rendition>),
}

/// An audio rendition of the spec, fitted to a source.
#[derive(Clone, Debug)]
pub struct Rendition {
    pub audio: AudioId,
    pub codec: AudioCodec,
    /// Bits a second.
    pub bitrate: u32,
    pub language: Option<Language>,
}

#[derive(Default)]
pub struct Pack {
    /// Whether its steps exist one by one, as it was not found.
    pub unpacked: bool,
    /// Its segments, once they are known.
    pub segments: Option<Arc<Vec<ContentId>>>,
}

impl Track {
    pub fn new(name: &str, medium: Medium) -> Track {
        Track { name: name.to_owned(), medium, packs: Vec::new() }
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

    /// All segments, in order; `None` until every pack is known.
    pub fn segments(&self) -> Option<Vec<ContentId>> {
        let mut all = Vec::new();
        for pack in &self.packs {
            all.extend_from_slice(pack.segments.as_deref()?);
        }
        Some(all)
    }

    /// The names of its steps begin with this.
    pub fn label(&self) -> String {
        match self.medium {
            Medium::Video(_) => self.name.clone(),
            Medium::Audio(_) => format!("audio/{}", self.name),
        }
    }
}
