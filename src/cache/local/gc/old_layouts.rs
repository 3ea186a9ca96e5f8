//! Folders of older layouts: no build reads them, and cleaning the cache removes them. As everywhere, what the
//! cache did not write stays.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::super::{GC_LOCK, LEASES, LocalCache, builds, list, log};
use super::Tally;
use crate::cache::local::shards::{self, disk_bytes};
use crate::cache::{CacheError, Digest};

const OLD_LAYOUTS: [&str; 2] = ["v1", "v2"];
/// Where caches of an older layout lay that specs with keys of their own had.
const OLD_APART: &str = "apart";

/// A folder of an older layout that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OldLayout {
    pub folder: PathBuf,
    /// What is, or was, in it.
    #[serde(flatten)]
    pub content: Tally,
    /// It stays, as a build of an older version is running.
    pub in_use: bool,
}

impl LocalCache {
    /// Removes the folders of older layouts and returns which there were; in a dry run, only looks.
    pub(super) fn remove_old_layouts(
        &self,
        dry_run: bool,
        cancelled: &AtomicBool,
    ) -> Result<Vec<OldLayout>, CacheError> {
        let apart = self.folder().join(OLD_APART);
        let bases = list(&apart)?.into_iter().map(|entry| entry.path()).chain([self.folder().to_owned()]);
        let roots = bases.flat_map(|base| OLD_LAYOUTS.map(|layout| base.join(layout)));
        let mut found = Vec::new();
        for root in roots.filter(|root| root.symlink_metadata().is_ok_and(|meta| meta.is_dir())) {
            let in_use = builds::running(&root.join("builds"))?.builds > 0;
            let mut removal = Removal { dry_run: dry_run || in_use, cancelled, content: Tally::default() };
            removal.layout(&root)?;
            found.push(OldLayout { folder: root, content: removal.content, in_use });
        }
        if !dry_run {
            for entry in list(&apart)? {
                remove_if_empty(&entry.path());
            }
            remove_if_empty(&apart);
        }
        found.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(found)
    }
}

struct Removal<'a> {
    dry_run: bool,
    cancelled: &'a AtomicBool,
    content: Tally,
}

impl Removal<'_> {
    fn layout(&mut self, root: &Path) -> Result<(), CacheError> {
        let by_digest = |name: &OsStr| Digest::of_name(name).is_some();
        for part in ["actions", "entries", "blobs", "stats", "pins"] {
            self.files_below(&root.join(part), &by_digest)?;
        }
        self.files_below(&root.join("log"), &|name| log::record_of(name).is_some())?;
        for part in ["builds", "tmp"] {
            self.files_below(&root.join(part), &|_| true)?;
        }
        let is_lock = |name: &OsStr| name == LEASES || name == GC_LOCK;
        for entry in list(root)?.into_iter().filter(|entry| is_lock(&entry.file_name())) {
            self.file(&entry)?;
        }
        self.folder(root);
        Ok(())
    }

    /// Removes files by their names, and folders that are empty then.
    fn files_below(&mut self, folder: &Path, is_ours: &dyn Fn(&OsStr) -> bool) -> Result<(), CacheError> {
        for entry in list(folder)? {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.files_below(&entry.path(), is_ours)?;
            } else if is_ours(&entry.file_name()) {
                self.file(&entry)?;
            }
        }
        self.folder(folder);
        Ok(())
    }

    fn file(&mut self, entry: &fs::DirEntry) -> Result<(), CacheError> {
        // It may have gone meanwhile.
        let Ok(meta) = entry.metadata() else { return Ok(()) };
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !self.dry_run {
            shards::remove(&entry.path())?;
        }
        self.content.add(disk_bytes(&meta));
        Ok(())
    }

    fn folder(&self, folder: &Path) {
        if !self.dry_run {
            remove_if_empty(folder);
        }
    }
}

/// What others have put there keeps it.
fn remove_if_empty(folder: &Path) {
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, GcRules};

    fn file(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [7; 5000]).unwrap();
    }

    #[test]
    fn they_are_left_alone_until_the_cache_is_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let name = Digest::of(b"x").to_string();
        for layout in ["v1", "v2", "apart/ab/v2"] {
            file(at(layout).join("actions").join(&name[..2]).join(&name));
            file(at(layout).join("blobs").join(&name[..2]).join(&name));
            file(at(layout).join("tmp/0123456789abcdef/rivet-abc"));
            file(at(layout).join("leases"));
        }
        file(at("v1/blobs/notes.txt"));
        file(at("v22/blobs").join(&name[..2]).join(&name));
        let cache = LocalCache::open(dir.path()).unwrap();
        let blob = cache.put_blob(b"bytes").unwrap();
        assert_eq!(cache.stats(&|_, _| None).unwrap().blobs, 1);

        let go = AtomicBool::new(false);
        let clean = |dry_run| {
            let rules = GcRules { dry_run, ..GcRules::default() };
            cache.collect(&rules, &go, &|_| {}).unwrap().old_layouts
        };
        let all = ["apart/ab/v2", "v1", "v2"].map(at);
        for dry_run in [true, false] {
            let found = clean(dry_run);
            assert_eq!(found.iter().map(|old| &old.folder).collect::<Vec<_>>(), all.each_ref());
            assert!(found.iter().all(|old| old.content.files == 4 && old.content.bytes >= 20_000));
            assert_eq!(at("v2/leases").exists(), dry_run);
        }
        assert!(!at("v2").exists() && !at("apart").exists());
        assert!(at("v1/blobs/notes.txt").exists(), "somebody else's");
        assert!(at("v22/blobs").exists() && cache.has_blob(&blob).unwrap());
    }

    #[test]
    fn one_that_an_older_version_builds_with_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LocalCache::open(dir.path()).unwrap();
        let old = dir.path().join("v2");
        fs::create_dir_all(old.join("builds")).unwrap();
        file(old.join("leases"));
        let (build, _) = builds::announce(&old.join("builds"), dir.path()).unwrap();
        let go = AtomicBool::new(false);
        let clean = || cache.collect(&GcRules::default(), &go, &|_| {}).unwrap().old_layouts;
        assert!(clean()[0].in_use && old.join("leases").exists());
        drop(build);
        assert!(!clean()[0].in_use && !old.exists());
    }
}
