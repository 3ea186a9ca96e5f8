//! For servers whose digests are not BLAKE3: maps a blob's BLAKE3 to the server's digest. Aliases are as
//! untrusted as the bytes they lead to.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::cache::BlobRef;

use super::digest::Name;

/// Aliases kept in memory: some 8 MB.
const MAX_REMEMBERED: usize = 1 << 16;

/// Known aliases. They only spare calls.
#[derive(Default)]
pub(super) struct Aliases {
    known: Mutex<HashMap<BlobRef, Name>>,
    /// Blobs whose alias or name led to other bytes, until they are uploaded again.
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

    /// Treats a blob as missing until it is uploaded: its alias or name led to other bytes.
    pub(super) fn mark_wrong(&self, blob: BlobRef) {
        self.forget(&blob);
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(blob);
    }

    pub(super) fn is_marked_wrong(&self, blob: &BlobRef) -> bool {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).contains(blob)
    }

    /// Remembers an alias that was just stored.
    pub(super) fn stored(&self, blob: BlobRef, name: Name) {
        self.uploaded(&blob);
        self.remember(blob, name);
    }

    /// Treats a blob as present again, as it was just uploaded.
    pub(super) fn uploaded(&self, blob: &BlobRef) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).remove(blob);
    }

    /// Forgets an alias that led nowhere, so that the next look-up calls the server.
    pub(super) fn forget(&self, blob: &BlobRef) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(blob);
    }
}
