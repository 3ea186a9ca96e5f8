//! Results that tell of more steps.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::Scheduler;
use crate::graph::error::StepError;
use crate::graph::event::{Event, Origin};
use crate::graph::film::Piece;
use crate::graph::memo;
use crate::graph::packaging::ENTRY;
use crate::graph::step::{Node, State, Step};
use crate::graph::work::{Payload, SoundFacts};
use crate::package;

impl Scheduler<'_> {
    /// Adds the steps that a result tells of.
    pub(super) fn grow(
        &mut self,
        id: NodeIndex,
        title: usize,
        step: Step,
        origin: Origin,
        payload: Payload,
    ) -> Result<(), StepError> {
        let before = self.graph.node_count();
        match payload {
            // One that was made elsewhere while the film is being cut.
            Payload::None if matches!(step, Step::DecodeSpan { .. }) => self.cut(title)?,
            Payload::None | Payload::Encoded(_) => {}
            Payload::Source(digest) if self.titles[title].digest.is_none() => {
                self.titles[title].digest = Some(digest);
                let whole = !self.settings.expand && !self.settings.unpublished;
                if whole
                    && self.settings.sources.is_none()
                    && let Some(memo) =
                        memo::find(&self.worker, self.ladder, &self.titles[title], digest, &self.tools)
                {
                    self.adopt(title, memo);
                    return Ok(());
                }
                if whole && !self.settings.dry_run {
                    // What cannot be published is not worth encoding.
                    package::check_folder(&self.titles[title].output, ENTRY).map_err(StepError::Publish)?;
                }
                let node = self.graph.add_node(Node::new(title, Step::Index, 0));
                self.graph.add_edge(id, node, ());
            }
            Payload::Index(index) if self.titles[title].index.is_none() => {
                for message in self.titles[title].check_rungs(&index)? {
                    let title = self.titles[title].name.clone();
                    (self.observe)(&Event::Warning { title, message });
                }
                self.titles[title].grow_spans(&mut self.graph, index, id);
            }
            Payload::Span(decoded, frames, _) if origin == Origin::Ran => {
                self.take_span(title, step, *decoded, frames)?;
            }
            Payload::Film(film) if !self.titles[title].is_cut => self.take_film(title, &film)?,
            Payload::Sound(facts, windows) => self.hear(title, step, facts, windows),
            Payload::Reel(segments) => {
                if let Step::Reel { track, reel } = step
                    && let Some(reel) = self.titles[title].tracks[track].reels.get_mut(reel)
                {
                    reel.segments = Some(segments);
                }
            }
            Payload::Published => self.published(title)?,
            // Made a second time to repair the cache: the graph has grown already.
            Payload::Source(_) | Payload::Index(_) | Payload::Span(..) | Payload::Film(_) => {}
        }
        let growing = &mut self.titles[title];
        for track in 0..growing.tracks.len() {
            growing.grow_reels(&mut self.graph, track);
        }
        if growing.can_grow_package() {
            growing.grow_package(&mut self.graph);
        }
        self.take_in(before);
        Ok(())
    }

    /// New nodes: those that can be looked up, and those whose inputs will never be done.
    pub(super) fn take_in(&mut self, before: usize) {
        for node in (before..self.graph.node_count()).map(NodeIndex::new) {
            let inputs = self.graph.neighbors_directed(node, petgraph::Direction::Incoming);
            let mut would_run = false;
            let mut hopeless = false;
            for input in inputs {
                would_run |= matches!(self.graph[input].state, State::WouldRun);
                hopeless |= matches!(self.graph[input].state, State::Failed | State::Skipped);
            }
            if !matches!(self.graph[node].state, State::Waiting) {
                continue;
            }
            if would_run {
                self.mark_would_run(node, Some(|outcome| &mut outcome.follows));
            } else if hopeless {
                self.skip(node);
            } else if self.graph[node].missing == 0 {
                self.fresh.push(node);
            }
        }
    }

    /// Notes the windows of a sound.
    fn hear(&mut self, number: usize, step: Step, facts: SoundFacts, mut windows: Vec<Piece>) {
        let Step::DecodeSound { sound } = step else { return };
        for window in &mut windows {
            window.start += facts.offset.max(0) as u64;
        }
        if let Some(sound) = self.titles[number].sounds.get_mut(sound) {
            sound.heard = Some((facts, Arc::new(windows)));
        }
    }
}
