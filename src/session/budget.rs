//! The slots and the memory that the builds of a process share. A build takes its part when it begins and
//! gives it back when it ends, so that builds side by side never use more than there is. Nothing of it
//! reaches a key or an output.
//!
//! Parts are fixed for the length of a build: what one build leaves idle, another cannot borrow.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::build::{default_jobs, default_memory};

/// How often a build that waits for its part looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Slots, and bytes for frames in flight and encoders. Clones are the same budget: give one to each session
/// whose builds are to share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    slots: usize,
    memory: u64,
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Debug)]
struct State {
    free_slots: usize,
    free_memory: u64,
    /// Builds that wait, by their numbers: who came first is served first, so that one that wants much
    /// is not passed over for ever.
    waiting: BTreeSet<u64>,
    next: u64,
}

/// What a build wants of its session's [`Budget`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Steps that run at a time. `None`: all slots that are free when the build begins, one at least. Builds
    /// that are to run side by side each name a number; of more than there are, all are meant.
    pub slots: Option<usize>,
    /// Bytes. `None`: as large a part of the memory as of the slots.
    pub memory: Option<u64>,
}

/// A build's part of a budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    pub slots: usize,
    pub memory: u64,
}

impl Default for Budget {
    /// All of this machine: a slot for each CPU that this process may use, and half of the memory of the
    /// machine or of its control group.
    fn default() -> Budget {
        Budget::new(default_jobs(), default_memory())
    }
}

impl Budget {
    /// `slots`: steps that run at a time, one at least. `memory`: bytes.
    pub fn new(slots: usize, memory: u64) -> Budget {
        let slots = slots.max(1);
        let state = State { free_slots: slots, free_memory: memory, waiting: BTreeSet::new(), next: 0 };
        Budget(Arc::new(Shared { slots, memory, state: Mutex::new(state), given_back: Condvar::new() }))
    }

    /// Slots in all, whether builds have them or not.
    pub fn slots(&self) -> usize {
        self.0.slots
    }

    /// Bytes in all, whether builds have them or not.
    pub fn memory(&self) -> u64 {
        self.0.memory
    }

    /// Takes a part, and waits while other builds have too much of it. `None` if `cancelled` comes first.
    pub(super) fn take(&self, share: Share, cancelled: &AtomicBool) -> Option<Reservation> {
        let mut state = self.0.state();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number);
        let taken = loop {
            if state.waiting.first() == Some(&number)
                && let Some((slots, memory)) = self.0.part(share, &state)
            {
                state.free_slots -= slots;
                state.free_memory -= memory;
                break Some(Reservation { shared: Arc::clone(&self.0), slots, memory });
            }
            if cancelled.load(Ordering::Relaxed) {
                break None;
            }
            let waited = self.0.given_back.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting.remove(&number);
        drop(state);
        // Whoever is first now may find enough.
        self.0.given_back.notify_all();
        taken
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Slots and bytes for a build, if there are enough now.
    fn part(&self, share: Share, state: &State) -> Option<(usize, u64)> {
        let slots = share.slots.unwrap_or(state.free_slots).clamp(1, self.slots);
        let memory = match share.memory {
            Some(memory) => memory.min(self.memory),
            None => {
                let part = u128::from(self.memory) * slots as u128 / self.slots as u128;
                u64::try_from(part).unwrap_or(self.memory)
            }
        };
        (slots <= state.free_slots && memory <= state.free_memory).then_some((slots, memory))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.free_slots += self.slots;
        state.free_memory += self.memory;
        drop(state);
        self.shared.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    static GO: AtomicBool = AtomicBool::new(false);

    fn slots(slots: usize) -> Share {
        Share { slots: Some(slots), ..Share::default() }
    }

    fn part(budget: &Budget, share: Share) -> (usize, u64) {
        let taken = budget.take(share, &GO).unwrap();
        (taken.slots, taken.memory)
    }

    #[test]
    fn memory_goes_with_slots_unless_it_is_named() {
        let budget = Budget::new(4, 1000);
        assert_eq!(part(&budget, Share::default()), (4, 1000));
        assert_eq!(part(&budget, slots(1)), (1, 250));
        assert_eq!(part(&budget, slots(9)), (4, 1000));
        assert_eq!(part(&budget, slots(0)), (1, 250));
        assert_eq!(part(&budget, Share { memory: Some(700), ..slots(1) }), (1, 700));
        assert_eq!(part(&budget, Share { memory: Some(u64::MAX), ..slots(1) }), (1, 1000));
    }

    #[test]
    fn who_names_nothing_gets_what_is_left() {
        let budget = Budget::new(4, 1000);
        let _one = budget.take(slots(3), &GO).unwrap();
        assert_eq!(part(&budget, Share::default()), (1, 250));
    }

    #[test]
    fn who_is_cancelled_waits_no_longer_and_stands_in_nobodys_way() {
        let budget = Budget::new(1, 10);
        let all = budget.take(Share::default(), &GO).unwrap();
        assert!(budget.take(Share::default(), &AtomicBool::new(true)).is_none());
        drop(all);
        assert_eq!(part(&budget, Share::default()), (1, 10));
    }

    #[test]
    fn no_more_is_given_than_there_is() {
        let budget = Budget::new(3, 300);
        let given = Mutex::new((0usize, 0u64));
        thread::scope(|scope| {
            for wanted in [1, 2, 3, 1, 2, 3, 2, 2] {
                let (budget, given) = (&budget, &given);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let taken = budget.take(slots(wanted), &GO).unwrap();
                        let mut now = given.lock().unwrap();
                        *now = (now.0 + taken.slots, now.1 + taken.memory);
                        assert!(now.0 <= 3 && now.1 <= 300, "{now:?}");
                        drop(now);
                        thread::yield_now();
                        let mut now = given.lock().unwrap();
                        *now = (now.0 - taken.slots, now.1 - taken.memory);
                    }
                });
            }
        });
        assert_eq!(part(&budget, Share::default()), (3, 300), "all of it came back");
    }
}
