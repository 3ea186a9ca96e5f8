//! Reads everything that the cache holds and compares it with what it claims to be: blobs and records
//! with their names, entries and other small files with the checksums in them.

use std::fs::File;
use std::io::{self, Read};
use std::ops::AddAssign;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::files::{self, Opened};
use super::gc::Tally;
use super::pins::{self, Kept};
use super::shards::{self, Stray};
use super::{FLAT, GC_LOCK, LEASES, LocalCache, MAX_ENTRY, SHARDED, list, log, stat_cache};
use crate::cache::{CacheEntry, CacheError, Digest, checksummed};

/// Bytes of a file that are read at a time: much at once for a disk, little for a processor's cache.
const BUFFER: usize = 1 << 20;
/// A blob that is larger is hashed by all cores.
const LARGE: u64 = 32 << 20;

/// What a damaged file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    Blob,
    Entry,
    /// The digest of a source file.
    Stat,
    /// The record of a build.
    Record,
    Pin,
    /// In a shard where no look-up finds it.
    Misplaced,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Damage {
    pub path: PathBuf,
    pub what: FileKind,
    /// Whether it was removed.
    pub removed: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// What was read.
    pub read: Tally,
    /// In order of their paths.
    pub damaged: Vec<Damage>,
    /// Files that the cache did not write. They are never touched.
    pub foreign: Vec<PathBuf>,
    /// Entries that name a blob that is not there: no damage, their steps run again if need be.
    pub incomplete: u64,
    pub interrupted: bool,
}

impl AddAssign for Verified {
    fn add_assign(&mut self, other: Verified) {
        self.read += other.read;
        self.damaged.extend(other.damaged);
        self.foreign.extend(other.foreign);
        self.incomplete += other.incomplete;
        self.interrupted |= other.interrupted;
    }
}

impl LocalCache {
    /// Verifies all files, on all cores. With `repair`, damaged ones are removed, for the next build
    /// to make again. `progress` is told what has been read, and which part that is of all.
    pub fn verify(
        &self,
        repair: bool,
        cancelled: &AtomicBool,
        progress: &(dyn Fn(Tally, f64) + Sync),
    ) -> Result<Verified, CacheError> {
        let verifying = Verifying {
            cache: self,
            repair,
            cancelled,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            incomplete: AtomicU64::new(0),
            damaged: Mutex::default(),
            foreign: Mutex::default(),
        };
        let shards = (SHARDED.len() * 256) as f64;
        let done = AtomicU64::new(0);
        for part in SHARDED {
            let folder = self.root.join(part);
            shards::each(|shard| {
                let files = shards::files(&folder, shard, &mut |stray| verifying.stray(stray))?;
                files.par_iter().try_for_each_init(Vec::new, |buffer, file| {
                    if verifying.is_cancelled() {
                        return Ok(());
                    }
                    match part {
                        "blobs" => verifying.blob(&file.path, file.name, buffer),
                        "entries" => verifying.entry(&file.path),
                        _ => verifying.small(&file.path, FileKind::Stat, stat_cache::MAX_BYTES, &|bytes| {
                            checksummed::content(bytes).is_some()
                        }),
                    }
                })?;
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                progress(verifying.read(), done as f64 / shards);
                Ok(())
            })?;
            shards::strays(&folder, &mut |stray| verifying.stray(stray))?;
        }
        verifying.log()?;
        verifying.pins()?;
        verifying.root_files()?;
        let into_vec = |mutex: Mutex<Vec<_>>| mutex.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut verified = Verified {
            read: verifying.read(),
            incomplete: verifying.incomplete.into_inner(),
            interrupted: cancelled.load(Ordering::Relaxed),
            damaged: into_vec(verifying.damaged),
            foreign: verifying.foreign.into_inner().unwrap_or_else(PoisonError::into_inner),
        };
        verified.damaged.sort();
        verified.foreign.sort();
        Ok(verified)
    }
}

struct Verifying<'a> {
    cache: &'a LocalCache,
    repair: bool,
    cancelled: &'a AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
    incomplete: AtomicU64,
    damaged: Mutex<Vec<Damage>>,
    foreign: Mutex<Vec<PathBuf>>,
}

impl Verifying<'_> {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn read(&self) -> Tally {
        Tally { files: self.files.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    fn stray(&self, stray: Stray) {
        match stray {
            Stray::Foreign(path) => self.foreign(path),
            Stray::Misplaced(path) => {
                let inode = path.symlink_metadata().map_or(0, |meta| meta.ino());
                self.damaged(&path, FileKind::Misplaced, inode);
            }
        }
    }

    fn foreign(&self, path: PathBuf) {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }

    /// Notes damage in the file that had this inode; another may have taken its name.
    fn damaged(&self, path: &Path, what: FileKind, inode: u64) {
        let is_same = || path.symlink_metadata().is_ok_and(|meta| meta.ino() == inode);
        let removed = self.repair && is_same() && shards::remove(path).is_ok();
        let damage = Damage { path: path.to_owned(), what, removed };
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).push(damage);
    }

    /// Reads a file with `look`, which returns whether it is intact. An unreadable file is damaged.
    fn look(
        &self,
        path: &Path,
        what: FileKind,
        look: &mut dyn FnMut(&mut File) -> io::Result<bool>,
    ) -> Result<(), CacheError> {
        let (mut file, meta) = match files::open(path, "read")? {
            Opened::File(file, meta) => (file, meta),
            // Removed, since the folder was listed.
            Opened::Nothing => return Ok(()),
            Opened::Unusable(_) => {
                self.files.fetch_add(1, Ordering::Relaxed);
                self.damaged(path, what, path.symlink_metadata().map_or(0, |meta| meta.ino()));
                return Ok(());
            }
        };
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(meta.len(), Ordering::Relaxed);
        match look(&mut file) {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(false) | Err(_) => self.damaged(path, what, meta.ino()),
        }
        Ok(())
    }

    fn blob(&self, path: &Path, name: Digest, buffer: &mut Vec<u8>) -> Result<(), CacheError> {
        buffer.resize(BUFFER, 0);
        self.look(path, FileKind::Blob, &mut |file| {
            let is_large = file.metadata()?.len() > LARGE;
            let mut hasher = blake3::Hasher::new();
            loop {
                if self.is_cancelled() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let read = match file.read(buffer) {
                    Ok(0) => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read?,
                };
                let read_bytes = buffer.get(..read).unwrap_or_default();
                if is_large {
                    hasher.update_rayon(read_bytes)
                } else {
                    hasher.update(read_bytes)
                };
            }
            Ok(Digest::from(hasher.finalize()) == name)
        })
    }

    /// A file of at most `most` bytes; what is longer was not written here.
    fn small(
        &self,
        path: &Path,
        what: FileKind,
        most: u64,
        is_whole: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), CacheError> {
        self.look(path, what, &mut |file| {
            if file.metadata()?.len() > most {
                return Ok(false);
            }
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(is_whole(&bytes))
        })
    }

    fn entry(&self, path: &Path) -> Result<(), CacheError> {
        self.small(path, FileKind::Entry, MAX_ENTRY, &|bytes| {
            let entry = CacheEntry::from_bytes(bytes);
            let there = |entry: &CacheEntry| {
                entry.result.blobs.iter().all(|blob| {
                    let found = self.cache.path_of("blobs", &blob.digest).symlink_metadata();
                    found.is_ok_and(|meta| meta.is_file() && meta.len() == blob.size)
                })
            };
            if entry.as_ref().is_some_and(|entry| !there(entry)) {
                self.incomplete.fetch_add(1, Ordering::Relaxed);
            }
            entry.is_some()
        })
    }

    fn log(&self) -> Result<(), CacheError> {
        let folder = self.cache.root.join("log");
        self.flat(&folder, &|path, name| match log::record_of(name.as_ref()) {
            Some(name) => {
                self.small(path, FileKind::Record, log::MAX_BYTES, &|bytes| log::is_whole(name, bytes))
            }
            None => {
                self.foreign(path.to_owned());
                Ok(())
            }
        })
    }

    fn pins(&self) -> Result<(), CacheError> {
        let folder = self.cache.root.join("pins");
        self.flat(&folder, &|path, name| {
            if Digest::of_name(name.as_ref()).is_some() {
                self.small(path, FileKind::Pin, pins::MAX_BYTES, &|bytes| Kept::from_bytes(bytes).is_some())
            } else {
                self.foreign(path.to_owned());
                Ok(())
            }
        })
    }

    /// What lies beside the parts.
    fn root_files(&self) -> Result<(), CacheError> {
        self.flat(&self.cache.root, &|path, name| {
            if ![&SHARDED[..], &FLAT, &[LEASES, GC_LOCK]].concat().contains(&name) {
                self.foreign(path.to_owned());
            }
            Ok(())
        })
    }

    /// Goes through a folder without shards.
    fn flat(
        &self,
        folder: &Path,
        each: &dyn Fn(&Path, &str) -> Result<(), CacheError>,
    ) -> Result<(), CacheError> {
        for entry in list(folder)? {
            match entry.file_name().to_str() {
                _ if self.is_cancelled() => return Ok(()),
                Some(name) => each(&entry.path(), name)?,
                None => self.foreign(entry.path()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    #[test]
    fn pipes_and_links_are_damage_that_nobody_waits_for_or_follows() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LocalCache::open(dir.path()).unwrap();
        let record = cache.append_log(SystemTime::now(), b"{}").unwrap();
        let (record, elsewhere) = (cache.log.path_of(&record), dir.path().join("elsewhere"));
        fs::rename(&record, &elsewhere).unwrap();
        symlink(&elsewhere, &record).unwrap();
        let pin = dir.path().join("v3/pins").join(Digest::of(b"pin").to_string());
        rustix::fs::mknodat(CWD, &pin, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let wrong = dir.path().join("v3/pins").join(Digest::of(b"wrong").to_string());
        fs::write(&wrong, checksummed::wrap(b"whole, and no pin")).unwrap();
        let go = AtomicBool::new(false);
        let found = cache.verify(true, &go, &|_, _| {}).unwrap();
        let mut paths = [pin, record, wrong];
        paths.sort();
        assert_eq!(found.damaged.iter().map(|damage| &damage.path).collect::<Vec<_>>(), paths.each_ref());
        assert!(found.damaged.iter().all(|damage| damage.removed) && found.foreign.is_empty());
        assert_eq!(fs::read(&elsewhere).unwrap(), b"{}");
        assert!(cache.verify(false, &go, &|_, _| {}).unwrap().damaged.is_empty());
    }
}
