//! What a remote has filed already under keys that are about to be stored there, and whether that stays:
//! whoever believes it loses it when somebody else's signature takes its place.

use std::collections::HashMap;

use bytes::Bytes;

use super::guard::Each;
use super::{blobs_of, is_of_one};
use crate::cache::remote::RemoteError;
use crate::cache::trust::{Distrust, PublicKey, Trust};
use crate::cache::{ActionEntry, ActionKey, BlobRef};

/// What lies under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filed {
    /// Nothing that anybody could believe.
    Nothing,
    /// What is to be stored, on the word of somebody who is believed here.
    Same,
    /// Another result, on such a word: some steps do not make the same bytes twice.
    Another(ActionEntry),
    /// What somebody signed who is not believed here, but may be by others.
    Theirs(PublicKey, ActionEntry),
    /// Nobody says.
    Unsaid,
}

/// Judges what a remote answered about the key of `entry`.
pub(super) fn judge(
    trust: &Trust,
    key: &ActionKey,
    entry: &ActionEntry,
    answer: Result<Option<Bytes>, RemoteError>,
) -> Filed {
    let bytes = match answer {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Filed::Nothing,
        // What is too long, or cannot be read, is of use to nobody.
        Err(error) if is_of_one(&error) => return Filed::Nothing,
        Err(_) => return Filed::Unsaid,
    };
    match trust.open(key, &bytes) {
        Ok(found) if found.result == entry.result => Filed::Same,
        Ok(found) => Filed::Another(found),
        Err(Distrust::UnknownKey(_)) => match trust.signed_by_anybody(key, &bytes) {
            Some((signer, found)) => Filed::Theirs(signer, found),
            None => Filed::Nothing,
        },
        Err(_) => Filed::Nothing,
    }
}

/// The blobs that must be there for what is filed to stay although it is not what is to be stored.
pub(super) fn blobs_of_others(filed: &[Filed]) -> Vec<BlobRef> {
    blobs_of(filed.iter().filter_map(Filed::other))
}

/// Lets go of what names blobs that are not there: it is a miss to everybody.
pub(super) fn drop_incomplete(filed: &mut [Filed], blobs: Vec<BlobRef>, answers: Each<bool>) {
    let answers: HashMap<BlobRef, Result<bool, RemoteError>> = blobs.into_iter().zip(answers).collect();
    for filed in filed {
        let is_gone = |blob: &BlobRef| matches!(answers.get(blob), Some(Ok(false)));
        if filed.other().is_some_and(|entry| entry.result.blobs.iter().any(is_gone)) {
            *filed = Filed::Nothing;
        }
    }
}

impl Filed {
    fn other(&self) -> Option<&ActionEntry> {
        match self {
            Filed::Another(entry) | Filed::Theirs(_, entry) => Some(entry),
            Filed::Nothing | Filed::Same | Filed::Unsaid => None,
        }
    }
}
