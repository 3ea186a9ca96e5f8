//! Filling the free slots: which step is next, and the job that it is.

use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use super::slots::{Slot, Slots, Way};
use super::workers::{Message, Task, TaskNode, Work};
use super::{Scheduler, Taken};
use crate::cache::ActionKey;
use crate::graph::error::StepError;
use crate::graph::event::Event;
use crate::graph::frames::{self, ChunkFrames};
use crate::graph::memory::Room;
use crate::graph::prepare::{self, decode_job, encode_job, windows_job};
use crate::graph::ready::{Demand, Next, Only, RunningDecode, RunningEncode, Wanted};
use crate::graph::step::{Node, State, Step};
use crate::graph::title::{Graph, Title};
use crate::graph::work::Job;

/// Frames that an encoder holds at most: its look-ahead and its references, with their
/// half-size copies and motion data.
const ENCODER_FRAMES: u64 = 100;
/// Encodes for each slot that are to be at hand as long as there is something to decode. With two, those
/// that are left when the last span has been decoded can be dealt out so that all slots end at about
/// the same time.
const AHEAD: usize = 2;

impl Scheduler<'_> {
    pub(super) fn dispatch(&mut self) {
        if self.worker.is_cancelled() {
            self.stopping = true;
        }
        for device in self.slots.free_devices() {
            self.fill(Slot::Device(device));
        }
        for gpu in self.slots.free_gpus() {
            self.fill(Slot::Decoder(gpu));
        }
        self.fill(Slot::Cpu);
        self.open_decoders();
        if self.slots.taken() == 0 && self.slots.asked_again().is_none() && !self.stopping {
            // What nobody can encode any more fails when it is looked at again.
            for id in self.ready.take_encodes() {
                if matches!(self.graph[id].state, State::Queued(_)) {
                    self.look_again(id);
                }
            }
        }
        if self.settings.options.gauges {
            (self.observe)(&Event::Gauges {
                at: self.workers.epoch.elapsed(),
                queued: self.ready.len() as u64,
                running: self.slots.taken() as u64,
                memory: self.ready.used(),
                looked_up: self.looked_up,
                found: self.found,
            });
        }
    }

    /// Gives work to all free slots of a kind.
    fn fill(&mut self, slot: Slot) {
        loop {
            if self.stopping || !self.slots.has_free(slot) {
                return;
            }
            let Some((nodes, work)) = self.next_task(slot) else { return };
            for &id in &nodes {
                self.graph[id].state = State::Running;
            }
            self.slots.take(slot);
            let nodes = nodes.into_iter().map(|id| TaskNode {
                id,
                kind: self.graph[id].step.kind(),
                key: self.graph[id].key,
                anew: self.graph[id].disbelieved,
                inputs: self.keys_of_inputs(id),
            });
            self.workers.give(Task { nodes: nodes.collect(), work, slot });
        }
    }

    /// The keys of what a step is made from; a source has none.
    pub(super) fn keys_of_inputs(&self, id: NodeIndex) -> Vec<ActionKey> {
        let inputs = self.graph.neighbors_directed(id, Direction::Incoming);
        let mut keys: Vec<_> = inputs.filter_map(|input| self.graph[input].key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Has one more decoder readied of each GPU whose decoders are all busy, where encodes wait for pictures all
    /// the same. That takes a good part of a second and of a core: a span is only given to one that is ready.
    fn open_decoders(&mut self) {
        let Some(pool) = self.worker.pool.as_ref().filter(|_| !self.stopping) else { return };
        for gpu in self.slots.gpus_to_open() {
            let (titles, graph, slots) = (&self.titles, &self.graph, &self.slots);
            let wanted = Wanted {
                ahead: AHEAD * self.settings.options.jobs,
                only: Some(Only::Decodes),
                decode_first: self.starves(),
                takes: &|node| takes(titles, graph, slots, node, Slot::Decoder(gpu)),
            };
            if self.ready.lacks_decoders(&wanted) {
                let (pool, uuid) = (Arc::clone(pool), self.slots.gpu(gpu).uuid.clone());
                self.workers.beside(move || Message::Decoder(gpu, pool.open_gpu(&uuid)));
                self.slots.open_decoder(gpu);
            }
        }
    }

    /// Whether some rung can be encoded by a device that has nothing to do.
    fn starves(&self) -> bool {
        let idle = self.slots.free_devices();
        !idle.is_empty()
            && self
                .titles
                .iter()
                .flat_map(|title| &title.tracks)
                .any(|track| idle.iter().any(|&device| self.slots.may_serve(track, device)))
    }

    fn next_task(&mut self, slot: Slot) -> Option<(Vec<NodeIndex>, Work)> {
        let decode_first = slot == Slot::Cpu && self.starves();
        loop {
            let (titles, graph, jobs, slots) =
                (&self.titles, &self.graph, self.settings.options.jobs, &self.slots);
            let wanted = Wanted {
                ahead: AHEAD * jobs,
                only: match slot {
                    Slot::Cpu => None,
                    Slot::Device(_) => Some(Only::Encodes),
                    Slot::Decoder(_) => Some(Only::Decodes),
                },
                decode_first,
                takes: &|node| takes(titles, graph, slots, node, slot),
            };
            let next = self.ready.next(
                &wanted,
                |node| demand(titles, graph, jobs, node),
                |(title, chunk), too_many, room| open(&titles[title], chunk, too_many, room),
            )?;
            match next {
                Next::Step(id) => {
                    if let State::Queued(job) = &mut self.graph[id].state
                        && let Some(job) = job.take()
                    {
                        return Some((vec![id], Work::One(job)));
                    }
                }
                Next::Sound(nodes) => {
                    if let Some(task) = self.windows_task(nodes) {
                        return Some(task);
                    }
                }
                Next::Decode { node, running, keep } => {
                    if let Some(task) = self.decode_task(node, running, keep, slot) {
                        return Some(task);
                    }
                }
                Next::Encode { node, running } => {
                    if let Some(task) = self.encode_task(node, running, slot) {
                        return Some(task);
                    }
                }
                Next::LetGo => {
                    if !self.let_go() {
                        return None;
                    }
                }
            }
        }
    }

    fn decode_task(
        &mut self,
        id: NodeIndex,
        running: RunningDecode,
        keep: Option<Room>,
        slot: Slot,
    ) -> Option<(Vec<NodeIndex>, Work)> {
        let gpu = if let Slot::Decoder(gpu) = slot { Some(gpu) } else { None };
        let error = match self.decode_on(id, gpu, keep) {
            Ok(Some(job)) => {
                self.taken.insert(id, Taken::Decode(running, gpu));
                return Some((vec![id], Work::One(job)));
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        self.ready.decode_ended(running);
        if let Some(error) = error {
            self.fail(id, error);
        }
        None
    }

    /// `None` where nobody wants the span any more.
    fn decode_on(
        &self,
        id: NodeIndex,
        gpu: Option<usize>,
        keep: Option<Room>,
    ) -> Result<Option<Job>, StepError> {
        let Node { title, step: Step::DecodeSpan { span }, state: State::Queued(_), .. } = self.graph[id]
        else {
            return Ok(None);
        };
        let uuid = gpu.map(|gpu| self.slots.gpu(gpu).uuid.clone());
        decode_job(&self.titles[title], span, (self.settings.options.jobs, uuid), keep).map(Some)
    }

    fn encode_task(
        &mut self,
        id: NodeIndex,
        running: RunningEncode,
        slot: Slot,
    ) -> Option<(Vec<NodeIndex>, Work)> {
        let error = match self.encode_in(id, &running.frames, slot) {
            Ok(Some((job, way))) => {
                self.taken.insert(id, Taken::Encode(running, way));
                return Some((vec![id], Work::One(job)));
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        self.ready.encode_ended(running);
        if let Some(error) = error {
            self.fail(id, error);
        }
        None
    }

    /// `None` where the encode is not for this slot any more, or not to be run at all.
    fn encode_in(
        &mut self,
        id: NodeIndex,
        frames: &Arc<ChunkFrames>,
        slot: Slot,
    ) -> Result<Option<(Job, Way)>, StepError> {
        let Node { title, step: Step::Encode { track, piece }, state: State::Queued(_), .. } = self.graph[id]
        else {
            return Ok(None);
        };
        // What is filed under a key must be made of what the key names.
        if !frames.are_of(self.titles[title].piece(track, piece)?) {
            return Err(StepError::internal("the frames at hand are those of another chunk"));
        }
        let Some(way) = way(&self.titles, &self.graph, &self.slots, id, slot) else {
            // Who was to make it has been retired meanwhile.
            self.look_again(id);
            return Ok(None);
        };
        if !self.choose(id, way.choice)? {
            return Ok(None);
        }
        let cores = self.settings.options.jobs;
        let demand = demand(&self.titles, &self.graph, cores, id);
        let threads = cores / self.ready.side_by_side(demand, cores);
        let made_by = (way.choice, way.executor);
        let job = encode_job(&self.titles[title], track, made_by, Arc::clone(frames), threads)?;
        Ok(Some((job, way)))
    }

    /// Settles which of its rung's choices an encode is made by, and so its key. False where another step
    /// is at that key: this one follows it then.
    fn choose(&mut self, id: NodeIndex, choice: usize) -> Result<bool, StepError> {
        let Node { title, step, choice: before, .. } = self.graph[id];
        let Step::Encode { track, piece } = step else { return Ok(true) };
        if before == choice {
            return Ok(true);
        }
        let title = &self.titles[title];
        let recipes = title.encode_recipes(track, title.piece(track, piece)?.identity, &self.tools)?;
        let key = recipes.get(choice).ok_or_else(|| StepError::internal("no such choice"))?.key();
        self.forget_key(id);
        let node = &mut self.graph[id];
        (node.key, node.choice) = (Some(key), choice);
        let owner = *self.in_flight.entry(key).or_insert(id);
        if owner != id {
            self.graph[id].state = State::Following;
            self.followers.entry(owner).or_default().push(id);
        }
        Ok(owner == id)
    }

    /// One pass over a sound for all of its windows that wait.
    fn windows_task(&mut self, mut nodes: Vec<NodeIndex>) -> Option<(Vec<NodeIndex>, Work)> {
        nodes.retain(|&id| matches!(self.graph[id].state, State::Queued(_)));
        let &first = nodes.first()?;
        let title = &self.titles[self.graph[first].title];
        let windows = nodes.iter().filter_map(|&id| match self.graph[id].step {
            Step::Audio { track, piece } => Some((id, track, piece)),
            _ => None,
        });
        let windows: Vec<_> = windows.collect();
        let sound = windows
            .first()
            .ok_or_else(|| StepError::internal("no window"))
            .and_then(|&(_, track, _)| Ok(title.rendition(track)?.0.sound));
        match sound.and_then(|sound| windows_job(title, sound, windows)) {
            Ok((nodes, batch)) => Some((nodes, Work::Many(batch))),
            Err(error) => {
                for &id in &nodes {
                    self.skip(id);
                }
                self.fail(first, error);
                None
            }
        }
    }
}

fn open(title: &Title, chunk: usize, too_many: bool, room: Room) -> Arc<ChunkFrames> {
    match (&title.frames, title.chunks.get(chunk)) {
        (Some(source), Some(chunk)) => {
            Arc::new(ChunkFrames::later(Arc::clone(source), chunk.clone(), too_many, room))
        }
        _ => unreachable!("encodes are queued after the chunk and the frame source are known"),
    }
}

/// Whether a decode or an encode is for such a slot.
fn takes(titles: &[Title], graph: &Graph, slots: &Slots, id: NodeIndex, slot: Slot) -> bool {
    let Node { title, step, .. } = graph[id];
    match (step, slot) {
        (Step::DecodeSpan { .. }, Slot::Decoder(gpu)) => {
            let track = titles[title].index.as_ref().map(|index| &index.video);
            track.is_some_and(|track| slots.gpu_takes(gpu, title, track))
        }
        (Step::DecodeSpan { .. }, slot) => slot == Slot::Cpu,
        _ => way(titles, graph, slots, id, slot).is_some(),
    }
}

/// How a node that is an encode is made in such a slot.
fn way(titles: &[Title], graph: &Graph, slots: &Slots, id: NodeIndex, slot: Slot) -> Option<Way> {
    let Node { title, step: Step::Encode { track, .. }, .. } = graph[id] else { return None };
    slots.way(titles[title].tracks.get(track)?, id, slot)
}

/// What a step takes in memory.
fn demand(titles: &[Title], graph: &Graph, jobs: usize, node: NodeIndex) -> Demand {
    let Node { title, step, .. } = &graph[node];
    let title = &titles[*title];
    match *step {
        Step::DecodeSpan { span } => {
            let Some(track) = title.index.as_ref().map(|index| &index.video) else {
                return Demand::default();
            };
            let packets = track.spans.get(span).map_or(0, |span| span.end - span.first);
            Demand {
                frames: packets.saturating_mul(track.frame_bytes()),
                decoder: frames::decoder_bytes(track, prepare::decode_threads(track, jobs)),
                encoder: 0,
            }
        }
        Step::Encode { track, piece } => {
            let encoder = title.tracks.get(track).and_then(|track| track.rung()).map_or(0, |rung| {
                let picture = &rung.picture;
                let sample = picture.bytes_per_sample() as u64;
                u64::from(picture.width) * u64::from(picture.height) * 3 / 2 * sample * ENCODER_FRAMES
            });
            let frames = title.chunks.get(piece).map_or(0, |chunk| u64::from(chunk.frames));
            match &title.frames {
                Some(source) => {
                    Demand { frames: source.bytes(frames), decoder: source.decoder_bytes(), encoder }
                }
                None => Demand { frames: 0, decoder: 0, encoder },
            }
        }
        _ => Demand::default(),
    }
}
