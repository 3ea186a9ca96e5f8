//! What a build had of its remote: for its summary.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// What came of a remote cache. Entries that were not found, that could not be asked for, and that were not
/// believed are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteReport {
    /// Where it is.
    pub remote: String,
    /// Entries that were found there and believed, and that were not there.
    pub hits: u64,
    pub misses: u64,
    /// Calls that failed for good, retries included.
    pub errors: u64,
    /// What the last of them said.
    pub last_error: Option<String>,
    /// Things that it has or was given and that cannot be read or written: too large, or not allowed.
    pub unfit: u64,
    /// Entries that were not believed, by why.
    pub distrusted: BTreeMap<Cow<'static, str>, u64>,
    /// Entries whose blobs were not there.
    pub incomplete: u64,
    /// Blobs whose bytes were not what their name promised.
    pub corrupt: u64,
    pub fetched_blobs: u64,
    pub fetched_bytes: u64,
    pub stored_entries: u64,
    pub stored_blobs: u64,
    pub stored_bytes: u64,
    /// Entries that were to be stored and were there already: signed by somebody who is believed.
    pub already_there: u64,
    /// Entries that were to be stored and are not.
    pub not_stored: u64,
    /// Those of them in whose place somebody signed one who is not believed here. It was left.
    pub others: u64,
    /// The first public key that signed an entry and is not trusted here.
    pub unknown_key: Option<String>,
    /// Why it was not asked any more, if so.
    pub went_on_without: Option<String>,
    /// Why nothing was stored there any more, or at all.
    pub read_only: Option<String>,
    /// Whether that is for want of a key, with somebody else who is trusted: as it is to be with readers.
    pub is_reader: bool,
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
