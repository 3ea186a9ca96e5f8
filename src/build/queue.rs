//! Which step runs next, and the memory that frames and encoders take.
//!
//! Short steps that others wait for come first, those nearest the source before others. Then
//! encodes whose frames are in memory, in film order, of one chunk the largest first; the last few of
//! a build in the order of their work, so that none is left to run alone. Before they run out the next
//! span is decoded, and its frames are kept while there is room. Last come encodes whose frames have
//! to be decoded again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use petgraph::graph::NodeIndex;

use crate::steps::Bytes;
use crate::steps::frames::ChunkFrames;
use crate::steps::memory::{Memory, Reservation};
use crate::title::ids::{AudioId, ChunkId, SpanId, TitleId};

/// A chunk of a title, a span, an audio input.
pub type ChunkKey = (TitleId, ChunkId);
pub type SpanKey = (TitleId, SpanId);
pub type AudioKey = (TitleId, AudioId);

#[derive(Default)]
pub struct ReadyQueue {
    steps: BinaryHeap<(Reverse<u8>, Reverse<NodeIndex>)>,
    audio: BTreeMap<AudioKey, Vec<NodeIndex>>,
    /// Spans to decode, in film order.
    decodes: BTreeMap<SpanKey, NodeIndex>,
    /// Encodes by chunk, the least work first.
    encodes: BTreeMap<ChunkKey, Vec<(u64, NodeIndex)>>,
    /// Chunks whose frames are in memory, or on their way there.
    resident: HashMap<ChunkKey, Resident>,
    /// Of `encodes`, those whose chunk is resident.
    at_hand: BTreeSet<ChunkKey>,
    /// Bytes that may be taken. One step always runs, so that a build ends even where a single one is
    /// too large.
    budget: u64,
    memory: Memory,
    encoding: usize,
    decoding: usize,
}

struct Resident {
    frames: Arc<ChunkFrames>,
    running: usize,
}

/// A decode that runs, with the room of its decoder.
pub struct RunningDecode {
    _decoder: Reservation,
}

/// An encode that runs, with its frames and the room of its encoder.
pub struct RunningEncode {
    chunk: ChunkKey,
    pub frames: Arc<ChunkFrames>,
    _encoder: Reservation,
}

/// Encodes that a span is expected to bring. Only the order of steps hangs on it.
const ENCODES_A_SPAN: usize = 4;

/// What a slot is looking for.
pub struct Wanted<'a> {
    /// What it takes nothing else but; `None` where it takes anything.
    pub only: Option<Only>,
    /// Others wait for frames: decoding comes before encodes.
    pub decode_first: bool,
    /// While fewer encodes than this are at hand, decoding comes first, too, as far as frames can be kept.
    pub ahead: usize,
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
    AudioPass(Vec<NodeIndex>),
    /// A span, and the room for its frames if they are to be kept.
    Decode {
        node: NodeIndex,
        running: RunningDecode,
        keep: Option<Reservation>,
    },
    Encode {
        node: NodeIndex,
        running: RunningEncode,
    },
    /// Nothing runs or waits that would free memory: frames that are kept and in no chunk must go.
    DropFrames,
}

impl ReadyQueue {
    pub fn new(budget: u64) -> ReadyQueue {
        ReadyQueue { budget, ..ReadyQueue::default() }
    }

    pub fn push_step(&mut self, order: u8, node: NodeIndex) {
        self.steps.push((Reverse(order), Reverse(node)));
    }

    pub fn push_window(&mut self, audio: AudioKey, node: NodeIndex) {
        self.audio.entry(audio).or_default().push(node);
    }

    pub fn push_decode(&mut self, span: SpanKey, node: NodeIndex) {
        self.decodes.insert(span, node);
    }

    pub fn push_encode(&mut self, chunk: ChunkKey, work: u64, node: NodeIndex) {
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
        let windows: usize = self.audio.values().map(Vec::len).sum();
        self.steps.len() + self.decodes.len() + encodes + windows
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.memory.taken()
    }

    /// What to do next; `None` while there is nothing to do, or no memory to do it in. `demand`
    /// tells what a decode or an encode takes; `open` gets a chunk's frames, which are too many to
    /// hold where its flag says so, for the room that there is for them.
    pub fn next(
        &mut self,
        wanted: &Wanted<'_>,
        demand: impl Fn(NodeIndex) -> Bytes,
        open: impl FnOnce(ChunkKey, bool, Reservation) -> Arc<ChunkFrames>,
    ) -> Option<Next> {
        if wanted.only.is_none() {
            if let Some((_, Reverse(node))) = self.steps.pop() {
                return Some(Next::Step(node));
            }
            if let Some((_, nodes)) = self.audio.pop_first() {
                return Some(Next::AudioPass(nodes));
            }
            let is_first = wanted.decode_first || self.runs_out(wanted, &demand);
            if is_first
                && let Some(next) =
                    self.next_decode(wanted, &demand).filter(|next| !matches!(next, Next::DropFrames))
            {
                return Some(next);
            }
        }
        if wanted.only == Some(Only::Decodes) {
            return self.next_decode(wanted, &demand);
        }
        let place =
            |encodes: &[(u64, NodeIndex)]| encodes.iter().rposition(|&(_, node)| (wanted.takes)(node));
        let mut at_hand = self.at_hand.iter().filter_map(|chunk| {
            let encodes = self.encodes.get(chunk)?;
            let place = place(encodes)?;
            Some((*chunk, place, encodes.get(place)?.0))
        });
        let is_end = self.decodes.is_empty() && self.decoding == 0 && self.few_at_hand(wanted.ahead);
        let next = match is_end {
            // Of equals the first.
            true => at_hand.rev().max_by_key(|&(.., work)| work),
            false => at_hand.next(),
        };
        if let Some((chunk, place, _)) = next {
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

    /// Takes out all encodes that wait, and lets go of their frames: they may never run.
    pub fn take_encodes(&mut self) -> Vec<NodeIndex> {
        let encodes = std::mem::take(&mut self.encodes);
        for chunk in std::mem::take(&mut self.at_hand) {
            self.review(chunk);
        }
        encodes.into_values().flatten().map(|(_, node)| node).collect()
    }

    /// A title's tracks are taken back. Those of its encodes that run have their frames until they end.
    pub fn forget_tracks(&mut self, title: TitleId) {
        self.audio.retain(|audio, _| audio.0 != title);
        self.encodes.retain(|chunk, _| chunk.0 != title);
        self.at_hand.retain(|chunk| chunk.0 != title);
        self.resident.retain(|chunk, _| chunk.0 != title);
    }

    /// All of a title is withdrawn.
    pub fn forget_title(&mut self, title: TitleId) {
        self.forget_tracks(title);
        self.forget_spans(title);
    }

    /// A title's spans are taken back.
    fn forget_spans(&mut self, title: TitleId) {
        self.decodes.retain(|span, _| span.0 != title);
    }

    fn next_encode(
        &mut self,
        chunk: ChunkKey,
        place: usize,
        demand: impl Fn(NodeIndex) -> Bytes,
        open: impl FnOnce(ChunkKey, bool, Reservation) -> Arc<ChunkFrames>,
    ) -> Option<Next> {
        let &(_, node) = self.encodes.get(&chunk)?.get(place)?;
        let demand = demand(node);
        let (frames, encoder) = self.shares(demand);
        let is_here = self.resident.contains_key(&chunk);
        let wanted = if is_here { encoder } else { encoder.saturating_add(frames) };
        let runs = self.encoding + self.decoding > 0;
        if runs && self.used().saturating_add(wanted) > self.budget {
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
        self.encoding += 1;
        let too_many = self.budget / 2 < demand.frames;
        let resident = self.resident.entry(chunk).or_insert_with(|| Resident {
            frames: open(chunk, too_many, self.memory.take(frames)),
            running: 0,
        });
        resident.running += 1;
        let (frames, _encoder) = (Arc::clone(&resident.frames), self.memory.take(encoder));
        Some(Next::Encode { node, running: RunningEncode { chunk, frames, _encoder } })
    }

    /// What an encode's chunk takes, once for all its encodes, and what the encode itself does. Half
    /// of the memory is for encoders: of a chunk that has more frames each encode decodes its own.
    fn shares(&self, demand: Bytes) -> (u64, u64) {
        if demand.frames > self.budget / 2 {
            (0, demand.encoder.saturating_add(demand.decoder))
        } else {
            (demand.frames, demand.encoder)
        }
    }

    /// Encodes of this demand that may come to run at a time with one that has just been taken, itself
    /// among them, up to `most`: as many as are left and have room.
    pub fn side_by_side(&self, demand: Bytes, most: usize) -> usize {
        let left = match self.decodes.is_empty() && self.decoding == 0 {
            true => self.encodes.values().take(most).map(Vec::len).sum::<usize>() + 1,
            false => most,
        };
        let (frames, encoder) = self.shares(demand);
        let room = self.budget / frames.saturating_add(encoder).max(1);
        left.min(usize::try_from(room).unwrap_or(most)).clamp(1, most.max(1))
    }

    /// Whether there are fewer encodes at hand than this.
    fn few_at_hand(&self, count: usize) -> bool {
        let waiting = self.at_hand.iter().filter_map(|chunk| self.encodes.get(chunk)).map(Vec::len);
        waiting.take(count).sum::<usize>() < count
    }

    /// Whether encodes wait for pictures, or will soon, of which a slot could decode some.
    pub fn lacks_decoders(&self, wanted: &Wanted<'_>) -> bool {
        (wanted.decode_first || self.few_at_hand(wanted.ahead))
            && self.decodes.values().any(|&node| (wanted.takes)(node))
    }

    /// Whether encodes at hand will soon run out, and the frames of the next span can be kept until
    /// their turn comes.
    fn runs_out(&self, wanted: &Wanted<'_>, demand: &impl Fn(NodeIndex) -> Bytes) -> bool {
        let to_come = self.decoding * ENCODES_A_SPAN;
        let next = self.decodes.values().find(|&&node| (wanted.takes)(node));
        next.is_some_and(|&node| self.has_room_to_keep(demand(node)))
            && self.few_at_hand(wanted.ahead.saturating_sub(to_come))
    }

    /// Whether the frames of a span can be kept.
    fn has_room_to_keep(&self, Bytes { frames, decoder, .. }: Bytes) -> bool {
        frames <= self.budget / 4
            && self.memory.kept().saturating_add(frames) <= self.budget / 2
            && self.used().saturating_add(decoder.saturating_add(frames)) <= self.budget
    }

    fn next_decode(&mut self, wanted: &Wanted<'_>, demand: &impl Fn(NodeIndex) -> Bytes) -> Option<Next> {
        let (&span, &node) = self.decodes.iter().find(|&(_, &node)| (wanted.takes)(node))?;
        let demand = demand(node);
        let Bytes { frames, decoder, .. } = demand;
        let busy = self.encoding + self.decoding > 0;
        let keeps = self.has_room_to_keep(demand);
        if !keeps {
            if frames <= self.budget / 4 && self.memory.kept() > 0 {
                // What is kept becomes encodes, or it must make room. Chunks have become encodes, or will as
                // soon as those are looked up: who they are for will come.
                return (!busy && self.resident.is_empty()).then_some(Next::DropFrames);
            }
            if busy && self.used().saturating_add(decoder) > self.budget {
                return None;
            }
        }
        self.decodes.remove(&span);
        self.decoding += 1;
        let running = RunningDecode { _decoder: self.memory.take(decoder) };
        Some(Next::Decode { node, running, keep: keeps.then(|| self.memory.keep(frames)) })
    }

    /// Tells that a decode has ended.
    pub fn decode_ended(&mut self, _: RunningDecode) {
        self.decoding -= 1;
    }

    /// Kept frames turn out to be a chunk: they stay until its encodes are done.
    pub fn settle(&mut self, chunk: ChunkKey, frames: Arc<ChunkFrames>) {
        self.resident.insert(chunk, Resident { frames, running: 0 });
        if self.encodes.contains_key(&chunk) {
            self.at_hand.insert(chunk);
        }
    }

    /// Lets go of a chunk's frames if no encode wants them.
    pub fn review(&mut self, chunk: ChunkKey) {
        let Some(resident) = self.resident.get(&chunk) else { return };
        if resident.running == 0 && !self.encodes.contains_key(&chunk) {
            self.resident.remove(&chunk);
        }
    }

    /// Tells that an encode has ended; the last one of a chunk lets go of its frames.
    pub fn encode_ended(&mut self, RunningEncode { chunk, frames, .. }: RunningEncode) {
        self.encoding -= 1;
        // Another chunk may have its number, in a title that was cut anew.
        if let Some(resident) = self.resident.get_mut(&chunk)
            && Arc::ptr_eq(&resident.frames, &frames)
        {
            resident.running -= 1;
        }
        self.review(chunk);
    }
}

#[cfg(test)]
mod tests;
