//! Reports files that count as missing because they are damaged or unreadable. They seldom come alone: the
//! first of a process is a warning, further ones are logged.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::notices::Notices;

pub(super) struct Losses {
    warned: AtomicBool,
    notices: Notices,
}

impl Losses {
    pub(super) fn new(notices: Notices) -> Losses {
        Losses { warned: AtomicBool::new(false), notices }
    }

    /// `what` is a noun: "blob"; `why` a clause: "it is damaged".
    pub(super) fn tell(&self, what: &str, path: &Path, why: &str) {
        let message =
            format!("cannot use the {what} {} in the cache, treating it as missing: {why}", path.display());
        if self.warned.swap(true, Ordering::Relaxed) {
            tracing::info!("{message}");
        } else {
            self.notices.add(message);
        }
    }
}
