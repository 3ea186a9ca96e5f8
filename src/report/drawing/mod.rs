//! The graph of a build as DOT, as SVG, and as JSON. It draws what it is given and decides nothing.
//!
//! Pictures run from left to right, by stage, with a block for each title. An edge that follows
//! from others is not drawn: publishing needs every segment, but so do the playlists that it
//! needs. The JSON holds all edges.

mod dot;
mod layout;
mod svg;

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use layout::Graph;
use rivet::{GraphView, Kind, NodeState, NodeView};

pub use dot::dot;
pub use svg::svg;

/// A graph of more steps is better drawn grouped.
pub const MANY: usize = 120;

/// The graph with the steps of each group of a title as one node, in time linear in its size.
pub fn grouped(view: &GraphView) -> GraphView {
    let mut members: Vec<Vec<usize>> = Vec::new();
    let mut places = HashMap::new();
    let mut place_of = Vec::with_capacity(view.nodes.len());
    for (number, node) in view.nodes.iter().enumerate() {
        let place = *places.entry((&node.title, &node.group)).or_insert(members.len());
        if place == members.len() {
            members.push(Vec::new());
        }
        members[place].push(number);
        place_of.push(place);
    }
    let mut seen = HashSet::new();
    let edges = view.edges.iter().map(|&(from, to)| (place_of[from], place_of[to]));
    GraphView {
        edges: edges.filter(|&edge| edge.0 != edge.1 && seen.insert(edge)).collect(),
        nodes: members.iter().map(|members| merged(view, members)).collect(),
    }
}

fn merged(view: &GraphView, members: &[usize]) -> NodeView {
    let first = view.nodes[members[0]].clone();
    if members.len() == 1 {
        return first;
    }
    let counts = Counts::of(members.iter().map(|&number| &view.nodes[number]));
    let (state, of_it) = match counts {
        Counts { would_run: 0, unknown: 0, cached } => (NodeState::Cached, cached),
        Counts { would_run: 0, unknown, .. } => (NodeState::Unknown, unknown),
        Counts { would_run, .. } => (NodeState::WouldRun, would_run),
    };
    let mut detail = steps(counts.all());
    if of_it < counts.all() {
        detail = format!("{of_it} of {detail}");
    }
    if state == NodeState::WouldRun && counts.unknown > 0 {
        detail += &format!(", {} {}", counts.unknown, words(NodeState::Unknown));
    }
    NodeView { label: first.group.clone(), state, detail, key: None, ..first }
}

#[derive(Default)]
struct Counts {
    cached: usize,
    would_run: usize,
    unknown: usize,
}

impl Counts {
    fn of<'a>(nodes: impl Iterator<Item = &'a NodeView>) -> Counts {
        let mut counts = Counts::default();
        for node in nodes {
            match node.state {
                NodeState::Cached => counts.cached += 1,
                NodeState::WouldRun => counts.would_run += 1,
                NodeState::Unknown => counts.unknown += 1,
            }
        }
        counts
    }

    fn all(&self) -> usize {
        self.cached + self.would_run + self.unknown
    }

    /// E.g. `59 steps: 12 would run, 47 reused`.
    fn words(&self) -> String {
        let states = [
            (self.would_run, NodeState::WouldRun),
            (self.cached, NodeState::Cached),
            (self.unknown, NodeState::Unknown),
        ];
        let some = states.iter().filter(|(count, _)| *count > 0);
        let some: Vec<String> = some.map(|(count, state)| format!("{count} {}", words(*state))).collect();
        format!("{}: {}", steps(self.all()), some.join(", "))
    }
}

fn steps(count: usize) -> String {
    format!("{count} step{}", if count == 1 { "" } else { "s" })
}

/// A state in words.
fn words(state: NodeState) -> &'static str {
    match state {
        NodeState::Cached => "reused",
        NodeState::WouldRun => "would run",
        NodeState::Unknown => "not known yet",
    }
}

/// All nodes and edges, for programs; the keys of this object keep their meaning:
///
/// - `version`: 1, until that changes.
/// - `titles`: their names, in order.
/// - `nodes`: of each its `id` (its place in this list), `title`, `label` (the selector of
///   `rivet explain`), `kind`, `state` (`cached`, `would_run`, or `unknown`: its key follows from
///   results that are not there yet), `detail` (for people), `key` (the action key, or null) and
///   `group` (what it is drawn with when a picture is grouped).
/// - `edges`: each `from` the id of a step `to` that of one that needs its result.
pub fn json(view: &GraphView) -> Value {
    let node = |(id, node): (usize, &NodeView)| {
        json!({
            "id": id,
            "title": node.title,
            "label": node.label,
            "kind": node.kind.name(),
            "state": node.state.name(),
            "detail": node.detail,
            "key": node.key,
            "group": node.group,
        })
    };
    json!({
        "version": 1,
        "titles": blocks(view).iter().map(|block| block.title).collect::<Vec<_>>(),
        "nodes": view.nodes.iter().enumerate().map(node).collect::<Vec<_>>(),
        "edges": view.edges.iter().map(|(from, to)| json!({ "from": from, "to": to })).collect::<Vec<_>>(),
    })
}

/// The nodes of a title.
struct Block<'a> {
    title: &'a str,
    nodes: Vec<usize>,
}

/// The titles in order of their first nodes.
fn blocks(view: &GraphView) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut places = HashMap::new();
    for (number, node) in view.nodes.iter().enumerate() {
        let place = *places.entry(node.title.as_str()).or_insert(blocks.len());
        if place == blocks.len() {
            blocks.push(Block { title: &node.title, nodes: Vec::new() });
        }
        blocks[place].nodes.push(number);
    }
    blocks
}

/// A colour for each kind. All are of one lightness, at which white text on them and lines of them
/// can be read on light and on dark grounds (4.5:1 and more than 3:1).
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "#65748b",
        Kind::Index => "#157e93",
        Kind::Decode => "#1c76c5",
        Kind::Chunk => "#6666d9",
        Kind::Encode => "#ba560f",
        Kind::Audio => "#a947ca",
        Kind::Contract => "#d53744",
        Kind::Mux => "#268345",
        Kind::Manifest => "#89710f",
        Kind::Reel => "#5b7f1d",
        Kind::Publish => "#d12c8c",
    }
}

/// All that is known of a node, for when the pointer rests on it.
fn tooltip(node: &NodeView) -> String {
    let mut text = format!("{}\n{}: {}", node.label, node.kind.name(), words(node.state));
    if !node.detail.is_empty() {
        text += &format!("\n{}", node.detail);
    }
    if let Some(key) = &node.key {
        text += &format!("\nkey {key}");
    }
    text
}

/// A node's second line: its state, and what else there is to say.
fn second_line(node: &NodeView) -> String {
    let separator = if node.detail.is_empty() { "" } else { ": " };
    format!("{}{separator}{}", words(node.state), node.detail)
}

/// XML 1.0 cannot hold most control characters, not even escaped.
fn printable(char: char) -> char {
    match char {
        '\n' | '\t' => char,
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        char if char.is_control() => char::REPLACEMENT_CHARACTER,
        char => char,
    }
}

/// The kinds that occur.
fn kinds(view: &GraphView) -> Vec<Kind> {
    let some: HashSet<Kind> = view.nodes.iter().map(|node| node.kind).collect();
    Kind::ALL.into_iter().filter(|kind| some.contains(kind)).collect()
}

/// The column that a kind stands in, unless its inputs push it further to the right.
fn stage(kind: Kind) -> usize {
    match kind {
        Kind::Source => 0,
        Kind::Index => 1,
        Kind::Decode => 2,
        Kind::Chunk => 3,
        Kind::Encode | Kind::Audio => 4,
        Kind::Reel | Kind::Contract => 6,
        Kind::Mux => 5,
        Kind::Manifest => 7,
        Kind::Publish => 8,
    }
}

/// What the layout needs to know.
fn layout_graph(nodes: &[&NodeView], edges: &[(usize, usize)]) -> Graph {
    let mut bands = HashMap::new();
    let mut band = |group| {
        let next = bands.len();
        *bands.entry(group).or_insert(next)
    };
    Graph {
        columns: nodes.iter().map(|node| stage(node.kind)).collect(),
        bands: nodes.iter().map(|node| band(&node.group)).collect(),
        edges: layout::essential(nodes.len(), edges),
    }
}

#[cfg(test)]
mod tests {
    use super::NodeState::{Cached, Unknown, WouldRun};
    use super::*;

    pub fn node(title: &str, label: &str, group: &str, kind: Kind, state: NodeState) -> NodeView {
        NodeView {
            title: title.to_owned(),
            label: label.to_owned(),
            kind,
            state,
            detail: String::new(),
            key: (state == Cached).then(|| format!("key of {label}")),
            group: group.to_owned(),
        }
    }

    /// A chunk step, encodes on two rungs in these states, and publishing.
    pub fn view(title: &str, states: &[NodeState]) -> GraphView {
        let mut nodes = vec![node(title, "chunk", "chunk", Kind::Chunk, Cached)];
        for rung in ["720p", "360p"] {
            for (n, &state) in states.iter().enumerate() {
                let label = format!("{rung}/{}", n + 1);
                nodes.push(node(title, &label, &format!("{rung}/encode"), Kind::Encode, state));
            }
        }
        let last = nodes.len();
        let edges = (1..last).flat_map(|n| [(0, n), (n, last)]).chain([(0, last)]).collect();
        nodes.push(node(title, "publish", "publish", Kind::Publish, states[0]));
        GraphView { nodes, edges }
    }

    #[test]
    fn groups_tell_how_many_would_run() {
        let merged = |states: &[NodeState]| grouped(&view("bunny", states));
        let encodes = |states| {
            let group = merged(states).nodes.swap_remove(1);
            (group.label, group.state, group.detail)
        };
        let told = |state, detail: &str| ("720p/encode".to_owned(), state, detail.to_owned());
        assert_eq!(encodes(&[Cached, Cached]), told(Cached, "2 steps"));
        assert_eq!(encodes(&[Cached, WouldRun, Cached]), told(WouldRun, "1 of 3 steps"));
        assert_eq!(encodes(&[Cached, Unknown]), told(Unknown, "1 of 2 steps"));
        assert_eq!(encodes(&[Unknown, WouldRun]), told(WouldRun, "1 of 2 steps, 1 not known yet"));
        // A group of one is drawn as what it is.
        assert_eq!(encodes(&[WouldRun]), ("720p/1".to_owned(), WouldRun, String::new()));
        let graph = merged(&[Cached, Cached]);
        assert_eq!(graph.edges, [(0, 1), (1, 3), (0, 2), (2, 3), (0, 3)]);
        assert_eq!(graph.nodes[0], view("bunny", &[Cached]).nodes[0]);
        assert_eq!(graph.nodes[1].key, None);
    }

    #[test]
    fn groups_of_different_titles_stay_apart() {
        let mut both = view("a", &[Cached, Cached]);
        both.nodes.extend(view("b", &[Cached, Cached]).nodes);
        assert_eq!(grouped(&both).nodes.len(), 8);
        assert_eq!(json(&both)["titles"], json!(["a", "b"]));
    }

    #[test]
    fn the_json_holds_everything() {
        let value = json(&view("bunny", &[WouldRun]));
        assert_eq!(value["version"], 1);
        assert_eq!(
            value["nodes"][0],
            json!({
                "id": 0, "title": "bunny", "label": "chunk", "kind": "chunk", "state": "cached",
                "detail": "", "key": "key of chunk", "group": "chunk",
            })
        );
        assert_eq!(value["nodes"][1]["state"], "would_run");
        assert_eq!(value["nodes"][1]["key"], Value::Null);
        assert_eq!(value["edges"].as_array().map(Vec::len), Some(5));
        assert_eq!(value["edges"][0], json!({ "from": 0, "to": 1 }));
    }
}
