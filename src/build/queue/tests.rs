use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::cache::Digest;
use crate::media::{self, CodecsHere};
use crate::steps::frames::FrameSource;
use crate::title::chunk::Chunk;

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/flower_960x540_2997_aac.mp4");

/// Where frames come from that are never looked at.
static SOURCE: LazyLock<Arc<FrameSource>> = LazyLock::new(|| {
    let track = Arc::new(media::scan(Path::new(CLIP), &|| false).unwrap().video);
    let codecs = (Arc::new(CodecsHere) as _, Arc::default());
    Arc::new(FrameSource::new(Path::new(CLIP), track, codecs, &[1], 1))
});

fn chunk_key(chunk: usize) -> ChunkKey {
    (TitleId::new(0), ChunkId::new(chunk))
}

fn span_key(span: usize) -> SpanKey {
    (TitleId::new(0), SpanId::new(span))
}

fn frames(room: Reservation) -> Arc<ChunkFrames> {
    let (durations, identity) = (vec![(1, 1)], Digest::of(b"one"));
    let piece = Chunk { first: 0, frames: 1, start: 0, durations, identity };
    Arc::new(ChunkFrames::deferred(Arc::clone(&SOURCE), piece, false, room))
}

/// What a slot of the CPUs is given: the number of an encode, or of a span and 1000.
fn next(queue: &mut ReadyQueue, demand: Bytes) -> Option<usize> {
    let wanted = Wanted { only: None, decode_first: false, ahead: 4, takes: &|_| true };
    let next = queue.next(&wanted, |_| demand, |_, _, _| unreachable!("all frames are at hand"));
    next.map(|next| match next {
        Next::Encode { node, .. } => node.index(),
        Next::Decode { node, keep: Some(_), .. } => node.index(),
        _ => panic!("nothing else is there"),
    })
}

/// Chunks of two encodes, of which every other one is ten times the work.
fn queue(chunks: usize, spans: usize) -> ReadyQueue {
    let mut queue = ReadyQueue::new(1000);
    for chunk in 0..chunks {
        let work = if chunk % 2 == 0 { 1 } else { 10 };
        queue.push_encode(chunk_key(chunk), work, NodeIndex::new(2 * chunk));
        queue.push_encode(chunk_key(chunk), 5 * work, NodeIndex::new(2 * chunk + 1));
        queue.settle(chunk_key(chunk), frames(Memory::default().take(0)));
    }
    for span in 0..spans {
        queue.push_decode(span_key(span), NodeIndex::new(1000 + span));
    }
    queue
}

#[test]
fn spans_are_decoded_before_encodes_run_out() {
    let demand = Bytes { frames: 10, decoder: 1, encoder: 1 };
    let mut many = queue(4, 1);
    let order: Vec<_> = std::iter::from_fn(|| next(&mut many, demand)).take(6).collect();
    // In film order, of a chunk the larger first, until fewer than four are at hand.
    assert_eq!(order, [1, 0, 3, 2, 5, 1000]);
    // What cannot be kept is not decoded ahead.
    let mut full = queue(1, 1);
    assert_eq!(next(&mut full, Bytes { frames: 300, ..demand }), Some(1));
}

/// A decoder that joins in helps where encodes will run out, or where a device starves, and there is a span
/// for it.
#[test]
fn decoders_are_lacking_where_encodes_wait_for_pictures() {
    let lacks = |chunks, spans, decode_first, takes: &dyn Fn(NodeIndex) -> bool| {
        queue(chunks, spans).lacks_decoders(&Wanted {
            only: Some(Only::Decodes),
            decode_first,
            ahead: 4,
            takes,
        })
    };
    assert!(lacks(1, 1, false, &|_| true));
    assert!(!lacks(2, 1, false, &|_| true), "four encodes are at hand");
    assert!(lacks(2, 1, true, &|_| true));
    assert!(!lacks(1, 0, false, &|_| true), "all is decoded");
    assert!(!lacks(1, 1, false, &|_| false), "none of it is for a GPU");
}

#[test]
fn the_last_few_encodes_go_by_their_work() {
    let demand = Bytes::default();
    let mut few = queue(2, 0);
    // Four are not fewer than four: film order.
    assert_eq!(next(&mut few, demand), Some(1));
    let order: Vec<_> = std::iter::from_fn(|| next(&mut few, demand)).collect();
    assert_eq!(order, [3, 2, 0]);
}

#[test]
fn cores_are_for_those_that_may_run_beside_each_other() {
    let demand = Bytes { frames: 10, decoder: 1, encoder: 90 };
    assert_eq!(queue(8, 1).side_by_side(demand, 16), 10, "memory for no more");
    assert_eq!(queue(8, 1).side_by_side(demand, 4), 4);
    assert_eq!(queue(1, 0).side_by_side(demand, 16), 3, "two are left");
    assert_eq!(queue(0, 0).side_by_side(demand, 16), 1);
    assert_eq!(queue(0, 1).side_by_side(Bytes::default(), 16), 16, "more will come");
}

/// What a build of one film is like.
#[derive(Clone, Debug)]
struct Shape {
    /// Frames of each span, a byte each.
    spans: Vec<u64>,
    /// Frames of the chunks, one after the other and from the start again; and how many frames must have come
    /// behind a chunk until it is decided.
    chunks: Vec<usize>,
    behind: usize,
    /// Whether each rung is for the device, or else for the CPUs.
    rungs: Vec<bool>,
    jobs: usize,
    engines: usize,
    budget: u64,
    decoder: u64,
    encoder: u64,
    /// What happens by chance.
    chances: Vec<u8>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let film = (prop::collection::vec(1..40u64, 1..12), prop::collection::vec(1..15usize, 1..4), 0..20usize);
    let machine = (prop::collection::vec(any::<bool>(), 1..4), 1..3usize, 0..3usize);
    let memory = (1..400u64, 0..5u64, 0..60u64);
    (film, machine, memory, prop::collection::vec(any::<u8>(), 1..100)).prop_map(
        |((spans, chunks, behind), (rungs, jobs, engines), (budget, decoder, encoder), chances)| Shape {
            spans,
            chunks,
            behind,
            rungs,
            jobs,
            engines,
            budget,
            decoder,
            encoder,
            chances,
        },
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Device,
    Gpu,
    Cpu,
}

enum Runs {
    Decode(usize, RunningDecode, Option<Reservation>),
    Encode(NodeIndex, RunningEncode),
}

/// A build as the scheduler runs it, without its pictures.
struct Film {
    shape: Shape,
    queue: ReadyQueue,
    runs: Vec<(Slot, Runs)>,
    /// Spans that have come before one that lies before them, and frames that are in no chunk.
    arrived: BTreeMap<usize, Vec<Option<Reservation>>>,
    loose: VecDeque<Option<Reservation>>,
    next_span: usize,
    /// Frames of each chunk that is decided, and those that have no encodes yet.
    decided: Vec<u64>,
    without_encodes: Vec<usize>,
    encoded: usize,
    chance: usize,
    /// How often the device may refuse what it is given.
    refusals: usize,
}

/// Nodes of encodes begin here; those of spans are their numbers.
const ENCODES: usize = 1000;

impl Film {
    fn new(shape: &Shape) -> Film {
        let mut queue = ReadyQueue::new(shape.budget);
        for span in 0..shape.spans.len() {
            queue.push_decode(span_key(span), NodeIndex::new(span));
        }
        Film {
            shape: shape.clone(),
            queue,
            runs: Vec::new(),
            arrived: BTreeMap::new(),
            loose: VecDeque::new(),
            next_span: 0,
            decided: Vec::new(),
            without_encodes: Vec::new(),
            encoded: 0,
            chance: 0,
            refusals: 10,
        }
    }

    fn chance(&mut self) -> usize {
        self.chance += 1;
        usize::from(self.shape.chances[self.chance % self.shape.chances.len()])
    }

    fn slots(&self, slot: Slot) -> usize {
        match slot {
            Slot::Device => 1,
            Slot::Gpu => self.shape.engines,
            Slot::Cpu => self.shape.jobs,
        }
    }

    /// Gives free slots work, as the scheduler does.
    fn fill(&mut self, slot: Slot) {
        while self.runs.iter().filter(|(taken, _)| *taken == slot).count() < self.slots(slot) {
            let rungs = self.shape.rungs.clone();
            let takes = |node: NodeIndex| match node.index().checked_sub(ENCODES) {
                None => slot != Slot::Device,
                Some(encode) => rungs[encode % rungs.len()] == (slot == Slot::Device) && slot != Slot::Gpu,
            };
            let only = match slot {
                Slot::Device => Some(Only::Encodes),
                Slot::Gpu => Some(Only::Decodes),
                Slot::Cpu => None,
            };
            let wanted = Wanted { only, decode_first: false, ahead: 2 * self.shape.jobs, takes: &takes };
            let (shape, decided) = (&self.shape, &self.decided);
            let demand = |node: NodeIndex| match node.index().checked_sub(ENCODES) {
                None => Bytes { frames: shape.spans[node.index()], decoder: shape.decoder, encoder: 0 },
                Some(encode) => Bytes {
                    frames: decided[encode / rungs.len()],
                    decoder: shape.decoder,
                    encoder: shape.encoder,
                },
            };
            match self.queue.next(&wanted, demand, |_, _, room| frames(room)) {
                None => return,
                Some(Next::Decode { node, running, keep }) => {
                    self.runs.push((slot, Runs::Decode(node.index(), running, keep)));
                }
                Some(Next::Encode { node, running }) => self.runs.push((slot, Runs::Encode(node, running))),
                Some(Next::DropFrames) => self.let_go(),
                Some(Next::Step(_) | Next::AudioPass(_)) => panic!("there are none"),
            }
            assert!(self.queue.used() <= self.shape.budget || self.runs.len() == 1, "one step always runs");
        }
    }

    fn let_go(&mut self) {
        let arrived = self.arrived.values_mut().flatten();
        let gone: Vec<Reservation> = arrived.chain(&mut self.loose).filter_map(Option::take).collect();
        assert!(!gone.is_empty(), "there is something to let go of");
        assert!(self.runs.is_empty() && self.queue.at_hand.is_empty(), "nothing would free memory");
    }

    /// Something that runs comes to its end. A device may refuse what it was given.
    fn end_one(&mut self) {
        let ended = self.chance() % self.runs.len();
        match self.runs.swap_remove(ended) {
            (_, Runs::Decode(span, running, keep)) => {
                self.queue.decode_ended(running);
                let count = self.shape.spans[span] as usize;
                let frames = match keep {
                    Some(mut room) => (0..count).map(|_| Some(room.split(1))).collect(),
                    None => std::iter::repeat_with(|| None).take(count).collect(),
                };
                self.arrived.insert(span, frames);
                self.cut();
            }
            (slot, Runs::Encode(node, running)) => {
                let chunk = running.chunk;
                self.queue.encode_ended(running);
                if slot == Slot::Device && self.refusals > 0 && self.chance().is_multiple_of(4) {
                    self.refusals -= 1;
                    self.queue.push_encode(chunk, 1, node);
                } else {
                    self.encoded += 1;
                }
            }
        }
    }

    fn cut(&mut self) {
        while let Some(frames) = self.arrived.remove(&self.next_span) {
            self.next_span += 1;
            self.loose.extend(frames);
        }
        let is_all = self.next_span == self.shape.spans.len();
        while !self.loose.is_empty() {
            let chunk = self.decided.len();
            let count = self.shape.chunks[chunk % self.shape.chunks.len()];
            if !is_all && self.loose.len() < count + self.shape.behind {
                return;
            }
            let rooms: Vec<Option<Reservation>> = self.loose.drain(..count.min(self.loose.len())).collect();
            self.decided.push(rooms.len() as u64);
            self.without_encodes.push(chunk);
            if let Some(rooms) = rooms.into_iter().collect::<Option<Vec<Reservation>>>() {
                let room = rooms.into_iter().reduce(Reservation::join).unwrap();
                self.queue.settle(chunk_key(chunk), frames(room));
            }
        }
    }

    /// Looks up the encodes of chunks that are decided; some have been made before.
    fn look_up(&mut self) {
        for chunk in std::mem::take(&mut self.without_encodes) {
            for rung in 0..self.shape.rungs.len() {
                if self.chance().is_multiple_of(8) {
                    self.encoded += 1;
                    continue;
                }
                let node = NodeIndex::new(ENCODES + chunk * self.shape.rungs.len() + rung);
                self.queue.push_encode(chunk_key(chunk), rung as u64, node);
            }
            self.queue.review(chunk_key(chunk));
        }
    }

    fn dispatch(&mut self, device_cools: bool) {
        for slot in [Slot::Device, Slot::Gpu, Slot::Cpu] {
            if !(device_cools && slot == Slot::Device) {
                self.fill(slot);
            }
        }
    }

    fn run(&mut self) {
        loop {
            // With a remote cache slots are filled before what is fresh is looked up, too.
            if self.chance().is_multiple_of(2) {
                self.look_up();
            }
            let device_cools = self.chance().is_multiple_of(2);
            self.dispatch(device_cools);
            if self.runs.is_empty() {
                self.look_up();
                self.dispatch(false);
            }
            if self.runs.is_empty() {
                return;
            }
            self.end_one();
        }
    }
}

proptest! {
    /// Whatever there is, in whatever order it ends: all of a film is encoded, within its memory, and all of
    /// that is free in the end.
    #[test]
    fn a_build_ends_and_gives_back_its_memory(shape in shape()) {
        let mut film = Film::new(&shape);
        film.run();
        prop_assert_eq!(film.encoded, film.decided.len() * shape.rungs.len());
        prop_assert_eq!(film.decided.iter().sum::<u64>(), shape.spans.iter().sum::<u64>());
        prop_assert_eq!((film.queue.used(), film.queue.len()), (0, 0));
    }
}
