//! The picture as DOT, for Graphviz to lay out.

use std::fmt::Write;

use super::{Counts, blocks, colour, grouped, kinds, layout, layout_graph, printable, second_line, tooltip};
use rivet::{GraphView, NodeState};

/// A picture for Graphviz: `dot -Tsvg`.
pub fn dot(view: &GraphView, group: bool) -> String {
    let drawn = if group { &grouped(view) } else { view };
    let totals = blocks(view);
    let mut text = String::from(
        "digraph rivet {\n  rankdir=LR; ranksep=0.6; nodesep=0.12; fontname=\"Helvetica\"; fontsize=12;\n  \
         node [shape=box, fontname=\"Helvetica\", fontsize=10, height=0.4, margin=\"0.12,0.04\"];\n  \
         edge [color=\"#8a93a0\", arrowsize=0.5];\n",
    );
    // With this direction Graphviz begins at the bottom, so all goes from last to first.
    for (number, (block, total)) in blocks(drawn).iter().zip(&totals).enumerate().rev() {
        let counts = Counts::of(total.nodes.iter().map(|&node| &view.nodes[node]));
        let label = dot_text(&format!("{}\n{}", block.title, counts.words()));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  subgraph cluster_{number} {{\n    label={label}; color=\"#8a93a0\";");
        for &id in block.nodes.iter().rev() {
            let node = &drawn.nodes[id];
            let _ = writeln!(
                text,
                "    n{id} [label={}, tooltip={}, {}];",
                dot_text(&format!("{}\n{}", node.label, second_line(node))),
                dot_text(&tooltip(node)),
                dot_style(node.state, colour(node.kind)),
            );
        }
        text += "  }\n";
    }
    let graph = layout_graph(&drawn.nodes.iter().collect::<Vec<_>>(), &drawn.edges);
    let columns = layout::columns(&graph);
    for &(from, to) in graph.edges.iter().rev() {
        let length = columns[to].saturating_sub(columns[from]).max(1);
        let _ = writeln!(text, "  n{from} -> n{to} [minlen={length}];");
    }
    text += "  subgraph cluster_legend {\n    label=\"legend\"; color=\"#8a93a0\";\n";
    for state in NodeState::ALL {
        let style = dot_style(state, "#65748b");
        let _ = writeln!(text, "    {} [label=\"{}\", {style}];", state.name(), super::words(state));
    }
    if drawn.nodes.is_empty() {
        return text + "  }\n}\n";
    }
    text += "    kinds [shape=plain, label=<<table border=\"0\" cellspacing=\"2\">";
    for pair in kinds(drawn).chunks(2) {
        text += "<tr>";
        for &kind in pair {
            let (colour, name) = (colour(kind), kind.name());
            let _ = write!(text, "<td bgcolor=\"{colour}\"><font color=\"white\">{name}</font></td>");
        }
        text += "</tr>";
    }
    text += "</table>>];\n  }\n}\n";
    text
}

fn dot_style(state: NodeState, colour: &str) -> String {
    match state {
        NodeState::WouldRun => {
            format!("style=\"filled,bold\", color=\"{colour}\", fillcolor=\"{colour}\", fontcolor=\"white\"")
        }
        NodeState::Cached => {
            format!("style=\"filled,rounded\", color=\"{colour}\", fillcolor=\"{colour}28\"")
        }
        NodeState::Unknown => format!("style=\"dashed\", color=\"{colour}\""),
    }
}

/// A quoted string of DOT. Graphviz reads entities and backslashes in it, even in names.
fn dot_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '&' => quoted += "&amp;",
            '\n' => quoted += "\\n",
            char => quoted.push(printable(char)),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, view};
    use super::NodeState::{Cached, WouldRun};
    use super::*;
    use rivet::Kind;

    #[test]
    fn a_cluster_a_title_and_no_edge_that_follows_from_others() {
        let text = dot(&view("bunny", &[WouldRun, Cached]), false);
        assert!(text.contains("subgraph cluster_0 {\n    label=\"bunny\\n6 steps: 3 would run, 3 reused\""));
        assert!(text.contains("n1 [label=\"720p/1\\nwould run\""), "{text}");
        assert_eq!(text.matches(" -> ").count(), 8);
        assert_eq!(dot(&view("bunny", &[WouldRun, Cached]), true).matches(" -> ").count(), 4);
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
}
