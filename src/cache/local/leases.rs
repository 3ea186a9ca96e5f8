//! Leases: exclusive work on a key, so that no two processes that share the folder run the same step at
//! once. A lease is a lock on one byte of one file that nothing is ever written to: it needs no file of its
//! own, leaves nothing to clean up, and ends with its holder's process. Leases only spare work. Where the
//! file system has no locks a build runs without.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::files::open_lock;
use crate::cache::EntryKey;

use crate::notices::Notices;

pub(super) struct Leases {
    path: PathBuf,
    /// Opened for the first lease; `None` where there are no locks.
    file: OnceLock<Option<File>>,
    /// What is held through this file: its own locks are not in each other's way.
    held: Mutex<HashSet<i64>>,
    notices: Notices,
}

/// The right to run a step, given up when it is dropped.
pub struct Lease {
    leases: Arc<Leases>,
    place: i64,
}

/// The byte that stands for a key. That two share one is as good as impossible, and would
/// only make one of them wait.
pub(super) fn place_of(key: &EntryKey) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = key.0.0;
    place(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// A byte by number: those that a file can have are half of all numbers.
pub(super) fn place(number: u64) -> i64 {
    (number >> 1).cast_signed()
}

impl Leases {
    pub(super) fn new(path: PathBuf, notices: Notices) -> Arc<Leases> {
        Arc::new(Leases { path, file: OnceLock::new(), held: Mutex::new(HashSet::new()), notices })
    }

    /// Whether locks are to be had, as far as is known by now.
    pub(super) fn are_locks(&self) -> bool {
        self.file().is_some()
    }

    /// The lease on a byte; `None` while another process holds it.
    pub(super) fn take(self: &Arc<Leases>, place: i64) -> Option<Lease> {
        // Reserved within the process first: locking over a network takes a while.
        if !self.held().insert(place) {
            return None;
        }
        if let Some(file) = self.file() {
            match lock(file, libc::F_WRLCK, place) {
                Ok(()) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    self.held().remove(&place);
                    return None;
                }
                // Locks were there a moment ago: a server that is restarting, or too many of them.
                Err(error) => tracing::info!("no lock on {}: {error}", self.path.display()),
            }
        }
        Some(Lease { leases: Arc::clone(self), place })
    }

    fn held(&self) -> MutexGuard<'_, HashSet<i64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> Option<&File> {
        let open = || match open(&self.path) {
            Ok(file) => Some(file),
            Err(error) => {
                self.notices.add(format!(
                    "no locks on {}: {error}; other builds that share the cache may do the same work",
                    self.path.display()
                ));
                None
            }
        };
        self.file.get_or_init(open).as_ref()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Unlocked first: a lock that another thread takes on this place is the same file's, and would go with it.
        if let Some(file) = self.leases.file()
            && let Err(error) = lock(file, libc::F_UNLCK, self.place)
        {
            tracing::info!("a lock on {} is left: {error}", self.leases.path.display());
        }
        self.leases.held().remove(&self.place);
    }
}

/// Opens the file, and sees that it can be locked.
fn open(path: &Path) -> std::io::Result<File> {
    let file = open_lock(path)?;
    let place = place(u64::MAX);
    match lock(&file, libc::F_WRLCK, place) {
        Ok(()) => lock(&file, libc::F_UNLCK, place)?,
        // Another is just doing the same.
        Err(Errno::EAGAIN | Errno::EACCES) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(file)
}

/// A lock belongs to the open file, not to the process: each opening of the folder has its own, and
/// closing another one does not end it.
fn lock(file: &File, kind: libc::c_int, place: i64) -> Result<(), Errno> {
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_through_one_file_and_through_several() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases");
        let (here, there) =
            (Leases::new(path.clone(), Notices::default()), Leases::new(path, Notices::default()));
        let lease = here.take(7).unwrap();
        assert!(here.take(7).is_none() && there.take(7).is_none());
        assert!(here.take(8).is_some());
        drop(lease);
        // A refused lease is not held.
        let lease = there.take(7).unwrap();
        assert!(here.take(7).is_none());
        drop(lease);
        assert!(here.take(7).is_some());
    }

    #[test]
    fn threads_that_take_and_give_are_never_two() {
        let dir = tempfile::tempdir().unwrap();
        let files = [0, 1].map(|_| Leases::new(dir.path().join("leases"), Notices::default()));
        let (inside, taken) = (Mutex::new(()), Mutex::new(0));
        std::thread::scope(|scope| {
            for leases in files.iter().chain(&files) {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Some(_lease) = leases.take(3) {
                            let _alone = inside.try_lock().expect("two have it");
                            *taken.lock().unwrap() += 1;
                        }
                    }
                });
            }
        });
        assert!(*taken.lock().unwrap() > 0);
    }
}
