//! When a result does not hold: lost blobs are made again, and a track whose spans do not decode by
//! themselves is decoded as a whole.

use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::cache::{ActionEntry, BlobRef, Cache, Cost};
use crate::media;

use super::Scheduler;
use crate::graph::error::StepError;
use crate::graph::event::Origin;
use crate::graph::step::{Node, State, Step};
use crate::graph::work;

/// A step whose result is lost this often is not met by chance.
const MOST_REPAIRS: u8 = 3;

impl Scheduler<'_> {
    /// A span that does not decode by itself may mean that the stream cannot be entered where it
    /// says: then the track is decoded as a whole, whose verdict is final. False where it has
    /// been already.
    pub(super) fn respan(&mut self, id: NodeIndex) -> bool {
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
    pub(super) fn remember_index(&self, title: usize, index: &media::Index) {
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
    pub(super) fn repair(&mut self, id: NodeIndex, blob: BlobRef) {
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
}
