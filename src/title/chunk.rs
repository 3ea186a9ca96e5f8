//! A chunk: the unit of encoding and caching, and for now of delivery.

use serde::{Deserialize, Serialize};

use crate::cache::Digest;
use crate::media::FrameDigest;

/// What becomes one media segment on every track of its kind: a chunk of the film (consecutive
/// frames, one closed sequence), or a window of its sound (consecutive 20 ms).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its first frame, counted from the start.
    pub first: u64,
    pub frames: u32,
    /// Ticks from the start.
    pub start: u64,
    /// Durations in ticks, as runs: so many frames of so many ticks.
    pub durations: Vec<(u32, u32)>,
    /// What it holds: of a chunk the digest of its frames' digests. When and how long they are
    /// shown is no part of it: an encoder at constant quality does not see that.
    pub identity: Digest,
}

impl Chunk {
    /// Ticks that it lasts.
    pub fn duration(&self) -> u64 {
        self.durations.iter().map(|&(count, ticks)| u64::from(count) * u64::from(ticks)).sum()
    }
}

/// Adds up frame digests to a chunk's identity.
pub struct ChunkIdentity(blake3::Hasher);

impl Default for ChunkIdentity {
    fn default() -> ChunkIdentity {
        ChunkIdentity(blake3::Hasher::new_derive_key("rivet chunk v1"))
    }
}

impl ChunkIdentity {
    pub fn add(&mut self, frame: &FrameDigest) {
        self.0.update(&frame.0);
    }

    pub fn finish(&self) -> Digest {
        self.0.finalize().into()
    }
}

/// What the analysis of an audio input found, beside its windows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AudioFacts {
    pub samples: u64,
    /// 48 kHz samples by which the audio starts after the video.
    pub offset: i64,
}
