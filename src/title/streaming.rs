//! Chunking beside decoding: spans arrive in any order and are put together in the source's; each chunk
//! is handed out as soon as nothing that may still arrive can change it, with its frames where all of
//! them were retained.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::media::VideoTrack;

use super::assemble::{Assembler, ChunkList, DecodedSpan, Timing};
use super::chunk::Chunk;
use super::chunking::ChunkPolicy;
use super::ids::SpanId;

/// `F` is a retained frame: what holds it and the memory that it counts for.
pub struct StreamingChunker<F> {
    assembler: Assembler,
    /// Spans that arrived before one that precedes them.
    arrived: BTreeMap<usize, (DecodedSpan, Option<Vec<F>>)>,
    /// Frames that are in no chunk yet; `None` for those that were not retained.
    pending: VecDeque<Option<F>>,
    chunks: Vec<Chunk>,
}

/// A chunk that nothing can change any more.
pub struct FinishedChunk<F> {
    pub chunk: Chunk,
    /// Its frames, if all were retained.
    pub frames: Option<Vec<F>>,
}

impl<F> StreamingChunker<F> {
    /// `None` where the index does not tell which frames will come.
    pub fn new(track: &Arc<VideoTrack>, policy: ChunkPolicy) -> Option<StreamingChunker<F>> {
        let assembler = Assembler::new(track, policy)?;
        let (arrived, pending) = (BTreeMap::new(), VecDeque::new());
        Some(StreamingChunker { assembler, arrived, pending, chunks: Vec::new() })
    }

    pub fn timing(&self) -> &Timing {
        &self.assembler.timing
    }

    /// Ticks that the whole source will last.
    pub fn duration(&self) -> u64 {
        self.assembler.duration()
    }

    /// The span that is expected next, unless there is none or it has arrived.
    pub fn wants(&self) -> Option<SpanId> {
        let next = self.assembler.expects();
        (!self.assembler.is_complete() && !self.arrived.contains_key(&next)).then(|| SpanId::new(next))
    }

    pub fn arrive(&mut self, span: SpanId, decoded: DecodedSpan, frames: Option<Vec<F>>) {
        if span.index() >= self.assembler.expects() {
            self.arrived.insert(span.index(), (decoded, frames));
        }
    }

    /// Takes in what has arrived in order. `None` if it is not what the index told.
    pub fn advance(&mut self) -> Option<()> {
        while let Some((decoded, frames)) = self.arrived.remove(&self.assembler.expects()) {
            self.assembler.add(&decoded)?;
            match frames {
                Some(frames) => self.pending.extend(frames.into_iter().map(Some)),
                None => self.pending.extend(decoded.frames.iter().map(|_| None)),
            }
        }
        Some(())
    }

    /// The next chunk that is finished.
    pub fn next_chunk(&mut self) -> Option<FinishedChunk<F>> {
        let chunk = self.assembler.next_chunk()?;
        let frames = self.pending.drain(..(chunk.frames as usize).min(self.pending.len())).collect();
        self.chunks.push(chunk.clone());
        Some(FinishedChunk { chunk, frames })
    }

    /// Drops all frames that are in no chunk yet. False where there were none.
    pub fn drop_frames(&mut self) -> bool {
        let mut dropped = false;
        for frame in &mut self.pending {
            dropped |= frame.take().is_some();
        }
        for (_, frames) in self.arrived.values_mut() {
            dropped |= frames.take().is_some();
        }
        dropped
    }

    /// The whole list of chunks, once the last span has arrived.
    pub fn chunk_list(&self) -> Option<ChunkList> {
        let list = || ChunkList { timing: self.assembler.timing.clone(), chunks: self.chunks.clone() };
        self.assembler.is_complete().then(list)
    }
}
