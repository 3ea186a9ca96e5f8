//! Warnings that come up where nobody listens: in a cache, in a worker's conversation, on a build's threads.
//! They are kept until whoever runs the build takes them, and become its events.

use std::sync::{Arc, Mutex, PoisonError};

/// Clones share the same warnings.
#[derive(Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<Vec<String>>>);

impl Notices {
    pub fn add(&self, message: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }

    /// Those since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
