//! The circuit breaker: after a few failures in a row the remote is not called again during this build.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::cache::remote::{RemoteError, RemoteFault};

/// Consecutive failed attempts that open it.
const MAX_FAILURES: u32 = 5;
/// Consecutive attempts without an answer that open it. Each costs a whole timeout.
const MAX_TIMEOUTS: u32 = 2;

#[derive(Default)]
pub(super) struct Breaker {
    row: Mutex<Row>,
    open: AtomicBool,
}

/// Failures in a row.
#[derive(Default)]
struct Row {
    failures: u32,
    /// Timeouts at the end of the row.
    timeouts: u32,
    /// The time of the last success.
    answered: Option<Instant>,
    /// The time of the last counted failure.
    last: Option<Instant>,
}

impl Breaker {
    /// Whether the remote is not called any more.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn succeeded(&self) {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        *row = Row { answered: Some(Instant::now()), last: row.last, ..Row::default() };
    }

    /// Counts a failed attempt; `timed_out` if it got no answer at all. True for the attempt that opens the
    /// breaker, which is to be reported once.
    pub(super) fn failed(&self, error: &RemoteError, began: Instant, timed_out: bool) -> bool {
        // Retrying does not help without credentials or with a wrong address.
        let is_final = matches!(error.fault, RemoteFault::Denied | RemoteFault::Refused | RemoteFault::Full);
        (is_final || self.is_enough(began, timed_out)) && !self.open.swap(true, Ordering::Relaxed)
    }

    /// Whether there are enough failures with this one. Concurrent attempts fail for one and the same reason
    /// and count once.
    fn is_enough(&self, began: Instant, timed_out: bool) -> bool {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if row.last.is_none_or(|last| began >= last) {
            // The remote answered other calls meanwhile.
            let timed_out = timed_out && row.answered.is_none_or(|answered| answered < began);
            row.failures += 1;
            row.timeouts = if timed_out { row.timeouts + 1 } else { 0 };
            row.last = Some(Instant::now());
        }
        row.failures >= MAX_FAILURES || row.timeouts >= MAX_TIMEOUTS
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
        let failed = |fault| breaker.failed(&error(fault), Instant::now(), false);
        for _ in 1..MAX_FAILURES {
            assert!(!failed(RemoteFault::Transient));
        }
        breaker.succeeded();
        for _ in 1..MAX_FAILURES {
            assert!(!failed(RemoteFault::InvalidResponse));
        }
        assert!(!breaker.is_open());
        assert!(failed(RemoteFault::Transient));
        assert!(breaker.is_open());
        assert!(!failed(RemoteFault::Transient), "it is told once");
    }

    #[test]
    fn attempts_side_by_side_fail_once() {
        let breaker = Breaker::default();
        let began = Instant::now();
        for _ in 0..10 * MAX_FAILURES {
            assert!(!breaker.failed(&error(RemoteFault::Transient), began, false));
        }
        for _ in 2..MAX_FAILURES {
            assert!(!breaker.failed(&error(RemoteFault::Transient), Instant::now(), false));
        }
        assert!(breaker.failed(&error(RemoteFault::Transient), Instant::now(), false));
    }

    #[test]
    fn two_without_any_answer_open_it() {
        let breaker = Breaker::default();
        let failed = |timed_out| breaker.failed(&error(RemoteFault::Transient), Instant::now(), timed_out);
        assert!(!failed(true));
        assert!(!failed(false), "an answer, if a bad one");
        assert!(!failed(true));
        breaker.succeeded();
        assert!(!failed(true));
        assert!(failed(true));

        let breaker = Breaker::default();
        for _ in 0..2 {
            let began = Instant::now();
            breaker.succeeded();
            assert!(!breaker.failed(&error(RemoteFault::Transient), began, true), "others were answered");
        }
    }

    #[test]
    fn what_will_not_pass_opens_it_at_once() {
        for fault in [RemoteFault::Denied, RemoteFault::Refused, RemoteFault::Full] {
            assert!(Breaker::default().failed(&error(fault), Instant::now(), false));
        }
    }
}
