//! Runs the graph: looks each step up when its inputs are done, runs what is not in the cache on a pool of
//! threads, and keeps the graph what the titles' knowledge says. One thread owns the graph; the others only
//! ever see the work that they are handed. It knows no kind of step.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use petgraph::graph::NodeIndex;

use crate::cache::{Digest, EntryKey};
use crate::media::OnGpu;
use crate::spec::Ladder;
use crate::steps::context::StepContext;
use crate::steps::live::Live;
use crate::steps::tools::Tools;
use crate::steps::{Fact, Needs, Output, StepError, Stop};
use crate::title::Title;
use crate::title::ids::TitleId;

use super::Options;
use super::event::{Event, FailureReport, Origin, Run};
use super::graph::{State, StepGraph};
use super::leases::LeasedElsewhere;
use super::outcome::{CountOf, Outcome};
use super::queue::{ChunkKey, ReadyQueue, RunningDecode, RunningEncode};
use super::slots::{Assignment, Slots};
use super::threads::{FoundGpus, Message, ThreadPool};

#[derive(Default)]
pub(crate) struct Settings {
    pub options: Options,
    /// Only look; run nothing but the hashing of sources.
    pub dry_run: bool,
    /// Let all steps exist, also where a whole title or a pack was found at once.
    pub expand: bool,
    /// Do not touch the output folders.
    pub unpublished: bool,
    /// Digests of sources, by title, that stand for the files themselves.
    pub sources: Option<HashMap<String, Digest>>,
}

/// How soon a build that only waits notices that it is to stop.
const NOTICE: Duration = Duration::from_millis(100);

/// What a step that runs holds, besides its slot.
pub(super) enum HeldResources {
    /// And the GPU that decodes.
    Decode(RunningDecode, Option<usize>),
    Encode(RunningEncode, Assignment),
}

pub(crate) struct Engine<'a> {
    pub graph: StepGraph,
    pub titles: Vec<Title>,
    pub live: Vec<Live>,
    pub(super) ladder: &'a Ladder,
    pub context: Arc<StepContext>,
    pub tools: Tools,
    pub(super) settings: Settings,
    observe: &'a dyn Fn(&Event),
    pub(super) threads: ThreadPool,
    /// Nodes whose inputs are done and that have not been looked up.
    pub(super) fresh: Vec<NodeIndex>,
    pub(super) queue: ReadyQueue,
    /// What running decodes and encodes hold.
    pub(super) held: HashMap<NodeIndex, HeldResources>,
    pub(super) slots: Slots,
    /// Chunks whose frames may turn out not to be needed.
    pub(super) settled: Vec<ChunkKey>,
    pub(super) in_flight: HashMap<EntryKey, NodeIndex>,
    /// In a dry run, the keys of steps that would run.
    pub(super) would_run_keys: HashSet<EntryKey>,
    pub(super) followers: HashMap<NodeIndex, Vec<NodeIndex>>,
    pub(super) leased: LeasedElsewhere,
    /// Titles that are up to date as a whole.
    pub(super) reused: HashSet<TitleId>,
    /// Whether GPUs that decode have been looked for.
    pub(super) gpus_sought: bool,
    /// Whether it was told that a result was lost.
    pub(super) loss_told: bool,
    pub(super) stopping: bool,
    pub(super) looked_up: u64,
    pub(super) found: u64,
    pub outcome: Outcome,
}

impl<'a> Engine<'a> {
    pub fn new(
        ladder: &'a Ladder,
        context: Arc<StepContext>,
        tools: Tools,
        settings: Settings,
        observe: &'a dyn Fn(&Event),
    ) -> Result<Engine<'a>, StepError> {
        let slots = Slots::new(settings.options.jobs, &context.executors, settings.options.cooling.clone());
        let threads = ThreadPool::start(slots.most(), &context)?;
        let titles = ladder.titles.iter().enumerate();
        let titles: Vec<Title> =
            titles.map(|(n, title)| Title::new(ladder, TitleId::new(n), title)).collect();
        Ok(Engine {
            graph: StepGraph::default(),
            live: titles.iter().map(|_| Live::default()).collect(),
            titles,
            ladder,
            context,
            tools,
            queue: ReadyQueue::new(settings.options.memory),
            settings,
            observe,
            threads,
            fresh: Vec::new(),
            held: HashMap::new(),
            slots,
            settled: Vec::new(),
            in_flight: HashMap::new(),
            would_run_keys: HashSet::new(),
            followers: HashMap::new(),
            leased: LeasedElsewhere::default(),
            reused: HashSet::new(),
            gpus_sought: false,
            loss_told: false,
            stopping: false,
            looked_up: 0,
            found: 0,
            outcome: Outcome::default(),
        })
    }

    /// Ends the processes that have encoded and decoded, so that what they took is known.
    pub fn end_workers(&self) {
        if let Some(pool) = &self.context.pool {
            pool.end_idle();
        }
    }

    pub(super) fn tell(&self, event: Event) {
        match event {
            // Nobody observes a dry run: whoever opened the cache takes its warnings there.
            Event::Warning { title, message } if self.settings.dry_run => {
                let of = if title.is_empty() { String::new() } else { format!("{title}: ") };
                self.context.cache.local().notice(of + &message);
            }
            event => (self.observe)(&event),
        }
    }

    /// Tells something of no one title.
    pub(super) fn warn(&self, message: String) {
        self.tell(Event::Warning { title: String::new(), message });
    }

    /// GPUs that decode have been found, or not.
    pub(super) fn take_gpus(&mut self, found: FoundGpus) {
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
    pub(super) fn take_decoder(&mut self, gpu: usize, opened: Result<(), String>) {
        let opened =
            opened.and_then(|()| self.threads.add(1, &self.context).map_err(|error| error.to_string()));
        let given_up = self.slots.decoder_opened(gpu, opened.is_ok());
        let Err(reason) = opened else { return };
        if self.context.is_cancelled() {
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
    pub(super) fn at_work(&self, executor: usize) -> usize {
        let is_its = |held: &&HeldResources| matches!(held, HeldResources::Encode(_, assignment) if assignment.executor == executor);
        self.held.values().filter(is_its).count()
    }

    /// What became of a title's span on a GPU.
    fn see_gpu(&mut self, gpu: usize, title: TitleId, on_gpu: &OnGpu) {
        match on_gpu {
            OnGpu::Did => {
                self.outcome.spans_on_gpus += 1;
                self.slots.gpu_did(gpu, title);
            }
            OnGpu::Declined(reason) => {
                tracing::info!("a span was decoded in software: {reason}");
                if self.slots.gpu_declined(gpu, title) {
                    let (gpu, title) = (&self.slots.gpu(gpu).name, &self.titles[title.index()].name);
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

    /// Runs to the end. What came of it is in `outcome`.
    pub fn run(&mut self) {
        for title in 0..self.titles.len() {
            self.sync(TitleId::new(title));
        }
        loop {
            self.look_at_leased();
            self.look_up_fresh();
            for notice in if self.settings.dry_run { Vec::new() } else { self.context.take_notices() } {
                self.warn(notice);
            }
            for chunk in std::mem::take(&mut self.settled) {
                self.queue.review(chunk);
            }
            // A device that had no room is asked again, even where nothing else goes on: if not by this
            // dispatch, by one after that time.
            let again = self.slots.asked_again();
            self.dispatch();
            let again = again.filter(|_| self.queue.len() > 0).into_iter().chain(self.leased.next_due());
            let again = again.min().filter(|_| !self.stopping);
            if self.slots.taken() == 0 && again.is_none() {
                // Dispatching may have failed a step and thereby freed nothing new.
                if self.fresh.is_empty() {
                    break;
                }
                continue;
            }
            // All that has come by now, so that it is looked up together and slots that are free are filled.
            let mut message = self.threads.next(self.until(again));
            while let Some(next) = message {
                self.take_message(next);
                message = self.threads.next_now();
            }
            if self.context.cache.has_remote() {
                // Slots are not to stand idle while the remote is asked for what has become fresh.
                self.dispatch();
            }
        }
        self.outcome.interrupted = self.context.is_cancelled();
        let all_published = self.outcome.titles.len() == self.titles.len();
        let excused = self.outcome.interrupted
            || self.settings.dry_run
            || self.settings.unpublished
            || !self.outcome.failures.is_empty();
        if !all_published && !excused {
            // It must never look like a success.
            self.outcome.failures.push(FailureReport {
                title: String::new(),
                node: "build".to_owned(),
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
            Message::Ended { node, output, run } => self.finish(node, output, run),
            Message::Free(slot) => self.slots.release(slot),
            Message::Gpus(found) => self.take_gpus(found),
            Message::Decoder(gpu, opened) => self.take_decoder(gpu, opened),
        }
    }

    fn tell_start(&self, id: NodeIndex) {
        let (title, step) = (&self.titles[self.graph[id].title.index()], self.graph[id].step);
        let (kind, node) = (step.kind(), step.label(title));
        self.tell(Event::Started { title: title.name.clone(), kind, node });
    }

    /// A run of a step has ended.
    fn finish(&mut self, id: NodeIndex, output: Result<Output<Fact>, Stop>, run: Run) {
        let (title, step) = (self.graph[id].title, self.graph[id].step);
        let mut assignment = None;
        match self.held.remove(&id) {
            Some(HeldResources::Encode(running, held)) => {
                assignment = Some(held);
                self.queue.encode_ended(running);
            }
            Some(HeldResources::Decode(running, gpu)) => {
                self.queue.decode_ended(running);
                if let (Some(gpu), Ok(Output { on_gpu: Some(on_gpu), .. })) = (gpu, &output) {
                    self.see_gpu(gpu, title, on_gpu);
                }
            }
            None => {}
        }
        let is_skipped = self.graph[id].is_skipped();
        if matches!(output, Err(Stop::LeasedElsewhere)) && !is_skipped {
            self.set_aside(id);
            return;
        }
        self.leased.forget(id);
        if let (Some(assignment), Ok(_)) = (assignment, &output) {
            self.slots.succeeded(assignment, id, self.at_work(assignment.executor));
            if let Needs::Encode { track, .. } = self.needs(id) {
                self.slots.succeeded_on((title, track), assignment);
            }
        }
        self.forget_key(id);
        match output {
            // Nobody wants it any more; it is in the cache for another time.
            Ok(_) if is_skipped => self.outcome.counts.entry(step.kind()).or_default().ran += 1,
            Err(_) if is_skipped => {}
            Ok(output) => {
                self.complete(id, output, Origin::Ran, run);
                // They find the result in the cache.
                for follower in self.followers.get(&id).cloned().unwrap_or_default() {
                    self.graph.node_mut(follower).is_rejected = false;
                }
            }
            Err(stop) => self.recover(id, assignment, stop),
        }
        // After a failure each tries for itself: what failed may be this title's file.
        self.release_followers(id);
    }

    pub(super) fn needs(&self, id: NodeIndex) -> Needs {
        let node = &self.graph[id];
        node.step.needs(&self.titles[node.title.index()], self.settings.options.jobs)
    }

    /// A step has its result: tells so, lets the title learn of it, and looks at what waited for it.
    pub(super) fn complete(&mut self, id: NodeIndex, output: Output<Fact>, origin: Origin, run: Run) {
        let (title, step) = (self.graph[id].title, self.graph[id].step);
        let kind = step.kind();
        let counts = self.outcome.counts.entry(kind).or_default();
        match origin {
            Origin::Ran => counts.ran += 1,
            Origin::Cached => counts.cached += 1,
        }
        // A pack that was found stands for what is in it.
        let stands_for = if origin == Origin::Cached { self.stands_for(title, step) } else { None };
        for (&kind, &steps) in stands_for.iter().flat_map(|stands_for| &stands_for.steps) {
            self.outcome.counts.entry(kind).or_default().cached += steps;
        }
        self.graph.set(id, State::Done { result: Arc::new(output.result), origin });
        if origin == Origin::Ran {
            self.outcome.runs.push((id, run));
        }
        let of = &self.titles[title.index()];
        self.tell(Event::Finished {
            title: of.name.clone(),
            kind,
            node: step.label(of),
            origin,
            run,
            encode: self.encode_work(title, step),
            stands_for,
        });
        let dependents: Vec<NodeIndex> = self.graph.dependents(id).collect();
        for dependent in dependents {
            if !self.graph[dependent].is_waiting() || self.graph[dependent].missing == 0 {
                continue;
            }
            let node = self.graph.node_mut(dependent);
            node.missing -= 1;
            if node.missing == 0 {
                self.fresh.push(dependent);
            }
        }
        if let Err(error) = self.learn(id, origin, output.fact) {
            self.fail_dependents(id, error);
        }
    }

    /// In a dry run: a step would run, and all that depends on it may follow. `counts` is the count of which
    /// the step itself is one, if of any.
    pub(super) fn mark_may_run(&mut self, id: NodeIndex, counts: Option<CountOf>) {
        let mut stack = vec![id];
        while let Some(next) = stack.pop() {
            if !matches!(self.graph[next].state(), State::Waiting | State::Queued(_)) {
                continue;
            }
            self.graph.set(next, State::MayRun);
            let kind = self.graph[next].step.kind();
            match counts {
                _ if next != id => *self.outcome.follows.entry(kind).or_default() += 1,
                Some(counts) => *counts(&mut self.outcome).entry(kind).or_default() += 1,
                None => {}
            }
            stack.extend(self.graph.dependents(next));
        }
    }

    pub(super) fn fail(&mut self, id: NodeIndex, error: StepError) {
        let step = self.graph[id].step;
        self.graph.set(id, State::Failed);
        self.outcome.counts.entry(step.kind()).or_default().failed += 1;
        self.forget_key(id);
        self.release_followers(id);
        self.fail_dependents(id, error);
    }

    /// Reports an error at a step, and skips what depends on it.
    fn fail_dependents(&mut self, id: NodeIndex, error: StepError) {
        let (title, step) = (&self.titles[self.graph[id].title.index()], self.graph[id].step);
        let (message, hint) = (error.to_string(), error.hint());
        let (title, node) = (title.name.clone(), step.label(title));
        self.tell(Event::Failed {
            title: title.clone(),
            kind: step.kind(),
            node: node.clone(),
            message: message.clone(),
            hint: hint.clone(),
        });
        self.outcome.failures.push(FailureReport { title, node, message, hint });
        self.skip_dependents(id);
        self.stopping |= !self.settings.options.keep_going;
    }

    /// A step is at its key no more, if it was: another with the same key may be.
    pub(super) fn forget_key(&mut self, id: NodeIndex) {
        if let Some(key) = self.graph[id].key
            && self.in_flight.get(&key) == Some(&id)
        {
            self.in_flight.remove(&key);
        }
    }

    /// What has followed a step that is done, or never will be, looks for itself.
    pub(super) fn release_followers(&mut self, id: NodeIndex) {
        for follower in self.followers.remove(&id).unwrap_or_default() {
            if matches!(self.graph[follower].state(), State::Following) {
                self.graph.set(follower, State::Waiting);
                // An input may have been lost meanwhile, and be made again.
                self.graph.count_missing(follower);
                if self.graph[follower].missing == 0 {
                    self.fresh.push(follower);
                }
            }
        }
    }

    pub(super) fn skip(&mut self, id: NodeIndex) {
        self.withdraw(id);
        self.skip_dependents(id);
    }

    fn skip_dependents(&mut self, id: NodeIndex) {
        let mut stack: Vec<NodeIndex> = self.graph.dependents(id).collect();
        while let Some(next) = stack.pop() {
            if self.graph[next].is_waiting() {
                self.withdraw(next);
                stack.extend(self.graph.dependents(next));
            }
        }
    }
}

pub(super) fn no_run() -> Run {
    Run { slot: 0, start: Duration::ZERO, wall: Duration::ZERO }
}
