//! Decides when to go on without a remote: after a few failures in a row, and for good. A remote that
//! comes back is asked again by the next build.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::cache::remote::{RemoteError, RemoteFault};

/// Failed attempts in a row, of whatever calls, after which a remote is not asked again.
const MOST_FAILURES: u32 = 5;

#[derive(Default)]
pub(super) struct Breaker {
    row: Mutex<Row>,
    open: AtomicBool,
}

/// Failures in a row.
#[derive(Default)]
struct Row {
    failures: u32,
    /// When the last one that counted was known.
    last: Option<Instant>,
}

impl Breaker {
    /// Whether the remote is not to be asked any more.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn succeeded(&self) {
        self.row.lock().unwrap_or_else(PoisonError::into_inner).failures = 0;
    }

    /// Counts a failure of an attempt that began then. True for the one that ends it: that is to be told,
    /// once.
    pub(super) fn failed(&self, error: &RemoteError, began: Instant) -> bool {
        // Who has no credentials, or asks where nothing is, need not ask again.
        let is_final = matches!(error.fault, RemoteFault::Denied | RemoteFault::Refused | RemoteFault::Full);
        (is_final || self.counts(began) >= MOST_FAILURES) && !self.open.swap(true, Ordering::Relaxed)
    }

    /// How many there are with this one. Attempts side by side fail of one and the same thing, and tell no
    /// more together than the first of them.
    fn counts(&self, began: Instant) -> u32 {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if row.last.is_none_or(|last| began >= last) {
            row.failures += 1;
            row.last = Some(Instant::now());
        }
        row.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(fault: RemoteFault) -> RemoteError {
        RemoteError::new(fault, "")
    }

    #[test]
    fn it_opens_once_after_failures_in_a_row() {
        let breaker = Breaker::default();
        let failed = |fault| breaker.failed(&error(fault), Instant::now());
        for _ in 1..MOST_FAILURES {
            assert!(!failed(RemoteFault::Passing));
        }
        breaker.succeeded();
        for _ in 1..MOST_FAILURES {
            assert!(!failed(RemoteFault::Nonsense));
        }
        assert!(!breaker.is_open());
        assert!(failed(RemoteFault::Passing));
        assert!(breaker.is_open());
        assert!(!failed(RemoteFault::Passing), "it is told once");
    }

    #[test]
    fn attempts_side_by_side_fail_once() {
        let breaker = Breaker::default();
        let began = Instant::now();
        for _ in 0..10 * MOST_FAILURES {
            assert!(!breaker.failed(&error(RemoteFault::Passing), began));
        }
        for _ in 2..MOST_FAILURES {
            assert!(!breaker.failed(&error(RemoteFault::Passing), Instant::now()));
        }
        assert!(breaker.failed(&error(RemoteFault::Passing), Instant::now()));
    }

    #[test]
    fn what_will_not_pass_opens_it_at_once() {
        for fault in [RemoteFault::Denied, RemoteFault::Refused, RemoteFault::Full] {
            assert!(Breaker::default().failed(&error(fault), Instant::now()));
        }
    }
}
