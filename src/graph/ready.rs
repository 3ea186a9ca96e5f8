//! Which step runs next, and the memory that frames and encoders take.
//!
//! Short steps that others wait for come first, those nearest the source before others. Then
//! encodes whose frames are in memory, in film order, of one chunk the largest first, so that
//! none is left to run alone. Then the next span is decoded, and its frames are kept while there
//! is room. Last come encodes whose frames have to be decoded again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::frames::ChunkFrames;

/// A title's number, and a chunk's, span's or sound's.
pub type Id = (usize, usize);

#[derive(Default)]
pub struct ReadyQueue {
    steps: BinaryHeap<(Reverse<u8>, Reverse<NodeIndex>)>,
    sounds: BTreeMap<Id, Vec<NodeIndex>>,
    /// Spans to decode, in film order.
    decodes: BTreeMap<Id, NodeIndex>,
    /// Encodes by chunk, the least work first.
    encodes: BTreeMap<Id, Vec<(u64, NodeIndex)>>,
    /// Chunks whose frames are in memory, or on their way there.
    resident: HashMap<Id, Resident>,
    /// Of `encodes`, those whose chunk is resident.
    at_hand: BTreeSet<Id>,
    /// Bytes that may be, and are, counted as taken. One step always runs, so that a build ends
    /// even where a single one is too large.
    budget: u64,
    used: u64,
    /// Of those, frames that decode steps have kept, or will.
    kept: u64,
    encoding: usize,
    decoding: usize,
}

struct Resident {
    frames: Arc<ChunkFrames>,
    bytes: u64,
    /// Whether they count as `kept`.
    kept: bool,
    running: usize,
}

/// What a step is about to take, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    /// The decoded frames of its chunk or span.
    pub frames: u64,
    /// A decoder's own frames.
    pub decoder: u64,
    /// An encoder's own state.
    pub encoder: u64,
}

/// What a slot is looking for.
pub struct Wanted<'a> {
    /// What it takes nothing else but; `None` where it takes anything.
    pub only: Option<Only>,
    /// Others wait for frames: decoding comes before encodes.
    pub decode_first: bool,
    /// Whether an encode, or a span to decode, is for this slot.
    pub takes: &'a dyn Fn(NodeIndex) -> bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Only {
    Encodes,
    Decodes,
}

/// What the queue says to do next.
pub enum Next {
    Step(NodeIndex),
    /// Windows of one sound, which are encoded in one pass.
    Sound(Vec<NodeIndex>),
    /// A span, and whether to keep its frames.
    Decode {
        node: NodeIndex,
        keep: bool,
    },
    Encode {
        node: NodeIndex,
        frames: Arc<ChunkFrames>,
    },
    /// Nothing runs that would free memory: frames that are kept without an encode must go.
    LetGo,
}

impl ReadyQueue {
    pub fn new(budget: u64) -> ReadyQueue {
        ReadyQueue { budget, ..ReadyQueue::default() }
    }

    pub fn push_step(&mut self, stage: u8, node: NodeIndex) {
        self.steps.push((Reverse(stage), Reverse(node)));
    }

    pub fn push_window(&mut self, sound: Id, node: NodeIndex) {
        self.sounds.entry(sound).or_default().push(node);
    }

    pub fn push_decode(&mut self, span: Id, node: NodeIndex) {
        self.decodes.insert(span, node);
    }

    pub fn push_encode(&mut self, chunk: Id, work: u64, node: NodeIndex) {
        let waiting = self.encodes.entry(chunk).or_default();
        let at = waiting.partition_point(|&(other, _)| other <= work);
        waiting.insert(at, (work, node));
        if self.resident.contains_key(&chunk) {
            self.at_hand.insert(chunk);
        }
    }

    /// Steps that wait for a slot.
    pub fn len(&self) -> usize {
        let encodes: usize = self.encodes.values().map(Vec::len).sum();
        let windows: usize = self.sounds.values().map(Vec::len).sum();
        self.steps.len() + self.decodes.len() + encodes + windows
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// What to do next; `None` while there is nothing to do, or no memory to do it in. `demand`
    /// tells what a decode or an encode takes; `open` gets a chunk's frames, which are too many to
    /// hold where its flag says so.
    pub fn next(
        &mut self,
        wanted: &Wanted<'_>,
        demand: impl Fn(NodeIndex) -> Demand,
        open: impl FnOnce(Id, bool) -> Arc<ChunkFrames>,
    ) -> Option<Next> {
        if wanted.only.is_none() {
            if let Some((_, Reverse(node))) = self.steps.pop() {
                return Some(Next::Step(node));
            }
            if let Some((_, nodes)) = self.sounds.pop_first() {
                return Some(Next::Sound(nodes));
            }
            if wanted.decode_first
                && let Some(next) =
                    self.next_decode(wanted, &demand).filter(|next| !matches!(next, Next::LetGo))
            {
                return Some(next);
            }
        }
        if wanted.only == Some(Only::Decodes) {
            return self.next_decode(wanted, &demand);
        }
        let place =
            |encodes: &[(u64, NodeIndex)]| encodes.iter().rposition(|&(_, node)| (wanted.takes)(node));
        let at_hand = self.at_hand.iter().find_map(|chunk| Some((*chunk, place(self.encodes.get(chunk)?)?)));
        if let Some((chunk, place)) = at_hand {
            return self.next_encode(chunk, place, demand, open);
        }
        if wanted.only.is_none()
            && let Some(next) = self.next_decode(wanted, &demand)
        {
            return Some(next);
        }
        if !self.decodes.is_empty() {
            return None;
        }
        let first = self.encodes.iter().find_map(|(chunk, encodes)| Some((*chunk, place(encodes)?)));
        let (chunk, place) = first?;
        self.next_encode(chunk, place, demand, open)
    }

    /// Takes out all encodes that wait.
    pub fn take_encodes(&mut self) -> Vec<NodeIndex> {
        self.at_hand.clear();
        std::mem::take(&mut self.encodes).into_values().flatten().map(|(_, node)| node).collect()
    }

    fn next_encode(
        &mut self,
        chunk: Id,
        place: usize,
        demand: impl Fn(NodeIndex) -> Demand,
        open: impl FnOnce(Id, bool) -> Arc<ChunkFrames>,
    ) -> Option<Next> {
        let &(_, node) = self.encodes.get(&chunk)?.get(place)?;
        let demand = demand(node);
        let (frames, encoder) = self.shares(demand);
        let is_here = self.resident.contains_key(&chunk);
        let wanted = encoder + if is_here { 0 } else { frames };
        let runs = self.encoding + self.decoding > 0;
        if runs && self.used.saturating_add(wanted) > self.budget {
            return None;
        }
        let waiting = self.encodes.get_mut(&chunk)?;
        waiting.remove(place);
        if waiting.is_empty() {
            self.encodes.remove(&chunk);
            self.at_hand.remove(&chunk);
        } else {
            self.at_hand.insert(chunk);
        }
        self.used += wanted;
        self.encoding += 1;
        let too_many = self.budget / 2 < demand.frames;
        let resident = self.resident.entry(chunk).or_insert_with(|| Resident {
            frames: open(chunk, too_many),
            bytes: frames,
            kept: false,
            running: 0,
        });
        resident.running += 1;
        Some(Next::Encode { node, frames: Arc::clone(&resident.frames) })
    }

    /// What an encode's chunk takes, once for all its encodes, and what the encode itself does. Half
    /// of the memory is for encoders: of a chunk that has more frames each encode decodes its own.
    fn shares(&self, demand: Demand) -> (u64, u64) {
        if demand.frames > self.budget / 2 {
            (0, demand.encoder.saturating_add(demand.decoder))
        } else {
            (demand.frames, demand.encoder)
        }
    }

    fn next_decode(&mut self, wanted: &Wanted<'_>, demand: &impl Fn(NodeIndex) -> Demand) -> Option<Next> {
        let (&span, &node) = self.decodes.iter().find(|&(_, &node)| (wanted.takes)(node))?;
        let Demand { frames, decoder, .. } = demand(node);
        let busy = self.encoding + self.decoding > 0;
        let fits = |bytes: u64| self.used.saturating_add(bytes) <= self.budget;
        let worth_keeping = frames <= self.budget / 4;
        let keep = worth_keeping
            && self.kept.saturating_add(frames) <= self.budget / 2
            && fits(decoder.saturating_add(frames));
        if !keep {
            if worth_keeping && self.kept > 0 {
                // What is kept becomes encodes, or it must make room.
                return (!busy).then_some(Next::LetGo);
            }
            if busy && !fits(decoder) {
                return None;
            }
        }
        self.decodes.remove(&span);
        self.decoding += 1;
        self.used += decoder;
        if keep {
            self.used += frames;
            self.kept += frames;
        }
        Some(Next::Decode { node, keep })
    }

    /// Tells that a decode has ended, and how many bytes of the frames that were to be kept are
    /// there to keep.
    pub fn decode_ended(&mut self, demand: Demand, kept: bool, bytes: u64) {
        self.decoding -= 1;
        self.used = self.used.saturating_sub(demand.decoder);
        if kept {
            self.let_go(demand.frames);
            self.used += bytes;
            self.kept += bytes;
        }
    }

    /// Kept frames are gone.
    pub fn let_go(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        self.kept = self.kept.saturating_sub(bytes);
    }

    /// Kept frames turn out to be a chunk: they stay until its encodes are done.
    pub fn settle(&mut self, chunk: Id, frames: Arc<ChunkFrames>, bytes: u64) {
        self.resident.insert(chunk, Resident { frames, bytes, kept: true, running: 0 });
        if self.encodes.contains_key(&chunk) {
            self.at_hand.insert(chunk);
        }
    }

    /// Lets go of a chunk's frames if no encode wants them.
    pub fn review(&mut self, chunk: Id) {
        let Some(resident) = self.resident.get(&chunk) else { return };
        if resident.running == 0 && !self.encodes.contains_key(&chunk) {
            let (bytes, kept) = (resident.bytes, resident.kept);
            self.resident.remove(&chunk);
            self.used = self.used.saturating_sub(bytes);
            if kept {
                self.kept = self.kept.saturating_sub(bytes);
            }
        }
    }

    /// Tells that an encode has ended; the last one of a chunk lets go of its frames.
    pub fn encode_ended(&mut self, chunk: Id, demand: Demand) {
        self.encoding -= 1;
        let (_, encoder) = self.shares(demand);
        self.used = self.used.saturating_sub(encoder);
        if let Some(resident) = self.resident.get_mut(&chunk) {
            resident.running -= 1;
        }
        self.review(chunk);
    }
}
