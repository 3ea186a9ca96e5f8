//! Where the steps of a drawing go: in columns from left to right, in each in an order that lets
//! few lines cross, and as straight beside their neighbours as that allows. Pure geometry, and
//! the same for the same graph on every machine; it knows nothing of kinds, colours and text.
//!
//! This is the layered drawing of Sugiyama, Tagawa and Toda: a line that passes over a column
//! gets a point of its own there, columns are ordered by barycentre, heights are fitted by least
//! squares.

use std::collections::{BTreeSet, VecDeque};

pub type Edges = Vec<(usize, usize)>;

/// What is to be placed: nodes by number, and edges between them.
pub struct Graph {
    /// Of each node the column that it may not stand left of.
    pub columns: Vec<usize>,
    /// Of each node the band that it belongs to; bands are set a little apart.
    pub bands: Vec<usize>,
    pub edges: Edges,
}

/// Heights are in rows, the space that one node takes; 0 is the top.
pub struct Placed {
    pub columns: Vec<usize>,
    /// The middle of each node.
    pub heights: Vec<f64>,
    /// Of each edge where it passes the columns between its ends.
    pub lines: Vec<Vec<(usize, f64)>>,
    pub rows: f64,
}

/// The space that a passing line takes, and that between bands, in rows.
const LINE: f64 = 0.3;
const APART: f64 = 0.3;
/// How often order and heights are improved; a graph that nobody can look at whole gets less.
const ROUNDS: usize = 12;
const MOST_ROUNDED: usize = 20_000;
/// More nodes than this take too much memory for [`essential`]; it then leaves all edges.
const MOST_REDUCED: usize = 16_000;

/// Each node's place in an order in which every edge leads onward; after a cycle, should there be
/// one, what is left in order of number.
fn ranks(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut missing = vec![0usize; nodes];
    let mut out = vec![Vec::new(); nodes];
    for &(from, to) in edges {
        missing[to] += 1;
        out[from].push(to);
    }
    let mut ready: VecDeque<usize> = (0..nodes).filter(|&node| missing[node] == 0).collect();
    let mut ranks = vec![usize::MAX; nodes];
    let mut next = 0;
    while let Some(node) = ready.pop_front() {
        ranks[node] = next;
        next += 1;
        for &to in &out[node] {
            missing[to] -= 1;
            if missing[to] == 0 {
                ready.push_back(to);
            }
        }
    }
    for rank in ranks.iter_mut().filter(|rank| **rank == usize::MAX) {
        *rank = next;
        next += 1;
    }
    ranks
}

/// The edges that do not follow from others: its transitive reduction.
pub fn essential(nodes: usize, edges: &[(usize, usize)]) -> Edges {
    let edges: Edges = edges.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let ranks = ranks(nodes, &edges);
    if nodes > MOST_REDUCED || edges.iter().any(|&(from, to)| ranks[from] >= ranks[to]) {
        return edges;
    }
    let mut out = vec![Vec::new(); nodes];
    for &(from, to) in &edges {
        out[from].push(to);
    }
    let mut order: Vec<usize> = (0..nodes).collect();
    order.sort_by_key(|&node| ranks[node]);
    // Of each node all that can be reached from it, a bit a node.
    let mut reach = vec![vec![0u64; nodes.div_ceil(64)]; nodes];
    let mut kept = BTreeSet::new();
    for &node in order.iter().rev() {
        out[node].sort_by_key(|&to| ranks[to]);
        let mut mine = std::mem::take(&mut reach[node]);
        for &to in &out[node] {
            if mine[to / 64] >> (to % 64) & 1 == 0 {
                kept.insert((node, to));
                mine.iter_mut().zip(&reach[to]).for_each(|(mine, theirs)| *mine |= theirs);
                mine[to / 64] |= 1 << (to % 64);
            }
        }
        reach[node] = mine;
    }
    kept.into_iter().collect()
}

pub fn place(graph: &Graph) -> Placed {
    let nodes = graph.columns.len();
    let columns = columns(graph);
    let mut points = Points { nodes, bands: graph.bands.clone(), ..Points::default() };
    points.layers.resize(columns.iter().max().map_or(0, |last| last + 1), Vec::new());
    for (node, &column) in columns.iter().enumerate() {
        points.layers[column].push(node);
    }
    points.before.resize(nodes, Vec::new());
    points.after.resize(nodes, Vec::new());
    let passing: Vec<_> = graph.edges.iter().map(|&edge| points.thread(edge, &columns)).collect();
    points.order();
    let heights = points.heights();
    let top = heights.iter().take(nodes).copied().fold(f64::INFINITY, f64::min).min(0.5) - 0.5;
    let bottom = heights.iter().copied().fold(0.0, f64::max) + 0.5;
    let line = |passed: Vec<(usize, usize)>| {
        passed.into_iter().map(|(column, point)| (column, heights[point] - top)).collect()
    };
    Placed {
        lines: passing.into_iter().map(line).collect(),
        heights: heights.iter().take(nodes).map(|height| height - top).collect(),
        rows: bottom - top,
        columns,
    }
}

/// The leftmost column that each node may stand in, right of all that lead into it, without
/// leaving a column empty.
pub fn columns(graph: &Graph) -> Vec<usize> {
    let ranks = ranks(graph.columns.len(), &graph.edges);
    let mut columns = graph.columns.clone();
    let mut edges = graph.edges.clone();
    edges.sort_by_key(|&(from, _)| ranks[from]);
    for (from, to) in edges {
        if ranks[from] < ranks[to] {
            columns[to] = columns[to].max(columns[from] + 1);
        }
    }
    let used: Vec<usize> = columns.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    columns.iter().map(|column| used.partition_point(|other| other < column)).collect()
}

/// Nodes, and after them where lines pass a column.
#[derive(Default)]
struct Points {
    nodes: usize,
    bands: Vec<usize>,
    layers: Vec<Vec<usize>>,
    /// Neighbours in the column to the left, and to the right.
    before: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
}

impl Points {
    /// Leads an edge through the columns between its ends; returns where it passes. One that
    /// leads to the left (only where there is a cycle) moves nothing.
    fn thread(&mut self, (from, to): (usize, usize), columns: &[usize]) -> Vec<(usize, usize)> {
        let mut passed = Vec::new();
        if columns[from] >= columns[to] {
            return passed;
        }
        let mut last = from;
        for column in columns[from] + 1..columns[to] {
            let point = self.before.len();
            self.bands.push(self.bands[from]);
            self.before.push(vec![last]);
            self.after.push(Vec::new());
            self.layers[column].push(point);
            self.after[last].push(point);
            passed.push((column, point));
            last = point;
        }
        self.after[last].push(to);
        self.before[to].push(last);
        passed
    }

    /// Each point's place in its column, from 0 to 1.
    fn places(&self) -> Vec<f64> {
        let mut places = vec![0.0; self.before.len()];
        for layer in &self.layers {
            for (at, &point) in layer.iter().enumerate() {
                places[point] = (at as f64 + 0.5) / layer.len() as f64;
            }
        }
        places
    }

    fn rounds(&self) -> usize {
        if self.before.len() > MOST_ROUNDED { 1 } else { ROUNDS }
    }

    fn order(&mut self) {
        let mut best = (usize::MAX, self.layers.clone());
        for _ in 0..self.rounds() {
            for forward in [true, false] {
                let mut places = self.places();
                for n in 0..self.layers.len() {
                    let at = if forward { n } else { self.layers.len() - 1 - n };
                    let beside = if forward { &self.before } else { &self.after };
                    let wanted = |point: &usize| match beside[*point].len() {
                        0 => places[*point],
                        count => beside[*point].iter().map(|&p| places[p]).sum::<f64>() / count as f64,
                    };
                    let layer = &mut self.layers[at];
                    layer.sort_by(|a, b| wanted(a).total_cmp(&wanted(b)));
                    for (place, &point) in layer.iter().enumerate() {
                        places[point] = (place as f64 + 0.5) / layer.len() as f64;
                    }
                }
                let crossings = self.crossings();
                if crossings < best.0 {
                    best = (crossings, self.layers.clone());
                }
            }
            if best.0 == 0 {
                break;
            }
        }
        self.layers = best.1;
    }

    /// How many pairs of lines cross.
    fn crossings(&self) -> usize {
        let mut place = vec![0; self.before.len()];
        for layer in &self.layers {
            layer.iter().enumerate().for_each(|(at, &point)| place[point] = at);
        }
        let mut crossings = 0;
        for (n, layer) in self.layers.iter().enumerate().skip(1) {
            // A Fenwick tree of the ends on the left of the lines seen so far, from the bottom up.
            let mut tree = vec![0usize; self.layers[n - 1].len() + 1];
            for &point in layer.iter().rev() {
                for &left in &self.before[point] {
                    let mut at = place[left];
                    while at > 0 {
                        crossings += tree[at];
                        at &= at - 1;
                    }
                }
                for &left in &self.before[point] {
                    let mut at = place[left] + 1;
                    while at < tree.len() {
                        tree[at] += 1;
                        at += at & at.wrapping_neg();
                    }
                }
            }
        }
        crossings
    }

    fn size(&self, point: usize) -> f64 {
        if point < self.nodes { 1.0 } else { LINE }
    }

    /// The heights of all points: each near its neighbours, in the order of its column.
    fn heights(&self) -> Vec<f64> {
        let mut heights = vec![0.0; self.before.len()];
        for layer in &self.layers {
            self.settle(layer, &mut heights, |_, _| 0.0);
        }
        for round in 0..2 * self.rounds() + 1 {
            for n in 0..self.layers.len() {
                let forward = round % 2 == 0;
                let at = if forward { n } else { self.layers.len() - 1 - n };
                self.settle(&self.layers[at], &mut heights, |point, heights| {
                    let (mut sum, mut weights) = (0.0, 0.0);
                    let mut pull = |from: &[usize], back: &[Vec<usize>], strength: f64| {
                        for &other in from {
                            // A neighbour of many says little of where one of them should be.
                            let many = back[other].len().max(1) as f64;
                            let weight = strength / (many * many);
                            sum += weight * heights[other];
                            weights += weight;
                        }
                    };
                    pull(&self.before[point], &self.after, if forward { 1.0 } else { 0.3 });
                    pull(&self.after[point], &self.before, if forward { 0.3 } else { 1.0 });
                    if weights > 0.0 { sum / weights } else { heights[point] }
                });
            }
        }
        heights
    }

    /// Puts the points of a column as near to where they are wanted as their order and sizes
    /// allow: least squares under an order, by pooling neighbours that would overlap.
    fn settle(&self, layer: &[usize], heights: &mut [f64], wanted: impl Fn(usize, &[f64]) -> f64) {
        // Runs of points that touch: how many, their weight, and where the first wants to be.
        let mut runs: Vec<(usize, f64, f64)> = Vec::new();
        let mut offsets = Vec::with_capacity(layer.len());
        let mut offset = 0.0;
        for (at, &point) in layer.iter().enumerate() {
            if at > 0 {
                let above = layer[at - 1];
                let apart = if self.bands[above] == self.bands[point] { 0.0 } else { APART };
                offset += (self.size(above) + self.size(point)) / 2.0 + apart;
            }
            offsets.push(offset);
            // A line that passes had better be straight.
            let weight = if point < self.nodes { 1.0 } else { 2.0 };
            let mut run = (1, weight, wanted(point, heights) - offset);
            while let Some(&(count, weight, first)) = runs.last()
                && first > run.2
            {
                let both = weight + run.1;
                run = (count + run.0, both, (first * weight + run.2 * run.1) / both);
                runs.pop();
            }
            runs.push(run);
        }
        let firsts = runs.iter().flat_map(|&(count, _, first)| std::iter::repeat_n(first, count));
        for ((&point, offset), first) in layer.iter().zip(offsets).zip(firsts) {
            heights[point] = first + offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(columns: &[usize], edges: &[(usize, usize)]) -> Graph {
        Graph { columns: columns.to_vec(), bands: vec![0; columns.len()], edges: edges.to_vec() }
    }

    #[test]
    fn an_edge_that_follows_from_others_is_left_out() {
        assert_eq!(essential(4, &[(0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (0, 3)]), [(0, 1), (1, 2), (2, 3)]);
        // In a cycle all of them stay.
        assert_eq!(essential(2, &[(0, 1), (1, 0)]), [(0, 1), (1, 0)]);
    }

    #[test]
    fn edges_lead_right_and_no_column_is_empty() {
        let placed = place(&graph(&[0, 0, 7, 3], &[(0, 1), (1, 2), (0, 2), (0, 3)]));
        assert_eq!(placed.columns, [0, 1, 3, 2]);
        assert_eq!(placed.lines.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 2, 1]);
    }

    #[test]
    fn a_cycle_is_drawn_somehow() {
        let placed = place(&graph(&[0, 0, 0], &[(0, 1), (1, 0), (1, 1), (2, 0)]));
        assert!(placed.rows.is_finite() && placed.heights.len() == 3);
        assert_eq!(place(&graph(&[], &[])).columns, [0usize; 0]);
    }

    #[test]
    fn crossed_lines_are_untangled() {
        // 0 to 5, 1 to 4, 2 to 3: in order of number they all cross.
        let placed = place(&graph(&[0, 0, 0, 1, 1, 1], &[(0, 5), (1, 4), (2, 3)]));
        for (from, to) in [(0, 5), (1, 4), (2, 3)] {
            assert!((placed.heights[from] - placed.heights[to]).abs() < 0.01, "{:?}", placed.heights);
        }
        assert!((placed.rows - 3.0).abs() < 0.01);
    }

    #[test]
    fn nodes_of_a_column_do_not_overlap() {
        let edges: Edges = (1..20).map(|to| (0, to)).chain((1..20).map(|from| (from, 20))).collect();
        let mut columns = vec![1; 21];
        (columns[0], columns[20]) = (0, 2);
        let placed = place(&graph(&columns, &edges));
        let mut heights = placed.heights[1..20].to_vec();
        heights.sort_by(f64::total_cmp);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] > 0.999));
        assert!(heights[0] > 0.499 && heights[18] < placed.rows - 0.499);
        assert!((placed.heights[0] - placed.rows / 2.0).abs() < 0.01);
    }
}
