//! Where files are while they are being written: a folder for each process that has the cache
//! open, so that what a killed one has left is told from what a running one writes. That is told by
//! a lock, as clocks are set and differ between machines; only beyond that by age.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::leases::{Lease, Leases, place};
use crate::cache::CacheError;

/// Leftovers of ended processes are removed after this time without a change. Locks may not reach from one
/// machine to another.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);
/// Leftovers of unknown origin are removed after this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct Tmp {
    folder: PathBuf,
    /// Held as long as the process runs.
    _alive: Option<Lease>,
}

impl Tmp {
    /// Makes a folder among `all`, and removes those that others have left.
    pub(super) fn new(all: &Path, leases: &Arc<Leases>) -> Result<Tmp, CacheError> {
        let failed = || CacheError::io("create a folder in", all);
        let number = getrandom::u64().map_err(|error| failed()(io::Error::other(error)))?;
        let folder = all.join(format!("{number:016x}"));
        fs::create_dir(&folder).map_err(failed())?;
        let tmp = Tmp { folder, _alive: leases.take(place(number)) };
        // The clock of the file system, which stamps are made by.
        if let Ok(now) = fs::symlink_metadata(&tmp.folder).and_then(|meta| meta.modified()) {
            sweep(all, &tmp.folder, leases, now);
        }
        Ok(tmp)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Tmp {
    fn drop(&mut self) {
        // It is empty, or what is in it was not written to its end, and is swept one day.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Removes what killed builds left behind. Failing to is no reason not to build.
fn sweep(all: &Path, own: &Path, leases: &Arc<Leases>, now: SystemTime) {
    let Ok(entries) = fs::read_dir(all) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // This does not follow links.
        let Ok(meta) = entry.metadata() else { continue };
        if path == own || !is_left(&path, &meta, leases, now) {
            continue;
        }
        let removed = if meta.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::debug!("cannot remove {}: {error}", path.display());
        }
    }
}

fn is_left(path: &Path, meta: &Metadata, leases: &Arc<Leases>, now: SystemTime) -> bool {
    let Ok(modified) = meta.modified() else { return false };
    // A stamp from the future is as far from now as one from the past: else it would stay for ever.
    let age = now.duration_since(modified).unwrap_or_else(|error| error.duration());
    let owner = path.file_name().and_then(|name| name.to_str()).filter(|name| name.len() == 16);
    match owner.and_then(|name| u64::from_str_radix(name, 16).ok()) {
        Some(owner) if leases.are_locks() => age > ABANDONED_AFTER && leases.take(place(owner)).is_some(),
        _ => age > FORGOTTEN_AFTER,
    }
}
