//! What came of a build, or would come of it: counts, titles, failures.

use std::collections::HashMap;

use petgraph::graph::NodeIndex;

use super::Scheduler;
use crate::cache::ActionKey;
use crate::graph::error::StepError;
use crate::graph::event::{Counts, Event, FailureReport, Kind, Origin, Run, TitleSummary};
use crate::graph::memo::{self, TitleMemo};
use crate::graph::plan::{TitlePlan, TrackPlan};
use crate::graph::step::{Node, State, Step};

/// One of the counts of steps by kind.
pub type CountOf = fn(&mut Outcome) -> &mut HashMap<Kind, u64>;

/// What came of it all.
#[derive(Default)]
pub struct Outcome {
    pub counts: HashMap<Kind, Counts>,
    /// In a dry run, how many steps of a kind would run, as nothing lies under their keys.
    pub would_run: HashMap<Kind, u64>,
    /// And how many depend on one that would run, so that their keys are not known.
    pub follows: HashMap<Kind, u64>,
    pub titles: Vec<TitlePlan>,
    /// Of those that were published.
    pub summaries: Vec<TitleSummary>,
    pub failures: Vec<FailureReport>,
    pub interrupted: bool,
    /// Spans that GPUs decoded.
    pub spans_on_gpus: u64,
    /// The steps that ran, in the order in which they ended.
    pub runs: Vec<(NodeIndex, Run)>,
}

impl Scheduler<'_> {
    /// Takes over what an earlier build of the same title published.
    pub(super) fn adopt(&mut self, title: usize, memo: TitleMemo) {
        for (kind, nodes) in &memo.nodes {
            if *kind != Kind::Source {
                self.outcome.counts.entry(*kind).or_default().cached += nodes;
            }
        }
        let summary = memo.summary_for(&self.titles[title]);
        let tracks = summary.rungs.iter().chain(&summary.audio).map(|track| TrackPlan {
            name: track.name.clone(),
            size: track.size,
            segments: track.segments,
            to_encode: 0,
            seconds_to_encode: 0.0,
            which: Vec::new(),
            why: Vec::new(),
        });
        self.outcome.titles.push(TitlePlan {
            name: summary.name.clone(),
            exact: true,
            up_to_date: true,
            seconds: summary.seconds,
            tracks: tracks.collect(),
        });
        self.outcome.summaries.push(summary);
    }

    pub(super) fn published(&mut self, number: usize) -> Result<(), StepError> {
        let title = &self.titles[number];
        let ran = |node: NodeIndex| matches!(self.graph[node].state, State::Done { origin: Origin::Ran, .. });
        let summary = title.summary(&ran)?;
        if !self.settings.unpublished
            && !self.settings.expand
            && let (Some(digest), Some(files)) = (title.digest, &title.to_publish)
        {
            let memo = TitleMemo::new(title, files, summary.clone(), &self.tools);
            let inputs = self.keys_of_title(number);
            memo::keep(&self.worker, self.ladder, digest, &self.tools, &memo, inputs)?;
        }
        for message in title.above_their_levels(&summary) {
            (self.observe)(&Event::Warning { title: title.name.clone(), message });
        }
        let outlook = self.outlook(number);
        self.outcome.titles.push(TitlePlan { up_to_date: true, ..outlook });
        self.outcome.summaries.push(summary);
        self.titles[number].frames = None;
        self.titles[number].to_publish = None;
        Ok(())
    }

    /// The keys of all that a title is made of, but for what is on its reels: those tell of it.
    fn keys_of_title(&self, number: usize) -> Vec<ActionKey> {
        let on_reels = |step| {
            matches!(
                step,
                Step::DecodeSpan { .. } | Step::Encode { .. } | Step::Audio { .. } | Step::Segment { .. }
            )
        };
        // Of what was taken back while the film turned out to be cut otherwise, what had run stays in: it
        // is kept a little longer for it, and no more.
        let is_part = |node: &&Node| node.title == number && node.result().is_some() && !on_reels(node.step);
        self.graph.node_weights().filter(is_part).filter_map(|node| node.key).collect()
    }

    /// What is known of a title by now.
    fn outlook(&self, number: usize) -> TitlePlan {
        let title = &self.titles[number];
        let would_run = |node: NodeIndex| matches!(self.graph[node].state, State::WouldRun);
        let tracks = title.tracks.iter().enumerate().map(|(number, track)| {
            let size = track.rung().map(|rung| (rung.picture.width, rung.picture.height));
            let rate = match track.rung() {
                Some(_) => title.timing.as_ref().map_or(1, |timing| timing.timescale),
                None => crate::media::OPUS_RATE,
            };
            let mut which: Vec<(u64, u64)> = Vec::new();
            let mut ticks = 0;
            for (place, (nodes, piece)) in track.pieces.iter().zip(title.pieces(number)).enumerate() {
                if !nodes.encode.is_some_and(would_run) {
                    continue;
                }
                ticks += piece.duration();
                let place = place as u64 + 1;
                match which.last_mut() {
                    Some((_, last)) if *last + 1 == place => *last = place,
                    _ => which.push((place, place)),
                }
            }
            TrackPlan {
                name: track.name.clone(),
                size,
                segments: title.pieces(number).len() as u64,
                to_encode: which.iter().map(|(first, last)| last - first + 1).sum(),
                seconds_to_encode: ticks as f64 / f64::from(rate.max(1)),
                which,
                why: Vec::new(),
            }
        });
        TitlePlan {
            name: title.name.clone(),
            exact: title.is_cut && (0..title.tracks.len()).all(|track| title.has_all_pieces(track)),
            up_to_date: false,
            seconds: title.seconds(),
            tracks: tracks.collect(),
        }
    }

    /// Adds what is known of titles that did not get to the end.
    pub(super) fn close(&mut self) {
        for title in 0..self.titles.len() {
            let name = &self.titles[title].name;
            if !self.outcome.titles.iter().any(|done| done.name == *name) {
                let outlook = self.outlook(title);
                self.outcome.titles.push(outlook);
            }
        }
        let order = |name: &str| self.ladder.titles.iter().position(|title| title.name == name);
        self.outcome.titles.sort_by_key(|title| order(&title.name));
        self.outcome.summaries.sort_by_key(|title| order(&title.name));
    }
}
