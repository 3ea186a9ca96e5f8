//! The graph of a build as plain data, for pictures of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use petgraph::graph::NodeIndex;
use serde::Serialize;

use crate::cache::Tiers;
use crate::spec::Ladder;

use super::Options;
use super::error::StepError;
use super::event::Kind;
use super::explain::survey;
use super::scheduler::Scheduler;
use super::step::{State, Step};
use super::title::Title;

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
    let mut ids: Vec<NodeIndex> =
        survey.graph.node_indices().filter(|&id| !matches!(survey.graph[id].state, State::Skipped)).collect();
    ids.sort_by_key(|&id| (survey.graph[id].title, survey.graph[id].step.stage(), id));
    let numbers: HashMap<NodeIndex, usize> =
        ids.iter().enumerate().map(|(number, &id)| (id, number)).collect();
    let numbered = |(from, to)| Some((*numbers.get(&from)?, *numbers.get(&to)?));
    let mut edges: Vec<(usize, usize)> = inputs(&survey).chain(told(&survey)).filter_map(numbered).collect();
    edges.sort_unstable();
    edges.dedup();
    Ok(GraphView { nodes: ids.into_iter().map(|id| node_view(&survey, id)).collect(), edges })
}

fn node_view(survey: &Scheduler<'_>, id: NodeIndex) -> NodeView {
    let node = &survey.graph[id];
    let title = &survey.titles[node.title];
    NodeView {
        title: title.name.clone(),
        label: title.label(node.step),
        kind: node.step.kind(),
        state: match node.state {
            State::Done { .. } => NodeState::Cached,
            State::WouldRun if node.key.is_some() || node.step == Step::Publish => NodeState::WouldRun,
            _ => NodeState::Unknown,
        },
        detail: detail(title, node.step),
        key: node.key.map(|key| key.to_string()),
        group: group(title, node.step),
    }
}

/// From when to when a piece of a track lasts; of other steps there is nothing to say.
fn detail(title: &Title, step: Step) -> String {
    let (Step::Encode { track, piece } | Step::Audio { track, piece } | Step::Segment { track, piece }) =
        step
    else {
        return String::new();
    };
    let rate = match title.tracks[track].rung() {
        Some(_) => title.timing.as_ref().map_or(1, |timing| timing.timescale),
        None => crate::media::OPUS_RATE,
    };
    let seconds = |ticks: u64| ticks as f64 / f64::from(rate.max(1));
    let detail = title.pieces(track).get(piece).map(|piece| {
        format!("{:.2} s to {:.2} s", seconds(piece.start), seconds(piece.start + piece.duration()))
    });
    detail.unwrap_or_default()
}

fn group(title: &Title, step: Step) -> String {
    match step {
        Step::Encode { track, .. } | Step::Audio { track, .. } | Step::Segment { track, .. } => {
            format!("{}/{}", title.tracks[track].label(), step.kind().name())
        }
        Step::Reel { track, .. } => format!("{}/reel", title.tracks[track].label()),
        Step::DecodeSpan { .. } => "decode".to_owned(),
        Step::SpanReel { .. } => "decode/reel".to_owned(),
        _ => title.label(step),
    }
}

/// From each step to those whose keys are made of its result.
fn inputs<'a>(survey: &'a Scheduler<'_>) -> impl Iterator<Item = (NodeIndex, NodeIndex)> + 'a {
    survey.graph.raw_edges().iter().map(|edge| (edge.source(), edge.target()))
}

/// From steps that tell of others, which is how a graph reads, though they are no inputs to their keys.
fn told<'a>(survey: &'a Scheduler<'_>) -> impl Iterator<Item = (NodeIndex, NodeIndex)> + 'a {
    let mut one_of: HashMap<(usize, Step), NodeIndex> = HashMap::new();
    for id in survey.graph.node_indices() {
        let node = &survey.graph[id];
        if matches!(node.step, Step::Chunk | Step::Index) && !matches!(node.state, State::Skipped) {
            one_of.insert((node.title, node.step), id);
        }
    }
    survey.graph.node_indices().filter_map(move |id| {
        let node = &survey.graph[id];
        let teller = match node.step {
            Step::Encode { .. } => one_of.get(&(node.title, Step::Chunk)).copied(),
            Step::DecodeSound { .. } => one_of.get(&(node.title, Step::Index)).copied(),
            Step::Audio { track, .. } | Step::Init { track } => {
                survey.titles[node.title].rendition(track).ok().map(|(_, sound)| sound.node)
            }
            _ => None,
        };
        Some((teller?, id))
    })
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
