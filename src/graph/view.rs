//! The graph of a build as plain data, for pictures of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::cache::Tiers;
use crate::spec::Ladder;

use super::Options;
use super::error::StepError;
use super::event::Kind;
use super::explain::survey;
use super::step::{State, Step};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GraphView {
    pub nodes: Vec<NodeView>,
    /// From a step to one that needs it, by their numbers in `nodes`.
    pub edges: Vec<(usize, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeView {
    pub title: String,
    /// The step's name, e.g. `720p/12`.
    pub label: String,
    pub kind: Kind,
    pub state: NodeState,
    /// What it is about, in words; may be empty.
    pub detail: String,
    pub key: Option<String>,
    /// What it is drawn as one with where there are many.
    pub group: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    Cached,
    WouldRun,
    /// It depends on what others make whether it would run.
    Unknown,
}

/// The steps of a build, and what each would do, without running any.
pub fn view(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
) -> Result<GraphView, StepError> {
    let survey = survey(ladder, cache, options, cancelled)?;
    if let Some(failure) = survey.outcome.failures.first() {
        return Err(StepError::Spec(format!("{}: {}: {}", failure.title, failure.node, failure.message)));
    }
    let mut view = GraphView::default();
    let mut numbers = vec![None; survey.graph.node_count()];
    let mut ids: Vec<_> =
        survey.graph.node_indices().filter(|&id| !matches!(survey.graph[id].state, State::Skipped)).collect();
    ids.sort_by_key(|&id| (survey.graph[id].title, survey.graph[id].step.stage(), id));
    for id in ids {
        let node = &survey.graph[id];
        let title = &survey.titles[node.title];
        let label = title.label(node.step);
        let (detail, group) = match node.step {
            Step::Encode { track, piece } | Step::Audio { track, piece } | Step::Segment { track, piece } => {
                let made = &title.tracks[track];
                let rate = match made.rung() {
                    Some(_) => title.timing.as_ref().map_or(1, |timing| timing.timescale),
                    None => crate::media::OPUS_RATE,
                };
                let detail = title.pieces(track).get(piece).map(|piece| {
                    let seconds = |ticks: u64| ticks as f64 / f64::from(rate.max(1));
                    let end = piece.start + piece.duration();
                    format!("{:.2} s to {:.2} s", seconds(piece.start), seconds(end))
                });
                (detail.unwrap_or_default(), format!("{}/{}", made.label(), node.step.kind().name()))
            }
            Step::Reel { track, .. } => (String::new(), format!("{}/reel", title.tracks[track].label())),
            Step::DecodeSpan { .. } => (String::new(), "decode".to_owned()),
            Step::SpanReel { .. } => (String::new(), "decode/reel".to_owned()),
            _ => (String::new(), label.clone()),
        };
        numbers[id.index()] = Some(view.nodes.len());
        view.nodes.push(NodeView {
            title: title.name.clone(),
            label,
            kind: node.step.kind(),
            state: match node.state {
                State::Done { .. } => NodeState::Cached,
                State::WouldRun if node.key.is_some() || node.step == Step::Publish => NodeState::WouldRun,
                _ => NodeState::Unknown,
            },
            detail,
            key: node.key.map(|key| key.to_string()),
            group,
        });
    }
    let mut told_by = vec![(None, None); survey.titles.len()];
    for node in survey.graph.node_indices().filter(|node| numbers[node.index()].is_some()) {
        let told_by = &mut told_by[survey.graph[node].title];
        match survey.graph[node].step {
            Step::Chunk => told_by.0 = Some(node),
            Step::Index => told_by.1 = Some(node),
            _ => {}
        }
    }
    let mut link = |from: usize, to: usize| {
        if let (Some(from), Some(to)) = (numbers[from], numbers[to]) {
            view.edges.push((from, to));
        }
    };
    for edge in survey.graph.raw_edges() {
        link(edge.source().index(), edge.target().index());
    }
    // Steps that tell of others are no inputs to their keys, but that is how a graph reads.
    for node in survey.graph.node_indices() {
        let (title, step) = (survey.graph[node].title, survey.graph[node].step);
        match step {
            Step::Encode { .. } => {
                told_by[title].0.into_iter().for_each(|chunk| link(chunk.index(), node.index()))
            }
            Step::DecodeSound { .. } => {
                told_by[title].1.into_iter().for_each(|index| link(index.index(), node.index()))
            }
            Step::Audio { track, .. } | Step::Init { track } => {
                let sound = survey.titles[title].rendition(track).map(|(_, sound)| sound.node);
                sound.into_iter().for_each(|sound| link(sound.index(), node.index()));
            }
            _ => {}
        }
    }
    view.edges.sort_unstable();
    view.edges.dedup();
    Ok(view)
}

impl NodeState {
    pub const ALL: [NodeState; 3] = [NodeState::WouldRun, NodeState::Cached, NodeState::Unknown];

    pub fn name(self) -> &'static str {
        match self {
            NodeState::Cached => "cached",
            NodeState::WouldRun => "would_run",
            NodeState::Unknown => "unknown",
        }
    }
}
