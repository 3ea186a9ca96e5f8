//! Decides when to go on without a remote: after a few failures in a row, and for good. A remote that
//! comes back is asked again by the next build.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::cache::remote::{RemoteError, RemoteFault};

/// Failed attempts in a row, of whatever calls, after which a remote is not asked again.
const MOST_FAILURES: u32 = 5;

#[derive(Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
    open: AtomicBool,
}

impl Breaker {
    /// Whether the remote is not to be asked any more.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Counts a failure. True for the one that ends it: that is to be told, once.
    pub(super) fn failed(&self, error: &RemoteError) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        // Who has no credentials, or asks where nothing is, need not ask again.
        let is_final = matches!(error.fault, RemoteFault::Denied | RemoteFault::Refused | RemoteFault::Full);
        (is_final || failures >= MOST_FAILURES) && !self.open.swap(true, Ordering::Relaxed)
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
        for _ in 1..MOST_FAILURES {
            assert!(!breaker.failed(&error(RemoteFault::Passing)));
        }
        breaker.succeeded();
        for _ in 1..MOST_FAILURES {
            assert!(!breaker.failed(&error(RemoteFault::Nonsense)));
        }
        assert!(!breaker.is_open());
        assert!(breaker.failed(&error(RemoteFault::Passing)));
        assert!(breaker.is_open());
        assert!(!breaker.failed(&error(RemoteFault::Passing)), "it is told once");
    }

    #[test]
    fn what_will_not_pass_opens_it_at_once() {
        for fault in [RemoteFault::Denied, RemoteFault::Refused, RemoteFault::Full] {
            assert!(Breaker::default().failed(&error(fault)));
        }
    }
}
