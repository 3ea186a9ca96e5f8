//! Digests of source files that were hashed before, found again by path and stamp. It only
//! spares work: nothing of it reaches a key, and forgetting it costs one reading of the file.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::files::{Found, read, write};
use super::used::Used;
use crate::cache::checksummed;
use crate::cache::{CacheError, Digest};

/// What a file system says of a file whose content is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    size: u64,
    device: u64,
    inode: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

/// A file changed again within this time of its last change may keep its stamp, as file
/// systems keep coarse clocks. Where stamps have fractions
/// of a second the clock is the kernel's tick, else it may be as coarse as two seconds.
const RACY_NS: i128 = 100_000_000;
const RACY_COARSE_NS: i128 = 2_000_000_000;

/// A stamp and a digest; anything longer was not written here.
pub(super) const MAX_BYTES: u64 = 4 << 10;

impl FileStamp {
    pub fn of(meta: &Metadata) -> FileStamp {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        FileStamp {
            size: meta.size(),
            device: meta.dev(),
            inode: meta.ino(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// How long after `now` the file must be left alone for this stamp to tell its content:
    /// nothing for all files but those that changed a moment ago.
    pub fn settles_in(&self, now: SystemTime) -> Duration {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i128);
        let racy = if self.ctime_ns % 1_000_000_000 == 0 { RACY_COARSE_NS } else { RACY_NS };
        let age = now - self.ctime_ns;
        // A stamp from the future is a wrong clock, which waiting does not mend.
        let left = if age < 0 { 0 } else { racy - age };
        Duration::from_nanos(u64::try_from(left).unwrap_or(0))
    }
}

#[derive(Serialize, Deserialize)]
struct Known {
    stamp: FileStamp,
    digest: Digest,
}

pub(super) struct StatCache {
    folder: PathBuf,
    tmp: PathBuf,
    used: Arc<Used>,
}

impl StatCache {
    pub(super) fn new(folder: PathBuf, tmp: PathBuf, used: Arc<Used>) -> StatCache {
        StatCache { folder, tmp, used }
    }

    fn path_of(&self, path: &Path) -> PathBuf {
        let name = Digest::of(path.as_os_str().as_bytes()).to_string();
        self.folder.join(&name[..2]).join(name)
    }

    pub(super) fn get(&self, path: &Path, stamp: &FileStamp) -> Option<Digest> {
        let at = self.path_of(path);
        let Ok(Found::Bytes(bytes, meta)) = read(&at, MAX_BYTES, "read a stamp") else { return None };
        let known: Known = postcard::from_bytes(checksummed::content(&bytes)?).ok()?;
        let same = known.stamp == *stamp;
        if same {
            self.used.note(&at, &meta);
        }
        same.then_some(known.digest)
    }

    pub(super) fn put(&self, path: &Path, stamp: &FileStamp, digest: Digest) -> Result<(), CacheError> {
        let known = Known { stamp: *stamp, digest };
        write(&self.tmp, &self.path_of(path), &checksummed::wrap(&postcard::to_stdvec(&known)?))
    }
}
