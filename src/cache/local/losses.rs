//! Reports files that count as missing because they are damaged or unreadable. They seldom come alone: the
//! first of a process is a warning, further ones are notes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
pub(super) struct Losses {
    warned: AtomicBool,
}

impl Losses {
    /// `what` is a noun: "blob"; `why` a clause: "it is damaged".
    pub(super) fn tell(&self, what: &str, path: &Path, why: &str) {
        let message =
            format!("cannot use the {what} {} in the cache, treating it as missing: {why}", path.display());
        if self.warned.swap(true, Ordering::Relaxed) {
            tracing::info!("{message}");
        } else {
            tracing::warn!("{message}");
        }
    }
}
