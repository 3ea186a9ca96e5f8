//! The graph of a build as JSON, and as DOT for Graphviz to lay out. It draws the graph as it is and decides
//! nothing.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use petgraph::algo::toposort;
use petgraph::algo::tred::{dag_to_toposorted_adjacency_list, dag_transitive_reduction_closure};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::IntoNeighbors;
use rivet::{GraphView, NodeState, NodeView};
use serde_json::{Value, json};

use super::text::count;

/// A graph of more steps is drawn grouped, unless the user says otherwise.
pub const MAX_DRAWN: usize = 120;

/// All nodes and edges, for programs; `docs/events.md` documents the fields.
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
        "titles": titles(view).iter().map(|(title, _)| title).collect::<Vec<_>>(),
        "nodes": view.nodes.iter().enumerate().map(node).collect::<Vec<_>>(),
        "edges": view.edges.iter().map(|(from, to)| json!({ "from": from, "to": to })).collect::<Vec<_>>(),
    })
}

/// A drawing for `dot`, from left to right, with a cluster for each title. With `group`, the steps of a kind and
/// track are one node. Edges that follow from others are left out: publishing needs every segment, but so do the
/// playlists that it needs.
pub fn dot(view: &GraphView, group: bool) -> String {
    let drawn = if group { &grouped(view) } else { view };
    let mut text = String::from(
        "digraph rivet {\n  rankdir=LR; ranksep=0.6; nodesep=0.12; fontname=\"Helvetica\"; fontsize=12;\n  \
         node [shape=box, fontname=\"Helvetica\", fontsize=10, height=0.4, margin=\"0.12,0.04\"];\n  \
         edge [color=\"#8a93a0\", arrowsize=0.5];\n",
    );
    // In a drawing from left to right, Graphviz puts what comes first at the bottom.
    for (number, ((title, nodes), (_, all))) in titles(drawn).into_iter().zip(titles(view)).enumerate().rev()
    {
        let label = quoted(&format!("{title}\n{}", Counts::of(&view.nodes, &all).words()));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  subgraph cluster_{number} {{\n    label={label}; color=\"#8a93a0\";");
        for &id in nodes.iter().rev() {
            let node = &drawn.nodes[id];
            let label = lines(&[&node.label, &about(node), &node.detail]);
            let key = node.key.as_ref().map_or(String::new(), |key| format!("key {key}"));
            let _ = writeln!(
                text,
                "    n{id} [label={}, tooltip={}, {}];",
                quoted(&label),
                quoted(&lines(&[&label, &key])),
                style(node.state)
            );
        }
        text += "  }\n";
    }
    for (from, to) in reduced(drawn).into_iter().rev() {
        let _ = writeln!(text, "  n{from} -> n{to};");
    }
    text + "}\n"
}

fn lines(lines: &[&str]) -> String {
    lines.iter().filter(|line| !line.is_empty()).copied().collect::<Vec<_>>().join("\n")
}

/// E.g. `encode: cached`.
fn about(node: &NodeView) -> String {
    format!("{}: {}", node.kind.name(), words(node.state))
}

fn words(state: NodeState) -> &'static str {
    match state {
        NodeState::Cached => "cached",
        NodeState::Run => "run",
        NodeState::MayRun => "may run",
    }
}

fn style(state: NodeState) -> &'static str {
    match state {
        NodeState::Run => "style=filled, color=\"#ba560f\", fillcolor=\"#ba560f\", fontcolor=white",
        NodeState::Cached => "style=\"filled,rounded\", color=\"#268345\", fillcolor=\"#26834520\"",
        NodeState::MayRun => "style=dashed, color=\"#65748b\"",
    }
}

/// A quoted string of DOT. Graphviz reads entities and backslashes in it, and most control characters cannot be
/// in the SVG that it writes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '&' => quoted += "&amp;",
            '\n' => quoted += "\\n",
            '\u{fffe}' | '\u{ffff}' => quoted.push(char::REPLACEMENT_CHARACTER),
            char if char.is_control() => quoted.push(char::REPLACEMENT_CHARACTER),
            char => quoted.push(char),
        }
    }
    quoted + "\""
}

/// The titles in order of their first nodes, with the numbers of their nodes.
fn titles(view: &GraphView) -> Vec<(&str, Vec<usize>)> {
    let mut titles: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut places = HashMap::new();
    for (number, node) in view.nodes.iter().enumerate() {
        let place = *places.entry(node.title.as_str()).or_insert(titles.len());
        if place == titles.len() {
            titles.push((&node.title, Vec::new()));
        }
        titles[place].1.push(number);
    }
    titles
}

/// The edges that do not follow from others: the graph's transitive reduction.
fn reduced(view: &GraphView) -> BTreeSet<(usize, usize)> {
    let mut graph: DiGraph<(), (), usize> = DiGraph::default();
    view.nodes.iter().for_each(|_| _ = graph.add_node(()));
    for &(from, to) in &view.edges {
        graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), ());
    }
    let Ok(order) = toposort(&graph, None) else { return view.edges.iter().copied().collect() };
    let (list, _) = dag_to_toposorted_adjacency_list::<_, usize>(&graph, &order);
    let (reduction, _) = dag_transitive_reduction_closure(&list);
    let edges = reduction.node_indices().flat_map(|from| reduction.neighbors(from).map(move |to| (from, to)));
    edges.map(|(from, to)| (order[from].index(), order[to].index())).collect()
}

/// The graph with the steps of each group of a title as one node.
fn grouped(view: &GraphView) -> GraphView {
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
    let edges = view.edges.iter().map(|&(from, to)| (place_of[from], place_of[to]));
    let edges: BTreeSet<(usize, usize)> = edges.filter(|(from, to)| from != to).collect();
    GraphView {
        nodes: members.iter().map(|members| merged(view, members)).collect(),
        edges: edges.into_iter().collect(),
    }
}

fn merged(view: &GraphView, members: &[usize]) -> NodeView {
    let first = view.nodes[members[0]].clone();
    if members.len() == 1 {
        return first;
    }
    let counts = Counts::of(&view.nodes, members);
    let state = match counts {
        Counts { run: 1.., .. } => NodeState::Run,
        Counts { may_run: 1.., .. } => NodeState::MayRun,
        _ => NodeState::Cached,
    };
    NodeView { label: first.group.clone(), state, detail: counts.words(), key: None, ..first }
}

/// Steps by state.
#[derive(Default)]
struct Counts {
    run: u64,
    cached: u64,
    may_run: u64,
}

impl Counts {
    fn of(nodes: &[NodeView], members: &[usize]) -> Counts {
        let mut counts = Counts::default();
        for &member in members {
            match nodes[member].state {
                NodeState::Run => counts.run += 1,
                NodeState::Cached => counts.cached += 1,
                NodeState::MayRun => counts.may_run += 1,
            }
        }
        counts
    }

    /// E.g. `59 steps: 12 run, 47 cached`.
    fn words(&self) -> String {
        let states =
            [(self.run, NodeState::Run), (self.cached, NodeState::Cached), (self.may_run, NodeState::MayRun)];
        let some = states.iter().filter(|(number, _)| *number > 0);
        let some: Vec<String> = some.map(|(number, state)| format!("{number} {}", words(*state))).collect();
        format!("{}: {}", count(self.run + self.cached + self.may_run, "step"), some.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::NodeState::{Cached, MayRun, Run};
    use super::*;
    use rivet::Kind;

    fn node(title: &str, label: &str, group: &str, kind: Kind, state: NodeState) -> NodeView {
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
    fn view(title: &str, states: &[NodeState]) -> GraphView {
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
    fn every_step_is_drawn_and_no_edge_that_follows_from_others() {
        let text = dot(&view("bunny", &[Run, Cached]), false);
        assert!(
            text.contains("subgraph cluster_0 {\n    label=\"bunny\\n6 steps: 3 run, 3 cached\""),
            "{text}"
        );
        assert!(text.contains("n1 [label=\"720p/1\\nencode: run\""), "{text}");
        assert!(text.contains("tooltip=\"720p/2\\nencode: cached\\nkey key of 720p/2\""), "{text}");
        assert_eq!(text.matches(" -> ").count(), 8);
        assert_eq!(dot(&view("bunny", &[Run, Cached]), true).matches(" -> ").count(), 4);
    }

    #[test]
    fn a_cycle_is_drawn_with_all_its_edges() {
        let mut view = view("bunny", &[Cached]);
        view.edges.push((3, 0));
        assert_eq!(dot(&view, false).matches(" -> ").count(), 6);
    }

    #[test]
    fn names_may_hold_anything() {
        let odd = "<b> & \"x\" &lt; \\N \u{0}\n--> \\";
        let view = GraphView { nodes: vec![node(odd, odd, odd, Kind::Source, Cached)], edges: Vec::new() };
        let text = dot(&view, false);
        let quoted = r#"label="<b> &amp; \"x\" &amp;lt; \\N "#.to_owned() + "\u{fffd}" + r"\n--> \\\n";
        assert_eq!(text.matches(&quoted).count(), 2, "{text}");
        assert!(dot(&GraphView::default(), true).ends_with("}\n"));
    }

    #[test]
    fn groups_say_how_many_run() {
        let encodes = |states| {
            let group = grouped(&view("bunny", states)).nodes.swap_remove(1);
            (group.label, group.state, group.detail)
        };
        let group = |state, detail: &str| ("720p/encode".to_owned(), state, detail.to_owned());
        assert_eq!(encodes(&[Cached, Cached]), group(Cached, "2 steps: 2 cached"));
        assert_eq!(encodes(&[Cached, Run, Cached]), group(Run, "3 steps: 1 run, 2 cached"));
        assert_eq!(encodes(&[Cached, MayRun]), group(MayRun, "2 steps: 1 cached, 1 may run"));
        // A group of one is drawn as its step.
        assert_eq!(encodes(&[Run]), ("720p/1".to_owned(), Run, String::new()));
        let graph = grouped(&view("bunny", &[Cached, Cached]));
        assert_eq!(graph.edges, [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]);
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
        let value = json(&view("bunny", &[Run]));
        assert_eq!(value["version"], 1);
        assert_eq!(
            value["nodes"][0],
            json!({
                "id": 0, "title": "bunny", "label": "chunk", "kind": "chunk", "state": "cached",
                "detail": "", "key": "key of chunk", "group": "chunk",
            })
        );
        assert_eq!(value["nodes"][1]["state"], "run");
        assert_eq!(value["nodes"][1]["key"], Value::Null);
        assert_eq!(value["edges"].as_array().map(Vec::len), Some(5));
        assert_eq!(value["edges"][0], json!({ "from": 0, "to": 1 }));
    }
}
