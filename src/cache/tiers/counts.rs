//! Counters of a remote cache, for a build's summary.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::notices::Notices;

/// The use of a remote cache. Misses, errors and rejected entries are counted apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteReport {
    /// Its URL.
    pub remote: String,
    /// Entries found and accepted, and entries that were not there.
    pub hits: u64,
    pub misses: u64,
    /// Calls that failed for good, retries included.
    pub errors: u64,
    /// The message of the last of them.
    pub last_error: Option<String>,
    /// Items that the remote cannot read or store: too large, or not allowed.
    pub unfit: u64,
    /// Rejected entries, by reason.
    pub rejected: BTreeMap<Cow<'static, str>, u64>,
    /// Entries whose blobs were not there.
    pub incomplete: u64,
    /// Blobs whose bytes were not what their name promised.
    pub corrupt: u64,
    pub fetched_blobs: u64,
    pub fetched_bytes: u64,
    pub stored_entries: u64,
    pub stored_blobs: u64,
    pub stored_bytes: u64,
    /// Entries to upload that were there already, signed by a trusted key.
    pub already_there: u64,
    /// Entries to upload that are not in the remote.
    pub not_stored: u64,
    /// Those of them that were left in place because an untrusted key signed them.
    pub others: u64,
    /// The first public key that signed an entry and is not trusted here.
    pub unknown_key: Option<String>,
    /// Why reading it was given up, if it was.
    pub went_on_without: Option<String>,
    /// Why nothing, or nothing more, was uploaded.
    pub read_only: Option<String>,
    /// Whether that is because there is no signing key while others' keys are trusted: the intended setup of
    /// readers.
    pub is_reader: bool,
}

/// A report shared by threads, and notices for the user.
#[derive(Default)]
pub(super) struct Counts {
    report: Mutex<RemoteReport>,
    notices: Notices,
}

impl Counts {
    pub(super) fn report(&self) -> MutexGuard<'_, RemoteReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notice(&self, text: String) {
        self.notices.add(text);
    }

    pub(super) fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }
}
