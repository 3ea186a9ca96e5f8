//! Looking steps up: what is in the cache is done, what is not is queued, or, in a dry run, noted.

use std::sync::Arc;

use petgraph::graph::NodeIndex;
use rayon::prelude::*;

use crate::cache::{ActionKey, ActionResult, BlobRef, Cache};
use crate::package::{ContentId, is_current};

use super::elsewhere::Elsewhere;
use super::slots::Slots;
use super::workers::Message;
use super::{Scheduler, no_run};
use crate::graph::composed::is_composed;
use crate::graph::error::StepError;
use crate::graph::event::Origin;
use crate::graph::prepare::{self, Prepared, Tools, prepare, publish_job, source_job};
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
                    elsewhere: &self.elsewhere,
                };
                view.inspect_all(&batch)
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
        if std::mem::replace(&mut self.gpus_sought, true) || !self.settings.options.gpu_decoding {
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
                self.complete(id, work::source(digest), Origin::Cached, no_run());
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
        let job = if current { None } else { Some(publish_job(&self.graph, title, &files)?) };
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
        self.graph[id].disbelieved |= matches!(found, Filed::Disbelieved);
        if let Filed::Result(made) = found {
            self.found += u64::from(repairs == 0);
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
    elsewhere: &'a Elsewhere,
}

/// A step that is looked up: what it would be made by, in each way that it may be made.
struct Prospect {
    id: NodeIndex,
    prepared: Vec<Prepared>,
    keys: Vec<ActionKey>,
    /// What is filed under them here, each as far as it was looked for.
    found: Result<(Filed, usize), StepError>,
}

impl Prospect {
    /// Whether nothing was found that will do.
    fn is_absent(&self) -> bool {
        matches!(self.found, Ok((Filed::Nothing | Filed::Disbelieved, _)))
    }
}

impl View<'_> {
    /// Looks at all of a batch, in its order turned around: at each step's key or keys, and at what is
    /// filed under them, here first, and then, in one go for all, in a remote.
    fn inspect_all(&self, batch: &[NodeIndex]) -> Vec<Option<Result<Inspected, StepError>>> {
        let here: Vec<_> = batch.par_iter().rev().map(|&id| self.prospect(id)).collect();
        if !self.worker.cache.has_remote() {
            let inspected = |prospect: Result<Prospect, _>| prospect.and_then(|one| self.inspected(one));
            return here.into_iter().map(|prospect| prospect.map(inspected)).collect();
        }
        let absent = here.iter().flatten().filter_map(|prospect| prospect.as_ref().ok());
        let absent = absent.filter(|prospect| self.is_wanted(prospect) && prospect.is_absent());
        let keys: Vec<ActionKey> = absent.flat_map(|prospect| prospect.keys.iter().copied()).collect();
        let asked = !keys.is_empty() && self.ask_for(&keys);
        let there = |prospect: Prospect| {
            let again = asked && self.is_wanted(&prospect) && prospect.is_absent();
            let far = &*self.worker.cache;
            self.inspected(if again { self.looked_for(prospect, far) } else { prospect })
        };
        here.into_par_iter().map(|prospect| prospect.map(|prospect| prospect.and_then(there))).collect()
    }

    /// Has a remote asked for all of `keys`. Whether that went well.
    fn ask_for(&self, keys: &[ActionKey]) -> bool {
        let asked = self.worker.cache.look_ahead(keys);
        asked.inspect_err(|error| tracing::warn!("{error}")).is_ok()
    }

    /// `None` where there is no key, or none to be looked up.
    fn prospect(&self, id: NodeIndex) -> Option<Result<Prospect, StepError>> {
        let node = &self.graph[id];
        if !self.is_looked_up(node) {
            return None;
        }
        let prospect = prepare(self.graph, &self.titles[node.title], node.step, self.tools).map(|prepared| {
            let keys = prepared.iter().map(|prepared| prepared.recipe.key()).collect();
            let prospect = Prospect { id, prepared, keys, found: Ok((Filed::Nothing, 0)) };
            if !self.is_wanted(&prospect) {
                return prospect;
            }
            // A remote is asked for what is not here, for a whole batch at a time.
            let cache = &self.worker.cache;
            let near: &dyn Cache = if cache.has_remote() { &**cache.local() } else { &**cache };
            self.looked_for(prospect, near)
        });
        Some(prospect)
    }

    /// Whether a step has a key, and one to be looked up.
    fn is_looked_up(&self, node: &Node) -> bool {
        let is_reel = matches!(node.step, Step::SpanReel { .. } | Step::Reel { .. });
        let unseen =
            is_reel && !self.titles[node.title].is_expanded(node.step) && (self.expand || node.repairs > 0);
        !unseen && node.is_fresh() && !matches!(node.step, Step::Source | Step::Publish)
    }

    /// What is there and of no use is not looked for again, but for what another process was at meanwhile.
    fn is_wanted(&self, prospect: &Prospect) -> bool {
        !self.graph[prospect.id].disbelieved || self.elsewhere.is_waiting(prospect.id)
    }

    /// A prospect with what is filed under its keys: what any of a rung's encoders has made will do.
    fn looked_for(&self, mut prospect: Prospect, cache: &dyn Cache) -> Prospect {
        let node = &self.graph[prospect.id];
        let title = &self.titles[node.title];
        prospect.found = Ok((Filed::Nothing, 0));
        for (number, key) in prospect.keys.iter().enumerate() {
            match self.find(title, node, key, cache) {
                Ok(Filed::Nothing) => {}
                Ok(Filed::Disbelieved) => prospect.found = Ok((Filed::Disbelieved, 0)),
                last => {
                    prospect.found = last.map(|filed| (filed, number));
                    break;
                }
            }
        }
        prospect
    }

    /// What comes of a prospect: what was found, or the way in which it will be made.
    fn inspected(&self, prospect: Prospect) -> Result<Inspected, StepError> {
        let Prospect { id, mut prepared, keys, found } = prospect;
        let node = &self.graph[id];
        let choice = match (&found, node.step) {
            (Ok((Filed::Result(_), number)), _) => *number,
            (_, Step::Encode { track, .. }) => {
                let track = self.titles[node.title].track(track)?;
                self.slots.first_choice(track, Some(id)).ok_or_else(|| {
                    let reasons = self.slots.reasons(track);
                    StepError::Spec(format!("no encoder is left: {}", reasons.join("; ")))
                })?
            }
            _ => 0,
        };
        let missing = || StepError::internal("a choice that is none");
        let key = *keys.get(choice).ok_or_else(missing)?;
        if choice >= prepared.len() {
            return Err(missing());
        }
        let prepared = prepared.swap_remove(choice);
        Ok(Inspected { prepared, key, choice, found: found.map(|(filed, _)| filed) })
    }

    /// What is filed under a key. Of a step that was lost once, only if another has made it again: if all of
    /// it is there.
    fn find(
        &self,
        title: &Title,
        node: &Node,
        key: &ActionKey,
        cache: &dyn Cache,
    ) -> Result<Filed, StepError> {
        let Some(entry) = cache.action(key)? else { return Ok(Filed::Nothing) };
        if node.repairs > 0 && !cache.is_intact(&entry) {
            return Ok(Filed::Nothing);
        }
        let Some(payload) = self.accept(title, node.step, &entry.result)? else {
            // What cannot be read is as good as gone, and may be made again by another.
            return Ok(if cache.is_intact(&entry) { Filed::Disbelieved } else { Filed::Nothing });
        };
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
                let segments: Option<Vec<ContentId>> =
                    found(prepare::blob(result))?.and_then(|bytes| postcard::from_bytes(&bytes).ok());
                let segments = segments.filter(|_| result.blobs.len() == 2);
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
                let facts = EncodeFacts::of(result, title.piece(track, piece)?.frames);
                match facts.map(|facts| plan.contract.check(&facts.header)) {
                    Some(Ok(())) => Some(Payload::None),
                    None => None,
                    Some(Err(error)) => {
                        tracing::warn!("{}: a cached segment is not used: {error}", title.label(step));
                        None
                    }
                }
            }
            Step::Audio { track, piece } => {
                EncodeFacts::of(result, title.piece(track, piece)?.frames).map(|_| Payload::None)
            }
            Step::Segment { .. } | Step::Init { .. } | Step::Playlist { .. } | Step::Multivariant => {
                is_composed(result).then_some(Payload::None)
            }
            _ => Some(Payload::None),
        })
    }
}
