//! Looking steps up: what is in the cache is done, what is not is queued, or, in a dry run, noted.

use std::collections::HashMap;

use petgraph::graph::NodeIndex;
use rayon::prelude::*;

use super::engine::{Engine, no_run};
use super::event::Origin;
use super::graph::{State, StepGraph, TitleResults};
use super::leases::LeasedElsewhere;
use super::slots::Slots;
use super::threads::Message;
use crate::cache::{Cache, CacheEntry, EntryKey, EntryResult};
use crate::steps::context::StepContext;
use crate::steps::live::Live;
use crate::steps::recipe::Recipe;
use crate::steps::tools::Tools;
use crate::steps::view::{Outside, View};
use crate::steps::{Fact, LookUp, Needs, Output, Packing, Step, StepError, Work};
use crate::title::Title;

/// Steps that are looked up together, by all cores.
const BATCH: usize = 256;

/// What a look at a step and at the cache has brought, before anything follows from it.
enum Look {
    /// A pack whose steps are to be looked up one by one.
    Unpack,
    /// What it reads or writes is as it should be.
    Current(EntryResult, Fact),
    /// Or it is not.
    Stale,
    /// Or that cannot be known.
    Unknown,
    Keyed {
        recipe: Recipe,
        key: EntryKey,
        /// The way in which it will be made, or was.
        choice: usize,
        found: Found,
    },
}

enum Found {
    Nothing,
    /// Something that is not accepted.
    Rejected,
    Result(EntryResult, Fact),
}

impl Engine<'_> {
    /// Looks up all steps that are fresh, and what becomes fresh thereby.
    pub(super) fn look_up_fresh(&mut self) {
        while !self.fresh.is_empty() {
            if self.context.is_cancelled() {
                self.stopping = true;
                return self.fresh.clear();
            }
            let batch = self.fresh.split_off(self.fresh.len().saturating_sub(BATCH));
            let inspection = Inspection { engine: self.parts(), expand: self.settings.expand };
            let outcomes = inspection.of_all(&batch);
            for (id, outcome) in batch.into_iter().rev().zip(outcomes) {
                self.look_up(id, outcome);
            }
        }
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            graph: &self.graph,
            titles: &self.titles,
            live: &self.live,
            context: &self.context,
            tools: &self.tools,
            slots: &self.slots,
            leased: &self.leased,
            outside: Outside {
                cache: &self.context.cache,
                notices: &self.context.notices,
                sources: self.settings.sources.as_ref(),
                unpublished: self.settings.unpublished,
            },
        }
    }

    /// Lets a step be done, or queues it if its result is not there.
    fn look_up(&mut self, id: NodeIndex, outcome: Option<Result<Look, StepError>>) {
        // It may have been skipped, or an input lost, since it became fresh.
        if !self.graph[id].is_fresh() {
            return;
        }
        let outcome = outcome.unwrap_or_else(|| Err(StepError::internal("a step that was not looked at")));
        if let Err(error) = outcome.and_then(|outcome| self.follow(id, outcome)) {
            self.fail(id, error);
        }
        match self.graph[id].state() {
            State::Done { .. } | State::Failed => {
                // It may have been aside, and others have followed it.
                self.leased.forget(id);
                self.release_followers(id);
            }
            State::Queued(_) => self.enqueue(id),
            _ => {}
        }
    }

    fn follow(&mut self, id: NodeIndex, outcome: Look) -> Result<(), StepError> {
        match outcome {
            Look::Unpack => self.unpack(id),
            Look::Current(result, fact) => {
                self.complete(id, Output::new(result, fact), Origin::Cached, no_run());
            }
            Look::Stale => self.queue_work(id, 0)?,
            Look::Unknown => self.skip(id),
            Look::Keyed { recipe, key, choice, found } => {
                let (title, step) = (&self.titles[self.graph[id].title.index()], self.graph[id].step);
                let (node, kind) = (step.label(title), recipe.kind());
                tracing::debug!(node, kind, %key, fields = ?recipe.fields());
                self.look_up_key(id, key, choice, found)?;
            }
        }
        Ok(())
    }

    fn look_up_key(
        &mut self,
        id: NodeIndex,
        key: EntryKey,
        choice: usize,
        found: Found,
    ) -> Result<(), StepError> {
        let repairs = self.graph[id].repairs;
        let is_packed = self.parts().is_packed(id);
        let node = self.graph.node_mut(id);
        (node.key, node.choice) = (Some(key), choice);
        if let Some(&owner) = self.in_flight.get(&key).filter(|_| !is_packed) {
            self.graph.set(id, State::Following);
            self.followers.entry(owner).or_default().push(id);
            return Ok(());
        }
        self.looked_up += u64::from(repairs == 0);
        self.graph.node_mut(id).is_rejected |= matches!(found, Found::Rejected);
        if let Found::Result(result, fact) = found {
            self.found += u64::from(repairs == 0);
            self.complete(id, Output::new(result, fact), Origin::Cached, no_run());
            return Ok(());
        }
        if is_packed {
            self.unpack(id);
            return Ok(());
        }
        if self.settings.dry_run {
            if !self.would_run_keys.insert(key) {
                // Another step makes it: this one would find it in the cache.
                let kind = self.graph[id].step.kind();
                self.outcome.counts.entry(kind).or_default().cached += 1;
                self.mark_may_run(id, None);
                return Ok(());
            }
        } else {
            self.in_flight.insert(key, id);
        }
        self.queue_work(id, choice)
    }

    /// A pack was not found: the steps that it stands for come to exist, and it waits for them.
    fn unpack(&mut self, id: NodeIndex) {
        let (title, step) = (self.graph[id].title, self.graph[id].step);
        step.unpack(&mut self.titles[title.index()]);
        self.sync(title);
    }

    /// A step is to run. What there is to do is settled by the slot where that makes a difference.
    fn queue_work(&mut self, id: NodeIndex, choice: usize) -> Result<(), StepError> {
        let work = match self.needs(id) {
            Needs::Encode { .. } => None,
            Needs::Slot { in_plans: false } | Needs::AudioPass(_) | Needs::Decode { .. }
                if self.settings.dry_run =>
            {
                None
            }
            Needs::Slot { .. } | Needs::AudioPass(_) | Needs::Decode { .. } => {
                Some(Box::new(self.work(id, choice)?))
            }
        };
        self.graph.set(id, State::Queued(work));
        Ok(())
    }

    pub(super) fn work(&self, id: NodeIndex, choice: usize) -> Result<Work, StepError> {
        self.parts().with_view(id, |view| self.graph[id].step.work(view, choice))
    }

    fn enqueue(&mut self, id: NodeIndex) {
        let (title, step) = (self.graph[id].title, self.graph[id].step);
        let needs = self.needs(id);
        let runs_in_plans = matches!(needs, Needs::Slot { in_plans: true });
        if self.settings.dry_run && !runs_in_plans {
            self.mark_may_run(id, Some(|outcome| &mut outcome.would_run));
            return;
        }
        match needs {
            Needs::Encode { chunk, work, .. } => self.queue.push_encode((title, chunk), work.samples, id),
            Needs::Decode { span, .. } => {
                self.queue.push_decode((title, span), id);
                self.seek_gpus();
            }
            Needs::AudioPass(audio) => self.queue.push_window((title, audio), id),
            Needs::Slot { .. } => self.queue.push_step(step.order(), id),
        }
    }

    /// Looks for GPUs that decode, the first time that there is something to decode, and beside what
    /// goes on: it may take a second.
    fn seek_gpus(&mut self) {
        if std::mem::replace(&mut self.gpus_sought, true) || !self.settings.options.gpu_decoding {
            return;
        }
        if let Some(pool) = &self.context.pool {
            let pool = std::sync::Arc::clone(pool);
            let started = self.threads.beside(move || Message::Gpus(pool.gpus()));
            started.unwrap_or_else(|error| self.warn(format!("no GPU decodes: {error}")));
        }
    }

    /// The recipe of a step, in the way in which it is made; `None` where it is not known yet, or where what
    /// the step reads or writes lies outside the cache.
    pub(crate) fn recipe(&self, id: NodeIndex) -> Option<Recipe> {
        let node = &self.graph[id];
        match self.parts().with_view(id, |view| node.step.look_up(view)).ok()? {
            LookUp::Keys(recipes) => recipes.into_iter().nth(node.choice),
            LookUp::Current(..) | LookUp::Stale | LookUp::Unknown => None,
        }
    }
}

/// What of an engine many threads may look at.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    graph: &'a StepGraph,
    titles: &'a [Title],
    live: &'a [Live],
    context: &'a StepContext,
    tools: &'a Tools,
    slots: &'a Slots,
    leased: &'a LeasedElsewhere,
    outside: Outside<'a>,
}

impl<'a> Parts<'a> {
    fn title(&self, id: NodeIndex) -> &'a Title {
        &self.titles[self.graph[id].title.index()]
    }

    fn is_packed(&self, id: NodeIndex) -> bool {
        let packing = self.graph[id].step.packing(self.title(id));
        matches!(packing, Packing::Pack { is_packed: true, .. })
    }

    /// Has a look at a step.
    fn with_view<T>(&self, id: NodeIndex, look: impl FnOnce(&View<'_>) -> T) -> T {
        let title = self.graph[id].title;
        look(&View {
            title: &self.titles[title.index()],
            live: &self.live[title.index()],
            results: &TitleResults { graph: self.graph, title },
            tools: self.tools,
            outside: self.outside,
        })
    }
}

/// A look at steps by many threads.
struct Inspection<'a> {
    engine: Parts<'a>,
    expand: bool,
}

/// A step that is looked up: how it would be made, in each way that it may be made.
struct Candidate {
    id: NodeIndex,
    recipes: Vec<Recipe>,
    keys: Vec<EntryKey>,
    /// What is stored under them, and under which.
    found: (Found, usize),
}

/// What a first look at a step has brought.
enum FirstLook {
    Settled(Look),
    Candidate(Candidate),
}

impl Candidate {
    /// Whether nothing was found that will do.
    fn is_absent(&self) -> bool {
        matches!(self.found, (Found::Nothing | Found::Rejected, _))
    }
}

impl Inspection<'_> {
    /// Looks at all of a batch, in its order turned around: at each step's key or keys, and at what is
    /// stored under them, here first, and then, in one go for all, in a remote. Each tier is looked at once.
    fn of_all(&self, batch: &[NodeIndex]) -> Vec<Option<Result<Look, StepError>>> {
        let cache = &self.engine.context.cache;
        let near: &dyn Cache = if cache.has_remote() { &**cache.local() } else { &**cache };
        let looks: Vec<_> = batch.par_iter().rev().map(|&id| self.first_look(id, near)).collect();
        let is_absent = |candidate: &&Candidate| self.is_wanted(candidate.id) && candidate.is_absent();
        let absent = looks.iter().filter_map(|look| match look {
            Some(Ok(FirstLook::Candidate(candidate))) => Some(candidate),
            _ => None,
        });
        let keys: Vec<EntryKey> =
            absent.filter(is_absent).flat_map(|candidate| candidate.keys.iter().copied()).collect();
        let there = if cache.has_remote() { self.in_remote(&keys) } else { HashMap::new() };
        let settle = |look: FirstLook| match look {
            FirstLook::Settled(outcome) => Ok(outcome),
            FirstLook::Candidate(mut candidate) => {
                if is_absent(&&candidate) && candidate.keys.iter().any(|key| there.contains_key(key)) {
                    candidate.found = self.find_any(&candidate, |key| Ok(there.get(key).cloned()))?;
                }
                self.outcome(candidate)
            }
        };
        looks.into_par_iter().map(|look| look.map(|look| look.and_then(settle))).collect()
    }

    /// What the remote has under these keys.
    fn in_remote(&self, keys: &[EntryKey]) -> HashMap<EntryKey, CacheEntry> {
        let entries = self.engine.context.cache.remote_entries(keys);
        let entries = entries
            .inspect_err(|error| self.engine.context.notices.add(error.to_string()))
            .unwrap_or_default();
        keys.iter().zip(entries).filter_map(|(key, entry)| Some((*key, entry?))).collect()
    }

    /// `None` where there is nothing to be looked at.
    fn first_look(&self, id: NodeIndex, cache: &dyn Cache) -> Option<Result<FirstLook, StepError>> {
        let node = &self.engine.graph[id];
        if !node.is_fresh() {
            return None;
        }
        if self.engine.is_packed(id) && (self.expand || node.repairs > 0) {
            return Some(Ok(FirstLook::Settled(Look::Unpack)));
        }
        let look_up = self.engine.with_view(id, |view| node.step.look_up(view));
        Some(look_up.and_then(|look_up| {
            let recipes = match look_up {
                LookUp::Keys(recipes) => recipes,
                LookUp::Current(result, fact) => {
                    return Ok(FirstLook::Settled(Look::Current(result, fact)));
                }
                LookUp::Stale => return Ok(FirstLook::Settled(Look::Stale)),
                LookUp::Unknown => return Ok(FirstLook::Settled(Look::Unknown)),
            };
            let keys = recipes.iter().map(Recipe::key).collect();
            let mut candidate = Candidate { id, recipes, keys, found: (Found::Nothing, 0) };
            if self.is_wanted(id) {
                candidate.found = self.find_any(&candidate, |key| Ok(cache.find_entry(key)?))?;
            }
            Ok(FirstLook::Candidate(candidate))
        }))
    }

    /// What is there and of no use is not looked for again, but for what another process ran meanwhile.
    fn is_wanted(&self, id: NodeIndex) -> bool {
        !self.engine.graph[id].is_rejected || self.engine.leased.is_waiting(id)
    }

    /// What is stored under a candidate's keys: what any of a rung's encoders has made will do.
    fn find_any(
        &self,
        candidate: &Candidate,
        entry: impl Fn(&EntryKey) -> Result<Option<CacheEntry>, StepError>,
    ) -> Result<(Found, usize), StepError> {
        let mut best = (Found::Nothing, 0);
        for (number, key) in candidate.keys.iter().enumerate() {
            let Some(entry) = entry(key)? else { continue };
            match self.judge(candidate.id, entry)? {
                Found::Nothing => {}
                Found::Rejected => best = (Found::Rejected, 0),
                found @ Found::Result(..) => return Ok((found, number)),
            }
        }
        Ok(best)
    }

    /// Whether an entry will do. Of a step that was lost once, only one that another has made again: of which
    /// all is there.
    fn judge(&self, id: NodeIndex, entry: CacheEntry) -> Result<Found, StepError> {
        let node = &self.engine.graph[id];
        let cache: &dyn Cache = &*self.engine.context.cache;
        if node.repairs > 0 && !cache.is_intact(&entry) {
            return Ok(Found::Nothing);
        }
        let accepted = self.engine.with_view(id, |view| node.step.accept(view, &entry.result, cache))?;
        Ok(match accepted {
            Some(fact) => Found::Result(entry.result, fact),
            // What cannot be read is as good as gone, and may be made again by another.
            None if cache.is_intact(&entry) => Found::Rejected,
            None => Found::Nothing,
        })
    }

    /// What comes of a candidate: what was found, or the way in which it will be made.
    fn outcome(&self, candidate: Candidate) -> Result<Look, StepError> {
        let Candidate { id, mut recipes, keys, found: (found, number) } = candidate;
        let choice = match found {
            Found::Result(..) => number,
            Found::Nothing | Found::Rejected => self.first_choice(id)?,
        };
        let missing = || StepError::internal("a way that there is not");
        let key = *keys.get(choice).ok_or_else(missing)?;
        if choice >= recipes.len() {
            return Err(missing());
        }
        Ok(Look::Keyed { recipe: recipes.swap_remove(choice), key, choice, found })
    }

    /// The way in which a step will be made: of an encode, one of those that are left to it.
    fn first_choice(&self, id: NodeIndex) -> Result<usize, StepError> {
        let (title, step): (&Title, Step) = (self.engine.title(id), self.engine.graph[id].step);
        let Needs::Encode { track, .. } = step.needs(title, 1) else { return Ok(0) };
        let rung = title.rung(track).ok_or_else(StepError::early)?;
        self.engine.slots.first_choice((title.id, track), rung, Some(id)).ok_or_else(|| {
            let reasons = self.engine.slots.reasons((title.id, track));
            StepError::Spec(format!("no encoder is left: {}", reasons.join("; ")))
        })
    }
}
