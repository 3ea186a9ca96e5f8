//! What came of a build, or would come of it: counts, titles, failures.

use std::collections::HashMap;

use petgraph::graph::NodeIndex;

use super::Scheduler;
use crate::graph::error::StepError;
use crate::graph::event::{Counts, FailureReport, Kind, Origin, TitleSummary};
use crate::graph::memo::{self, TitleMemo};
use crate::graph::step::State;

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

impl Scheduler<'_> {
    /// Takes over what an earlier build of the same title published.
    pub(super) fn adopt(&mut self, title: usize, memo: TitleMemo) {
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

    pub(super) fn published(&mut self, number: usize) -> Result<(), StepError> {
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
    pub(super) fn outlook(&self, number: usize) -> TitleOutcome {
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

    /// Adds what is known of titles that did not get to the end.
    pub(super) fn close(mut self) -> Outcome {
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
