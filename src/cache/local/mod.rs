//! The cache in a local folder. It writes to a temporary name, syncs and renames, so that no
//! process ever sees half a file, and it never trusts what it reads.

mod blob_reader;
mod blob_writer;
mod blobs;
mod builds;
mod caches;
mod clear;
mod files;
mod gc;
mod leases;
mod log;
mod losses;
mod marks;
mod pins;
mod shards;
mod stat_cache;
mod stats;
mod tmp;
mod used;
mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{BlobRef, Cache, CacheEntry, CacheError, Digest, EntryKey, LAYOUT};
use crate::notices::Notices;
pub use blob_reader::{BlobReader, DamagedBlob};
pub use blob_writer::BlobWriter;
use blobs::Blobs;
pub use builds::RunningBuild;
pub use caches::Caches;
use files::{Found, drop_file, read, write};
pub use gc::{Collected, GcRules, OldLayout, Parts, Tally};
pub use leases::Lease;
use leases::Leases;
use log::Log;
use losses::Losses;
pub use pins::{Pin, PinnedTitle};
pub use stat_cache::FileStamp;
use stat_cache::StatCache;
pub use stats::{AgeStats, CacheStats, GroupStats};
use tmp::Tmp;
use used::Used;
pub use verify::{Damage, FileKind, Verified};

/// The folders whose files are named by digests. Entries come first, so that none outlives its blobs while
/// they are removed.
const SHARDED: [&str; 3] = ["entries", "blobs", "stats"];
/// Its other folders.
const FLAT: [&str; 4] = ["log", "builds", "pins", "tmp"];
/// Its files, which are locked and hold nothing: see [`leases`], and [`LocalCache::only_one`].
const LEASES: &str = "leases";
const GC_LOCK: &str = "gc.lock";
/// Bytes of an entry at most. The entry of a whole title names some thousand others.
const MAX_ENTRY: u64 = 16 << 20;

pub struct LocalCache {
    /// The folder as the user names it.
    folder: PathBuf,
    root: PathBuf,
    /// The temporary folder of this process; `None` if the cache was opened read-only.
    tmp: Option<Tmp>,
    /// Where files are written before they are renamed.
    writes_in: PathBuf,
    leases: Arc<Leases>,
    used: Arc<Used>,
    stats: StatCache,
    log: Log,
    blobs: Arc<Blobs>,
    losses: Arc<Losses>,
    notices: Notices,
}

impl LocalCache {
    /// Opens `folder` for a build, making it when it is not there. One that cannot be written to is
    /// an error now, rather than after the first hour of work.
    pub fn open(folder: &Path) -> Result<LocalCache, CacheError> {
        let root = folder.join(LAYOUT);
        check_parts(&root)?;
        for part in parts() {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(CacheError::io("create the cache folder", &path))?;
            files::check_writable(&path).map_err(CacheError::io("write to the cache folder", &path))?;
        }
        let notices = Notices::default();
        let leases = Leases::new(root.join(LEASES), notices.clone());
        let tmp = Tmp::new(&root.join("tmp"), &leases)?;
        Ok(LocalCache::new(folder, Some(tmp), leases, notices))
    }

    /// Opens `folder` read-only. It creates no folders, and one that cannot be written to will do.
    pub fn open_read_only(folder: &Path) -> Result<LocalCache, CacheError> {
        let root = folder.join(LAYOUT);
        check_parts(&root)?;
        let notices = Notices::default();
        let leases = Leases::new(root.join(LEASES), notices.clone());
        Ok(LocalCache::new(folder, None, leases, notices))
    }

    fn new(folder: &Path, tmp: Option<Tmp>, leases: Arc<Leases>, notices: Notices) -> LocalCache {
        let root = folder.join(LAYOUT);
        let writes_in = tmp.as_ref().map_or_else(|| root.join("tmp"), |tmp| tmp.folder().to_owned());
        let used = Arc::new(Used::default());
        let stats = StatCache::new(root.join("stats"), writes_in.clone(), Arc::clone(&used));
        let log = Log::new(root.join("log"), writes_in.clone());
        let losses = Arc::new(Losses::new(notices.clone()));
        let blobs = Blobs::new(
            root.join("blobs"),
            writes_in.clone(),
            tmp.is_some(),
            Arc::clone(&used),
            Arc::clone(&losses),
        );
        let folder = folder.to_owned();
        LocalCache { folder, root, tmp, writes_in, leases, used, stats, log, blobs, losses, notices }
    }

    /// Keeps a warning for whoever takes them.
    pub(crate) fn notice(&self, message: String) {
        self.notices.add(message);
    }

    /// Warnings since the last call, for the user.
    pub fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The digest of a source file, if a file with this stamp was hashed before.
    pub fn known_file(&self, path: &Path, stamp: &FileStamp) -> Option<Digest> {
        self.stats.get(path, stamp)
    }

    /// Remembers the digest of a source file whose stamp was `stamp` before and after hashing, and had
    /// settled before. In a read-only cache it does so where permissions allow.
    pub fn remember_file(&self, path: &Path, stamp: &FileStamp, digest: Digest) -> Result<(), CacheError> {
        if self.tmp.is_some() {
            return self.stats.put(path, stamp, digest);
        }
        if self.root.is_dir()
            && let Err(error) = self.stats.put(path, stamp, digest)
        {
            tracing::debug!("{error}");
        }
        Ok(())
    }

    /// The exclusive right to run the step with this key, until it is dropped; `None` while another process
    /// holds it. It spares work and protects nothing: results are right whoever writes them.
    pub fn lease(&self, key: &EntryKey) -> Option<Lease> {
        self.leases.take(leases::place_of(key))
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

    /// An empty scratch cache in a temporary folder of this one, removed when it is dropped.
    pub fn scratch_dir(&self) -> Result<(tempfile::TempDir, LocalCache), CacheError> {
        let tmp = self.tmp();
        let folder = tempfile::Builder::new()
            .prefix("rivet-check-")
            .tempdir_in(tmp)
            .map_err(CacheError::io("create a folder in", tmp))?;
        let cache = LocalCache::open(folder.path())?;
        Ok((folder, cache))
    }

    /// Whether the cache was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.tmp.is_some()
    }

    /// The entry filed under `key`, whether its blobs are here or not.
    pub fn entry(&self, key: &EntryKey) -> Result<Option<CacheEntry>, CacheError> {
        let path = self.path_of("entries", &key.0);
        let why = match read(&path, MAX_ENTRY, "read the cache entry")? {
            Found::Nothing => return Ok(None),
            Found::Bytes(bytes, meta) => match CacheEntry::from_bytes(&bytes) {
                Some(entry) => {
                    self.used.note(&path, &meta);
                    return Ok(Some(entry));
                }
                None => "it is damaged".to_owned(),
            },
            Found::TooLong => "it is too long".to_owned(),
            Found::Unusable(why) => why,
        };
        self.losses.tell("cache entry", &path, &why);
        self.drop_file(&path);
        Ok(None)
    }

    /// Whether there is a blob of that name and length. Its bytes are verified when they are read.
    pub fn has_blob(&self, blob: &BlobRef) -> Result<bool, CacheError> {
        self.blobs.has(blob)
    }

    /// A writer for a downloaded blob. In a read-only cache it belongs to no folder, and only this process
    /// can read what is written.
    pub(super) fn download_writer(&self) -> BlobWriter {
        if self.is_writable() { self.blobs.writer() } else { BlobWriter::scratch() }
    }

    /// Announces a running build to other processes until it is dropped, so that nothing that it uses or
    /// writes is cleaned away. Call it before the first look-up.
    pub fn announce(&self) -> Result<RunningBuild, CacheError> {
        let (build, began) = builds::announce(&self.root.join("builds"), self.tmp())?;
        self.used.build_begins(began);
        Ok(build)
    }

    fn tmp(&self) -> &Path {
        &self.writes_in
    }

    /// Removes a damaged file, unless the cache is read-only.
    fn drop_file(&self, path: &Path) {
        if self.is_writable() {
            drop_file(path);
        }
    }

    fn path_of(&self, part: &str, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(part).join(&name[..2]).join(name)
    }
}

impl Cache for LocalCache {
    fn find_entry(&self, key: &EntryKey) -> Result<Option<CacheEntry>, CacheError> {
        let Some(entry) = self.entry(key)? else { return Ok(None) };
        // Checking lengths is cheap and notices lost or truncated blobs now; digests are verified on reading.
        for blob in &entry.result.blobs {
            let blob_path = self.path_of("blobs", &blob.digest);
            match fs::symlink_metadata(&blob_path) {
                Ok(meta) if meta.is_file() && meta.len() == blob.size => {}
                Ok(_) => {
                    // Either may be at fault. The entry goes: a blob that is not what its name says is
                    // replaced when it is put again.
                    self.losses.tell("blob", &blob_path, "it has another length than it should");
                    self.drop_file(&self.path_of("entries", &key.0));
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => {
                    self.losses.tell("blob", &blob_path, &error.to_string());
                    return Ok(None);
                }
            }
        }
        Ok(Some(entry))
    }

    fn put_entry(&self, key: &EntryKey, entry: &CacheEntry) -> Result<(), CacheError> {
        write(self.tmp(), &self.path_of("entries", &key.0), &entry.to_bytes()?)
    }

    fn open_blob(&self, blob: &BlobRef) -> Result<Option<BlobReader>, CacheError> {
        self.blobs.open(blob)
    }

    fn blob_writer(&self) -> Result<BlobWriter, CacheError> {
        Ok(self.blobs.writer())
    }

    fn blob_file(&self, blob: &BlobRef) -> Option<PathBuf> {
        Some(self.blobs.path_of(&blob.digest))
    }
}

/// The folders of the layout.
fn parts() -> impl Iterator<Item = &'static str> {
    SHARDED.into_iter().chain(FLAT)
}

/// Sees that the folders of the layout are folders of this cache: through a symbolic link a cache
/// would write and remove somewhere else.
fn check_parts(root: &Path) -> Result<(), CacheError> {
    for path in parts().map(|part| root.join(part)).chain([root.to_owned()]) {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => {
                let what = io::Error::new(io::ErrorKind::NotADirectory, "it is not a folder of its own");
                return Err(CacheError::io("use the cache folder", &path)(what));
            }
            Err(error) => return Err(CacheError::io("look at the cache folder", &path)(error)),
        }
    }
    Ok(())
}

/// What is in a folder; nothing if it is none.
fn list(folder: &Path) -> Result<Vec<fs::DirEntry>, CacheError> {
    match fs::symlink_metadata(folder) {
        Ok(meta) if meta.is_dir() => {}
        _ => return Ok(Vec::new()),
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect);
    entries.map_err(CacheError::io("list the cache folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::EntryResult;

    fn cache() -> (tempfile::TempDir, LocalCache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = LocalCache::open(dir.path()).unwrap();
        (dir, cache)
    }

    fn file(cache: &LocalCache, bytes: &[u8]) -> (EntryKey, BlobRef) {
        let blob = cache.put_blob(bytes).unwrap();
        let key = EntryKey(Digest::of(b"key"));
        let result = EntryResult { facts: vec![7], blobs: vec![blob] };
        cache.put_entry(&key, &CacheEntry { result, ..CacheEntry::default() }).unwrap();
        (key, blob)
    }

    #[test]
    fn what_is_put_is_found_again_by_another_process_too() {
        let (dir, cache) = cache();
        let (key, blob) = file(&cache, b"bytes");
        let other = LocalCache::open(dir.path()).unwrap();
        assert_eq!(other.find_entry(&key).unwrap().unwrap().result.blobs, [blob]);
        assert_eq!(other.blob(&blob).unwrap().unwrap(), b"bytes");
        let stats = other.stats(&|_, _| None).unwrap();
        assert_eq!((stats.blobs, stats.blob_bytes, stats.entries), (1, 5, 1));
    }

    #[test]
    fn a_missing_or_short_blob_is_a_miss() {
        let (_dir, cache) = cache();
        let (key, blob) = file(&cache, b"bytes");
        let path = cache.path_of("blobs", &blob.digest);
        fs::write(&path, b"byte").unwrap();
        assert_eq!(cache.blob(&blob).unwrap(), None);
        assert_eq!(cache.find_entry(&key).unwrap(), None);
        file(&cache, b"bytes");
        assert_eq!(cache.blob(&blob).unwrap().unwrap(), b"bytes", "the short blob is replaced");
        fs::remove_file(&path).unwrap();
        assert_eq!(cache.find_entry(&key).unwrap(), None);
    }

    #[test]
    fn an_entry_that_lies_about_a_length_costs_no_blob() {
        let (_dir, cache) = cache();
        let (_, blob) = file(&cache, b"bytes");
        let lying = EntryKey(Digest::of(b"lying"));
        for size in [0, 4, 6, u64::MAX] {
            let result = EntryResult { facts: Vec::new(), blobs: vec![BlobRef { size, ..blob }] };
            cache.put_entry(&lying, &CacheEntry { result, ..CacheEntry::default() }).unwrap();
            assert_eq!(cache.find_entry(&lying).unwrap(), None);
            assert_eq!(cache.blob(&BlobRef { size, ..blob }).unwrap(), None);
        }
        assert_eq!(cache.blob(&blob).unwrap().unwrap(), b"bytes");
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
        let path = cache.path_of("entries", &key.0);
        for bytes in [&b""[..], b"short", &[0; 200]] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.find_entry(&key).unwrap(), None);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_damaged_blob_that_cannot_be_removed_is_missing_from_then_on() {
        let (dir, cache) = cache();
        let (_, blob) = file(&cache, b"bytes");
        fs::write(cache.path_of("blobs", &blob.digest), b"bytez").unwrap();
        let looks = LocalCache::open_read_only(dir.path()).unwrap();
        assert!(looks.has_blob(&blob).unwrap());
        assert_eq!(looks.blob(&blob).unwrap(), None);
        assert!(!looks.has_blob(&blob).unwrap() && looks.open_blob(&blob).unwrap().is_none());
        assert_eq!(fs::read(cache.path_of("blobs", &blob.digest)).unwrap(), b"bytez");
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
        assert_eq!(fs::read_dir(cache.tmp()).unwrap().count(), 0);
    }
}
