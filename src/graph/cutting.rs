//! A film that is being cut while it is still being decoded: spans come in any order and are put
//! together in the film's; each chunk is told as soon as it is decided, with its frames where all
//! of them have been kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::media::VideoTrack;

use super::chunking::ChunkPolicy;
use super::film::{Assembler, DecodedSpan, Film, Piece, Timing};
use super::frames::Kept;

pub struct Cutting {
    assembler: Assembler,
    /// Spans that have come before one that lies before them.
    arrived: BTreeMap<usize, (DecodedSpan, Frames)>,
    /// Frames that are in no chunk yet; `None` for those that were not kept.
    loose: VecDeque<Option<Kept>>,
    chunks: Vec<Piece>,
}

/// A span's frames, if they were kept.
pub type Frames = Option<Vec<Kept>>;

/// A chunk that is decided.
pub struct Decided {
    pub chunk: Piece,
    /// Its frames, if all were kept.
    pub frames: Frames,
}

impl Cutting {
    /// `None` where the index does not tell which frames will come.
    pub fn new(track: &Arc<VideoTrack>, policy: ChunkPolicy) -> Option<Cutting> {
        let assembler = Assembler::new(track, policy)?;
        Some(Cutting { assembler, arrived: BTreeMap::new(), loose: VecDeque::new(), chunks: Vec::new() })
    }

    pub fn timing(&self) -> &Timing {
        &self.assembler.timing
    }

    /// Ticks that the whole film will last.
    pub fn duration(&self) -> u64 {
        self.assembler.duration()
    }

    /// The span that is wanted next, unless there is none or it has arrived.
    pub fn wants(&self) -> Option<usize> {
        let next = self.assembler.expects();
        (!self.assembler.is_complete() && !self.arrived.contains_key(&next)).then_some(next)
    }

    pub fn arrive(&mut self, span: usize, decoded: DecodedSpan, frames: Frames) {
        if span >= self.assembler.expects() {
            self.arrived.insert(span, (decoded, frames));
        }
    }

    /// Takes in what has arrived in order. `None` if it is not what the index told.
    pub fn advance(&mut self) -> Option<()> {
        while let Some((decoded, frames)) = self.arrived.remove(&self.assembler.expects()) {
            self.assembler.add(&decoded)?;
            match frames {
                Some(frames) => self.loose.extend(frames.into_iter().map(Some)),
                None => self.loose.extend(decoded.frames.iter().map(|_| None)),
            }
        }
        Some(())
    }

    /// The next chunk that is decided.
    pub fn next_chunk(&mut self) -> Option<Decided> {
        let chunk = self.assembler.next_chunk()?;
        let frames = self.loose.drain(..(chunk.frames as usize).min(self.loose.len())).collect();
        self.chunks.push(chunk.clone());
        Some(Decided { chunk, frames })
    }

    /// Lets go of all frames that are in no chunk yet. False where there were none.
    pub fn drop_frames(&mut self) -> bool {
        let mut dropped = false;
        for frame in &mut self.loose {
            dropped |= frame.take().is_some();
        }
        for (_, frames) in self.arrived.values_mut() {
            dropped |= frames.take().is_some();
        }
        dropped
    }

    /// The whole film, once its last span has come.
    pub fn film(&self) -> Option<Film> {
        let film = || Film { timing: self.assembler.timing.clone(), chunks: self.chunks.clone() };
        self.assembler.is_complete().then(film)
    }
}
