//! Filling the free slots: which step is next, and the job that it is.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::engine::{Engine, HeldResources};
use super::event::Event;
use super::graph::{State, StepGraph};
use super::queue::{ChunkKey, Next, Only, RunningDecode, RunningEncode, Wanted};
use super::slots::{Assignment, Slot, Slots};
use super::threads::{Message, Task, TaskNode};
use crate::cache::EntryKey;
use crate::steps::context::Grant;
use crate::steps::decode::decode_threads;
use crate::steps::frames::ChunkFrames;
use crate::steps::live::Live;
use crate::steps::memory::Reservation;
use crate::steps::{Bytes, Needs, StepError, Work};
use crate::title::Title;

/// Encodes for each slot that are to be at hand as long as there is something to decode. With two, those
/// that are left when the last span has been decoded can be dealt out so that all slots end at about
/// the same time.
const AHEAD: usize = 2;

impl Engine<'_> {
    pub(super) fn dispatch(&mut self) {
        if self.context.is_cancelled() {
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
            for id in self.queue.take_encodes() {
                if matches!(self.graph[id].state(), State::Queued(_)) {
                    self.look_again(id);
                }
            }
        }
        if self.settings.options.gauges {
            self.tell(Event::Gauges {
                at: self.threads.epoch.elapsed(),
                queued: self.queue.len() as u64,
                running: self.slots.taken() as u64,
                memory: self.queue.used(),
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
            let Some(Ready { nodes, works, grant }) = self.next_ready(slot) else { return };
            for &id in &nodes {
                self.graph.set(id, State::Running);
            }
            self.slots.take(slot);
            let nodes = nodes.into_iter().map(|id| TaskNode {
                id,
                kind: self.graph[id].step.kind(),
                key: self.graph[id].key,
                anew: self.graph[id].is_rejected,
                inputs: self.keys_of_inputs(id),
            });
            self.threads.give(Task { nodes: nodes.collect(), works, grant, slot });
        }
    }

    /// The keys of what a step is made from; a source has none.
    fn keys_of_inputs(&self, id: NodeIndex) -> Vec<EntryKey> {
        let mut keys: Vec<_> = self.graph.inputs(id).filter_map(|input| self.graph[input].key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Has one more decoder readied of each GPU whose decoders are all busy, where encodes wait for pictures all
    /// the same. That takes a good part of a second and of a core: a span is only given to one that is ready.
    fn open_decoders(&mut self) {
        let Some(pool) = self.context.pool.as_ref().filter(|_| !self.stopping) else { return };
        for gpu in self.slots.gpus_to_open() {
            let (titles, graph, slots) = (&self.titles, &self.graph, &self.slots);
            let wanted = Wanted {
                ahead: AHEAD * self.settings.options.jobs,
                only: Some(Only::Decodes),
                decode_first: self.starves(),
                takes: &|node| takes(titles, graph, slots, node, Slot::Decoder(gpu)),
            };
            if self.queue.lacks_decoders(&wanted) {
                let (pool, uuid) = (Arc::clone(pool), self.slots.gpu(gpu).uuid.clone());
                let started = self.threads.beside(move || Message::Decoder(gpu, pool.open_gpu(&uuid)));
                match started {
                    Ok(()) => self.slots.open_decoder(gpu),
                    Err(error) => tracing::info!("no further decoder of a GPU: {error}"),
                }
            }
        }
    }

    /// Whether some rung can be encoded by a device that has nothing to do.
    fn starves(&self) -> bool {
        let idle = self.slots.free_devices();
        let may_serve = |title: &Title| {
            title.track_ids().any(|track| {
                title.rung(track).is_some_and(|rung| {
                    idle.iter().any(|&device| self.slots.may_serve((title.id, track), rung, device))
                })
            })
        };
        !idle.is_empty() && self.titles.iter().any(may_serve)
    }

    fn next_ready(&mut self, slot: Slot) -> Option<Ready> {
        let decode_first = slot == Slot::Cpu && self.starves();
        loop {
            let (titles, graph, jobs, slots, live) =
                (&self.titles, &self.graph, self.settings.options.jobs, &self.slots, &self.live);
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
            let next = self.queue.next(
                &wanted,
                |node| bytes(titles, graph, jobs, node),
                |chunk, too_many, memory| open(titles, live, chunk, too_many, memory),
            )?;
            let ready = match next {
                Next::Step(id) => self.graph.node_mut(id).take_work().map(|work| Ready {
                    nodes: vec![id],
                    works: vec![work],
                    grant: Grant::Slot,
                }),
                Next::AudioPass(nodes) => self.ready_windows(nodes),
                Next::Decode { node, running, keep } => self.ready_decode(node, running, keep, slot),
                Next::Encode { node, running } => self.ready_encode(node, running, slot),
                Next::DropFrames => {
                    if !self.drop_frames() {
                        return None;
                    }
                    None
                }
            };
            if ready.is_some() {
                return ready;
            }
        }
    }

    /// Frees memory: retained frames that are in no chunk yet will be decoded again. False where there were
    /// none.
    fn drop_frames(&mut self) -> bool {
        let mut dropped = false;
        for live in &mut self.live {
            dropped |= live.drop_frames();
        }
        dropped
    }

    /// `None` where nobody wants the span any more.
    fn ready_decode(
        &mut self,
        id: NodeIndex,
        running: RunningDecode,
        keep: Option<Reservation>,
        slot: Slot,
    ) -> Option<Ready> {
        let gpu = if let Slot::Decoder(gpu) = slot { Some(gpu) } else { None };
        let title = self.graph[id].title.index();
        let readers = self.live[title].readers.clone();
        let threads =
            self.titles[title].video().map(|track| decode_threads(track, self.settings.options.jobs));
        let Some(work) = self.graph.node_mut(id).take_work() else {
            self.queue.decode_ended(running);
            return None;
        };
        let (Some(readers), Some(threads)) = (readers, threads) else {
            self.queue.decode_ended(running);
            self.fail(id, StepError::internal("a span of a source that is not open"));
            return None;
        };
        self.held.insert(id, HeldResources::Decode(running, gpu));
        let gpu = gpu.map(|gpu| self.slots.gpu(gpu).uuid.clone());
        let grant = Grant::Decode { readers, threads, gpu, keep };
        Some(Ready { nodes: vec![id], works: vec![work], grant })
    }

    fn ready_encode(&mut self, id: NodeIndex, running: RunningEncode, slot: Slot) -> Option<Ready> {
        let error = match self.assign(id, &running.frames, slot) {
            Ok(Some((work, grant, assignment))) => {
                self.held.insert(id, HeldResources::Encode(running, assignment));
                return Some(Ready { nodes: vec![id], works: vec![work], grant });
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        self.queue.encode_ended(running);
        if let Some(error) = error {
            self.fail(id, error);
        }
        None
    }

    /// `None` where the encode is not for this slot any more, or not to be run at all.
    fn assign(
        &mut self,
        id: NodeIndex,
        frames: &Arc<ChunkFrames>,
        slot: Slot,
    ) -> Result<Option<(Work, Grant, Assignment)>, StepError> {
        if !matches!(self.graph[id].state(), State::Queued(_)) {
            return Ok(None);
        }
        let Some(assignment) = assignment(&self.titles, &self.graph, &self.slots, id, slot) else {
            // Who was to make it has been retired meanwhile.
            self.look_again(id);
            return Ok(None);
        };
        if !self.choose(id, assignment.choice)? {
            return Ok(None);
        }
        let cores = self.settings.options.jobs;
        let bytes = bytes(&self.titles, &self.graph, cores, id);
        let threads = cores / self.queue.side_by_side(bytes, cores);
        let work = self.work(id, assignment.choice)?;
        let (frames, executor) = (Arc::clone(frames), assignment.executor);
        Ok(Some((work, Grant::Encode { frames, executor, threads }, assignment)))
    }

    /// Settles which of its rung's choices an encode is made by, and so its key. False where another step
    /// is at that key: this one follows it then.
    fn choose(&mut self, id: NodeIndex, choice: usize) -> Result<bool, StepError> {
        if self.graph[id].choice == choice {
            return Ok(true);
        }
        self.forget_key(id);
        self.graph.node_mut(id).choice = choice;
        let recipe = self.recipe(id).ok_or_else(|| StepError::internal("no such choice"))?;
        let key = recipe.key();
        self.graph.node_mut(id).key = Some(key);
        let owner = *self.in_flight.entry(key).or_insert(id);
        if owner != id {
            self.graph.set(id, State::Following);
            self.followers.entry(owner).or_default().push(id);
        }
        Ok(owner == id)
    }

    /// One pass over an audio input for all of its windows that wait, in their order.
    fn ready_windows(&mut self, mut nodes: Vec<NodeIndex>) -> Option<Ready> {
        let row = |id: NodeIndex| self.graph[id].step.row().2;
        nodes.sort_by_key(|&id| (row(id), id));
        let taken = nodes.into_iter().filter_map(|id| Some((id, self.graph.node_mut(id).take_work()?)));
        let (nodes, works): (Vec<_>, Vec<_>) = taken.unzip();
        (!nodes.is_empty()).then_some(Ready { nodes, works, grant: Grant::Slot })
    }
}

/// What a slot is given: steps that run together, and what they are granted.
struct Ready {
    nodes: Vec<NodeIndex>,
    works: Vec<Work>,
    grant: Grant,
}

fn open(
    titles: &[Title],
    live: &[Live],
    (title, chunk): ChunkKey,
    too_many: bool,
    memory: Reservation,
) -> Arc<ChunkFrames> {
    let (frames, chunks) = (&live[title.index()].frames, titles[title.index()].chunks());
    match (frames, chunks.get(chunk.index())) {
        (Some(source), Some(chunk)) => {
            Arc::new(ChunkFrames::deferred(Arc::clone(source), chunk.clone(), too_many, memory))
        }
        _ => unreachable!("encodes are queued after the chunk and the frame source are known"),
    }
}

/// Whether a decode or an encode is for such a slot.
fn takes(titles: &[Title], graph: &StepGraph, slots: &Slots, id: NodeIndex, slot: Slot) -> bool {
    let title = &titles[graph[id].title.index()];
    match (graph[id].step.needs(title, 1), slot) {
        (Needs::Decode { .. }, Slot::Decoder(gpu)) => {
            title.video().is_some_and(|track| slots.gpu_takes(gpu, title.id, track))
        }
        (Needs::Decode { .. }, slot) => slot == Slot::Cpu,
        (Needs::Encode { .. }, _) => assignment(titles, graph, slots, id, slot).is_some(),
        (Needs::Slot { .. } | Needs::AudioPass(_), slot) => slot == Slot::Cpu,
    }
}

/// How a node that is an encode is made in such a slot.
fn assignment(
    titles: &[Title],
    graph: &StepGraph,
    slots: &Slots,
    id: NodeIndex,
    slot: Slot,
) -> Option<Assignment> {
    let title = &titles[graph[id].title.index()];
    let Needs::Encode { track, .. } = graph[id].step.needs(title, 1) else { return None };
    slots.assignment((title.id, track), title.rung(track)?, id, slot)
}

/// What a step takes in memory.
fn bytes(titles: &[Title], graph: &StepGraph, jobs: usize, id: NodeIndex) -> Bytes {
    match graph[id].step.needs(&titles[graph[id].title.index()], jobs) {
        Needs::Decode { bytes, .. } | Needs::Encode { bytes, .. } => bytes,
        Needs::Slot { .. } | Needs::AudioPass(_) => Bytes::default(),
    }
}
