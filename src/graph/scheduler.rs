//! Runs the graph: looks each step up when its inputs are done, runs what is not in the cache on
//! a pool of workers, and lets the graph grow as results tell of more steps. One thread owns the
//! graph; workers only ever see the jobs that it hands them.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::cache::{ActionEntry, ActionKey, ActionResult, BlobRef, Cache, Cost};
use crate::media::{self, MediaError};
use crate::spec::Ladder;

use super::error::StepError;
use super::event::{Counts, EncodeWork, Event, FailureReport, Kind, Origin, TitleSummary};
use super::frames::ChunkFrames;
use super::memo::{self, TitleMemo};
use super::prepare::{Prepared, PreparedJob, Tools, encode_job, outside_job, prepare};
use super::ready::{ChunkId, Demand, ReadyQueue};
use super::step::{Node, State, Step};
use super::title::{Graph, Title};
use super::work::{self, EncodeFacts, Job, Made, Payload, SoundFacts, Worker, facts};

/// A step whose result is lost this often is not met by chance.
const MOST_REPAIRS: u8 = 3;
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

/// What came of it all.
#[derive(Default)]
pub struct Outcome {
    pub counts: HashMap<Kind, Counts>,
    /// In a dry run, how many steps of a kind would run.
    pub would_run: HashMap<Kind, u64>,
    pub titles: Vec<TitleOutcome>,
    pub failures: Vec<FailureReport>,
    pub interrupted: bool,
}

/// What became of one title.
pub struct TitleOutcome {
    pub name: String,
    /// Set once it is published (or, in a dry run, if it is up to date).
    pub summary: Option<TitleSummary>,
    /// Whether the film's chunks are known.
    pub cut: Option<(usize, f64)>,
    /// For each rung its name, and in how many chunks of how many seconds in all it would run.
    pub rungs: Vec<RungOutlook>,
}

/// What a dry run finds of a rung.
pub struct RungOutlook {
    pub name: String,
    pub size: (u32, u32),
    pub chunks: usize,
    pub to_encode: usize,
    pub seconds_to_encode: f64,
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

    /// Looks a step up, and queues it if its result is not there.
    fn look_up(&mut self, id: NodeIndex) {
        let Node { title, step, .. } = self.graph[id];
        // It may have been skipped, or an input lost, since it became fresh.
        if !matches!(self.graph[id].state, State::Waiting) || self.graph[id].missing > 0 {
            return;
        }
        let looked_up = match step {
            Step::Source => self.look_up_source(id),
            Step::Publish => self.look_up_publish(id),
            _ => self.look_up_cached(id),
        };
        if let Err(error) = looked_up {
            self.fail(id, error);
            return;
        }
        if let State::Queued(_) = self.graph[id].state {
            if self.settings.dry_run && step != Step::Source {
                self.mark_would_run(id, true);
                return;
            }
            match step {
                Step::Encode { chunk, .. } => {
                    let work = self.encode_work(title, step).map_or(0, |work| work.samples);
                    self.ready.push_encode((title, chunk), work, id);
                }
                _ => self.ready.push_step(self.graph[id].path, id),
            }
        }
    }

    fn look_up_source(&mut self, id: NodeIndex) -> Result<(), StepError> {
        let title = self.graph[id].title;
        match work::known_source(&self.worker.cache, &self.titles[title].source) {
            Some(digest) => {
                let result = ActionResult { facts: digest.0.to_vec(), blobs: Vec::new() };
                self.complete(
                    id,
                    Made { result, payload: Payload::Source(digest) },
                    Origin::Cached,
                    Duration::ZERO,
                );
            }
            None => {
                let job = outside_job(&self.graph, &self.titles[title], Step::Source)?;
                self.graph[id].state = State::Queued(job);
            }
        }
        Ok(())
    }

    fn look_up_publish(&mut self, id: NodeIndex) -> Result<(), StepError> {
        let title = &self.titles[self.graph[id].title];
        if crate::package::is_current(&title.output, &title.files(&self.graph)?) {
            let made = Made { result: ActionResult::default(), payload: Payload::Published };
            self.complete(id, made, Origin::Cached, Duration::ZERO);
        } else {
            let job = outside_job(&self.graph, title, Step::Publish)?;
            self.graph[id].state = State::Queued(job);
        }
        Ok(())
    }

    fn look_up_cached(&mut self, id: NodeIndex) -> Result<(), StepError> {
        let Node { title, step, repairs, .. } = self.graph[id];
        let Prepared { recipe, job } =
            prepare(&self.graph, &self.titles[title], step, &self.tools, self.settings.jobs)?;
        let key = recipe.key();
        tracing::debug!(node = self.titles[title].label(step), kind = recipe.kind(), %key, fields = ?recipe.fields());
        self.graph[id].key = Some(key);
        if let Some(&owner) = self.in_flight.get(&key) {
            self.graph[id].state = State::Following;
            self.followers.entry(owner).or_default().push(id);
            return Ok(());
        }
        // What was lost once is not looked up again: its entry may still be there.
        if repairs == 0
            && let Some(entry) = self.worker.cache.action(&key)?
            && let Some(payload) = self.accept(title, step, &entry.result)?
        {
            self.complete(id, Made { result: entry.result, payload }, Origin::Cached, Duration::ZERO);
            return Ok(());
        }
        if self.settings.dry_run {
            if !self.would_run_keys.insert(key) {
                // Another step makes it: this one would find it in the cache.
                self.outcome.counts.entry(step.kind()).or_default().cached += 1;
                self.mark_would_run(id, false);
                return Ok(());
            }
        } else {
            self.in_flight.insert(key, id);
        }
        let job: Job = match job {
            PreparedJob::Ready(job) => job,
            // Its frames are found when it is dispatched.
            PreparedJob::Encode => Box::new(|_| Err(StepError::internal("an encode without frames"))),
        };
        self.graph[id].state = State::Queued(job);
        Ok(())
    }

    /// Looks over a cached result before it is believed: `None` makes it a miss.
    fn accept(&self, title: usize, step: Step, result: &ActionResult) -> Result<Option<Payload>, StepError> {
        let title = &self.titles[title];
        let found =
            |blob: Result<BlobRef, StepError>| blob.and_then(|blob| Ok(self.worker.cache.blob(&blob)?));
        Ok(match step {
            Step::Index => found(super::prepare::blob(result))?
                .and_then(|bytes| postcard::from_bytes(&bytes).ok())
                .map(|index| Payload::Index(Arc::new(index))),
            Step::Chunk => found(super::prepare::blob(result))?
                .and_then(|bytes| postcard::from_bytes(&bytes).ok())
                .map(|film| Payload::Film(Arc::new(film))),
            Step::Encode { rung, chunk } => {
                let plan = title.rung(rung)?;
                let frames = title.film()?.chunks.get(chunk).map(|chunk| chunk.frames);
                let checked = facts::<EncodeFacts>(result).and_then(|facts| {
                    plan.contract
                        .check(&facts.sequence_header)
                        .map_err(|error| StepError::Spec(error.to_string()))?;
                    Ok(Some(facts.frames) == frames)
                });
                match checked {
                    Ok(true) => Some(Payload::None),
                    Ok(false) => None,
                    Err(error) => {
                        tracing::warn!("{}: a cached segment is not used: {error}", title.label(step));
                        None
                    }
                }
            }
            _ => Some(Payload::None),
        })
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

    /// A span that does not decode by itself may mean that the stream cannot be entered where it
    /// says: then the track is decoded as a whole, whose verdict is final. False where it has
    /// been already.
    fn respan(&mut self, id: NodeIndex) -> bool {
        let Node { title: number, step: Step::DecodeSpan { .. }, .. } = self.graph[id] else { return false };
        let title = &mut self.titles[number];
        let Some(index) = title.index.as_ref().filter(|index| index.video.spans.len() > 1) else {
            // A span of the track as it was cut before.
            return !title.nodes.decode.contains(&id);
        };
        let index = Arc::new(media::Index { video: index.video.as_one_span(), ..(**index).clone() });
        for old in title.ungrow_spans(&self.graph) {
            self.graph[old].state = State::Skipped;
        }
        let before = self.graph.node_count();
        title.grow_spans(&mut self.graph, Arc::clone(&index));
        self.measure_paths(before);
        self.remember_index(number, &index);
        self.fresh
            .extend(self.graph.node_indices().skip(before).filter(|&node| self.graph[node].missing == 0));
        true
    }

    /// Files what was learned of a track, so that the next build does not try its spans again.
    fn remember_index(&self, title: usize, index: &media::Index) {
        let is_index = |node: &&Node| node.title == title && node.step == Step::Index;
        let Some(key) = self.graph.node_weights().find(is_index).and_then(|node| node.key) else { return };
        let filed = work::store_index(&self.worker, index).and_then(|result| {
            Ok(self.worker.cache.put_action(&key, &ActionEntry { result, cost: Cost::default() })?)
        });
        if let Err(error) = filed {
            tracing::warn!("what was learned of the source is not remembered: {error}");
        }
    }

    /// Has the step that made a lost blob run again, and then the step that wanted it.
    fn repair(&mut self, id: NodeIndex, blob: BlobRef) {
        let makers: Vec<NodeIndex> = self
            .graph
            .neighbors_directed(id, Direction::Incoming)
            .filter(|&input| self.graph[input].last.as_ref().is_some_and(|last| last.blobs.contains(&blob)))
            .collect();
        if makers.is_empty() || makers.iter().any(|&maker| self.graph[maker].repairs >= MOST_REPAIRS) {
            self.fail(id, StepError::Lost(blob));
            return;
        }
        let Node { title, step, .. } = self.graph[id];
        tracing::warn!(
            "{}: a cached result is gone or damaged; it is made again",
            self.titles[title].label(step)
        );
        self.graph[id].state = State::Waiting;
        for maker in makers {
            let State::Done { origin, .. } = self.graph[maker].state else {
                // Another step has noticed the loss before.
                self.graph[id].missing += 1;
                continue;
            };
            let counts = self.outcome.counts.entry(self.graph[maker].step.kind()).or_default();
            match origin {
                Origin::Ran => counts.ran -= 1,
                Origin::Cached => counts.cached -= 1,
            }
            let node = &mut self.graph[maker];
            node.state = State::Waiting;
            node.repairs += 1;
            self.fresh.push(maker);
            // All that wait for other inputs have counted this one as done.
            let dependents: Vec<NodeIndex> = self.graph.neighbors(maker).collect();
            for dependent in dependents {
                if matches!(self.graph[dependent].state, State::Waiting) {
                    self.graph[dependent].missing += 1;
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

    /// Adds the steps that a result tells of.
    fn grow(&mut self, id: NodeIndex, title: usize, step: Step, payload: Payload) -> Result<(), StepError> {
        let before = self.graph.node_count();
        match payload {
            Payload::None => {}
            Payload::Source(digest) if self.titles[title].digest.is_none() => {
                self.titles[title].digest = Some(digest);
                if let Some(memo) =
                    memo::find(&self.worker, self.ladder, &self.titles[title], digest, &self.tools)
                {
                    self.adopt(title, memo);
                    return Ok(());
                }
                let node = self.graph.add_node(Node::new(title, Step::Index, 0));
                self.graph.add_edge(id, node, ());
            }
            Payload::Index(index) if self.titles[title].index.is_none() => {
                self.titles[title].grow_spans(&mut self.graph, index);
            }
            Payload::Film(film) if self.titles[title].film.is_none() => {
                // With many titles open files would run out.
                self.titles[title].readers = None;
                self.grow_film(title, film)?;
            }
            Payload::Published => self.published(title)?,
            // Made a second time to repair the cache: the graph has grown already.
            Payload::Source(_) | Payload::Index(_) | Payload::Film(_) => {}
        }
        let all_heard = matches!(step, Step::Audio { .. }) && self.hear(title)?;
        let silent = matches!(step, Step::Chunk) && self.titles[title].renditions.is_empty();
        if (all_heard || silent) && self.titles[title].nodes.multivariant.is_none() {
            self.titles[title].grow_package(&mut self.graph);
        }
        self.measure_paths(before);
        for node in self.graph.node_indices().skip(before) {
            if self.graph[node].missing == 0 {
                self.fresh.push(node);
            }
        }
        Ok(())
    }

    fn grow_film(&mut self, number: usize, film: Arc<super::film::Film>) -> Result<(), StepError> {
        let title = &mut self.titles[number];
        let warnings = title.grow_encodes(&mut self.graph, Arc::clone(&film), self.settings.jobs.min(8))?;
        for message in warnings {
            (self.observe)(&Event::Warning { title: title.name.clone(), message });
        }
        let chunks = 0..film.chunks.len();
        let rungs = 0..title.rungs.len();
        let title = &self.titles[number];
        let steps = rungs.flat_map(|rung| chunks.clone().map(move |chunk| Step::Encode { rung, chunk }));
        let samples = steps.filter_map(|step| self.encode_work(number, step)).map(|work| work.samples).sum();
        (self.observe)(&Event::Cut {
            title: title.name.clone(),
            chunks: film.chunks.len() as u64,
            rungs: title.rungs.len() as u64,
            seconds: film.seconds(film.duration()),
            samples,
        });
        Ok(())
    }

    /// Notes what the audio steps made; true once all of a title's are done.
    fn hear(&mut self, number: usize) -> Result<bool, StepError> {
        let graph = &self.graph;
        let title = &mut self.titles[number];
        for (rendition, &audio) in title.renditions.iter_mut().zip(&title.nodes.audio) {
            let sound = title.nodes.sound[rendition.sound];
            let (Some(audio), Some(sound)) = (graph[audio].result(), graph[sound].result()) else {
                return Ok(false);
            };
            rendition.encoded = Some((facts::<SoundFacts>(sound)?, facts(audio)?));
        }
        Ok(true)
    }

    /// The longest remaining path of every node, found from the end; nodes are added after
    /// their inputs, so that going backwards meets every dependent first.
    fn measure_paths(&mut self, before: usize) {
        if self.graph.node_count() == before {
            return;
        }
        for index in (0..self.graph.node_count()).rev() {
            let id = NodeIndex::new(index);
            let longest = self.graph.neighbors(id).map(|next| self.graph[next].path).max().unwrap_or(0);
            let Node { title, step, .. } = self.graph[id];
            let work = self.encode_work(title, step).map_or(1, |work| work.samples);
            self.graph[id].path = longest.saturating_add(work);
        }
    }

    fn encode_work(&self, title: usize, step: Step) -> Option<EncodeWork> {
        let Step::Encode { rung, chunk } = step else {
            return None;
        };
        let title = &self.titles[title];
        let film = title.film.as_ref()?;
        let chunk = film.chunks.get(chunk)?;
        let picture = &title.rungs.get(rung)?.settings.picture;
        let samples = u64::from(picture.width) * u64::from(picture.height) * u64::from(chunk.frames);
        Some(EncodeWork { seconds: film.seconds(chunk.duration()), samples })
    }

    /// Takes over what an earlier build of the same title published.
    fn adopt(&mut self, title: usize, memo: TitleMemo) {
        for (kind, nodes) in &memo.nodes {
            if *kind != Kind::Source {
                self.outcome.counts.entry(*kind).or_default().cached += nodes;
            }
        }
        let summary = memo.summary_for(&self.titles[title]);
        let (chunks, seconds) = (memo.chunks, summary.seconds);
        self.outcome.titles.push(TitleOutcome {
            name: summary.name.clone(),
            rungs: summary
                .rungs
                .iter()
                .map(|rung| RungOutlook {
                    name: rung.name.clone(),
                    size: rung.size.unwrap_or_default(),
                    chunks,
                    to_encode: 0,
                    seconds_to_encode: 0.0,
                })
                .collect(),
            summary: Some(summary),
            cut: Some((chunks, seconds)),
        });
    }

    fn published(&mut self, number: usize) -> Result<(), StepError> {
        let title = &self.titles[number];
        let ran = |node: NodeIndex| matches!(self.graph[node].state, State::Done { origin: Origin::Ran, .. });
        let summary = title.summary(&self.graph, &ran)?;
        let mut nodes: HashMap<Kind, u64> = HashMap::new();
        for node in self.graph.node_weights().filter(|node| node.title == number) {
            *nodes.entry(node.step.kind()).or_default() += 1;
        }
        let files = title.files(&self.graph)?;
        let chunks = title.film()?.chunks.len();
        if let Some(digest) = title.digest {
            let memo = TitleMemo::new(nodes, &files, chunks, summary.clone());
            memo::keep(&self.worker, self.ladder, digest, &self.tools, &memo)?;
        }
        let outlook = self.outlook(number);
        self.outcome.titles.push(TitleOutcome { summary: Some(summary), ..outlook });
        self.titles[number].frames = None;
        Ok(())
    }

    /// What is known of a title by now.
    fn outlook(&self, number: usize) -> TitleOutcome {
        let title = &self.titles[number];
        let film = title.film.as_ref();
        let rungs = title.rungs.iter().enumerate().map(|(number, rung)| {
            let picture = &rung.settings.picture;
            let waiting =
                |&(_, node): &(usize, &NodeIndex)| matches!(self.graph[*node].state, State::WouldRun);
            let encodes = title.nodes.encode.get(number).map_or(&[][..], Vec::as_slice);
            let to_encode: Vec<usize> =
                encodes.iter().enumerate().filter(waiting).map(|(chunk, _)| chunk).collect();
            let seconds =
                |&chunk: &usize| film.map_or(0.0, |film| film.seconds(film.chunks[chunk].duration()));
            RungOutlook {
                name: rung.name.clone(),
                size: (picture.width, picture.height),
                chunks: encodes.len(),
                to_encode: to_encode.len(),
                seconds_to_encode: to_encode.iter().map(seconds).sum(),
            }
        });
        TitleOutcome {
            name: title.name.clone(),
            summary: None,
            cut: film.map(|film| (film.chunks.len(), film.seconds(film.duration()))),
            rungs: rungs.collect(),
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

    /// Adds what is known of titles that did not get to the end.
    fn close(mut self) -> Outcome {
        for title in 0..self.titles.len() {
            let name = &self.titles[title].name;
            if !self.outcome.titles.iter().any(|done| done.name == *name) {
                let outlook = self.outlook(title);
                self.outcome.titles.push(outlook);
            }
        }
        let order = |name: &str| self.ladder.titles.iter().position(|title| title.name == name);
        self.outcome.titles.sort_by_key(|title| order(&title.name));
        self.outcome
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
