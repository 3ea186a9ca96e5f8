//! Runs the graph: looks each step up when its inputs are done, runs what is not in the cache on
//! a pool of workers, and lets the graph grow as results tell of more steps. One thread owns the
//! graph; workers only ever see the jobs that it hands them.

mod amounts;
mod dispatch;
mod elsewhere;
mod film;
mod growth;
mod hearing;
mod lookup;
mod outcome;
mod repair;
mod slots;
mod workers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::cache::{ActionKey, Digest};
use crate::media::{MediaError, OnGpu};
use crate::spec::Ladder;

use elsewhere::Elsewhere;
use outcome::CountOf;
pub use outcome::Outcome;

use super::Options;
use super::error::StepError;
use super::event::{Event, FailureReport, Origin, Run};
use super::prepare::Tools;
use super::ready::{Id, ReadyQueue, RunningDecode, RunningEncode};
use super::step::{Node, State, Step};
use super::title::{Graph, Title};
use super::work::{Made, Payload, Worker};
use slots::{Slots, Way};
use workers::{FoundGpus, Message, Workers};

#[derive(Default)]
pub struct Settings {
    pub options: Options,
    /// Only look; run nothing but the hashing of sources.
    pub dry_run: bool,
    /// Make nodes of all steps, also where a whole title or reel was found at once.
    pub expand: bool,
    /// Do not touch the output folders.
    pub unpublished: bool,
    /// Digests of sources, by title, that stand for the files themselves.
    pub sources: Option<HashMap<String, Digest>>,
}

/// How soon a build that only waits notices that it is to stop.
const NOTICE: Duration = Duration::from_millis(100);

/// What a step that runs has taken, besides its slot.
enum Taken {
    /// And the GPU that it is done on.
    Decode(RunningDecode, Option<usize>),
    Encode(RunningEncode, Way),
}

pub struct Scheduler<'a> {
    pub(super) graph: Graph,
    pub(super) titles: Vec<Title>,
    ladder: &'a Ladder,
    pub(super) worker: Arc<Worker>,
    pub(super) tools: Tools,
    settings: Settings,
    observe: &'a dyn Fn(&Event),
    workers: Workers,
    /// Nodes whose inputs are done and that have not been looked up.
    fresh: Vec<NodeIndex>,
    ready: ReadyQueue,
    /// What running decodes and encodes take.
    taken: HashMap<NodeIndex, Taken>,
    slots: Slots,
    /// Chunks whose frames may turn out not to be needed.
    settled: Vec<Id>,
    in_flight: HashMap<ActionKey, NodeIndex>,
    /// In a dry run, the keys of steps that would run.
    would_run_keys: HashSet<ActionKey>,
    followers: HashMap<NodeIndex, Vec<NodeIndex>>,
    elsewhere: Elsewhere,
    /// Whether GPUs that decode have been looked for.
    gpus_sought: bool,
    /// Whether it was told that a result was lost.
    loss_told: bool,
    stopping: bool,
    looked_up: u64,
    found: u64,
    pub(super) outcome: Outcome,
}

impl<'a> Scheduler<'a> {
    pub fn new(
        ladder: &'a Ladder,
        worker: Arc<Worker>,
        tools: Tools,
        settings: Settings,
        observe: &'a dyn Fn(&Event),
    ) -> Result<Scheduler<'a>, StepError> {
        let slots = Slots::new(settings.options.jobs, &worker.executors, settings.options.cooling.clone());
        let workers = Workers::start(slots.most(), &worker)?;
        let titles =
            ladder.titles.iter().enumerate().map(|(n, title)| Title::new(ladder, n, title)).collect();
        let ready = ReadyQueue::new(settings.options.memory);
        Ok(Scheduler {
            graph: Graph::new(),
            titles,
            ladder,
            worker,
            tools,
            settings,
            observe,
            workers,
            fresh: Vec::new(),
            ready,
            taken: HashMap::new(),
            slots,
            settled: Vec::new(),
            in_flight: HashMap::new(),
            would_run_keys: HashSet::new(),
            followers: HashMap::new(),
            elsewhere: Elsewhere::default(),
            gpus_sought: false,
            loss_told: false,
            stopping: false,
            looked_up: 0,
            found: 0,
            outcome: Outcome::default(),
        })
    }

    /// Pictures decoded so far, those counted twice that were decoded twice.
    pub fn decoded_frames(&self) -> u64 {
        self.worker.decoded.load(Ordering::Relaxed)
    }

    /// Ends the processes that have encoded and decoded, so that what they took is known.
    pub fn end_workers(&self) {
        if let Some(pool) = &self.worker.pool {
            pool.end_idle();
        }
    }

    /// GPUs that decode have been found, or not.
    fn take_gpus(&mut self, found: FoundGpus) {
        match found {
            Ok((gpus, problems)) => {
                for problem in problems {
                    self.warn(problem);
                }
                for about in gpus {
                    tracing::info!("{} decodes, with {} engines", about.name, about.engines);
                    self.slots.add_gpu(about);
                }
            }
            Err(reason) => self.warn(format!("no GPU decodes: {reason}")),
        }
    }

    /// One more decoder of a GPU is ready, or there is none and why.
    fn take_decoder(&mut self, gpu: usize, opened: Result<(), String>) {
        let opened =
            opened.and_then(|()| self.workers.add(1, &self.worker).map_err(|error| error.to_string()));
        let given_up = self.slots.decoder_opened(gpu, opened.is_ok());
        let Err(reason) = opened else { return };
        if self.worker.is_cancelled() {
            return;
        }
        let name = &self.slots.gpu(gpu).name;
        if given_up {
            self.warn(format!("{name} does not decode: {reason}"));
        } else {
            tracing::info!("{name} is given no more decoders: {reason}");
        }
    }

    /// Encodes that an executor is at. A slot stays taken for a moment after its encode has ended.
    fn at_work(&self, executor: usize) -> usize {
        let is_its = |taken: &&Taken| matches!(taken, Taken::Encode(_, way) if way.executor == executor);
        self.taken.values().filter(is_its).count()
    }

    /// What became of a title's span on a GPU.
    fn see_gpu(&mut self, gpu: usize, title: usize, on_gpu: &OnGpu) {
        match on_gpu {
            OnGpu::Did => {
                self.outcome.spans_on_gpus += 1;
                self.slots.gpu_did(gpu, title);
            }
            OnGpu::Declined(reason) => {
                tracing::info!("a span was decoded in software: {reason}");
                if self.slots.gpu_declined(gpu, title) {
                    let (gpu, title) = (&self.slots.gpu(gpu).name, &self.titles[title].name);
                    tracing::info!("{gpu} is given no more of {title}");
                }
            }
            OnGpu::Failed(reason) => {
                if self.slots.gpu_failed(gpu) {
                    self.warn(format!("{} decodes no more: {reason}", self.slots.gpu(gpu).name));
                }
            }
        }
    }

    /// Tells something of no one title.
    fn warn(&self, message: String) {
        (self.observe)(&Event::Warning { title: String::new(), message });
    }

    /// Runs to the end. What came of it is in `outcome`.
    pub fn run(&mut self) {
        for title in 0..self.titles.len() {
            self.fresh.push(self.graph.add_node(Node::new(title, Step::Source, 0)));
        }
        loop {
            self.look_elsewhere();
            self.look_up_fresh();
            for notice in self.worker.cache.take_notices() {
                self.warn(notice);
            }
            for chunk in std::mem::take(&mut self.settled) {
                self.ready.review(chunk);
            }
            // A device that had no room is asked again, even where nothing else goes on: if not by this
            // dispatch, by one after that time.
            let again = self.slots.asked_again();
            self.dispatch();
            let again = again.filter(|_| self.ready.len() > 0).into_iter().chain(self.elsewhere.next_due());
            let again = again.min().filter(|_| !self.stopping);
            if self.slots.taken() == 0 && again.is_none() {
                // Dispatching may have failed a step and thereby freed nothing new.
                if self.fresh.is_empty() {
                    break;
                }
                continue;
            }
            // All that has come by now, so that it is looked up together and slots that are free are filled.
            let mut message = self.workers.next(self.until(again));
            while let Some(next) = message {
                self.take_message(next);
                message = self.workers.next_now();
            }
            if self.worker.cache.has_remote() {
                // Slots are not to stand idle while the remote is asked for what has become fresh.
                self.dispatch();
            }
        }
        self.outcome.interrupted = self.worker.is_cancelled();
        let all_published = self.outcome.titles.len() == self.titles.len();
        let excused = self.stopping
            || self.settings.dry_run
            || self.settings.unpublished
            || !self.outcome.failures.is_empty();
        if !all_published && !excused {
            // It must never look like a success.
            self.outcome.failures.push(FailureReport {
                title: String::new(),
                node: "scheduler".to_owned(),
                message: "internal error: steps are left that nothing runs".to_owned(),
                hint: StepError::internal("").hint(),
            });
        }
        self.close();
    }

    /// How long to wait for a message, at most. What runs notices by itself that the build is to stop.
    fn until(&self, again: Option<Instant>) -> Option<Instant> {
        let runs = self.slots.taken() > 0;
        again.map(|again| if runs { again } else { again.min(Instant::now() + NOTICE) })
    }

    fn take_message(&mut self, message: Message) {
        match message {
            Message::Started(node) => self.tell_start(node),
            Message::Made { node, made, run } => self.finish(node, made, run),
            Message::Free(slot) => self.slots.release(slot),
            Message::Gpus(found) => self.take_gpus(found),
            Message::Decoder(gpu, opened) => self.take_decoder(gpu, opened),
        }
    }

    fn tell_start(&self, id: NodeIndex) {
        let Node { title, step, .. } = self.graph[id];
        let title = &self.titles[title];
        let (kind, node) = (step.kind(), title.label(step));
        (self.observe)(&Event::Started { title: title.name.clone(), kind, node });
    }

    fn finish(&mut self, id: NodeIndex, made: Result<Made, StepError>, run: Run) {
        let Node { title, step, .. } = self.graph[id];
        let mut way = None;
        match self.taken.remove(&id) {
            Some(Taken::Encode(running, taken)) => {
                way = Some(taken);
                self.ready.encode_ended(running);
            }
            Some(Taken::Decode(running, gpu)) => {
                self.ready.decode_ended(running);
                if let (Some(gpu), Ok(Made { payload: Payload::Span(.., Some(on_gpu)), .. })) = (gpu, &made) {
                    self.see_gpu(gpu, title, on_gpu);
                }
            }
            None => {}
        }
        let skipped = matches!(self.graph[id].state, State::Skipped);
        if matches!(made, Err(StepError::Elsewhere)) && !skipped {
            self.set_aside(id);
            return;
        }
        self.elsewhere.forget(id);
        if let (Some(way), Ok(_), Step::Encode { track, .. }) = (way, &made, step) {
            self.slots.succeeded(way, id, self.at_work(way.executor));
            if let Some(track) = self.titles[title].tracks.get_mut(track) {
                track.failures.remove(&way.executor);
            }
        }
        self.forget_key(id);
        match made {
            // Nobody wants it any more; it is in the cache for another time.
            Ok(_) if skipped => {
                self.outcome.counts.entry(step.kind()).or_default().ran += 1;
            }
            Err(_) if skipped => {}
            Ok(made) => {
                self.complete(id, made, Origin::Ran, run);
                // They find the result in the cache.
                for &follower in self.followers.get(&id).into_iter().flatten() {
                    self.graph[follower].disbelieved = false;
                }
            }
            Err(StepError::Media(MediaError::Incomplete { .. } | MediaError::Damaged { .. }))
                if self.respan(id) => {}
            Err(StepError::Encode(failure)) if way.is_some_and(|way| self.give_back(id, way, &failure)) => {}
            Err(StepError::Lost(blob)) => self.repair(id, blob),
            Err(StepError::Misheard) if self.hear_again(id) => {}
            Err(StepError::Beside) => self.skip(id),
            Err(error) if error.is_cancelled() => self.stopping = true,
            Err(error) => self.fail(id, error),
        }
        // After a failure each tries for itself: what failed may be this title's file.
        self.release_followers(id);
    }

    /// A step has its result: tells so, lets the graph grow, and looks at what waited for it.
    fn complete(&mut self, id: NodeIndex, made: Made, origin: Origin, run: Run) {
        let Node { title, step, .. } = self.graph[id];
        let kind = step.kind();
        let counts = self.outcome.counts.entry(kind).or_default();
        match origin {
            Origin::Ran => counts.ran += 1,
            Origin::Cached => counts.cached += 1,
        }
        let stands_for = if origin == Origin::Cached { self.stands_for(title, step) } else { None };
        for (&kind, &steps) in stands_for.iter().flat_map(|pack| &pack.steps) {
            self.outcome.counts.entry(kind).or_default().cached += steps;
        }
        let result = Arc::new(made.result);
        self.graph[id].last = Some(Arc::clone(&result));
        self.graph[id].state = State::Done { result, origin };
        if origin == Origin::Ran {
            self.outcome.runs.push((id, run));
        }
        let name = &self.titles[title];
        (self.observe)(&Event::Finished {
            title: name.name.clone(),
            kind,
            node: name.label(step),
            origin,
            run,
            encode: self.encode_work(title, step),
            stands_for,
        });
        let dependents: Vec<NodeIndex> = self.graph.neighbors_directed(id, Direction::Outgoing).collect();
        for dependent in dependents {
            let node = &mut self.graph[dependent];
            if !matches!(node.state, State::Waiting) || node.missing == 0 {
                continue;
            }
            node.missing -= 1;
            if node.missing == 0 {
                self.fresh.push(dependent);
            }
        }
        let is_new_index = step == Step::Index && self.titles[title].index.is_none();
        match self.grow(id, title, step, origin, made.payload) {
            Ok(()) if is_new_index => self.tell_expected(title),
            Ok(()) => {}
            Err(error) => self.fail_dependents(id, error),
        }
    }

    /// In a dry run: a step would run, and all that depends on it would follow. `counts` is the
    /// count of which the step itself is one, if of any.
    fn mark_would_run(&mut self, id: NodeIndex, counts: Option<CountOf>) {
        let mut stack = vec![id];
        while let Some(next) = stack.pop() {
            if matches!(self.graph[next].state, State::WouldRun) {
                continue;
            }
            self.graph[next].state = State::WouldRun;
            let kind = self.graph[next].step.kind();
            match counts {
                _ if next != id => *self.outcome.follows.entry(kind).or_default() += 1,
                Some(counts) => *counts(&mut self.outcome).entry(kind).or_default() += 1,
                None => {}
            }
            stack.extend(self.graph.neighbors(next));
        }
    }

    fn fail(&mut self, id: NodeIndex, error: StepError) {
        let step = self.graph[id].step;
        self.graph[id].state = State::Failed;
        self.outcome.counts.entry(step.kind()).or_default().failed += 1;
        self.forget_key(id);
        self.release_followers(id);
        self.fail_dependents(id, error);
    }

    /// Reports an error at a step, and skips what depends on it.
    fn fail_dependents(&mut self, id: NodeIndex, error: StepError) {
        let Node { title, step, .. } = self.graph[id];
        let title = &self.titles[title];
        let (message, hint) = (error.to_string(), error.hint());
        let node = title.label(step);
        (self.observe)(&Event::Failed {
            title: title.name.clone(),
            kind: step.kind(),
            node: node.clone(),
            message: message.clone(),
            hint: hint.clone(),
        });
        self.outcome.failures.push(FailureReport { title: title.name.clone(), node, message, hint });
        self.skip_dependents(id);
        self.stopping |= !self.settings.options.keep_going;
    }

    /// A step is at its key no more, if it was: another with the same key may be.
    fn forget_key(&mut self, id: NodeIndex) {
        if let Some(key) = self.graph[id].key
            && self.in_flight.get(&key) == Some(&id)
        {
            self.in_flight.remove(&key);
        }
    }

    /// What has followed a step that is done, or never will be, looks for itself.
    fn release_followers(&mut self, id: NodeIndex) {
        for follower in self.followers.remove(&id).unwrap_or_default() {
            if matches!(self.graph[follower].state, State::Following) {
                self.graph[follower].state = State::Waiting;
                self.fresh.push(follower);
            }
        }
    }

    fn skip(&mut self, id: NodeIndex) {
        self.drop_node(id);
        self.skip_dependents(id);
    }

    fn skip_dependents(&mut self, id: NodeIndex) {
        let mut stack: Vec<NodeIndex> = self.graph.neighbors(id).collect();
        while let Some(next) = stack.pop() {
            if matches!(self.graph[next].state, State::Waiting) {
                self.drop_node(next);
                stack.extend(self.graph.neighbors(next));
            }
        }
    }
}

fn no_run() -> Run {
    Run { slot: 0, start: Duration::ZERO, wall: Duration::ZERO }
}

#[cfg(test)]
mod tests;
