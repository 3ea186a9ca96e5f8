//! Empties the folder: all that the cache wrote goes, pins and the log too, and nothing else.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::shards::{self, Stray, disk_bytes};
use super::{LocalCache, SHARDED, Tally, builds, list};
use crate::cache::{CacheError, Digest};

impl LocalCache {
    /// Keeps cleanings out as long as what this returns is there; `None` when interrupted. Refuses while
    /// a build goes on.
    pub(super) fn begin_to_clear(&self, cancelled: &AtomicBool) -> Result<Option<File>, CacheError> {
        let Some((lock, _)) = self.only_one(cancelled)? else { return Ok(None) };
        match builds::running(&self.root.join("builds"))?.builds {
            0 => Ok(Some(lock)),
            builds => Err(CacheError::Busy { builds }),
        }
    }

    /// Removes everything that the cache wrote; the folders stay, with what others have put there.
    /// Returns what has gone.
    pub(super) fn remove_all(&self, cancelled: &AtomicBool) -> Result<Tally, CacheError> {
        let mut gone = Tally::default();
        let mut remove = |path: &Path, bytes: u64| -> Result<(), CacheError> {
            if !cancelled.load(Ordering::Relaxed) {
                shards::remove(path)?;
                gone.add(bytes);
            }
            Ok(())
        };
        for part in SHARDED {
            let part = self.root.join(part);
            let mut misplaced = Vec::new();
            let mut stray = |stray| {
                if let Stray::Misplaced(path) = stray {
                    misplaced.push(path);
                }
            };
            for shard in 0..=255 {
                for file in shards::files(&part, shard, &mut stray)? {
                    remove(&file.path, disk_bytes(&file.meta))?;
                }
            }
            shards::strays(&part, &mut stray)?;
            for path in misplaced {
                let bytes = path.symlink_metadata().map_or(0, |meta| disk_bytes(&meta));
                remove(&path, bytes)?;
            }
        }
        for name in self.log_names()? {
            let path = self.log.path_of(&name);
            remove(&path, path.symlink_metadata().map_or(0, |meta| disk_bytes(&meta)))?;
        }
        for entry in list(&self.root.join("pins"))? {
            if Digest::of_name(&entry.file_name()).is_some() {
                remove(&entry.path(), entry.metadata().map_or(0, |meta| disk_bytes(&meta)))?;
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cache::{Cache, CacheEntry, Digest, EntryKey, EntryResult};

    #[test]
    fn only_what_the_cache_wrote_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LocalCache::open(dir.path()).unwrap();
        let blob = cache.put_blob(b"bytes").unwrap();
        let entry = CacheEntry {
            result: EntryResult { blobs: vec![blob], ..EntryResult::default() },
            ..CacheEntry::default()
        };
        cache.put_entry(&EntryKey(Digest::of(b"key")), &entry).unwrap();
        cache.append_log(std::time::SystemTime::now(), b"{}").unwrap();
        let foreign = ["notes.txt", "v3/notes.txt", "v3/blobs/notes.txt", "v3/log/notes.json"];
        for name in foreign {
            fs::write(dir.path().join(name), "mine").unwrap();
        }
        let go = AtomicBool::new(false);
        let build = cache.announce().unwrap();
        assert!(matches!(cache.begin_to_clear(&go), Err(CacheError::Busy { builds: 1 })));
        drop(build);
        assert!(cache.begin_to_clear(&go).unwrap().is_some());
        assert_eq!(cache.remove_all(&go).unwrap().files, 3);
        assert!(foreign.iter().all(|name| dir.path().join(name).exists()));
        assert_eq!(cache.stats(&|_, _| None).unwrap().blobs, 0);
        cache.put_blob(b"bytes").unwrap();
    }
}
