//! The steps of a build as nodes: what is known of each, and the one function in which their states change.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::cache::{EntryKey, EntryResult};
use crate::steps::view::Results;
use crate::steps::{Packing, Step, Work};
use crate::title::Title;
use crate::title::ids::TitleId;
use crate::title::part::{Part, Revision};

use super::event::Origin;

pub(crate) struct Node {
    pub title: TitleId,
    pub step: Step,
    state: State,
    /// Inputs that are not done yet.
    pub missing: usize,
    pub key: Option<EntryKey>,
    /// Its latest result, also while it runs again because that was lost.
    last: Option<Arc<EntryResult>>,
    /// How often its result was lost and it had to run again.
    pub repairs: u8,
    /// Which of the ways in which it may be made it tries.
    pub choice: usize,
    /// Whether what is stored under its key is rejected, or of no use.
    pub is_rejected: bool,
    /// Of a pack: whether the steps that it stands for are its inputs.
    is_unpacked: bool,
}

pub(crate) enum State {
    /// Some input is not done, or its key has not been looked up yet.
    Waiting,
    /// Not in the cache: runs when a slot and memory are free. `None` where what there is to do is settled
    /// only then, by the slot.
    Queued(Option<Box<Work>>),
    /// A thread has it. The slot and memory that it takes are in the engine's `held`.
    Running,
    /// Another process that shares the cache runs it: it is looked up again after a pause.
    LeasedElsewhere,
    /// Another node with the same key is queued or running; its result will be this one's, too.
    Following,
    Done {
        result: Arc<EntryResult>,
        origin: Origin,
    },
    /// Ran and failed, or could not be looked up.
    Failed,
    /// Never ran, as something that it needs failed; or nobody wants it any more. One that runs meanwhile is
    /// left to end, and its result is only stored.
    Skipped,
    /// In a plan: it would run, as nothing is stored under its key, or it depends on a step that would.
    MayRun,
}

impl State {
    /// Whether a node may go from this state to `next`.
    fn may_become(&self, next: &State) -> bool {
        use State::{Done, Failed, Following, LeasedElsewhere, MayRun, Queued, Running, Skipped, Waiting};
        match (self, next) {
            (Waiting, Queued(_) | Following | Done { .. } | Failed | Skipped | MayRun) => true,
            (Queued(_), Queued(_) | Running | Waiting | Following | Failed | Skipped | MayRun) => true,
            (Running, Done { .. } | Failed | Skipped | Waiting | LeasedElsewhere) => true,
            (LeasedElsewhere | Following, Waiting | Skipped) => true,
            // Its result was lost, or what it rests on was withdrawn.
            (Done { .. }, Waiting | Skipped) => true,
            (Failed | Skipped | MayRun, Skipped) => true,
            _ => false,
        }
    }
}

impl Node {
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether its inputs are done, and what becomes of it has not been decided.
    pub fn is_fresh(&self) -> bool {
        matches!(self.state, State::Waiting) && self.missing == 0
    }

    pub fn result(&self) -> Option<&Arc<EntryResult>> {
        match &self.state {
            State::Done { result, .. } => Some(result),
            _ => None,
        }
    }

    pub fn last(&self) -> Option<&Arc<EntryResult>> {
        self.last.as_ref()
    }

    pub fn has_run(&self) -> bool {
        matches!(self.state, State::Done { origin: Origin::Ran, .. })
    }

    pub fn is_skipped(&self) -> bool {
        matches!(self.state, State::Skipped)
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    pub fn may_run(&self) -> bool {
        matches!(self.state, State::MayRun)
    }

    /// Takes out what there is to do.
    pub fn take_work(&mut self) -> Option<Work> {
        match &mut self.state {
            State::Queued(work) => work.take().map(|work| *work),
            _ => None,
        }
    }
}

#[derive(Default)]
pub(crate) struct StepGraph {
    nodes: DiGraph<Node, ()>,
    /// Those that count: what was withdrawn has a node, too, until the end.
    current: HashMap<(TitleId, Step), NodeIndex>,
    parts: HashMap<(TitleId, Part), (Revision, Vec<Step>)>,
}

/// What a part's steps have become.
#[derive(Default)]
pub(crate) struct Difference {
    /// Nodes that nobody wants any more.
    pub withdrawn: Vec<NodeIndex>,
    /// New nodes, and packs that have new inputs.
    pub changed: Vec<NodeIndex>,
}

impl std::ops::Index<NodeIndex> for StepGraph {
    type Output = Node;

    fn index(&self, id: NodeIndex) -> &Node {
        &self.nodes[id]
    }
}

impl StepGraph {
    pub fn ids(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        self.nodes.node_indices()
    }

    /// The nodes that count.
    pub fn current(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.nodes.node_indices().filter(|&id| {
            let node = &self.nodes[id];
            self.find(node.title, node.step) == Some(id)
        })
    }

    pub fn find(&self, title: TitleId, step: Step) -> Option<NodeIndex> {
        self.current.get(&(title, step)).copied()
    }

    pub fn get(&self, title: TitleId, step: Step) -> Option<&Node> {
        self.find(title, step).map(|id| &self.nodes[id])
    }

    pub fn inputs(&self, id: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.nodes.neighbors_directed(id, Direction::Incoming)
    }

    pub fn dependents(&self, id: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.nodes.neighbors_directed(id, Direction::Outgoing)
    }

    /// From each step to those whose keys are made of its result.
    pub fn edges(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> + '_ {
        self.nodes.raw_edges().iter().map(|edge| (edge.source(), edge.target()))
    }

    /// The one place in which a step's state changes.
    pub fn set(&mut self, id: NodeIndex, state: State) {
        let node = &mut self.nodes[id];
        debug_assert!(node.state.may_become(&state), "a transition that there is none of: {:?}", node.step);
        if let State::Done { result, .. } = &state {
            node.last = Some(Arc::clone(result));
        }
        node.state = state;
    }

    /// What is known of a step but its state.
    pub fn node_mut(&mut self, id: NodeIndex) -> &mut Node {
        &mut self.nodes[id]
    }

    /// Counts a step's inputs that are not done anew.
    pub fn count_missing(&mut self, id: NodeIndex) {
        let missing = self.inputs(id).filter(|&input| self.nodes[input].result().is_none()).count();
        self.nodes[id].missing = missing;
    }

    pub fn parts_of(&self, title: TitleId) -> Vec<Part> {
        self.parts.keys().filter(|(of, _)| *of == title).map(|(_, part)| *part).collect()
    }

    /// Makes the nodes of a part those of `steps`, which are in the order in which they need each other.
    pub fn replace_part(&mut self, title: &Title, part: Part, steps: Vec<Step>) -> Difference {
        let revision = title.revision(part);
        let mut difference = Difference::default();
        if let Some((before, old)) = self.parts.remove(&(title.id, part)) {
            let kept: HashSet<Step> =
                if before == revision { steps.iter().copied().collect() } else { HashSet::new() };
            for step in old.into_iter().filter(|step| !kept.contains(step)) {
                difference.withdrawn.extend(self.current.remove(&(title.id, step)));
            }
        }
        for &step in &steps {
            match self.find(title.id, step) {
                None => difference.changed.push(self.add(title, step)),
                Some(id) if self.unpack(title, id) => difference.changed.push(id),
                Some(_) => {}
            }
        }
        if !steps.is_empty() {
            self.parts.insert((title.id, part), (revision, steps));
        }
        difference
    }

    fn add(&mut self, title: &Title, step: Step) -> NodeIndex {
        let id = self.nodes.add_node(Node {
            title: title.id,
            step,
            state: State::Waiting,
            missing: 0,
            key: None,
            last: None,
            repairs: 0,
            choice: 0,
            is_rejected: false,
            is_unpacked: is_unpacked(step, title),
        });
        self.current.insert((title.id, step), id);
        self.connect(title, id);
        id
    }

    /// A pack whose steps have come to exist gets them as inputs. False where nothing has changed.
    fn unpack(&mut self, title: &Title, id: NodeIndex) -> bool {
        let node = &mut self.nodes[id];
        if node.is_unpacked || !is_unpacked(node.step, title) {
            return false;
        }
        node.is_unpacked = true;
        self.connect(title, id);
        true
    }

    fn connect(&mut self, title: &Title, id: NodeIndex) {
        let before: BTreeSet<NodeIndex> = self.inputs(id).collect();
        for step in self.nodes[id].step.inputs(title) {
            let input = self.find(title.id, step);
            debug_assert!(input.is_some(), "a step without its input: {step:?}");
            if let Some(input) = input.filter(|input| !before.contains(input)) {
                self.nodes.add_edge(input, id, ());
            }
        }
        self.count_missing(id);
    }
}

fn is_unpacked(step: Step, title: &Title) -> bool {
    matches!(step.packing(title), Packing::Pack { is_packed: false, .. })
}

/// The results of one title's steps.
pub(crate) struct TitleResults<'a> {
    pub graph: &'a StepGraph,
    pub title: TitleId,
}

impl Results for TitleResults<'_> {
    fn result(&self, step: Step) -> Option<&Arc<EntryResult>> {
        self.graph.get(self.title, step)?.result()
    }

    fn cached(&self, step: Step) -> Option<&Arc<EntryResult>> {
        match self.graph.get(self.title, step)?.state() {
            State::Done { result, origin: Origin::Cached } => Some(result),
            _ => None,
        }
    }
}
