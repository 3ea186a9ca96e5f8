//! The entries that a remote already has under keys about to be uploaded, and whether they stay: replacing a
//! signature would take the entry from everyone who trusts it.

use std::collections::HashMap;

use bytes::Bytes;

use super::client::Outcomes;
use super::{blobs_of, is_of_one};
use crate::cache::remote::RemoteError;
use crate::cache::trust::{PublicKey, Rejection, Trust};
use crate::cache::{BlobRef, CacheEntry, EntryKey};

/// The remote's entry under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExistingEntry {
    /// None, or none that anyone could accept.
    Nothing,
    /// The same result, signed by a trusted key.
    Same,
    /// Another result, signed by a trusted key: some steps are not deterministic.
    Another(CacheEntry),
    /// Signed by a key that is not trusted here, but may be elsewhere.
    Foreign(PublicKey, CacheEntry),
    /// The remote did not answer.
    Unknown,
}

/// Classifies the remote's answer about the key of `entry`.
pub(super) fn classify(
    trust: &Trust,
    key: &EntryKey,
    entry: &CacheEntry,
    answer: Result<Option<Bytes>, RemoteError>,
) -> ExistingEntry {
    let bytes = match answer {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return ExistingEntry::Nothing,
        // Nobody can use an entry that is too large or unreadable.
        Err(error) if is_of_one(&error) => return ExistingEntry::Nothing,
        Err(_) => return ExistingEntry::Unknown,
    };
    match trust.open(key, &bytes) {
        Ok(found) if found.result == entry.result => ExistingEntry::Same,
        Ok(found) => ExistingEntry::Another(found),
        Err(Rejection::UnknownKey(_)) => match trust.signed_by_anybody(key, &bytes) {
            Some((signer, found)) => ExistingEntry::Foreign(signer, found),
            None => ExistingEntry::Nothing,
        },
        Err(_) => ExistingEntry::Nothing,
    }
}

/// The blobs that must be in the remote for existing entries to stay.
pub(super) fn blobs_of_kept(existing: &[ExistingEntry]) -> Vec<BlobRef> {
    blobs_of(existing.iter().filter_map(ExistingEntry::kept))
}

/// Treats entries as absent whose blobs are gone: they are a miss for everyone.
pub(super) fn drop_incomplete(existing: &mut [ExistingEntry], blobs: Vec<BlobRef>, answers: Outcomes<bool>) {
    let answers: HashMap<BlobRef, Result<bool, RemoteError>> = blobs.into_iter().zip(answers).collect();
    for existing in existing {
        let is_gone = |blob: &BlobRef| matches!(answers.get(blob), Some(Ok(false)));
        if existing.kept().is_some_and(|entry| entry.result.blobs.iter().any(is_gone)) {
            *existing = ExistingEntry::Nothing;
        }
    }
}

impl ExistingEntry {
    fn kept(&self) -> Option<&CacheEntry> {
        match self {
            ExistingEntry::Another(entry) | ExistingEntry::Foreign(_, entry) => Some(entry),
            ExistingEntry::Nothing | ExistingEntry::Same | ExistingEntry::Unknown => None,
        }
    }
}
