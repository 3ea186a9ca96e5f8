//! Steps that another process runs, which shares the cache: it holds the lease on their keys. They are put
//! aside, take neither slot nor memory, and are looked up again after a pause that grows, until they are in
//! the cache or the lease is free. Other steps go on meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use petgraph::graph::NodeIndex;

use super::engine::Engine;
use super::event::Event;
use super::graph::State;

/// The pause before a step's second look; the first is at once, as the other may just have come to
/// its end. Each is twice as long as the one before it, up to the last.
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// Waiting for less is not worth telling.
const TOLD_AFTER: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct LeasedElsewhere {
    waits: HashMap<NodeIndex, Wait>,
    /// When which is looked up again.
    due: BTreeSet<(Instant, NodeIndex)>,
}

struct Wait {
    since: Instant,
    pause: Duration,
    told: bool,
}

impl LeasedElsewhere {
    fn add(&mut self, id: NodeIndex, now: Instant) {
        let wait = self.waits.entry(id).or_insert(Wait { since: now, pause: Duration::ZERO, told: false });
        self.due.insert((now + wait.pause, id));
        wait.pause = (wait.pause * 2).clamp(MIN_PAUSE, MAX_PAUSE);
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

impl Engine<'_> {
    /// Another process runs a step that was about to run, or has just stored its result. The step keeps its
    /// key, so that others here that have the same follow it still.
    pub(super) fn set_aside(&mut self, id: NodeIndex) {
        self.graph.set(id, State::LeasedElsewhere);
        self.leased.add(id, Instant::now());
    }

    /// Has steps looked up again that have been aside for long enough.
    pub(super) fn look_at_leased(&mut self) {
        let now = Instant::now();
        while let Some(id) = self.leased.take_due(now) {
            if !matches!(self.graph[id].state(), State::LeasedElsewhere) {
                continue;
            }
            if self.leased.is_news(id, now) {
                let (title, step) = (&self.titles[self.graph[id].title.index()], self.graph[id].step);
                let (kind, node) = (step.kind(), step.label(title));
                self.tell(Event::Waiting { title: title.name.clone(), kind, node });
            }
            // An input may have been lost meanwhile, and be made again.
            self.graph.count_missing(id);
            self.look_again(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let (mut leased, id) = (LeasedElsewhere::default(), NodeIndex::new(7));
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            leased.add(id, now);
            let due = leased.next_due().unwrap();
            pauses.push((due - now).as_millis());
            assert_eq!(leased.take_due(due - Duration::from_nanos(1)).filter(|_| due > now), None);
            now = due;
            assert_eq!(leased.take_due(now), Some(id));
            assert_eq!(leased.next_due(), None);
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 250, 250]);
    }

    #[test]
    fn a_long_wait_is_told_once() {
        let (mut leased, id) = (LeasedElsewhere::default(), NodeIndex::new(7));
        let now = Instant::now();
        leased.add(id, now);
        assert!(!leased.is_news(id, now + Duration::from_millis(999)));
        assert!(leased.is_news(id, now + Duration::from_secs(1)));
        assert!(!leased.is_news(id, now + Duration::from_secs(2)));
        leased.forget(id);
        leased.add(id, now + Duration::from_secs(3));
        assert!(!leased.is_news(id, now + Duration::from_secs(3)), "a new wait");
    }
}
