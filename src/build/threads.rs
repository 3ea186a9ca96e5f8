//! The threads that steps run on: plain threads, not rayon's. One of rayon's that waits for
//! another pool's work runs other tasks of its own pool meanwhile, and an encode would stand still
//! beneath another.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use petgraph::graph::NodeIndex;

use super::event::Run;
use super::slots::Slot;
use crate::cache::{Cache, CacheEntry, Cost, EntryKey, Lease};
use crate::media::GpuAbout;
use crate::steps::context::{Grant, StepContext, guarded};
use crate::steps::{Batch, Fact, Kind, Output, StepError, Stop, Work, run_together};

/// A step of a task.
#[derive(Clone)]
pub(super) struct TaskNode {
    pub id: NodeIndex,
    pub kind: Kind,
    /// What its result is stored under.
    pub key: Option<EntryKey>,
    /// Whether it runs whatever is stored under the key, as that is rejected.
    pub anew: bool,
    /// The keys of what it is made from.
    pub inputs: Vec<EntryKey>,
}

/// What a slot is given to do: a step, or several that run together.
pub(super) struct Task {
    pub nodes: Vec<TaskNode>,
    /// What each does.
    pub works: Vec<Work>,
    pub grant: Grant,
    /// The slot that it takes.
    pub slot: Slot,
}

pub(super) type FoundGpus = Result<(Vec<GpuAbout>, Vec<String>), String>;

pub(super) enum Message {
    /// A step begins to run.
    Started(NodeIndex),
    /// A run of a step has ended.
    Ended { node: NodeIndex, output: Result<Output<Fact>, Stop>, run: Run },
    /// A slot has come free.
    Free(Slot),
    /// The GPUs that decode, and what is wrong with others; or why that is not known.
    Gpus(FoundGpus),
    /// One more decoder of a GPU is ready, or why there is none.
    Decoder(usize, Result<(), String>),
}

pub(super) struct ThreadPool {
    /// To the threads, which end when this is dropped.
    tasks: Sender<Task>,
    taken: Arc<Mutex<Receiver<Task>>>,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    threads: usize,
    /// When the build began.
    pub epoch: Instant,
}

impl ThreadPool {
    pub(super) fn start(slots: usize, context: &Arc<StepContext>) -> Result<ThreadPool, StepError> {
        let (tasks, taken) = channel::<Task>();
        let (sender, messages) = channel();
        let taken = Arc::new(Mutex::new(taken));
        let mut pool = ThreadPool { tasks, taken, messages, sender, threads: 0, epoch: Instant::now() };
        pool.add(slots, context)?;
        Ok(pool)
    }

    /// Adds threads for more slots.
    pub(super) fn add(&mut self, slots: usize, context: &Arc<StepContext>) -> Result<(), StepError> {
        for slot in self.threads..self.threads + slots {
            let (context, taken) = (Arc::clone(context), Arc::clone(&self.taken));
            let runner = TaskRunner { context, slot, epoch: self.epoch, sender: self.sender.clone() };
            std::thread::Builder::new()
                .name(format!("rivet-{slot}"))
                .spawn(move || {
                    loop {
                        let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(task) = next else { return };
                        runner.run(task);
                    }
                })
                .map_err(StepError::internal)?;
        }
        self.threads += slots;
        Ok(())
    }

    /// Has something done that is no step and takes no slot. A build does not wait for it.
    pub(super) fn beside(&self, job: impl FnOnce() -> Message + Send + 'static) -> io::Result<()> {
        let sender = self.sender.clone();
        let run = move || {
            // The receiver only goes when the build is over.
            let _ = sender.send(job());
        };
        std::thread::Builder::new().name("beside".to_owned()).spawn(run).map(drop)
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

/// Runs tasks on one thread, stores their results, and tells.
struct TaskRunner {
    context: Arc<StepContext>,
    slot: usize,
    epoch: Instant,
    sender: Sender<Message>,
}

/// Whether this process may run a step.
enum LeaseOutcome {
    /// As long as the lease is held; a step without a key has none.
    Ours(Option<Lease>),
    /// Another process runs it, or has just stored its result.
    Elsewhere,
}

impl TaskRunner {
    fn run(&self, task: Task) {
        let Task { nodes, mut works, grant, slot } = task;
        match (nodes.as_slice(), works.pop()) {
            ([node], Some(work)) => self.run_one(node, work, grant),
            (_, Some(last)) => {
                works.push(last);
                self.run_together(&nodes, works);
            }
            (_, None) => {}
        }
        // The receiver only goes when the build is over.
        let _ = self.sender.send(Message::Free(slot));
    }

    fn run_one(&self, node: &TaskNode, work: Work, grant: Grant) {
        let start = Instant::now();
        match guarded(|| Ok(self.lease(node))) {
            Ok(LeaseOutcome::Ours(lease)) => {
                let output = guarded(|| as_sent(work)?.run(&self.context, grant));
                self.end(node, output, start, lease);
            }
            Ok(LeaseOutcome::Elsewhere) => {
                // What it holds is free again when it is told of.
                drop(grant);
                self.end(node, Err(Stop::LeasedElsewhere), start, None);
            }
            Err(stop) => self.end(node, Err(stop), start, None),
        }
    }

    fn run_together(&self, nodes: &[TaskNode], works: Vec<Work>) {
        let told = vec![false; nodes.len()];
        let mut batch = BatchRun { runner: self, nodes, told, lease: None, start: Instant::now() };
        let outcome = guarded(|| {
            let works = works.into_iter().map(as_sent).collect::<Result<_, _>>()?;
            run_together(works, &self.context, &mut batch)
        });
        let BatchRun { told, start, .. } = batch;
        let lost = || StepError::internal("a step of several was not run");
        let mut stop = outcome.err();
        for (node, _) in nodes.iter().zip(&told).filter(|&(_, &told)| !told) {
            // One tells what happened, the others were its siblings.
            let rest = || match self.context.is_cancelled() {
                true => StepError::Cancelled.into(),
                false => Stop::SiblingFailed,
            };
            let is_first = !told.contains(&true) || stop.is_some();
            let stop = stop.take().unwrap_or_else(|| if is_first { lost().into() } else { rest() });
            self.end(node, Err(stop), start, None);
        }
    }

    /// Takes the lease on a step that is about to run. It is done here, not by who hands out the steps:
    /// over a network it takes a while.
    fn lease(&self, node: &TaskNode) -> LeaseOutcome {
        let mut lease = None;
        if let Some(key) = &node.key {
            let cache = self.context.cache.local();
            lease = cache.lease(key);
            // Another may have come to its end since the step was looked up; it leaves its result in the folder
            // that both share. There may also still be what was found to be lost.
            let is_made = || matches!(cache.find_entry(key), Ok(Some(entry)) if cache.is_intact(&entry));
            if lease.is_none() || (!node.anew && is_made()) {
                return LeaseOutcome::Elsewhere;
            }
        }
        let _ = self.sender.send(Message::Started(node.id));
        LeaseOutcome::Ours(lease)
    }

    /// Stores a step's result, and releases the lease when it is there for others to find.
    fn end(
        &self,
        TaskNode { id, kind, key, inputs, .. }: &TaskNode,
        output: Result<Output<Fact>, Stop>,
        start: Instant,
        lease: Option<Lease>,
    ) {
        let run = Run { slot: self.slot, start: start - self.epoch, wall: start.elapsed() };
        let store = |output: Output<Fact>| {
            if let Some(key) = key {
                let cost = Cost {
                    wall_ms: u64::try_from(run.wall.as_millis()).unwrap_or(u64::MAX),
                    made_at: now(),
                    kind: kind.name().to_owned(),
                    by: self.by(output.executor.as_deref()),
                };
                let entry = CacheEntry { result: output.result.clone(), inputs: inputs.clone(), cost };
                self.context.cache.put_entry(key, &entry)?;
            }
            Ok(output)
        };
        let output = output.and_then(|output| guarded(|| store(output)));
        drop(lease);
        let _ = self.sender.send(Message::Ended { node: *id, output, run });
    }

    /// What did it, for people to read.
    fn by(&self, executor: Option<&str>) -> String {
        match executor {
            Some(executor) => format!("{executor} on {}", self.context.host),
            None => self.context.host.clone(),
        }
    }
}

/// In a build with assertions what there is to do goes through the form in which it would travel to another
/// process, so that every test shows that nothing is lost on that way.
fn as_sent(work: Work) -> Result<Work, Stop> {
    if !cfg!(debug_assertions) {
        return Ok(work);
    }
    let bytes = postcard::to_stdvec(&work).map_err(StepError::internal)?;
    Ok(postcard::from_bytes(&bytes).map_err(StepError::internal)?)
}

/// The steps of a batch, which are leased one at a time, as it gets to them.
struct BatchRun<'a> {
    runner: &'a TaskRunner,
    nodes: &'a [TaskNode],
    /// Of which it has been told what became of them.
    told: Vec<bool>,
    lease: Option<Lease>,
    /// When the last one ended.
    start: Instant,
}

impl BatchRun<'_> {
    fn end(&mut self, number: usize, output: Result<Output<Fact>, Stop>) {
        if let (Some(node), Some(told)) = (self.nodes.get(number), self.told.get_mut(number)) {
            *told = true;
            self.runner.end(node, output, self.start, self.lease.take());
            self.start = Instant::now();
        }
    }
}

impl Batch for BatchRun<'_> {
    fn begin(&mut self, number: usize) -> bool {
        let Some(node) = self.nodes.get(number) else { return true };
        match self.runner.lease(node) {
            LeaseOutcome::Ours(lease) => self.lease = lease,
            LeaseOutcome::Elsewhere => {
                self.end(number, Err(Stop::LeasedElsewhere));
                return false;
            }
        }
        true
    }

    fn done(&mut self, number: usize, output: Output<Fact>) {
        self.end(number, Ok(output));
    }
}

/// Seconds since 1970. It reaches what people read, and no result.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
