//! When a result does not hold: lost blobs are made again, and a track whose spans do not decode by
//! themselves is decoded as a whole.

use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::cache::{ActionEntry, BlobRef, Cache, Cost};
use crate::executors::{Blame, Failure};
use crate::media;

use super::Scheduler;
use super::slots::{Refusal, Slots, Way};
use crate::graph::composed::{compositions, content_of};
use crate::graph::error::StepError;
use crate::graph::event::{Event, Kind, Origin};
use crate::graph::step::{Node, State, Step};
use crate::graph::work;

/// A step whose result is lost this often is not met by chance.
pub(super) const MOST_REPAIRS: u8 = 3;

impl Scheduler<'_> {
    /// A span that does not decode by itself may mean that the stream cannot be entered where it
    /// says: then the track is decoded as a whole, whose verdict is final. False where it has
    /// been already.
    pub(super) fn respan(&mut self, id: NodeIndex) -> bool {
        let Node { title: number, step: Step::DecodeSpan { .. }, .. } = self.graph[id] else { return false };
        let title = &mut self.titles[number];
        let Some(index) = title.index.as_ref().filter(|index| index.video.spans.len() > 1) else {
            // A span of the track as it was cut before.
            return !title.decode.contains(&Some(id));
        };
        let index = Arc::new(media::Index { video: index.video.as_one_span(), ..(**index).clone() });
        for old in title.ungrow_spans(&self.graph) {
            self.drop_node(old);
        }
        self.ready.forget_spans(number);
        self.stop_cutting(number);
        let title = &mut self.titles[number];
        title.cut_at_end = false;
        let before = self.graph.node_count();
        let index_step =
            |node: &NodeIndex| self.graph[*node].title == number && self.graph[*node].step == Step::Index;
        let Some(told_by) = self.graph.node_indices().find(index_step) else { return false };
        title.grow_spans(&mut self.graph, Arc::clone(&index), told_by);
        self.take_in(before);
        self.remember_index(number, &index);
        true
    }

    /// Has a chunk encoded again, by another where there is one. An executor that cannot make the
    /// rung's stream, or fails again and again, makes no more of this rung. False where nobody is left.
    pub(super) fn give_back(&mut self, id: NodeIndex, way: Way, failure: &Failure) -> bool {
        let Node { title: number, step: Step::Encode { track, .. }, .. } = self.graph[id] else {
            return false;
        };
        let what = match failure.blame {
            Blame::Cancelled | Blame::Source => return false,
            Blame::Refused => None,
            Blame::Contract | Blame::Spec | Blame::Machine => Some(self.blame(id, track, way, failure)),
        };
        let stepped_down = what.is_none().then(|| self.step_down(way, failure)).flatten();
        let title = &self.titles[number];
        let tell = |message| (self.observe)(&Event::Warning { title: title.name.clone(), message });
        // Of the device and not of this chunk, so also where nobody is left for it.
        stepped_down.into_iter().for_each(tell);
        let made = &title.tracks[track];
        let Some(next) = self.slots.first_choice(made, Some(id)) else { return false };
        let next = made.rung().and_then(|plan| plan.choices.get(next));
        let next = next.map_or("?", |choice| choice.settings.encoder.name());
        if let Some(what) = what {
            tell(format!("{} goes to {next}: {what}", title.label(self.graph[id].step)));
        }
        self.look_again(id);
        true
    }

    /// A device has granted no slot: it has fewer from now on. Returns what there is to tell.
    fn step_down(&mut self, way: Way, failure: &Failure) -> Option<String> {
        let refusal = self.slots.refused(way, self.at_work(way.executor));
        let (name, why) = (self.slots.name(way.executor), &failure.message);
        match refusal {
            Refusal::Known => None,
            Refusal::Granted(0) => Some(format!("{name} is busy, and is asked again later: {why}")),
            Refusal::Granted(granted) => Some(format!("{name} does {granted} at a time now: {why}")),
            Refusal::GivenUp(reason) => Some(format!("{name} is given up: {reason}: {why}")),
        }
    }

    /// Counts a failure of an executor's. Returns what there is to tell.
    fn blame(&mut self, id: NodeIndex, track: usize, way: Way, failure: &Failure) -> String {
        // What cannot make this rung may well make others: several slots at it say no more than one.
        let cannot = matches!(failure.blame, Blame::Contract | Blame::Spec);
        let given_up = !cannot && self.slots.failed(way, id, &failure.message);
        let made = &mut self.titles[self.graph[id].title].tracks[track];
        let failures = made.failures.entry(way.executor).or_default();
        *failures += 1;
        let retires = (cannot || Slots::is_enough(*failures)) && !made.has_retired(way.executor);
        if retires {
            made.retired.push((way.executor, failure.message.clone()));
            // One alone that fails now and then goes on: a chunk has its own number of attempts.
            if !cannot && self.slots.first_choice(made, None).is_none() {
                made.retired.pop();
            }
        }
        let name = self.slots.name(way.executor);
        let mut what = failure.message.clone();
        if given_up {
            what += &format!("; {name} is given up");
        } else if retires && made.has_retired(way.executor) {
            what += &format!("; {name} encodes no more of rung {}", made.name);
        }
        what
    }

    /// A step is looked up anew: its key may be another, or its result be there by now.
    pub(super) fn look_again(&mut self, id: NodeIndex) {
        self.forget_key(id);
        self.graph[id].state = State::Waiting;
        self.graph[id].disbelieved = false;
        self.fresh.push(id);
    }

    /// Nobody wants a step any more. One that runs is left to end.
    pub(super) fn drop_node(&mut self, id: NodeIndex) {
        if !matches!(self.graph[id].state, State::Running) {
            self.forget_key(id);
            self.release_followers(id);
        }
        self.graph[id].state = State::Skipped;
    }

    /// Files what was learned of a track, so that the next build does not try its spans again.
    fn remember_index(&self, title: usize, index: &media::Index) {
        let is_index = |node: &&Node| node.title == title && node.step == Step::Index;
        let Some(key) = self.graph.node_weights().find(is_index).and_then(|node| node.key) else { return };
        let filed = work::store_index(&self.worker, index).and_then(|result| {
            let cost = Cost { kind: Kind::Index.name().to_owned(), ..Cost::default() };
            Ok(self.worker.cache.put_action(&key, &ActionEntry { result, inputs: Vec::new(), cost })?)
        });
        if let Err(error) = filed {
            tracing::warn!("what was learned of the source is not remembered: {error}");
        }
    }

    /// Has a lost blob made again, by the step that made it or by another build, and then the step run that
    /// wanted it.
    pub(super) fn repair(&mut self, id: NodeIndex, blob: BlobRef) {
        let makers: Vec<NodeIndex> = self
            .graph
            .neighbors_directed(id, Direction::Incoming)
            .filter(|&input| self.graph[input].last.as_ref().is_some_and(|last| last.blobs.contains(&blob)))
            .collect();
        let Node { title, step, .. } = self.graph[id];
        let is_publish = step == Step::Publish;
        let on_reels = if is_publish { self.reels_with(title, &blob) } else { Vec::new() };
        let worn = |maker: &NodeIndex| self.graph[*maker].repairs >= MOST_REPAIRS;
        let reel_nodes: Vec<NodeIndex> =
            on_reels.iter().map(|&(track, reel)| self.titles[title].tracks[track].reels[reel].node).collect();
        if makers.iter().any(worn)
            || (makers.is_empty() && (!is_publish || reel_nodes.is_empty() || reel_nodes.iter().any(worn)))
        {
            self.fail(id, StepError::Lost(blob));
            return;
        }
        let told = format!(
            "{}: {}: a result that was in the cache cannot be had any more, and is made again",
            self.titles[title].name,
            self.titles[title].label(step)
        );
        // One is seldom lost alone: the others are notes.
        if std::mem::replace(&mut self.loss_told, true) {
            tracing::info!("{told}");
        } else {
            tracing::warn!("{told}");
        }
        self.graph[id].state = State::Waiting;
        // Bytes that are there, and right, and yet not what they should be.
        let is_nonsense = matches!(self.worker.cache.blob(&blob), Ok(Some(_)));
        for maker in makers {
            self.graph[maker].disbelieved |= is_nonsense;
            self.make_again(id, maker);
        }
        if is_publish {
            for (track, reel) in on_reels {
                self.rewind(id, title, track, reel);
            }
        }
    }

    /// The reels with segments that are made of a blob.
    fn reels_with(&self, title: usize, blob: &BlobRef) -> Vec<(usize, usize)> {
        let tracks = self.titles[title].tracks.iter().enumerate();
        let reels = tracks.flat_map(|(track, made)| {
            made.reels.iter().enumerate().map(move |(number, reel)| (track, number, reel.node))
        });
        let is_made_of = |node: NodeIndex| {
            let made_of = self.graph[node].last.as_ref().and_then(|last| last.blobs.get(1));
            let made_of = made_of.and_then(|made_of| compositions(&*self.worker.cache, made_of).ok());
            let content = content_of(blob);
            made_of.is_some_and(|made| made.iter().any(|file| file.blobs().any(|one| one == content)))
        };
        reels.filter(|(.., node)| is_made_of(*node)).map(|(track, number, _)| (track, number)).collect()
    }

    /// Has all segments of a reel made again of which something is lost: one is seldom lost alone.
    fn rewind(&mut self, wanted_by: NodeIndex, title: usize, track: usize, reel: usize) {
        let wound = &mut self.titles[title].tracks[track].reels[reel];
        let (node, expanded, pieces) = (wound.node, wound.expanded, wound.pieces.clone());
        wound.segments = None;
        self.make_again(wanted_by, node);
        if !expanded {
            return;
        }
        // Looking at a blob also drops it if it is damaged, so that its step is not found.
        let is_lost = |blob: &BlobRef| !matches!(self.worker.cache.blob(blob), Ok(Some(_)));
        let nodes = self.titles[title].tracks[track].pieces.get(pieces).unwrap_or_default().iter();
        let lost: Vec<NodeIndex> = nodes
            .filter_map(|nodes| nodes.segment)
            .filter(|&segment| {
                self.graph[segment].last.as_ref().is_some_and(|last| last.blobs.iter().any(is_lost))
            })
            .collect();
        for segment in lost {
            self.fresh.retain(|&fresh| fresh != node);
            self.make_again(node, segment);
        }
    }

    /// `maker` is looked for again; `wanted_by` and all others that wait have counted it as done.
    pub(super) fn make_again(&mut self, wanted_by: NodeIndex, maker: NodeIndex) {
        let State::Done { origin, .. } = self.graph[maker].state else {
            // Another step has noticed the loss before.
            self.graph[wanted_by].missing += 1;
            return;
        };
        let counts = self.outcome.counts.entry(self.graph[maker].step.kind()).or_default();
        match origin {
            Origin::Ran => counts.ran -= 1,
            Origin::Cached => counts.cached -= 1,
        }
        if origin == Origin::Cached {
            // What is on a reel will be counted one by one.
            let Node { title, step, .. } = self.graph[maker];
            for (kind, unseen) in self.titles[title].unseen_on(step) {
                let counts = self.outcome.counts.entry(kind).or_default();
                counts.cached = counts.cached.saturating_sub(unseen);
            }
        }
        let node = &mut self.graph[maker];
        node.state = State::Waiting;
        node.repairs += 1;
        self.fresh.push(maker);
        let dependents: Vec<NodeIndex> = self.graph.neighbors(maker).collect();
        for dependent in dependents {
            if matches!(self.graph[dependent].state, State::Waiting) {
                self.graph[dependent].missing += 1;
            }
        }
    }
}
