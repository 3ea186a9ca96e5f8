//! Where a server's digests are not BLAKE3: from a blob's BLAKE3 to what the server calls it. What an
//! alias says is as little to be trusted as the bytes that it leads to.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::cache::BlobRef;

use super::digest::Name;

/// Aliases that are remembered: some 8 MB of them.
const MAX_REMEMBERED: usize = 1 << 16;

/// Aliases that were looked up or filed. They are only there to spare questions.
#[derive(Default)]
pub(super) struct Aliases {
    known: Mutex<HashMap<BlobRef, Name>>,
    /// Blobs whose alias, or whose own name, led to other bytes than theirs, until they are uploaded anew.
    wrong: Mutex<HashSet<BlobRef>>,
}

impl Aliases {
    pub(super) fn get(&self, blob: &BlobRef) -> Option<Name> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(blob).copied()
    }

    pub(super) fn remember(&self, blob: BlobRef, name: Name) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(blob, name);
    }

    /// Takes a blob as missing until it is uploaded: what its alias or name led to were other bytes.
    pub(super) fn mark_wrong(&self, blob: BlobRef) {
        self.forget(&blob);
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(blob);
    }

    pub(super) fn is_marked_wrong(&self, blob: &BlobRef) -> bool {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).contains(blob)
    }

    /// Remembers an alias that was filed here just now.
    pub(super) fn stored(&self, blob: BlobRef, name: Name) {
        self.uploaded(&blob);
        self.remember(blob, name);
    }

    /// What leads to a blob leads to its own bytes again, which were uploaded here just now.
    pub(super) fn uploaded(&self, blob: &BlobRef) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).remove(blob);
    }

    /// Forgets an alias that led nowhere, so that the next look asks the server.
    pub(super) fn forget(&self, blob: &BlobRef) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(blob);
    }
}
