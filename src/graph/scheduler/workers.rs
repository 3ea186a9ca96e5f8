//! The threads that jobs run on: plain threads, not rayon's. One of rayon's that waits for
//! another pool's work runs other jobs of its own pool meanwhile, and an encode would stand still
//! beneath another.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use petgraph::graph::NodeIndex;

use super::slots::Slot;
use crate::cache::{ActionEntry, ActionKey, Cache, Cost, Lease};
use crate::graph::error::StepError;
use crate::graph::event::{Kind, Run};
use crate::graph::work::{self, Batch, Job, Made, Payload, Steps, Worker};
use crate::media::GpuAbout;

/// A step of a task.
#[derive(Clone)]
pub(super) struct TaskNode {
    pub id: NodeIndex,
    pub kind: Kind,
    /// What its result is filed under.
    pub key: Option<ActionKey>,
    /// Whether it runs whatever is filed under the key, as that is not believed.
    pub anew: bool,
    /// The keys of what it is made from.
    pub inputs: Vec<ActionKey>,
}

/// What a slot is given to do.
pub(super) struct Task {
    pub nodes: Vec<TaskNode>,
    pub work: Work,
    /// The slot that it takes.
    pub slot: Slot,
}

pub(super) enum Work {
    One(Job),
    /// Several steps, each with a result of its own.
    Many(Batch),
}

pub(super) type FoundGpus = Result<(Vec<GpuAbout>, Vec<String>), String>;

pub(super) enum Message {
    /// A step begins to run.
    Started(NodeIndex),
    Made {
        node: NodeIndex,
        made: Result<Made, StepError>,
        run: Run,
    },
    /// A slot has come free.
    Free(Slot),
    /// The GPUs that decode, and what is wrong with others; or why that is not known.
    Gpus(FoundGpus),
    /// One more decoder of a GPU is ready, or why there is none.
    Decoder(usize, Result<(), String>),
}

pub(super) struct Workers {
    /// To the threads, which end when this is dropped.
    tasks: Sender<Task>,
    taken: Arc<Mutex<Receiver<Task>>>,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    threads: usize,
    /// When the build began.
    pub epoch: Instant,
}

impl Workers {
    pub(super) fn start(slots: usize, worker: &Arc<Worker>) -> Result<Workers, StepError> {
        let (tasks, taken) = channel::<Task>();
        let (sender, messages) = channel();
        let taken = Arc::new(Mutex::new(taken));
        let mut workers = Workers { tasks, taken, messages, sender, threads: 0, epoch: Instant::now() };
        workers.add(slots, worker)?;
        Ok(workers)
    }

    /// Adds threads for more slots.
    pub(super) fn add(&mut self, slots: usize, worker: &Arc<Worker>) -> Result<(), StepError> {
        for slot in self.threads..self.threads + slots {
            let (worker, taken) = (Arc::clone(worker), Arc::clone(&self.taken));
            let filer = Filer { worker, slot, epoch: self.epoch, sender: self.sender.clone() };
            std::thread::Builder::new()
                .name(format!("rivet-{slot}"))
                .spawn(move || {
                    loop {
                        let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(task) = next else { return };
                        filer.run(task);
                    }
                })
                .map_err(StepError::internal)?;
        }
        self.threads += slots;
        Ok(())
    }

    /// Has something done that is no step and takes no slot. A build does not wait for it.
    pub(super) fn beside(&self, job: impl FnOnce() -> Message + Send + 'static) {
        let sender = self.sender.clone();
        let run = move || {
            // The receiver only goes when the build is over.
            let _ = sender.send(job());
        };
        if let Err(error) = std::thread::Builder::new().name("beside".to_owned()).spawn(run) {
            tracing::warn!("{error}");
        }
    }

    pub(super) fn give(&self, task: Task) {
        // The threads are there as long as this is.
        let _ = self.tasks.send(task);
    }

    /// The next message, if it has come.
    pub(super) fn next_now(&self) -> Option<Message> {
        self.messages.try_recv().ok()
    }

    /// Waits for the next message; `None` if it has not come by `until`.
    pub(super) fn next(&self, until: Option<Instant>) -> Option<Message> {
        match until {
            None => self.messages.recv().ok(),
            Some(until) => self.messages.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
        }
    }
}

/// Runs tasks on one thread, files their results, and tells.
struct Filer {
    worker: Arc<Worker>,
    slot: usize,
    epoch: Instant,
    sender: Sender<Message>,
}

/// Whose turn a step is.
enum Turn {
    /// This process's, as long as the lease is held; a step without a key has none.
    Ours(Option<Lease>),
    /// Another process is at it, or has just made it.
    Elsewhere,
}

impl Filer {
    fn run(&self, task: Task) {
        match (task.work, task.nodes.first()) {
            (Work::One(job), Some(node)) => {
                let start = Instant::now();
                match self.turn(node) {
                    Turn::Ours(lease) => self.file(node, work::guarded(|| job(&self.worker)), start, lease),
                    Turn::Elsewhere => {
                        // What it has taken is free again when it is told of.
                        drop(job);
                        self.file(node, Err(StepError::Elsewhere), start, None);
                    }
                }
            }
            (Work::Many(batch), _) => self.run_many(&task.nodes, batch),
            (Work::One(_), None) => {}
        }
        // The receiver only goes when the build is over.
        let _ = self.sender.send(Message::Free(task.slot));
    }

    fn run_many(&self, nodes: &[TaskNode], batch: Batch) {
        let mut begun =
            Begun { filer: self, nodes, told: vec![false; nodes.len()], lease: None, start: Instant::now() };
        let outcome = work::guarded(|| batch(&self.worker, &mut begun));
        let Begun { told, start, .. } = begun;
        let lost = || StepError::internal("a step of several was not run");
        let mut error = outcome.err();
        for (node, _) in nodes.iter().zip(&told).filter(|&(_, &told)| !told) {
            // One tells what happened, the others were beside it.
            let stopped = self.worker.is_cancelled();
            let rest = if stopped { StepError::Cancelled } else { StepError::Beside };
            let first = !told.contains(&true) || error.is_some();
            let error = error.take().unwrap_or_else(|| if first { lost() } else { rest });
            self.file(node, Err(error), start, None);
        }
    }

    /// Takes the lease on a step that is about to run. It is done here, not by who hands out the steps:
    /// over a network it takes a while.
    fn turn(&self, node: &TaskNode) -> Turn {
        let mut lease = None;
        if let Some(key) = &node.key {
            lease = self.worker.cache.local().lease(key);
            // Another may have come to its end since the step was looked up.
            // It may also be there still, with what was found to be lost.
            let cache = &self.worker.cache;
            let is_made = || matches!(cache.action(key), Ok(Some(entry)) if cache.is_intact(&entry));
            if lease.is_none() || (!node.anew && is_made()) {
                return Turn::Elsewhere;
            }
        }
        let _ = self.sender.send(Message::Started(node.id));
        Turn::Ours(lease)
    }

    /// Files a step's result, and lets go of the lease when it is there for others to find.
    fn file(
        &self,
        TaskNode { id, kind, key, inputs, .. }: &TaskNode,
        made: Result<Made, StepError>,
        start: Instant,
        lease: Option<Lease>,
    ) {
        let run = Run { slot: self.slot, start: start - self.epoch, wall: start.elapsed() };
        let made = made.and_then(|made| {
            if let Some(key) = key {
                let cost = Cost {
                    wall_ms: u64::try_from(run.wall.as_millis()).unwrap_or(u64::MAX),
                    made_at: now(),
                    kind: kind.name().to_owned(),
                    by: self.by(&made.payload),
                };
                let entry = ActionEntry { result: made.result.clone(), inputs: inputs.clone(), cost };
                self.worker.cache.put_action(key, &entry)?;
            }
            Ok(made)
        });
        drop(lease);
        let _ = self.sender.send(Message::Made { node: *id, made, run });
    }

    /// What did it, for people to read.
    fn by(&self, payload: &Payload) -> String {
        match payload {
            Payload::Encoded(executor) => format!("{executor} on {}", self.worker.host),
            _ => self.worker.host.clone(),
        }
    }
}

/// The steps of a batch, which are leased one at a time, as it gets to them.
struct Begun<'a> {
    filer: &'a Filer,
    nodes: &'a [TaskNode],
    /// Of which it has been told what became of them.
    told: Vec<bool>,
    lease: Option<Lease>,
    /// When the last one ended.
    start: Instant,
}

impl Begun<'_> {
    fn file(&mut self, number: usize, made: Result<Made, StepError>) {
        if let (Some(node), Some(told)) = (self.nodes.get(number), self.told.get_mut(number)) {
            *told = true;
            self.filer.file(node, made, self.start, self.lease.take());
            self.start = Instant::now();
        }
    }
}

impl Steps for Begun<'_> {
    fn begin(&mut self, number: usize) -> bool {
        let Some(node) = self.nodes.get(number) else { return true };
        match self.filer.turn(node) {
            Turn::Ours(lease) => self.lease = lease,
            Turn::Elsewhere => {
                self.file(number, Err(StepError::Elsewhere));
                return false;
            }
        }
        true
    }

    fn done(&mut self, number: usize, made: Made) {
        self.file(number, Ok(made));
    }
}

/// Seconds since 1970. It reaches what people read, and no result.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
