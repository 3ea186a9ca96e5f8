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
    /// Nothing runs or waits that would free memory: frames that are kept and in no chunk must go.
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
            let is_first = wanted.decode_first || self.runs_out(wanted, &demand);
            if is_first
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

    /// Encodes of this demand that may come to run at a time with one that has just been taken, itself
    /// among them, up to `most`: as many as are left and have room.
    pub fn side_by_side(&self, demand: Demand, most: usize) -> usize {
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

    /// Whether encodes at hand will soon run out, and the frames of the next span can be kept until
    /// their turn comes.
    fn runs_out(&self, wanted: &Wanted<'_>, demand: &impl Fn(NodeIndex) -> Demand) -> bool {
        let to_come = self.decoding * ENCODES_A_SPAN;
        let next = self.decodes.values().find(|&&node| (wanted.takes)(node));
        next.is_some_and(|&node| self.has_room_to_keep(demand(node)))
            && self.few_at_hand(wanted.ahead.saturating_sub(to_come))
    }

    /// Whether the frames of a span can be kept.
    fn has_room_to_keep(&self, Demand { frames, decoder, .. }: Demand) -> bool {
        frames <= self.budget / 4
            && self.kept.saturating_add(frames) <= self.budget / 2
            && self.used.saturating_add(decoder.saturating_add(frames)) <= self.budget
    }

    fn next_decode(&mut self, wanted: &Wanted<'_>, demand: &impl Fn(NodeIndex) -> Demand) -> Option<Next> {
        let (&span, &node) = self.decodes.iter().find(|&(_, &node)| (wanted.takes)(node))?;
        let demand = demand(node);
        let Demand { frames, decoder, .. } = demand;
        let busy = self.encoding + self.decoding > 0;
        let keep = self.has_room_to_keep(demand);
        if !keep {
            if frames <= self.budget / 4 && self.kept > 0 {
                // What is kept becomes encodes, or it must make room. Chunks have become encodes, or will as
                // soon as those are looked up: who they are for will come.
                return (!busy && self.resident.is_empty()).then_some(Next::LetGo);
            }
            if busy && self.used.saturating_add(decoder) > self.budget {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cache::Digest;
    use crate::graph::film::Piece;
    use crate::graph::frames::FrameSource;
    use crate::media::{self, CodecsHere};

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/flower_960x540_2997_aac.mp4");

    /// Frames that are never looked at.
    fn frames() -> Arc<ChunkFrames> {
        let track = Arc::new(media::scan(Path::new(CLIP), &|| false).unwrap().video);
        let codecs = (Arc::new(CodecsHere) as _, Arc::default());
        let source = Arc::new(FrameSource::new(Path::new(CLIP), track, codecs, &[1], 1));
        let (durations, identity) = (vec![(1, 1)], Digest::of(b"one"));
        let piece = Piece { first: 0, frames: 1, start: 0, durations, identity };
        Arc::new(ChunkFrames::later(source, piece, false))
    }

    /// What a slot of the CPUs is given: the number of an encode, or of a span and 1000.
    fn next(queue: &mut ReadyQueue, demand: Demand) -> Option<usize> {
        let wanted = Wanted { only: None, decode_first: false, ahead: 4, takes: &|_| true };
        let next = queue.next(&wanted, |_| demand, |_, _| unreachable!("all frames are at hand"));
        next.map(|next| match next {
            Next::Encode { node, .. } => node.index(),
            Next::Decode { node, keep: true } => node.index(),
            _ => panic!("nothing else is there"),
        })
    }

    /// Chunks of two encodes, of which every other one is ten times the work.
    fn queue(chunks: usize, spans: usize) -> ReadyQueue {
        let mut queue = ReadyQueue::new(1000);
        let frames = frames();
        for chunk in 0..chunks {
            let work = if chunk % 2 == 0 { 1 } else { 10 };
            queue.push_encode((0, chunk), work, NodeIndex::new(2 * chunk));
            queue.push_encode((0, chunk), 5 * work, NodeIndex::new(2 * chunk + 1));
            queue.settle((0, chunk), Arc::clone(&frames), 0);
        }
        for span in 0..spans {
            queue.push_decode((0, span), NodeIndex::new(1000 + span));
        }
        queue
    }

    #[test]
    fn spans_are_decoded_before_encodes_run_out() {
        let demand = Demand { frames: 10, decoder: 1, encoder: 1 };
        let mut many = queue(4, 1);
        let order: Vec<_> = std::iter::from_fn(|| next(&mut many, demand)).take(6).collect();
        // In film order, of a chunk the larger first, until fewer than four are at hand.
        assert_eq!(order, [1, 0, 3, 2, 5, 1000]);
        // What cannot be kept is not decoded ahead.
        let mut full = queue(1, 1);
        assert_eq!(next(&mut full, Demand { frames: 300, ..demand }), Some(1));
    }

    #[test]
    fn the_last_few_encodes_go_by_their_work() {
        let demand = Demand::default();
        let mut few = queue(2, 0);
        // Four are not fewer than four: film order.
        assert_eq!(next(&mut few, demand), Some(1));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut few, demand)).collect();
        assert_eq!(order, [3, 2, 0]);
    }

    #[test]
    fn cores_are_for_those_that_may_run_beside_each_other() {
        let demand = Demand { frames: 10, decoder: 1, encoder: 90 };
        assert_eq!(queue(8, 1).side_by_side(demand, 16), 10, "memory for no more");
        assert_eq!(queue(8, 1).side_by_side(demand, 4), 4);
        assert_eq!(queue(1, 0).side_by_side(demand, 16), 3, "two are left");
        assert_eq!(queue(0, 0).side_by_side(demand, 16), 1);
        assert_eq!(queue(0, 1).side_by_side(Demand::default(), 16), 16, "more will come");
    }
}
