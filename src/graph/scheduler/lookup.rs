//! Looking steps up: what is in the cache is done, what is not is queued, or, in a dry run, noted.

use std::sync::Arc;

use petgraph::graph::NodeIndex;
use rayon::prelude::*;

use crate::cache::{ActionKey, ActionResult, BlobRef, Cache, CacheError};
use crate::package::is_current;

use super::slots::Slots;
use super::workers::Message;
use super::{Scheduler, no_run};
use crate::graph::error::StepError;
use crate::graph::event::Origin;
use crate::graph::prepare::{self, Prepared, Tools, prepare, publish_job, source_job};
use crate::graph::recipe::Recipe;
use crate::graph::step::{Node, State, Step};
use crate::graph::title::{Graph, Title};
use crate::graph::track::ReelFacts;
use crate::graph::work::{self, EncodeFacts, Made, Payload, SoundFacts, Worker, facts};

/// Steps that are looked up together, by all cores.
const BATCH: usize = 256;

/// What a look at a step and at the cache has brought, before anything follows from it.
struct Inspected {
    prepared: Prepared,
    key: ActionKey,
    /// Of an encode, the choice that it will try.
    choice: usize,
    /// What is filed under the key, if it was to be looked for.
    found: Result<Filed, StepError>,
}

enum Filed {
    Nothing,
    /// Something that is not believed.
    Disbelieved,
    Result(Made),
}

impl Scheduler<'_> {
    /// Looks up all steps that are fresh, and what becomes fresh thereby.
    pub(super) fn look_up_fresh(&mut self) {
        while !self.fresh.is_empty() {
            let batch = self.fresh.split_off(self.fresh.len().saturating_sub(BATCH));
            let inspected: Vec<_> = {
                let view = View {
                    graph: &self.graph,
                    titles: &self.titles,
                    worker: &self.worker,
                    tools: &self.tools,
                    slots: &self.slots,
                    expand: self.settings.expand,
                };
                if let Err(error) = view.look_ahead(&batch) {
                    tracing::warn!("{error}");
                }
                batch.par_iter().rev().map(|&id| view.inspect(id)).collect()
            };
            for (id, inspected) in batch.into_iter().rev().zip(inspected) {
                self.look_up(id, inspected);
            }
        }
    }

    /// Lets a step be done, or queues it if its result is not there.
    fn look_up(&mut self, id: NodeIndex, inspected: Option<Result<Inspected, StepError>>) {
        let Node { title, step, .. } = self.graph[id];
        // It may have been skipped, or an input lost, since it became fresh.
        if !self.graph[id].is_fresh() {
            return;
        }
        let looked_up = match (step, inspected) {
            (Step::Source, _) => self.look_up_source(id),
            (Step::Publish, _) => self.look_up_publish(id),
            (Step::SpanReel { .. } | Step::Reel { .. }, inspected)
                if !self.titles[title].is_expanded(step) =>
            {
                inspected.transpose().and_then(|inspected| self.look_up_reel(id, inspected))
            }
            (_, Some(inspected)) => inspected.and_then(|inspected| self.look_up_cached(id, inspected)),
            (_, None) => Err(StepError::internal("a step that was not looked at")),
        };
        if let Err(error) = looked_up {
            self.fail(id, error);
        }
        if matches!(self.graph[id].state, State::Done { .. } | State::Failed) {
            // It may have been aside, and others have followed it.
            self.elsewhere.forget(id);
            self.release_followers(id);
            return;
        }
        if let State::Queued(_) = self.graph[id].state {
            if self.settings.dry_run && step != Step::Source {
                self.mark_would_run(id, Some(|outcome| &mut outcome.would_run));
                return;
            }
            match step {
                Step::Encode { piece, .. } => {
                    let work = self.encode_work(title, step).map_or(0, |work| work.samples);
                    self.ready.push_encode((title, piece), work, id);
                }
                Step::DecodeSpan { span } => {
                    self.ready.push_decode((title, span), id);
                    self.seek_gpus();
                }
                Step::Audio { track, .. } => {
                    let sound = self.titles[title].rendition(track).map_or(0, |(plan, _)| plan.sound);
                    self.ready.push_window((title, sound), id);
                }
                _ => self.ready.push_step(step.stage(), id),
            }
        }
    }

    /// Looks for GPUs that decode, the first time that there is something to decode, and beside what
    /// goes on: it may take a second.
    fn seek_gpus(&mut self) {
        if std::mem::replace(&mut self.gpus_sought, true) || !self.settings.gpu_decoding {
            return;
        }
        if let Some(pool) = &self.worker.pool {
            let pool = Arc::clone(pool);
            self.workers.beside(move || Message::Gpus(pool.gpus()));
        }
    }

    fn look_up_source(&mut self, id: NodeIndex) -> Result<(), StepError> {
        let title = self.graph[id].title;
        let known = match &self.settings.sources {
            Some(sources) => sources.get(&self.titles[title].name).copied(),
            None => work::known_source(self.worker.cache.local(), &self.titles[title].source),
        };
        match known {
            Some(digest) => {
                let result = ActionResult { facts: digest.0.to_vec(), blobs: Vec::new() };
                let made = Made { result, payload: Payload::Source(digest) };
                self.complete(id, made, Origin::Cached, no_run());
            }
            None if self.settings.sources.is_some() => self.skip(id),
            None => {
                let job = source_job(&self.titles[title]);
                self.graph[id].state = State::Queued(Some(job));
            }
        }
        Ok(())
    }

    fn look_up_publish(&mut self, id: NodeIndex) -> Result<(), StepError> {
        let title = &self.titles[self.graph[id].title];
        let files = Arc::new(title.files(&self.graph)?);
        let current = self.settings.unpublished || is_current(&title.output, files.digest());
        let job = if current { None } else { Some(publish_job(title, &files)) };
        let title = self.graph[id].title;
        self.titles[title].to_publish = Some(files);
        match job {
            None => {
                let made = Made { result: ActionResult::default(), payload: Payload::Published };
                self.complete(id, made, Origin::Cached, no_run());
            }
            Some(job) => self.graph[id].state = State::Queued(Some(job)),
        }
        Ok(())
    }

    /// A reel is looked up before what is on it; only where it is not there does that get nodes.
    fn look_up_reel(&mut self, id: NodeIndex, inspected: Option<Inspected>) -> Result<(), StepError> {
        let Node { title, step, .. } = self.graph[id];
        if let Some(Inspected { key, found, .. }) = inspected {
            self.graph[id].key = Some(key);
            self.looked_up += 1;
            if let Filed::Result(made) = found? {
                self.found += 1;
                self.complete(id, made, Origin::Cached, no_run());
                return Ok(());
            }
        }
        let before = self.graph.node_count();
        self.titles[title].expand(&mut self.graph, step);
        self.take_in(before);
        self.settle_reel(id);
        if self.graph[id].is_fresh() {
            // All that is on it is there already.
            self.fresh.push(id);
        }
        Ok(())
    }

    /// Inputs that a reel has got late may be known not to come.
    fn settle_reel(&mut self, id: NodeIndex) {
        let inputs = self.graph.neighbors_directed(id, petgraph::Direction::Incoming);
        let (mut would_run, mut hopeless) = (false, false);
        for input in inputs {
            would_run |= matches!(self.graph[input].state, State::WouldRun);
            hopeless |= matches!(self.graph[input].state, State::Failed | State::Skipped);
        }
        if would_run {
            self.mark_would_run(id, Some(|outcome| &mut outcome.follows));
        } else if hopeless {
            self.skip(id);
        }
    }

    fn look_up_cached(&mut self, id: NodeIndex, inspected: Inspected) -> Result<(), StepError> {
        let Node { title, step, repairs, .. } = self.graph[id];
        let Inspected { prepared: Prepared { recipe, job }, key, choice, found } = inspected;
        tracing::debug!(node = self.titles[title].label(step), kind = recipe.kind(), %key, fields = ?recipe.fields());
        self.graph[id].key = Some(key);
        self.graph[id].choice = choice;
        if let Some(&owner) = self.in_flight.get(&key) {
            self.graph[id].state = State::Following;
            self.followers.entry(owner).or_default().push(id);
            return Ok(());
        }
        self.looked_up += u64::from(repairs == 0);
        let found = found?;
        self.graph[id].disbelieved = matches!(found, Filed::Disbelieved);
        if let Filed::Result(made) = found {
            self.found += 1;
            self.complete(id, made, Origin::Cached, no_run());
            return Ok(());
        }
        if self.settings.dry_run {
            if !self.would_run_keys.insert(key) {
                // Another step makes it: this one would find it in the cache.
                self.outcome.counts.entry(step.kind()).or_default().cached += 1;
                self.mark_would_run(id, None);
                return Ok(());
            }
        } else {
            self.in_flight.insert(key, id);
        }
        self.graph[id].state = State::Queued(job);
        Ok(())
    }
}

/// What of a scheduler many threads may look at.
struct View<'a> {
    graph: &'a Graph,
    titles: &'a [Title],
    worker: &'a Worker,
    tools: &'a Tools,
    slots: &'a Slots,
    expand: bool,
}

impl View<'_> {
    /// Has a remote asked for all that a batch is about to look up, in one go. What goes wrong shows
    /// when it is looked up.
    fn look_ahead(&self, batch: &[NodeIndex]) -> Result<(), CacheError> {
        if !self.worker.cache.has_remote() {
            return Ok(());
        }
        let keys: Vec<ActionKey> = batch.par_iter().flat_map_iter(|&id| self.keys(id)).collect();
        self.worker.cache.look_ahead(&keys)
    }

    /// The keys that a step's result may be filed under.
    fn keys(&self, id: NodeIndex) -> Vec<ActionKey> {
        let node = &self.graph[id];
        if !self.is_looked_up(node) || node.repairs > 0 {
            return Vec::new();
        }
        let title = &self.titles[node.title];
        let recipes = match node.step {
            Step::Encode { track, piece } => title
                .piece(track, piece)
                .and_then(|piece| title.encode_recipes(track, piece.identity, self.tools)),
            step => prepare(self.graph, title, step, self.tools).map(|prepared| vec![prepared.recipe]),
        };
        recipes.unwrap_or_default().iter().map(Recipe::key).collect()
    }

    /// Whether a step has a key, and one to be looked up.
    fn is_looked_up(&self, node: &Node) -> bool {
        let is_reel = matches!(node.step, Step::SpanReel { .. } | Step::Reel { .. });
        let unseen =
            is_reel && !self.titles[node.title].is_expanded(node.step) && (self.expand || node.repairs > 0);
        !unseen && node.is_fresh() && !matches!(node.step, Step::Source | Step::Publish)
    }

    /// `None` where there is no key, or none to be looked up.
    fn inspect(&self, id: NodeIndex) -> Option<Result<Inspected, StepError>> {
        let node = &self.graph[id];
        let title = &self.titles[node.title];
        if !self.is_looked_up(node) {
            return None;
        }
        Some(match node.step {
            Step::Encode { track, piece } => self.inspect_encode(id, node, track, piece),
            step => prepare(self.graph, title, step, self.tools).map(|prepared| {
                let key = prepared.recipe.key();
                // What was lost once is not looked up again: its entry may still be there.
                let found = if node.repairs == 0 { self.find(title, step, &key) } else { Ok(Filed::Nothing) };
                Inspected { prepared, key, choice: 0, found }
            }),
        })
    }

    /// What any of a rung's encoders has made will do.
    fn inspect_encode(
        &self,
        id: NodeIndex,
        node: &Node,
        track: usize,
        piece: usize,
    ) -> Result<Inspected, StepError> {
        let title = &self.titles[node.title];
        let identity = title.piece(track, piece)?.identity;
        let mut recipes = title.encode_recipes(track, identity, self.tools)?;
        let mut choice = self.slots.first_choice(title.track(track)?, Some(id));
        let mut found = Ok(Filed::Nothing);
        if node.repairs == 0 {
            for (number, recipe) in recipes.iter().enumerate() {
                match self.find(title, node.step, &recipe.key()) {
                    Ok(Filed::Nothing) => {}
                    Ok(Filed::Disbelieved) => found = Ok(Filed::Disbelieved),
                    last => {
                        (found, choice) = (last, Some(number));
                        break;
                    }
                }
            }
        }
        let choice = choice.ok_or_else(|| {
            let reasons = self.slots.reasons(&title.tracks[track]);
            StepError::Spec(format!("no encoder is left: {}", reasons.join("; ")))
        })?;
        let recipe = recipes.swap_remove(choice);
        let key = recipe.key();
        Ok(Inspected { prepared: Prepared { recipe, job: None }, key, choice, found })
    }

    /// What is filed under a key.
    fn find(&self, title: &Title, step: Step, key: &ActionKey) -> Result<Filed, StepError> {
        let Some(entry) = self.worker.cache.action(key)? else { return Ok(Filed::Nothing) };
        let Some(payload) = self.accept(title, step, &entry.result)? else { return Ok(Filed::Disbelieved) };
        Ok(Filed::Result(Made { result: entry.result, payload }))
    }

    /// Looks over a cached result before it is believed: `None` makes it a miss.
    fn accept(&self, title: &Title, step: Step, result: &ActionResult) -> Result<Option<Payload>, StepError> {
        let found =
            |blob: Result<BlobRef, StepError>| blob.and_then(|blob| Ok(self.worker.cache.blob(&blob)?));
        Ok(match step {
            Step::Index => found(prepare::blob(result))?
                .and_then(|bytes| postcard::from_bytes(&bytes).ok())
                .map(|index| Payload::Index(Arc::new(index))),
            Step::Chunk => found(prepare::blob(result))?
                .and_then(|bytes| postcard::from_bytes(&bytes).ok())
                .map(|film| Payload::Film(Arc::new(film))),
            Step::DecodeSound { .. } => {
                let windows: Option<Vec<_>> =
                    found(prepare::blob(result))?.and_then(|bytes| postcard::from_bytes(&bytes).ok());
                windows
                    .zip(facts::<SoundFacts>(result).ok())
                    .map(|(windows, facts)| Payload::Sound(facts, windows))
            }
            Step::Reel { track, reel } => {
                let pieces = title.tracks.get(track).and_then(|made| made.reels.get(reel));
                let pieces = pieces.map_or(0, |reel| reel.pieces.len());
                let segments: Option<Vec<BlobRef>> =
                    found(prepare::blob(result))?.and_then(|bytes| postcard::from_bytes(&bytes).ok());
                let facts: Option<ReelFacts> = facts(result).ok();
                let agreed = |facts: &ReelFacts| match title.rung(track) {
                    Ok(plan) => facts.headers.iter().all(|header| plan.contract.check(header).is_ok()),
                    Err(_) => facts.headers.is_empty(),
                };
                segments
                    .filter(|segments| segments.len() == pieces && facts.as_ref().is_some_and(agreed))
                    .map(|segments| Payload::Reel(Arc::new(segments)))
            }
            Step::Encode { track, piece } => {
                let plan = title.rung(track)?;
                let frames = title.chunks.get(piece).map(|chunk| chunk.frames);
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
}
