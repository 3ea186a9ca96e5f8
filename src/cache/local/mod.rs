//! The cache in a local folder. It writes to a temporary name, syncs and renames, so that no
//! process ever sees half a file, and it never trusts what it reads.

mod builds;
mod clear;
mod gc;
mod log;
mod marks;
mod pins;
mod sealed;
mod shards;
mod stat_cache;
mod stats;
mod used;
mod verify;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{ActionEntry, ActionKey, BlobRef, Cache, CacheError, Digest};
pub use builds::RunningBuild;
pub use gc::{Collected, GcRules, Parts, Tally};
use log::Log;
pub use pins::{Pin, PinnedTitle};
pub use stat_cache::FileStamp;
use stat_cache::StatCache;
pub use stats::{AgeStats, CacheStats, GroupStats};
use used::Used;
pub use verify::{Damage, Found, Verified};

/// The layout's version: a newer layout lives beside an older one.
const LAYOUT: &str = "v2";
/// Files in `tmp` that are older than this belong to no running build.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

pub struct LocalCache {
    /// The folder as the user names it.
    folder: PathBuf,
    root: PathBuf,
    used: Arc<Used>,
    stats: StatCache,
    log: Log,
}

impl LocalCache {
    /// Opens `folder`, making it when it is not there.
    pub fn open(folder: &Path) -> Result<LocalCache, CacheError> {
        let root = folder.join(LAYOUT);
        for part in ["blobs", "actions", "stats", "log", "builds", "pins", "tmp"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(CacheError::io("create the cache folder", &path))?;
        }
        sweep(&root.join("tmp"));
        let used = Arc::new(Used::default());
        let stats = StatCache::new(root.join("stats"), root.join("tmp"), Arc::clone(&used));
        let log = Log::new(root.join("log"), root.join("tmp"));
        Ok(LocalCache { folder: folder.to_owned(), root, used, stats, log })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The digest of a source file, if a file with this stamp was hashed before.
    pub fn known_file(&self, path: &Path, stamp: &FileStamp) -> Option<Digest> {
        self.stats.get(path, stamp)
    }

    /// Remembers the digest of a source file whose stamp was `stamp` before and after hashing, and
    /// had settled before.
    pub fn remember_file(&self, path: &Path, stamp: &FileStamp, digest: Digest) -> Result<(), CacheError> {
        self.stats.put(path, stamp, digest)
    }

    /// Adds a record of a build that began `at` that time, and returns its name.
    pub fn append_log(&self, at: SystemTime, bytes: &[u8]) -> Result<String, CacheError> {
        self.log.append(at, bytes)
    }

    /// The names of the records in the log, the oldest first.
    pub fn log_names(&self) -> Result<Vec<String>, CacheError> {
        self.log.names()
    }

    /// A record of the log.
    pub fn log_record(&self, name: &str) -> Option<Vec<u8>> {
        self.log.read(name)
    }

    /// An empty cache in a folder of its own beside this one's files, gone when it is dropped.
    pub fn beside(&self) -> Result<(tempfile::TempDir, LocalCache), CacheError> {
        let tmp = self.root.join("tmp");
        let folder = tempfile::Builder::new()
            .prefix("rivet-check-")
            .tempdir_in(&tmp)
            .map_err(CacheError::io("create a folder in", &tmp))?;
        let cache = LocalCache::open(folder.path())?;
        Ok((folder, cache))
    }

    /// Tells others, as long as what this returns is there, that a build goes on, so that nothing
    /// that it uses or writes is cleaned away. To be told before it looks anything up.
    pub fn announce(&self) -> Result<RunningBuild, CacheError> {
        let (build, began) = builds::announce(&self.root.join("builds"), &self.root.join("tmp"))?;
        self.used.build_begins(began);
        Ok(build)
    }

    fn path_of(&self, part: &str, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(part).join(&name[..2]).join(name)
    }
}

impl Cache for LocalCache {
    fn action(&self, key: &ActionKey) -> Result<Option<ActionEntry>, CacheError> {
        let path = self.path_of("actions", &key.0);
        let Some(bytes) = read(&path, "read the action entry")? else {
            return Ok(None);
        };
        let Some(entry) = ActionEntry::from_bytes(&bytes) else {
            tracing::warn!("the action entry {} is damaged; its step runs again", path.display());
            drop_file(&path)?;
            return Ok(None);
        };
        // A look at the length costs little and notices a lost or cut blob now; its bytes are
        // verified when somebody needs them.
        for blob in &entry.result.blobs {
            let path = self.path_of("blobs", &blob.digest);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_file() && meta.len() == blob.size => {}
                Ok(_) => {
                    tracing::warn!("the blob {} has the wrong length; its step runs again", path.display());
                    drop_file(&path)?;
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(CacheError::io("look at the blob", &path)(error)),
            }
        }
        self.used.note(&path);
        Ok(Some(entry))
    }

    fn put_action(&self, key: &ActionKey, entry: &ActionEntry) -> Result<(), CacheError> {
        let path = self.path_of("actions", &key.0);
        write(&self.root.join("tmp"), &path, &entry.to_bytes()?)
    }

    fn blob(&self, blob: &BlobRef) -> Result<Option<Vec<u8>>, CacheError> {
        let path = self.path_of("blobs", &blob.digest);
        let Some(bytes) = read(&path, "read the blob")? else {
            return Ok(None);
        };
        if bytes.len() as u64 == blob.size && Digest::of(&bytes) == blob.digest {
            return Ok(Some(bytes));
        }
        tracing::warn!("the blob {} is damaged; it is made again", path.display());
        drop_file(&path)?;
        Ok(None)
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<BlobRef, CacheError> {
        let blob = BlobRef { digest: Digest::of(bytes), size: bytes.len() as u64 };
        let path = self.path_of("blobs", &blob.digest);
        // Only a blob with the right bytes is as good as a write: a damaged one is replaced.
        let there = fs::symlink_metadata(&path).ok().filter(|meta| meta.is_file() && meta.len() == blob.size);
        let there = there.filter(|_| fs::read(&path).is_ok_and(|there| there == bytes));
        match there {
            Some(meta) if !self.used.wants_note(&meta) => {}
            // That it is wanted again must show, or it might be cleaned away before its new entry is
            // there; but a published file's time is not to change.
            Some(meta) if meta.nlink() == 1 => used::touch(&path),
            _ => write(&self.root.join("tmp"), &path, bytes)?,
        }
        Ok(blob)
    }

    fn blob_file(&self, blob: &BlobRef) -> Option<PathBuf> {
        Some(self.path_of("blobs", &blob.digest))
    }
}

/// The whole file, or `None` when there is none.
fn read(path: &Path, operation: &'static str) -> Result<Option<Vec<u8>>, CacheError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CacheError::io(operation, path)(error)),
    }
}

/// Writes `bytes` under a temporary name in `tmp`, syncs, and renames to `path`.
pub(super) fn write(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let folder = path.parent().unwrap_or(tmp);
    fs::create_dir_all(folder).map_err(CacheError::io("create the folder", folder))?;
    let mut file = tempfile::Builder::new()
        .prefix("rivet-")
        .tempfile_in(tmp)
        .map_err(CacheError::io("create a file in", tmp))?;
    file.write_all(bytes).map_err(CacheError::io("write", path))?;
    file.as_file().sync_data().map_err(CacheError::io("sync", path))?;
    file.persist(path).map_err(|error| CacheError::io("rename to", path)(error.error))?;
    Ok(())
}

fn drop_file(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CacheError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes what a killed build left behind. Failing to is no reason not to build.
fn sweep(tmp: &Path) {
    let Ok(entries) = fs::read_dir(tmp) else {
        return;
    };
    for entry in entries.flatten() {
        let old = entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|modified| {
            SystemTime::now().duration_since(modified).is_ok_and(|age| age > ABANDONED_AFTER)
        });
        let path = entry.path();
        let remove = || if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if old && let Err(error) = remove() {
            tracing::debug!("cannot remove {}: {error}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::ActionResult;

    fn cache() -> (tempfile::TempDir, LocalCache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = LocalCache::open(dir.path()).unwrap();
        (dir, cache)
    }

    fn file(cache: &LocalCache, bytes: &[u8]) -> (ActionKey, BlobRef) {
        let blob = cache.put_blob(bytes).unwrap();
        let key = ActionKey(Digest::of(b"key"));
        let result = ActionResult { facts: vec![7], blobs: vec![blob] };
        cache.put_action(&key, &ActionEntry { result, ..ActionEntry::default() }).unwrap();
        (key, blob)
    }

    #[test]
    fn what_is_put_is_found_again_by_another_process_too() {
        let (dir, cache) = cache();
        let (key, blob) = file(&cache, b"bytes");
        let other = LocalCache::open(dir.path()).unwrap();
        assert_eq!(other.action(&key).unwrap().unwrap().result.blobs, [blob]);
        assert_eq!(other.blob(&blob).unwrap().unwrap(), b"bytes");
        let stats = other.stats(&|_, _| None).unwrap();
        assert_eq!((stats.blobs, stats.blob_bytes, stats.actions), (1, 5, 1));
    }

    #[test]
    fn a_missing_or_short_blob_is_a_miss() {
        let (_dir, cache) = cache();
        let (key, blob) = file(&cache, b"bytes");
        let path = cache.path_of("blobs", &blob.digest);
        fs::write(&path, b"byte").unwrap();
        assert_eq!(cache.action(&key).unwrap(), None);
        assert!(!path.exists(), "the damaged blob is dropped");
        assert_eq!(cache.action(&key).unwrap(), None);
    }

    #[test]
    fn a_flipped_bit_is_found_on_read_and_healed_by_the_next_write() {
        let (_dir, cache) = cache();
        let (_, blob) = file(&cache, b"bytes");
        let path = cache.path_of("blobs", &blob.digest);
        fs::write(&path, b"bytez").unwrap();
        cache.put_blob(b"bytes").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"bytes", "putting replaces wrong bytes");
        fs::write(&path, b"bytez").unwrap();
        assert_eq!(cache.blob(&blob).unwrap(), None);
        assert!(!path.exists());
    }

    #[test]
    fn a_damaged_entry_is_a_miss() {
        let (_dir, cache) = cache();
        let (key, _) = file(&cache, b"bytes");
        let path = cache.path_of("actions", &key.0);
        for bytes in [&b""[..], b"short", &[0; 200]] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.action(&key).unwrap(), None);
            assert!(!path.exists());
        }
    }

    #[test]
    fn many_threads_may_put_the_same_blob() {
        let (_dir, cache) = cache();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| file(&cache, &[5; 100_000]));
            }
        });
        assert_eq!(cache.stats(&|_, _| None).unwrap().blobs, 1);
        assert_eq!(fs::read_dir(cache.root.join("tmp")).unwrap().count(), 0);
    }
}
