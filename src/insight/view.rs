//! The graph of a build as plain data, for drawings of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::explain::dry_run_graph;
use crate::build::Options;
use crate::build::engine::Engine;
use crate::build::graph::State;
use crate::cache::Tiers;
use crate::spec::Ladder;
use crate::steps::{Kind, StepError};

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
    Run,
    /// It needs a step that runs, and is cached if that produces what it did before.
    MayRun,
}

/// The steps of a build, and what a build does with each, without running any.
pub fn view(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
) -> Result<GraphView, StepError> {
    let dry_run = dry_run_graph(ladder, cache, options, cancelled)?;
    let mut ids: Vec<NodeIndex> =
        dry_run.graph.current().filter(|&id| !dry_run.graph[id].is_skipped()).collect();
    ids.sort_by_key(|&id| (dry_run.graph[id].title, dry_run.graph[id].step.order(), id));
    let numbers: HashMap<NodeIndex, usize> =
        ids.iter().enumerate().map(|(number, &id)| (id, number)).collect();
    let numbered = |(from, to)| Some((*numbers.get(&from)?, *numbers.get(&to)?));
    let mut edges: Vec<(usize, usize)> =
        dry_run.graph.edges().chain(told(&dry_run)).filter_map(numbered).collect();
    edges.sort_unstable();
    edges.dedup();
    Ok(GraphView { nodes: ids.into_iter().map(|id| node_view(&dry_run, id)).collect(), edges })
}

fn node_view(dry_run: &Engine<'_>, id: NodeIndex) -> NodeView {
    let node = &dry_run.graph[id];
    let title = &dry_run.titles[node.title.index()];
    NodeView {
        title: title.name.clone(),
        label: node.step.label(title),
        kind: node.step.kind(),
        state: match node.state() {
            State::Done { .. } => NodeState::Cached,
            // Its key is known, or it was looked at without one.
            State::MayRun if node.missing == 0 => NodeState::Run,
            _ => NodeState::MayRun,
        },
        detail: node.step.detail(title),
        key: node.key.map(|key| key.to_string()),
        group: node.step.group(title),
    }
}

/// From steps that tell of others, which is how a graph reads, though they are no inputs to their keys.
fn told<'a>(dry_run: &'a Engine<'_>) -> impl Iterator<Item = (NodeIndex, NodeIndex)> + 'a {
    dry_run.graph.current().flat_map(move |id| {
        let node = &dry_run.graph[id];
        let told_by = node.step.told_by(&dry_run.titles[node.title.index()]);
        told_by.into_iter().filter_map(move |step| Some((dry_run.graph.find(node.title, step)?, id)))
    })
}

impl NodeState {
    pub const ALL: [NodeState; 3] = [NodeState::Run, NodeState::Cached, NodeState::MayRun];

    pub fn name(self) -> &'static str {
        match self {
            NodeState::Cached => "cached",
            NodeState::Run => "run",
            NodeState::MayRun => "may_run",
        }
    }
}
