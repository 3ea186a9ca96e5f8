//! When a result does not hold: lost blobs are made again, what was withdrawn is replaced, and encodes that
//! failed are reassigned.

use petgraph::graph::NodeIndex;

use super::engine::Engine;
use super::event::{Event, Origin};
use super::graph::State;
use super::slots::{Assignment, Reduction};
use crate::cache::{BlobRef, Cache, CacheEntry, Cost};
use crate::executors::{Failure, FailureKind};
use crate::steps::{Needs, Packing, Recovery, StandsFor, Step, StepError, Stop, StoreResult};
use crate::title::ids::{TitleId, TrackId};

/// A step whose result is lost this often is not met by chance.
const MAX_REPAIRS: u8 = 3;

impl Engine<'_> {
    /// A run of a step has not made its result. Reports it, unless something else can be done.
    pub(super) fn recover(&mut self, id: NodeIndex, assignment: Option<Assignment>, stop: Stop) {
        let (title, step) = (self.graph[id].title, self.graph[id].step);
        match stop {
            Stop::Lost(blob) => return self.repair(id, blob),
            Stop::SiblingFailed => return self.skip(id),
            Stop::LeasedElsewhere => return self.set_aside(id),
            Stop::Failed(_) | Stop::AudioMismatch => {}
        }
        let number = title.index();
        match step.recover(&mut self.titles[number], &mut self.live[number], &stop) {
            Recovery::Replaced { step, store } => {
                self.replan(title);
                return self.replace(title, step, store);
            }
            Recovery::Redo(made) => {
                if self.redo(id, title, made) {
                    return;
                }
            }
            Recovery::Reassign(failure) => {
                if assignment.is_some_and(|assignment| self.reassign(id, assignment, &failure)) {
                    return;
                }
            }
            Recovery::None => {}
        }
        match stop {
            Stop::Failed(error) if error.is_cancelled() => self.stopping = true,
            Stop::Failed(error) => self.fail(id, error),
            Stop::AudioMismatch => self.fail(id, StepError::AudioMismatch),
            Stop::Lost(_) | Stop::SiblingFailed | Stop::LeasedElsewhere => {}
        }
    }

    /// What a title knew was replaced.
    fn replan(&mut self, title: TitleId) {
        self.queue.forget_title(title);
        self.slots.forget_tracks(title);
        self.sync(title);
    }

    /// Stores what replaces a step's result, so that the next build starts from it.
    fn replace(&self, title: TitleId, step: Step, store: StoreResult) {
        let Some(key) = self.graph.get(title, step).and_then(|node| node.key) else { return };
        let stored = store(&self.context).and_then(|result| {
            let cost = Cost { kind: step.kind().name().to_owned(), ..Cost::default() };
            let entry = CacheEntry { result, inputs: Vec::new(), cost };
            Ok(self.context.cache.put_entry(&key, &entry)?)
        });
        if let Err(error) = stored {
            self.warn(format!("what was learned of the source is not stored: {error}"));
        }
    }

    /// A result that another step rests on does not hold, though it was in the cache: its step runs again.
    /// False where it was not in the cache, or too often.
    fn redo(&mut self, id: NodeIndex, title: TitleId, step: Step) -> bool {
        let Some(made) = self.graph.find(title, step) else { return false };
        let node = &self.graph[made];
        let was_cached = matches!(node.state(), State::Done { origin: Origin::Cached, .. });
        if !was_cached || node.repairs >= MAX_REPAIRS {
            return false;
        }
        let of = &mut self.titles[title.index()];
        let message =
            format!("{}: decoded audio differs from the cached analysis; analyzing it again", step.label(of));
        let warning = Event::Warning { title: of.name.clone(), message };
        step.forget(of);
        self.tell(warning);
        self.sync(title);
        let graph = &self.graph;
        self.fresh.retain(|&node| graph[node].is_fresh());
        self.graph.node_mut(made).is_rejected = true;
        self.make_again(id, made);
        true
    }

    /// Has an encode run again, by another executor where there is one. An executor that cannot make the
    /// rung's stream, or fails again and again, makes no more of this rung. False where nobody is left.
    fn reassign(&mut self, id: NodeIndex, assignment: Assignment, failure: &Failure) -> bool {
        let (title, step) = (self.graph[id].title, self.graph[id].step);
        let Some(track) = self.track_of(title, step) else { return false };
        let what = match failure.kind {
            FailureKind::Cancelled | FailureKind::Source => return false,
            FailureKind::ResourceExhausted => None,
            FailureKind::Contract | FailureKind::Spec | FailureKind::Machine => {
                Some(self.count_failure(id, track, assignment, failure))
            }
        };
        let reduced = what.is_none().then(|| self.reduce_concurrency(assignment, failure)).flatten();
        let of = &self.titles[title.index()];
        let tell = |message| self.tell(Event::Warning { title: of.name.clone(), message });
        // Of the device and not of this chunk, so also where nobody is left for it.
        reduced.into_iter().for_each(tell);
        let Some(rung) = of.rung(track) else { return false };
        let Some(next) = self.slots.first_choice((title, track), rung, Some(id)) else { return false };
        let next = rung.choices.get(next).map_or("?", |choice| choice.settings.encoder.name());
        if let Some(what) = what {
            tell(format!("{} goes to {next}: {what}", step.label(of)));
        }
        self.look_again(id);
        true
    }

    fn track_of(&self, title: TitleId, step: Step) -> Option<TrackId> {
        match step.needs(&self.titles[title.index()], self.settings.options.jobs) {
            Needs::Encode { track, .. } => Some(track),
            Needs::Slot { .. } | Needs::AudioPass(_) | Needs::Decode { .. } => None,
        }
    }

    /// A device has granted no slot: it has fewer from now on. Returns what there is to tell.
    fn reduce_concurrency(&mut self, assignment: Assignment, failure: &Failure) -> Option<String> {
        let executor = assignment.executor;
        let at_work = self.at_work(executor);
        let reduction = self.slots.refused(assignment, at_work);
        let (name, why) = (self.slots.name(executor), &failure.message);
        match reduction {
            Reduction::Known => None,
            Reduction::Granted(0) => Some(format!("{name} is busy; it is tried again later: {why}")),
            Reduction::Granted(granted) => Some(format!("{name} does {granted} at a time now: {why}")),
            Reduction::GivenUp(reason) => Some(format!("{name} is given up: {reason}: {why}")),
        }
    }

    /// Counts a failure of an executor's. Returns what there is to tell.
    fn count_failure(
        &mut self,
        id: NodeIndex,
        track: TrackId,
        assignment: Assignment,
        failure: &Failure,
    ) -> String {
        let title = self.graph[id].title;
        // What cannot make this rung may well make others: several slots at it say no more than one.
        let cannot = matches!(failure.kind, FailureKind::Contract | FailureKind::Spec);
        let given_up = !cannot && self.slots.failed(assignment, id, &failure.message);
        let of = &self.titles[title.index()];
        let retired = of.rung(track).is_some_and(|rung| {
            self.slots.failed_on((title, track), rung, assignment, cannot, &failure.message)
        });
        let name = self.slots.name(assignment.executor);
        let mut what = failure.message.clone();
        if given_up {
            what += &format!("; {name} is given up");
        } else if retired {
            what += &format!("; {name} encodes no more of rung {}", of.tracks[track.index()].name);
        }
        what
    }

    /// A step is looked up anew: its key may be another, or its result be there by now.
    pub(super) fn look_again(&mut self, id: NodeIndex) {
        self.forget_key(id);
        self.graph.set(id, State::Waiting);
        self.graph.node_mut(id).is_rejected = false;
        self.fresh.push(id);
    }

    /// Nobody wants a step any more. One that runs is left to end.
    pub(super) fn withdraw(&mut self, id: NodeIndex) {
        if !matches!(self.graph[id].state(), State::Running) {
            self.forget_key(id);
            self.release_followers(id);
        }
        self.graph.set(id, State::Skipped);
    }

    /// Has a lost blob made again, by the step that made it or by another build, and then the step run that
    /// wanted it.
    fn repair(&mut self, id: NodeIndex, blob: BlobRef) {
        let (title, step) = (self.graph[id].title, self.graph[id].step);
        let has_it =
            |input: &NodeIndex| self.graph[*input].last().is_some_and(|last| last.blobs.contains(&blob));
        let makers: Vec<NodeIndex> = self.graph.inputs(id).filter(has_it).collect();
        let of = &self.titles[title.index()];
        // It may also be read by a pack that names what is made of it.
        let holds = |input: &NodeIndex| self.held_by(*input).iter().any(|(_, held)| *held == blob);
        let packs: Vec<NodeIndex> =
            if makers.is_empty() { self.graph.inputs(id).filter(holds).collect() } else { Vec::new() };
        let is_worn = |maker: &NodeIndex| self.graph[*maker].repairs >= MAX_REPAIRS;
        if makers.iter().chain(&packs).any(is_worn) || (makers.is_empty() && packs.is_empty()) {
            self.fail(id, StepError::Lost(blob));
            return;
        }
        let message = format!("{}: cached output missing or corrupt; rebuilding it", step.label(of));
        // One is seldom lost alone: the others are notes.
        if std::mem::replace(&mut self.loss_told, true) {
            tracing::info!("{}: {message}", of.name);
        } else {
            self.tell(Event::Warning { title: of.name.clone(), message });
        }
        self.graph.set(id, State::Waiting);
        // Bytes that are there, and right, and yet not what they should be.
        let is_nonsense = matches!(self.context.cache.verify_blob(&blob), Ok(true));
        for maker in makers {
            self.graph.node_mut(maker).is_rejected |= is_nonsense;
            self.make_again(id, maker);
        }
        for pack in packs {
            self.make_pack_again(id, pack);
        }
    }

    /// Blobs that others read by a pack, with the steps whose results name them.
    fn held_by(&self, id: NodeIndex) -> Vec<(Step, BlobRef)> {
        let node = &self.graph[id];
        let of = &self.titles[node.title.index()];
        node.last().map_or_else(Vec::new, |last| node.step.holds(of, last, &*self.context.cache))
    }

    /// Has all that is lost of what a pack stands for made again: one is seldom lost alone.
    fn make_pack_again(&mut self, wanted_by: NodeIndex, pack: NodeIndex) {
        let (title, step) = (self.graph[pack].title, self.graph[pack].step);
        let held = self.held_by(pack);
        let of = &mut self.titles[title.index()];
        let packing = step.packing(of);
        step.forget(of);
        // Looking at a blob also drops it if it is damaged, so that its step is not found.
        let is_lost = |blob: &BlobRef| !matches!(self.context.cache.verify_blob(blob), Ok(true));
        let lost: Vec<Step> = held.iter().filter(|(_, blob)| is_lost(blob)).map(|(step, _)| *step).collect();
        self.make_again(wanted_by, pack);
        if matches!(packing, Packing::Pack { is_packed: true, .. }) {
            return;
        }
        for step in lost {
            if let Some(made) = self.graph.find(title, step) {
                self.fresh.retain(|&fresh| fresh != pack);
                self.make_again(pack, made);
            }
        }
    }

    /// `maker` is looked for again; `wanted_by` and all others that wait have counted it as done.
    fn make_again(&mut self, wanted_by: NodeIndex, maker: NodeIndex) {
        let State::Done { origin, .. } = *self.graph[maker].state() else {
            // Another step has noticed the loss before.
            self.graph.node_mut(wanted_by).missing += 1;
            return;
        };
        let (title, step) = (self.graph[maker].title, self.graph[maker].step);
        let counts = self.outcome.counts.entry(step.kind()).or_default();
        match origin {
            Origin::Ran => counts.ran -= 1,
            Origin::Cached => counts.cached -= 1,
        }
        if origin == Origin::Cached {
            // What a pack stands for will be counted one by one.
            for (kind, steps) in self.stands_for(title, step).into_iter().flat_map(|pack| pack.steps) {
                let counts = self.outcome.counts.entry(kind).or_default();
                counts.cached = counts.cached.saturating_sub(steps);
            }
        }
        self.graph.set(maker, State::Waiting);
        self.graph.node_mut(maker).repairs += 1;
        self.fresh.push(maker);
        let dependents: Vec<NodeIndex> = self.graph.dependents(maker).collect();
        for dependent in dependents {
            if self.graph[dependent].is_waiting() {
                self.graph.node_mut(dependent).missing += 1;
            }
        }
    }

    /// The steps that a pack stands for and that do not exist, if there are any.
    pub(super) fn stands_for(&self, title: TitleId, step: Step) -> Option<StandsFor> {
        match step.packing(&self.titles[title.index()]) {
            Packing::Pack { stands_for, .. } => Some(stands_for).filter(|pack| !pack.steps.is_empty()),
            Packing::Alone | Packing::InPack => None,
        }
    }
}
