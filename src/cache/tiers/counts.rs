//! What a build had of its remote: for its summary.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// What came of a remote cache. Entries that were not found, that could not be asked for, and that were not
/// believed are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemoteReport {
    /// Where it is.
    pub remote: String,
    /// Entries that were found there and believed, and that were not there.
    pub hits: u64,
    pub misses: u64,
    /// Calls that failed for good, retries included.
    pub errors: u64,
    /// Entries that were not believed, by why.
    pub distrusted: BTreeMap<&'static str, u64>,
    /// Entries whose blobs were not there.
    pub incomplete: u64,
    /// Blobs whose bytes were not what their name promised.
    pub corrupt: u64,
    pub fetched_blobs: u64,
    pub fetched_bytes: u64,
    pub stored_entries: u64,
    pub stored_blobs: u64,
    pub stored_bytes: u64,
    /// Entries that were to be stored and are not.
    pub not_stored: u64,
    /// Why it was not asked any more, if so.
    pub went_on_without: Option<String>,
    /// Why nothing was stored there any more, or at all.
    pub read_only: Option<String>,
}

/// A report that many threads add to, and what is to be told meanwhile.
#[derive(Default)]
pub(super) struct Counts {
    report: Mutex<RemoteReport>,
    notices: Mutex<Vec<String>>,
}

impl Counts {
    pub(super) fn report(&self) -> MutexGuard<'_, RemoteReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notice(&self, text: String) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    pub(super) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
