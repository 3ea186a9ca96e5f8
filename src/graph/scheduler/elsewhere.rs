//! Steps that another process is at, which shares the cache. They are put aside, take neither slot
//! nor memory, and are looked up again after a pause that grows, until they are in the cache or
//! nobody is at them any more. Other steps go on meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use super::Scheduler;
use crate::graph::event::Event;
use crate::graph::step::{Node, State};

/// The pause before a step's second look; the first is at once, as the other may just have come to
/// its end. Each is twice as long as the one before it, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(250);
/// Waiting for less is not worth telling.
const TOLD_AFTER: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Elsewhere {
    waits: HashMap<NodeIndex, Wait>,
    /// When which is looked up again.
    due: BTreeSet<(Instant, NodeIndex)>,
}

struct Wait {
    since: Instant,
    pause: Duration,
    told: bool,
}

impl Elsewhere {
    fn add(&mut self, id: NodeIndex, now: Instant) {
        let wait = self.waits.entry(id).or_insert(Wait { since: now, pause: Duration::ZERO, told: false });
        self.due.insert((now + wait.pause, id));
        wait.pause = (wait.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
    }

    /// What is to be looked up by now.
    fn take_due(&mut self, now: Instant) -> Option<NodeIndex> {
        let &(at, id) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, id));
        Some(id)
    }

    /// Whether it is time to tell of a step.
    fn is_news(&mut self, id: NodeIndex, now: Instant) -> bool {
        let Some(wait) = self.waits.get_mut(&id) else { return false };
        let tell = !wait.told && now.duration_since(wait.since) >= TOLD_AFTER;
        wait.told |= tell;
        tell
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Whether a step has waited, and not come to its end since.
    pub(super) fn is_waiting(&self, id: NodeIndex) -> bool {
        self.waits.contains_key(&id)
    }

    /// A step waits no more.
    pub(super) fn forget(&mut self, id: NodeIndex) {
        self.waits.remove(&id);
    }
}

impl Scheduler<'_> {
    /// Another process is at a step that was about to run, or has just made it. The step keeps its
    /// key, so that others here that have the same follow it still.
    pub(super) fn set_aside(&mut self, id: NodeIndex) {
        self.graph[id].state = State::Elsewhere;
        self.elsewhere.add(id, Instant::now());
    }

    /// Has steps looked up again that have been aside for long enough.
    pub(super) fn look_elsewhere(&mut self) {
        let now = Instant::now();
        while let Some(id) = self.elsewhere.take_due(now) {
            let Node { title, step, ref state, .. } = self.graph[id];
            if !matches!(state, State::Elsewhere) {
                continue;
            }
            if self.elsewhere.is_news(id, now) {
                let title = &self.titles[title];
                (self.observe)(&Event::Waiting {
                    title: title.name.clone(),
                    kind: step.kind(),
                    node: title.label(step),
                });
            }
            // An input may have been lost meanwhile, and be made again.
            let inputs = self.graph.neighbors_directed(id, Direction::Incoming);
            let missing = inputs.filter(|&input| self.graph[input].result().is_none()).count();
            self.graph[id].missing = missing;
            self.look_again(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let (mut elsewhere, id) = (Elsewhere::default(), NodeIndex::new(7));
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            elsewhere.add(id, now);
            let due = elsewhere.next_due().unwrap();
            pauses.push((due - now).as_millis());
            assert_eq!(elsewhere.take_due(due - Duration::from_nanos(1)).filter(|_| due > now), None);
            now = due;
            assert_eq!(elsewhere.take_due(now), Some(id));
            assert_eq!(elsewhere.next_due(), None);
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 250, 250]);
    }

    #[test]
    fn a_long_wait_is_told_once() {
        let (mut elsewhere, id) = (Elsewhere::default(), NodeIndex::new(7));
        let now = Instant::now();
        elsewhere.add(id, now);
        assert!(!elsewhere.is_news(id, now + Duration::from_millis(999)));
        assert!(elsewhere.is_news(id, now + Duration::from_secs(1)));
        assert!(!elsewhere.is_news(id, now + Duration::from_secs(2)));
        elsewhere.forget(id);
        elsewhere.add(id, now + Duration::from_secs(3));
        assert!(!elsewhere.is_news(id, now + Duration::from_secs(3)), "a new wait");
    }
}
