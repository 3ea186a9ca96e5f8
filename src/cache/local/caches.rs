//! A user's cache and its isolated namespaces, managed as one: they share the disk, and are cleaned, verified
//! and cleared together. Nothing is moved from one to another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Collected, GcRules, LocalCache, Pin, Tally, Verified};
use crate::cache::{CacheError, isolated_namespaces};

pub struct Caches(Vec<Arc<LocalCache>>);

impl From<Arc<LocalCache>> for Caches {
    /// A single cache.
    fn from(cache: Arc<LocalCache>) -> Caches {
        Caches(vec![cache])
    }
}

impl Caches {
    /// The cache in `folder` and its isolated namespaces; `open` opens each.
    pub fn in_folder(
        folder: &Path,
        open: impl Fn(&Path) -> Result<LocalCache, CacheError>,
    ) -> Result<Caches, CacheError> {
        let folders = [folder.to_owned()].into_iter().chain(isolated_namespaces(folder));
        Ok(Caches(folders.map(|folder| open(&folder).map(Arc::new)).collect::<Result<_, _>>()?))
    }

    /// Their folders, the main one first.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|cache| cache.folder())
    }

    /// All pins, in order of their names. See [`LocalCache::pins`].
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        let pins = self.0.iter().map(|cache| cache.pins()).collect::<Result<Vec<_>, _>>()?;
        let mut pins: Vec<Pin> = pins.into_iter().flatten().collect();
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    /// Takes a pin away, wherever it is; `false` if there was none.
    pub fn unpin(&self, name: &str) -> Result<bool, CacheError> {
        let mut was_there = false;
        for cache in &self.0 {
            was_there |= cache.unpin(name)?;
        }
        Ok(was_there)
    }

    /// Cleans them, and returns the sums. A size limit is for all together: if it is exceeded each gets its
    /// share by what it holds. See [`LocalCache::collect`].
    pub fn collect(
        &self,
        requested: &GcRules,
        cancelled: &AtomicBool,
        progress: &dyn Fn(Tally),
    ) -> Result<Collected, CacheError> {
        let mut all =
            Collected { dry_run: requested.dry_run, max_bytes: requested.max_bytes, ..Collected::default() };
        for (cache, max_bytes) in self.0.iter().zip(self.parts(requested, cancelled)?) {
            let before = all.removed.total();
            let tell = |gone: Tally| {
                let mut so_far = before;
                so_far += gone;
                progress(so_far);
            };
            all += cache.collect(&GcRules { max_bytes, ..*requested }, cancelled, &tell)?;
        }
        Ok(all)
    }

    /// The size limit of each.
    fn parts(&self, requested: &GcRules, cancelled: &AtomicBool) -> Result<Vec<Option<u64>>, CacheError> {
        let Some(limit) = requested.max_bytes.filter(|_| self.0.len() > 1) else {
            return Ok(vec![requested.max_bytes; self.0.len()]);
        };
        let look = GcRules { max_bytes: None, dry_run: true, ..*requested };
        let held = |cache: &Arc<LocalCache>| {
            cache.collect(&look, cancelled, &|_| {}).map(|report| report.kept.total().bytes)
        };
        let held = self.0.iter().map(held).collect::<Result<Vec<u64>, CacheError>>()?;
        Ok(share(limit, &held).into_iter().map(Some).collect())
    }

    /// Verifies them, and returns the sums. See [`LocalCache::verify`].
    pub fn verify(
        &self,
        repair: bool,
        cancelled: &AtomicBool,
        progress: &(dyn Fn(Tally, f64) + Sync),
    ) -> Result<Verified, CacheError> {
        let mut all = Verified::default();
        for (number, cache) in self.0.iter().enumerate() {
            let before = all.read;
            all += cache.verify(repair, cancelled, &|read, part| {
                let mut so_far = before;
                so_far += read;
                progress(so_far, (number as f64 + part) / self.0.len() as f64);
            })?;
        }
        Ok(all)
    }

    /// Removes everything that was written there; the folders stay, with what others have put there.
    /// Refuses, before anything goes, while a build uses one of them. Returns what has gone.
    pub fn clear(&self, cancelled: &AtomicBool) -> Result<Tally, CacheError> {
        let mut gone = Tally::default();
        let mut locks = Vec::new();
        for cache in &self.0 {
            match cache.begin_to_clear(cancelled)? {
                Some(lock) => locks.push(lock),
                None => return Ok(gone),
            }
        }
        for cache in &self.0 {
            gone += cache.remove_all(cancelled)?;
        }
        Ok(gone)
    }
}

/// Shares a limit of `most` bytes out by what each holds. Each gets all of it while they fit together.
fn share(limit: u64, held: &[u64]) -> Vec<u64> {
    let all: u128 = held.iter().copied().map(u128::from).sum();
    let part = |held: u64| {
        let part = u128::from(limit) * u128::from(held) / all.max(1);
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    held.iter().map(|&held| if all <= u128::from(limit) { limit } else { part(held) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, CacheEntry, Digest, EntryKey, EntryResult, isolated_namespace};

    #[test]
    fn what_may_stay_is_shared_by_what_is_held() {
        assert_eq!(share(100, &[60, 40, 0]), [100; 3]);
        assert_eq!(share(10, &[60, 40, 0]), [6, 4, 0]);
        assert_eq!(share(0, &[60, 40]), [0, 0]);
        assert_eq!(share(u64::MAX - 1, &[u64::MAX, 0]), [u64::MAX - 1, 0]);
        assert_eq!(share(5, &[]), [0; 0]);
    }

    /// A folder with a cache and one apart, each with an entry and a blob of `size` bytes.
    fn two(size: usize) -> (tempfile::TempDir, [LocalCache; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned(), isolated_namespace(dir.path(), &Digest::of(b"keys"))];
        let caches = folders.map(|folder| LocalCache::open(&folder).unwrap());
        for (number, cache) in caches.iter().enumerate() {
            let blob = cache.put_blob(&vec![number as u8; size]).unwrap();
            let result = EntryResult { blobs: vec![blob], ..EntryResult::default() };
            let entry = CacheEntry { result, ..CacheEntry::default() };
            cache.put_entry(&EntryKey(Digest::of(b"key")), &entry).unwrap();
        }
        (dir, caches)
    }

    #[test]
    fn what_lies_apart_is_cleaned_verified_and_cleared_too() {
        let go = AtomicBool::new(false);
        let (dir, [one, other]) = two(10_000);
        let all_of = |dir: &tempfile::TempDir| Caches::in_folder(dir.path(), LocalCache::open).unwrap();
        let all = || all_of(&dir);
        assert_eq!(all().folders().collect::<Vec<_>>(), [one.folder(), other.folder()]);
        assert_eq!(all().verify(false, &go, &|_, _| {}).unwrap().read.files, 4);
        let rules = |max_bytes| GcRules { max_bytes: Some(max_bytes), ..GcRules::default() };
        let kept = all().collect(&rules(1 << 20), &go, &|_| {}).unwrap();
        assert_eq!((kept.removed.total().files, kept.kept.total().files), (0, 4));
        // Either would fit alone.
        let too_much = all().collect(&rules(kept.kept.total().bytes * 3 / 4), &go, &|_| {}).unwrap();
        assert!(!too_much.is_over() && too_much.removed.total().files > 0, "{too_much:?}");

        let (dir, [one, other]) = two(10);
        let pin = |name: &str| {
            let name = name.to_owned();
            Pin { name, spec: "ladder.toml".into(), pinned_at: 1, titles: Vec::new() }
        };
        one.pin(&pin("b")).unwrap();
        other.pin(&pin("a")).unwrap();
        assert_eq!(all_of(&dir).pins().unwrap(), [pin("a"), pin("b")]);
        assert!(all_of(&dir).unpin("a").unwrap() && !all_of(&dir).unpin("a").unwrap());
        assert_eq!(all_of(&dir).pins().unwrap(), [pin("b")]);
        assert!(one.unpin("b").unwrap());

        let build = other.announce().unwrap();
        let all = || all_of(&dir);
        assert!(matches!(all().clear(&go), Err(CacheError::Busy { builds: 1 })));
        assert_eq!(one.stats(&|_, _| None).unwrap().blobs, 1, "nothing goes before it is refused");
        drop(build);
        assert_eq!(all().clear(&go).unwrap().files, 4);
    }
}
