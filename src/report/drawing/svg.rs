//! The picture as SVG, laid out here: it stands by itself, on light and dark grounds.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use super::layout::{self, Placed};
use super::{Block, Counts, blocks, colour, grouped, kinds, layout_graph, printable, second_line, tooltip};
use rivet::{GraphView, Kind, NodeState, NodeView};

// Pixels of the SVG.
const MARGIN: f64 = 24.0;
const ROW: f64 = 42.0;
const NODE: f64 = 34.0;
const BETWEEN: f64 = 44.0;
/// Between the edge of a node and its text.
const INDENT: f64 = 10.0;
/// Above a block's nodes: its title, and the stages.
const HEAD: f64 = 62.0;

/// All under one class, so that it changes nothing else on a page that holds the picture.
const STYLE: &str = "\
.rivet{background:#fff}
.rivet .ground{fill:#fff}
.rivet text{font:11px system-ui,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;fill:#1b2330}
.rivet .name{font-size:12px;font-weight:600}
.rivet .title{font-size:17px;font-weight:700}
.rivet .quiet{fill:#5d6878}
.rivet .box{fill:currentColor;stroke:currentColor}
.rivet .would_run .box{stroke-width:2}
.rivet .would_run text{fill:#fff}
.rivet .cached .box{fill-opacity:.15}
.rivet .unknown .box{fill:none;stroke-width:1.5;stroke-dasharray:5 3}
.rivet .line{fill:none;stroke:#8a93a0;stroke-opacity:.6}
.rivet .line.would_run{stroke:#1b2330;stroke-opacity:.75;stroke-width:1.4}
@media(prefers-color-scheme:dark){
.rivet{background:#14171c}
.rivet .ground{fill:#14171c}
.rivet text{fill:#e8ecf1}
.rivet .quiet{fill:#9aa5b4}
.rivet .cached .box{fill-opacity:.25}
.rivet .line.would_run{stroke:#e8ecf1}
}
";

/// A picture that stands by itself, for browsers and documents.
pub fn svg(view: &GraphView, group: bool) -> String {
    let drawn = if group { &grouped(view) } else { view };
    let mut body = String::new();
    let (mut width, mut top) = legend(&mut body, drawn);
    for (block, total) in blocks(drawn).iter().zip(blocks(view)) {
        let counts = Counts::of(total.nodes.iter().map(|&node| &view.nodes[node]));
        let (right, bottom) = draw_block(&mut body, drawn, block, &counts.words(), top);
        width = width.max(right);
        top = bottom + MARGIN;
    }
    let mut colours = String::new();
    for kind in kinds(drawn) {
        let _ = writeln!(colours, ".rivet .{}{{color:{}}}", kind.name(), colour(kind));
    }
    let (width, height) = (width + MARGIN, top);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"rivet\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"The steps of a build\">\n\
         <style>\n{STYLE}{colours}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n"
    )
}

/// What colours and shapes mean. Returns how far to the right and how far down it reaches.
fn legend(body: &mut String, view: &GraphView) -> (f64, f64) {
    let mut x = MARGIN;
    for state in NodeState::ALL {
        let (words, name) = (super::words(state), state.name());
        let width = text_width(words, 11.0) + 2.0 * INDENT;
        let _ = writeln!(
            body,
            "<g class=\"source {name}\"><rect class=\"box\" x=\"{x:.0}\" y=\"{MARGIN}\" \
             width=\"{width:.0}\" height=\"22\" rx=\"{}\"/><text x=\"{:.0}\" y=\"{:.0}\">{words}</text></g>",
            corner(state),
            x + INDENT,
            MARGIN + 15.0,
        );
        x += width + 8.0;
    }
    x += 16.0;
    for kind in kinds(view) {
        let name = kind.name();
        let _ = writeln!(
            body,
            "<g class=\"{name}\"><rect class=\"box\" x=\"{x:.0}\" y=\"{:.0}\" width=\"12\" height=\"12\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{name}</text></g>",
            MARGIN + 5.0,
            x + 17.0,
            MARGIN + 15.0,
        );
        x += text_width(name, 11.0) + 33.0;
    }
    (x, MARGIN + 22.0 + MARGIN)
}

fn corner(state: NodeState) -> u32 {
    if state == NodeState::Cached { 9 } else { 2 }
}

/// Draws a title. Returns how far to the right and how far down it reaches.
fn draw_block(body: &mut String, view: &GraphView, block: &Block, counts: &str, top: f64) -> (f64, f64) {
    let nodes: Vec<&NodeView> = block.nodes.iter().map(|&id| &view.nodes[id]).collect();
    let local: HashMap<usize, usize> = block.nodes.iter().enumerate().map(|(at, &id)| (id, at)).collect();
    let inside = |(from, to): &(usize, usize)| Some((*local.get(from)?, *local.get(to)?));
    let edges: Vec<(usize, usize)> = view.edges.iter().filter_map(inside).collect();
    let graph = layout_graph(&nodes, &edges);
    let placed = layout::place(&graph);
    let columns = columns(&nodes, &placed);
    let picture = Picture { nodes, edges: graph.edges, placed, columns, top: top + HEAD };

    let named = MARGIN + text_width(&shorten(block.title), 18.0) + text_width(counts, 11.0) + 12.0;
    let right = picture.columns.last().map_or(named, |column| column.right.max(named));
    let _ = writeln!(
        body,
        "<text x=\"{MARGIN}\" y=\"{:.0}\"><tspan class=\"title\">{}</tspan>\
         <tspan class=\"quiet\" dx=\"12\">{counts}</tspan></text>\n\
         <line class=\"line\" x1=\"{MARGIN}\" y1=\"{:.0}\" x2=\"{right:.0}\" y2=\"{:.0}\"/>",
        top + 18.0,
        xml(&shorten(block.title)),
        top + 30.0,
        top + 30.0,
    );
    for Column { left, kinds, .. } in &picture.columns {
        let names = kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        let y = top + 48.0;
        let _ = writeln!(body, "<text class=\"quiet\" x=\"{left:.0}\" y=\"{y:.0}\">{names}</text>");
    }
    picture.draw_edges(body);
    picture.draw_nodes(body);
    (right, picture.y(picture.placed.rows))
}

/// A column of a title: as wide as what stands in it, and what kinds that is.
#[derive(Clone, Default)]
struct Column {
    left: f64,
    right: f64,
    kinds: BTreeSet<Kind>,
}

fn columns(nodes: &[&NodeView], placed: &Placed) -> Vec<Column> {
    let mut columns = vec![Column::default(); placed.columns.iter().max().map_or(0, |last| last + 1)];
    for (node, &column) in nodes.iter().zip(&placed.columns) {
        let (label, second) = (shorten(&node.label), shorten(&second_line(node)));
        let width = text_width(&label, 13.5).max(text_width(&second, 11.0)) + 2.0 * INDENT;
        let column = &mut columns[column];
        column.right = column.right.max(width);
        column.kinds.insert(node.kind);
    }
    let mut left = MARGIN;
    for column in &mut columns {
        (column.left, column.right) = (left, left + column.right);
        left = column.right + BETWEEN;
    }
    columns
}

/// A title, laid out.
struct Picture<'a> {
    nodes: Vec<&'a NodeView>,
    edges: layout::Edges,
    placed: Placed,
    columns: Vec<Column>,
    /// Where its first row begins.
    top: f64,
}

impl Picture<'_> {
    fn y(&self, row: f64) -> f64 {
        self.top + row * ROW
    }

    fn draw_edges(&self, body: &mut String) {
        // Those of what would run last, so that they lie above the others.
        for (would_run, class) in [(false, "line"), (true, "line would_run")] {
            for (&(from, to), passed) in self.edges.iter().zip(&self.placed.lines) {
                if (self.nodes[from].state == NodeState::WouldRun) != would_run {
                    continue;
                }
                let mut x = self.columns[self.placed.columns[from]].right;
                let mut y = self.y(self.placed.heights[from]);
                let _ = write!(body, "<path class=\"{class}\" d=\"M{x:.0} {y:.1}");
                let mut curve_to = |next_x: f64, row: f64| {
                    let (middle, next_y) = ((x + next_x) / 2.0, self.y(row));
                    let _ =
                        write!(body, "C{middle:.0} {y:.1} {middle:.0} {next_y:.1} {next_x:.0} {next_y:.1}");
                    (x, y) = (next_x, next_y);
                };
                for &(column, row) in passed {
                    curve_to(self.columns[column].left, row);
                    curve_to(self.columns[column].right, row);
                }
                curve_to(self.columns[self.placed.columns[to]].left, self.placed.heights[to]);
                *body += "\"/>\n";
            }
        }
    }

    fn draw_nodes(&self, body: &mut String) {
        for (at, node) in self.nodes.iter().enumerate() {
            let Column { left, right, .. } = self.columns[self.placed.columns[at]];
            let y = self.y(self.placed.heights[at]) - NODE / 2.0;
            let text = left + INDENT;
            let _ = writeln!(
                body,
                "<g class=\"{} {}\"><title>{}</title><rect class=\"box\" x=\"{left:.0}\" y=\"{y:.1}\" \
                 width=\"{:.0}\" height=\"{NODE}\" rx=\"{}\"/>\
                 <text class=\"name\" x=\"{text:.0}\" y=\"{:.1}\">{}</text>\
                 <text x=\"{text:.0}\" y=\"{:.1}\">{}</text></g>",
                node.kind.name(),
                node.state.name(),
                xml(&tooltip(node)),
                right - left,
                corner(node.state),
                y + 14.0,
                xml(&shorten(&node.label)),
                y + 27.5,
                xml(&shorten(&second_line(node))),
            );
        }
    }
}

/// On one line and not too long; the rest is in the tooltip.
fn shorten(text: &str) -> String {
    const MOST: usize = 48;
    let line: String = text.chars().map(|char| if char.is_whitespace() { ' ' } else { char }).collect();
    if line.chars().count() <= MOST {
        return line;
    }
    line.chars().take(MOST - 1).chain(['…']).collect()
}

/// About how wide text is in a font of that size: of most fonts a little more than is needed.
fn text_width(text: &str, size: f64) -> f64 {
    let wide = |char: char| match char {
        ' ' | '.' | ',' | ':' | 'i' | 'j' | 'l' | 'f' | 't' | 'r' | '/' => 0.36,
        'm' | 'w' | 'M' | 'W' | '@' | '…' => 0.95,
        'A'..='Z' | '_' | '&' | '<' | '>' => 0.72,
        '\u{0}'..='\u{10ff}' => 0.6,
        _ => 1.1,
    };
    text.chars().map(wide).sum::<f64>() * size
}

fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            char => escaped.push(printable(char)),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, view};
    use super::NodeState::{Cached, Unknown, WouldRun};
    use super::*;

    /// The names of all elements and the text, of a document that is well-formed as far as we use XML.
    fn parse(svg: &str) -> (Vec<&str>, String) {
        let (mut open, mut elements, mut text) = (Vec::new(), Vec::new(), String::new());
        for piece in svg.split('<').skip(1) {
            let (tag, after) = piece.split_once('>').unwrap();
            let name = tag.trim_matches('/').split([' ', '\n']).next().unwrap();
            assert!(!after.contains('>') && tag.matches('"').count() % 2 == 0, "{piece}");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else {
                elements.push(name);
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
            text += after;
        }
        assert!(open.is_empty() && !svg.chars().any(|char| char.is_control() && char != '\n'));
        (elements, text)
    }

    fn count(elements: &[&str], name: &str) -> usize {
        elements.iter().filter(|element| **element == name).count()
    }

    #[test]
    fn every_step_is_drawn_and_no_edge_that_follows_from_others() {
        let view = view("bunny", &[WouldRun, Cached, Unknown]);
        let drawn = svg(&view, false);
        let (elements, text) = parse(&drawn);
        assert_eq!((count(&elements, "title"), count(&elements, "path")), (8, 12));
        assert!(text.contains("8 steps: 3 would run, 3 reused, 2 not known yet"), "{text}");
        assert!(text.contains("720p/2\nencode: reused\nkey key of 720p/2"), "{text}");
        let drawn = svg(&view, true);
        let (elements, text) = parse(&drawn);
        assert_eq!((count(&elements, "title"), count(&elements, "path")), (4, 4));
        assert!(text.contains("would run: 1 of 3 steps, 1 not known yet"), "{text}");
        assert_eq!(svg(&view, true), drawn);
    }

    #[test]
    fn names_may_hold_anything() {
        let odd = "<b> & \"x\" &lt; \\N \u{0}\u{b}\n]]> -->";
        let view = GraphView { nodes: vec![node(odd, odd, odd, Kind::Source, Cached)], edges: Vec::new() };
        let drawn = svg(&view, false);
        let (elements, text) = parse(&drawn);
        assert_eq!(count(&elements, "b"), 0);
        assert!(text.contains("&lt;b&gt; &amp; &quot;x&quot; &amp;lt; \\N \u{fffd}\u{fffd}"), "{text}");
    }

    #[test]
    fn a_long_film_and_an_empty_one() {
        let drawn = svg(&view("film", &vec![Cached; 100_000]), true);
        assert!(parse(&drawn).1.contains("reused: 100000 steps"));
        parse(&svg(&GraphView::default(), true));
    }
}
