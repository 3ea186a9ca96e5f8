//! Keeps the graph what the titles' knowledge says: which steps there are, and what follows from a result
//! beside that.

use std::sync::atomic::Ordering;

use petgraph::graph::NodeIndex;

use super::engine::Engine;
use super::event::{Event, Origin};
use super::graph::{State, TitleResults};
use super::title_cache;
use crate::package;
use crate::steps::{ENTRY, Effect, EncodeWork, Fact, Learning, Needs, Step, StepError, steps_of};
use crate::title::ids::TitleId;

impl Engine<'_> {
    /// Lets the title learn of a result, and brings about what follows from it.
    pub(super) fn learn(&mut self, id: NodeIndex, origin: Origin, fact: Fact) -> Result<(), StepError> {
        let (title, step) = (self.graph[id].title, self.graph[id].step);
        let learning = Learning {
            results: &TitleResults { graph: &self.graph, title },
            context: &self.context,
            tools: &self.tools,
            threads: self.settings.options.jobs,
            has_run: origin == Origin::Ran,
        };
        let number = title.index();
        let learned = step.learn(&mut self.titles[number], &mut self.live[number], fact, &learning);
        // Also of a result that does not go with the title: what was learned before the error holds.
        let effects = learned.inspect_err(|_| self.drop_withdrawn(title))?;
        for effect in effects {
            self.bring_about(title, effect)?;
        }
        self.sync(title);
        Ok(())
    }

    /// After an error: what the title does not know any more is not waited for either.
    fn drop_withdrawn(&mut self, title: TitleId) {
        if self.titles[title.index()].timing.is_none() {
            self.queue.forget_tracks(title);
            self.slots.forget_tracks(title);
        }
        self.sync(title);
    }

    fn bring_about(&mut self, title: TitleId, effect: Effect) -> Result<(), StepError> {
        let name = || self.titles[title.index()].name.clone();
        match effect {
            Effect::Warn(message) => self.tell(Event::Warning { title: name(), message }),
            Effect::Totals { rungs, work: EncodeWork { seconds, samples } } => {
                self.tell(Event::Totals { title: name(), rungs, seconds, samples });
            }
            Effect::Chunked(chunks) => self.tell(Event::Chunked { title: name(), chunks }),
            Effect::ChunksWithdrawn => {
                self.queue.forget_tracks(title);
                self.slots.forget_tracks(title);
                // Frames may follow that belong to what the title knows now.
                self.sync(title);
            }
            Effect::Frames(chunk, frames) => {
                self.queue.settle((title, chunk), frames);
                self.settled.push((title, chunk));
            }
            Effect::SourceKnown => self.source_is_known(title)?,
            Effect::Published => self.published(title)?,
        }
        Ok(())
    }

    /// The title as a whole may be up to date; then it has no other step.
    fn source_is_known(&mut self, title: TitleId) -> Result<(), StepError> {
        if self.settings.expand || self.settings.unpublished {
            return Ok(());
        }
        let of = &self.titles[title.index()];
        if self.settings.sources.is_none()
            && let Some(cached) = title_cache::find(&self.context, self.ladder, of, &self.tools)
        {
            self.reuse(title, &cached);
            self.reused.insert(title);
            return Ok(());
        }
        if !self.settings.dry_run {
            // What cannot be published is not worth encoding.
            package::check_folder(&of.output, ENTRY).map_err(StepError::Publish)?;
        }
        Ok(())
    }

    /// Makes the steps of a title those that follow from what is known of it.
    pub(super) fn sync(&mut self, title: TitleId) {
        if self.reused.contains(&title) {
            return;
        }
        let of = &mut self.titles[title.index()];
        let (mut withdrawn, mut changed) = (Vec::new(), Vec::new());
        for part in of.take_touched(|| self.graph.parts_of(title)) {
            let difference = self.graph.replace_part(of, part, steps_of(part, of));
            withdrawn.extend(difference.withdrawn);
            changed.extend(difference.changed);
        }
        for id in withdrawn {
            if !matches!(self.graph[id].state(), State::Done { .. } | State::Failed) {
                self.withdraw(id);
            }
        }
        for id in changed {
            self.take_in(id);
        }
    }

    /// A node is new, or has new inputs: it can be looked up, or its inputs will never be done.
    fn take_in(&mut self, id: NodeIndex) {
        if !self.graph[id].is_waiting() {
            return;
        }
        let mut may_run = false;
        let mut is_hopeless = false;
        for input in self.graph.inputs(id) {
            may_run |= self.graph[input].may_run();
            is_hopeless |= matches!(self.graph[input].state(), State::Failed | State::Skipped);
        }
        if may_run {
            self.mark_may_run(id, Some(|outcome| &mut outcome.follows));
        } else if is_hopeless {
            self.skip(id);
        } else if self.graph[id].missing == 0 {
            self.fresh.push(id);
        }
    }

    /// How much a step is, if it is an encode.
    pub(super) fn encode_work(&self, title: TitleId, step: Step) -> Option<EncodeWork> {
        match step.needs(&self.titles[title.index()], self.settings.options.jobs) {
            Needs::Encode { work, .. } => Some(work),
            Needs::Slot { .. } | Needs::AudioPass(_) | Needs::Decode { .. } => None,
        }
    }

    /// Frames decoded so far, those counted twice that were decoded twice.
    pub fn decoded_frames(&self) -> u64 {
        self.context.decoded.load(Ordering::Relaxed)
    }
}
