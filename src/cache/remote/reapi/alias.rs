//! Where a server's digests are not BLAKE3: from a blob's BLAKE3 to what the server calls it. What an
//! alias says is as little to be trusted as the bytes that it leads to.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::cache::BlobRef;

use super::digest::Name;

/// Aliases that are remembered: some 8 MB of them.
const MOST_REMEMBERED: usize = 1 << 16;

/// Aliases that were looked up or filed. They are only there to spare questions.
#[derive(Default)]
pub(super) struct Aliases {
    known: Mutex<HashMap<BlobRef, Name>>,
}

impl Aliases {
    pub(super) fn get(&self, blob: &BlobRef) -> Option<Name> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(blob).copied()
    }

    pub(super) fn remember(&self, blob: BlobRef, name: Name) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(blob, name);
    }

    /// Forgets an alias that led nowhere, so that the next look asks the server.
    pub(super) fn forget(&self, blob: &BlobRef) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(blob);
    }
}
