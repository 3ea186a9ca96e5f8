//! Which sessions may be open: a driver counts those of all processes, and so it is done here, by locks
//! on files beside the journal. A process that ends, however it does, holds none any more.

use std::fs::File;

use crate::journal;
use crate::settings::settings;

/// Room for one session, until it is dropped.
pub struct Seat {
    /// Locked; `None` where as many sessions may be open as anybody wants.
    _file: Option<File>,
}

impl Seat {
    /// `None` where all are taken.
    pub fn take() -> Option<Seat> {
        let sessions = settings().sessions;
        if sessions == usize::MAX {
            return Some(Seat { _file: None });
        }
        (0..sessions).find_map(|number| {
            let path = journal::beside(&format!("session-{number}"));
            let file = File::create(path).expect("files can be made beside the journal");
            file.try_lock().is_ok().then_some(Seat { _file: Some(file) })
        })
    }
}
