//! What a remote has filed already under keys that are about to be stored there, and whether that stays:
//! whoever believes it loses it when somebody else's signature takes its place.

use std::collections::HashMap;

use bytes::Bytes;

use super::client::Outcomes;
use super::{blobs_of, is_of_one};
use crate::cache::remote::RemoteError;
use crate::cache::trust::{PublicKey, Rejection, Trust};
use crate::cache::{ActionEntry, ActionKey, BlobRef};

/// What lies under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExistingEntry {
    /// Nothing that anybody could believe.
    Nothing,
    /// What is to be stored, on the word of somebody who is believed here.
    Same,
    /// Another result, on such a word: some steps do not make the same bytes twice.
    Another(ActionEntry),
    /// What somebody signed who is not believed here, but may be by others.
    Foreign(PublicKey, ActionEntry),
    /// Nobody says.
    Unknown,
}

/// Judges what a remote answered about the key of `entry`.
pub(super) fn classify(
    trust: &Trust,
    key: &ActionKey,
    entry: &ActionEntry,
    answer: Result<Option<Bytes>, RemoteError>,
) -> ExistingEntry {
    let bytes = match answer {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return ExistingEntry::Nothing,
        // What is too long, or cannot be read, is of use to nobody.
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

/// The blobs that must be there for what is filed to stay although it is not what is to be stored.
pub(super) fn blobs_of_kept(existing: &[ExistingEntry]) -> Vec<BlobRef> {
    blobs_of(existing.iter().filter_map(ExistingEntry::kept))
}

/// Lets go of what names blobs that are not there: it is a miss to everybody.
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
    fn kept(&self) -> Option<&ActionEntry> {
        match self {
            ExistingEntry::Another(entry) | ExistingEntry::Foreign(_, entry) => Some(entry),
            ExistingEntry::Nothing | ExistingEntry::Same | ExistingEntry::Unknown => None,
        }
    }
}
