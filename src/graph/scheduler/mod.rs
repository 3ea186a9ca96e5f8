//! Runs the graph: looks each step up when its inputs are done, runs what is not in the cache on
//! a pool of workers, and lets the graph grow as results tell of more steps. One thread owns the
//! graph; workers only ever see the jobs that it hands them.

mod growth;
mod lookup;
mod outcome;
mod repair;

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::cache::{ActionEntry, ActionKey, Cache, Cost};
use crate::media::MediaError;
use crate::spec::Ladder;

pub use outcome::{Outcome, RungOutlook, TitleOutcome};

use super::error::StepError;
use super::event::{Event, FailureReport, Origin};
use super::frames::ChunkFrames;
use super::prepare::{Tools, encode_job};
use super::ready::{ChunkId, Demand, ReadyQueue};
use super::step::{Node, State, Step};
use super::title::{Graph, Title};
use super::work::{self, Job, Made, Worker};

/// Frames that an encoder holds at most: its look-ahead and its references, with their
/// half-size copies and motion data.
const ENCODER_FRAMES: u64 = 100;

pub struct Settings {
    pub jobs: usize,
    /// Bytes for frames and encoders.
    pub memory: u64,
    pub keep_going: bool,
    /// Only look; run nothing but the hashing of sources.
    pub dry_run: bool,
}

pub struct Scheduler<'a> {
    graph: Graph,
    titles: Vec<Title>,
    ladder: &'a Ladder,
    worker: Arc<Worker>,
    tools: Tools,
    settings: Settings,
    observe: &'a dyn Fn(&Event),
    /// To the workers, which end when this is dropped.
    jobs: Sender<(NodeIndex, Option<ActionKey>, Job)>,
    /// Nodes whose inputs are done and that have not been looked up.
    fresh: Vec<NodeIndex>,
    ready: ReadyQueue,
    in_flight: HashMap<ActionKey, NodeIndex>,
    /// In a dry run, the keys of steps that would run.
    would_run_keys: HashSet<ActionKey>,
    followers: HashMap<NodeIndex, Vec<NodeIndex>>,
    running: usize,
    stopping: bool,
    receiver: Receiver<Message>,
    outcome: Outcome,
}

struct Message {
    node: NodeIndex,
    made: Result<Made, StepError>,
    wall: Duration,
}

impl<'a> Scheduler<'a> {
    pub fn new(
        ladder: &'a Ladder,
        worker: Arc<Worker>,
        tools: Tools,
        settings: Settings,
        observe: &'a dyn Fn(&Event),
    ) -> Result<Scheduler<'a>, StepError> {
        let (sender, receiver) = channel();
        let (jobs, taken) = channel::<(NodeIndex, Option<ActionKey>, Job)>();
        let taken = Arc::new(Mutex::new(taken));
        // Plain threads, not rayon's: one of rayon's that waits for another pool's work runs other
        // jobs of its own pool meanwhile, and an encode would stand still beneath another.
        for number in 0..settings.jobs {
            let (worker, taken, sender) = (Arc::clone(&worker), Arc::clone(&taken), sender.clone());
            std::thread::Builder::new()
                .name(format!("rivet-{number}"))
                .spawn(move || work_off(&worker, &taken, &sender))
                .map_err(StepError::internal)?;
        }
        let titles =
            ladder.titles.iter().enumerate().map(|(n, title)| Title::new(ladder, n, title)).collect();
        let ready = ReadyQueue::new(settings.memory);
        Ok(Scheduler {
            graph: Graph::new(),
            titles,
            ladder,
            worker,
            tools,
            settings,
            observe,
            jobs,
            fresh: Vec::new(),
            ready,
            in_flight: HashMap::new(),
            would_run_keys: HashSet::new(),
            followers: HashMap::new(),
            running: 0,
            stopping: false,
            receiver,
            outcome: Outcome::default(),
        })
    }

    pub fn run(mut self) -> Outcome {
        for title in 0..self.titles.len() {
            self.fresh.push(self.graph.add_node(Node::new(title, Step::Source, 0)));
        }
        loop {
            while let Some(node) = self.fresh.pop() {
                self.look_up(node);
            }
            self.dispatch();
            if self.running == 0 {
                // Dispatching may have failed a step and thereby freed nothing new.
                if self.fresh.is_empty() {
                    break;
                }
                continue;
            }
            let Ok(message) = self.receiver.recv() else {
                break;
            };
            self.running -= 1;
            self.finish(message);
        }
        self.outcome.interrupted = self.worker.is_cancelled();
        let all_published = self.outcome.titles.len() == self.titles.len();
        let excused = self.stopping || self.settings.dry_run || !self.outcome.failures.is_empty();
        if !all_published && !excused {
            // It must never look like a success.
            self.outcome.failures.push(FailureReport {
                title: String::new(),
                node: "scheduler".to_owned(),
                message: "internal error: steps are left that nothing runs".to_owned(),
                hint: StepError::internal("").hint(),
            });
        }
        self.close()
    }

    /// Fills the free slots.
    fn dispatch(&mut self) {
        if self.worker.is_cancelled() {
            self.stopping = true;
        }
        while !self.stopping && self.running < self.settings.jobs {
            let Some((id, job)) = self.next_job() else {
                break;
            };
            let Node { title, step, .. } = self.graph[id];
            self.graph[id].state = State::Running;
            self.running += 1;
            let title = &self.titles[title];
            (self.observe)(&Event::Started {
                title: title.name.clone(),
                kind: step.kind(),
                node: title.label(step),
            });
            // The workers are there as long as this is.
            let _ = self.jobs.send((id, self.graph[id].key, job));
        }
    }

    fn next_job(&mut self) -> Option<(NodeIndex, Job)> {
        loop {
            if let Some(id) = self.ready.pop_step() {
                match std::mem::replace(&mut self.graph[id].state, State::Waiting) {
                    State::Queued(job) => return Some((id, job)),
                    // Skipped since it was queued.
                    other => self.graph[id].state = other,
                }
                continue;
            }
            let (titles, graph) = (&self.titles, &self.graph);
            let (id, frames) = self.ready.pop_encode(
                |chunk, node| demand(titles, graph, chunk, node),
                |(title, chunk)| match &titles[title].frames {
                    Some(source) => Arc::new(ChunkFrames::new(Arc::clone(source), chunk)),
                    None => {
                        unreachable!("encodes are queued after the film's frame source is made")
                    }
                },
            )?;
            let Node { title, step, .. } = self.graph[id];
            let Step::Encode { rung, chunk } = step else {
                continue;
            };
            if !matches!(self.graph[id].state, State::Queued(_)) {
                let demand = demand(&self.titles, &self.graph, (title, chunk), id);
                self.ready.encode_ended((title, chunk), &demand);
                continue;
            }
            match encode_job(&self.titles[title], rung, frames) {
                Ok(job) => return Some((id, job)),
                Err(error) => {
                    let demand = demand(&self.titles, &self.graph, (title, chunk), id);
                    self.ready.encode_ended((title, chunk), &demand);
                    self.fail(id, error);
                }
            }
        }
    }

    fn finish(&mut self, message: Message) {
        let Message { node: id, made, wall } = message;
        let Node { title, step, key, .. } = self.graph[id];
        if let Step::Encode { chunk, .. } = step {
            let demand = demand(&self.titles, &self.graph, (title, chunk), id);
            self.ready.encode_ended((title, chunk), &demand);
        }
        if let Some(key) = key {
            self.in_flight.remove(&key);
        }
        let followers = self.followers.remove(&id).unwrap_or_default();
        match made {
            Ok(made) => {
                self.complete(id, made, Origin::Ran, wall);
                // They find the result in the cache.
                for follower in followers {
                    self.graph[follower].state = State::Waiting;
                    self.graph[follower].repairs = 0;
                    self.fresh.push(follower);
                }
            }
            Err(error) => {
                // Each tries for itself: what failed may be this title's file.
                for follower in followers {
                    self.graph[follower].state = State::Waiting;
                    self.fresh.push(follower);
                }
                match error {
                    StepError::Media(MediaError::Incomplete { .. } | MediaError::Damaged { .. })
                        if self.respan(id) => {}
                    StepError::Lost(blob) => self.repair(id, blob),
                    error if error.is_cancelled() => self.stopping = true,
                    error => self.fail(id, error),
                }
            }
        }
    }

    /// A step has its result: tells so, lets the graph grow, and looks at what waited for it.
    fn complete(&mut self, id: NodeIndex, made: Made, origin: Origin, wall: Duration) {
        let Node { title, step, .. } = self.graph[id];
        let kind = step.kind();
        let counts = self.outcome.counts.entry(kind).or_default();
        match origin {
            Origin::Ran => counts.ran += 1,
            Origin::Cached => counts.cached += 1,
        }
        let result = Arc::new(made.result);
        self.graph[id].last = Some(Arc::clone(&result));
        self.graph[id].state = State::Done { result, origin };
        let name = &self.titles[title];
        (self.observe)(&Event::Finished {
            title: name.name.clone(),
            kind,
            node: name.label(step),
            origin,
            wall_ms: millis(wall),
            encode: self.encode_work(title, step),
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
        if let Err(error) = self.grow(id, title, step, made.payload) {
            self.fail_dependents(id, error);
        }
    }

    /// In a dry run: a step, and all that depends on it, would run. The step itself is counted
    /// unless another one with the same key is.
    fn mark_would_run(&mut self, id: NodeIndex, counted: bool) {
        let mut stack = vec![id];
        while let Some(next) = stack.pop() {
            if matches!(self.graph[next].state, State::WouldRun) {
                continue;
            }
            self.graph[next].state = State::WouldRun;
            if counted || next != id {
                *self.outcome.would_run.entry(self.graph[next].step.kind()).or_default() += 1;
            }
            stack.extend(self.graph.neighbors(next));
        }
    }

    fn fail(&mut self, id: NodeIndex, error: StepError) {
        let step = self.graph[id].step;
        self.graph[id].state = State::Failed;
        self.outcome.counts.entry(step.kind()).or_default().failed += 1;
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
        let mut stack: Vec<NodeIndex> = self.graph.neighbors(id).collect();
        while let Some(next) = stack.pop() {
            if matches!(self.graph[next].state, State::Waiting) {
                self.graph[next].state = State::Skipped;
                stack.extend(self.graph.neighbors(next));
            }
        }
        self.stopping |= !self.settings.keep_going;
    }
}

/// What a worker thread does until there will be no more jobs: run one, file its result, tell.
fn work_off(
    worker: &Worker,
    jobs: &Mutex<Receiver<(NodeIndex, Option<ActionKey>, Job)>>,
    sender: &Sender<Message>,
) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((node, key, job)) = next else { return };
        let (made, wall) = work::run(worker, job);
        let made = made.and_then(|made| {
            if let Some(key) = key {
                let entry = ActionEntry { result: made.result.clone(), cost: Cost { wall_ms: millis(wall) } };
                worker.cache.put_action(&key, &entry)?;
            }
            Ok(made)
        });
        // The receiver only goes when the build is over.
        let _ = sender.send(Message { node, made, wall });
    }
}

fn demand(titles: &[Title], graph: &Graph, (title, chunk): ChunkId, node: NodeIndex) -> Demand {
    let title = &titles[title];
    let Step::Encode { rung, .. } = graph[node].step else {
        return Demand { frames: 0, encoder: 0 };
    };
    let encoder = title.rungs.get(rung).map_or(0, |rung| {
        let picture = &rung.settings.picture;
        let sample = picture.bytes_per_sample() as u64;
        u64::from(picture.width) * u64::from(picture.height) * 3 / 2 * sample * ENCODER_FRAMES
    });
    Demand { frames: title.frames.as_ref().map_or(0, |frames| frames.chunk_bytes(chunk)), encoder }
}

fn millis(wall: Duration) -> u64 {
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}
