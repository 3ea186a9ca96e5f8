//! Which step runs next. Short steps that others wait for come first, by longest remaining
//! path. Encodes wait for slots and memory: those whose frames are in memory come first, then
//! film order, since a film decodes in one pass only in its own order; of one chunk's encodes
//! the largest comes first, so that none is left to run alone.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::frames::ChunkFrames;

/// A title's number and a chunk's.
pub type ChunkId = (usize, usize);

#[derive(Default)]
pub struct ReadyQueue {
    steps: BinaryHeap<(u64, std::cmp::Reverse<NodeIndex>)>,
    /// Encodes by chunk, the least work first.
    encodes: BTreeMap<ChunkId, Vec<(u64, NodeIndex)>>,
    /// Chunks whose frames are in memory, or on their way there.
    resident: HashMap<ChunkId, Resident>,
    /// Bytes that may be, and are, counted as taken. One encode always runs, so that a build ends
    /// even where a single chunk is too large.
    budget: u64,
    used: u64,
    running: usize,
}

struct Resident {
    frames: Arc<ChunkFrames>,
    bytes: u64,
    running: usize,
}

/// What an encode is about to take.
pub struct Demand {
    /// Bytes of the chunk's decoded frames.
    pub frames: u64,
    /// Bytes of the encoder's own state.
    pub encoder: u64,
}

impl ReadyQueue {
    pub fn new(budget: u64) -> ReadyQueue {
        ReadyQueue { budget, ..ReadyQueue::default() }
    }

    pub fn push_step(&mut self, path: u64, node: NodeIndex) {
        self.steps.push((path, std::cmp::Reverse(node)));
    }

    pub fn push_encode(&mut self, chunk: ChunkId, work: u64, node: NodeIndex) {
        let waiting = self.encodes.entry(chunk).or_default();
        let at = waiting.partition_point(|&(other, _)| other <= work);
        waiting.insert(at, (work, node));
    }

    pub fn pop_step(&mut self) -> Option<NodeIndex> {
        self.steps.pop().map(|(_, std::cmp::Reverse(node))| node)
    }

    /// The next encode for which there is memory, and its frames.
    pub fn pop_encode(
        &mut self,
        demand: impl Fn(ChunkId, NodeIndex) -> Demand,
        open: impl FnOnce(ChunkId) -> Arc<ChunkFrames>,
    ) -> Option<(NodeIndex, Arc<ChunkFrames>)> {
        let here = self.resident.keys().filter(|chunk| self.encodes.contains_key(chunk)).min().copied();
        let chunk = here.or_else(|| self.encodes.keys().next().copied())?;
        let waiting = self.encodes.get_mut(&chunk)?;
        let &(_, node) = waiting.last()?;
        let Demand { frames, encoder } = demand(chunk, node);
        let wanted = encoder + if here.is_some() { 0 } else { frames };
        if self.running > 0 && self.used.saturating_add(wanted) > self.budget {
            return None;
        }
        waiting.pop();
        if waiting.is_empty() {
            self.encodes.remove(&chunk);
        }
        self.used += wanted;
        self.running += 1;
        let resident = self.resident.entry(chunk).or_insert_with(|| Resident {
            frames: open(chunk),
            bytes: frames,
            running: 0,
        });
        resident.running += 1;
        Some((node, Arc::clone(&resident.frames)))
    }

    /// Tells that an encode has ended; the last one of a chunk lets go of its frames.
    pub fn encode_ended(&mut self, chunk: ChunkId, demand: &Demand) {
        self.running -= 1;
        self.used = self.used.saturating_sub(demand.encoder);
        let Some(resident) = self.resident.get_mut(&chunk) else {
            return;
        };
        resident.running -= 1;
        if resident.running == 0 && !self.encodes.contains_key(&chunk) {
            self.used = self.used.saturating_sub(resident.bytes);
            self.resident.remove(&chunk);
        }
    }
}
