//! Cleaning: removes what was not used for long, or what is too much, and never what a running build
//! or a pin needs. Several processes may clean, build and look at once: a file is looked at again
//! right before it goes, and one that was used meanwhile stays, with all that went into it.
//!
//! Should a build come to something in the instant in which it goes, it finds a result missing, as it
//! would after a disk lost it, and makes it again.

mod old_layouts;
mod plan;

use std::fs::{self, File, TryLockError};
use std::ops::AddAssign;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::files::open_lock;
use super::marks::{self, Marks, Nanos, nanos};
use super::shards::{self, disk_bytes};
use super::{GC_LOCK, LocalCache, builds, used};
use crate::cache::CacheError;
pub use old_layouts::OldLayout;
use plan::{Plan, Rules, names, plan};

/// Digests of sources and records of builds that are older are removed even without a maximum age.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How often a cleaning that waits for another looks whether that has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Files between two reports of progress.
const REPORT_EVERY: u64 = 1000;

/// What to clean away.
#[derive(Clone, Copy, Debug, Default)]
pub struct GcRules {
    /// Bytes on disk that may stay.
    pub max_bytes: Option<u64>,
    /// What was not used for longer goes.
    pub max_age: Option<Duration>,
    /// Only look what would go.
    pub dry_run: bool,
}

/// Files, and what they take on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub files: u64,
    pub bytes: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

impl Tally {
    pub(super) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    pub entries: Tally,
    pub blobs: Tally,
    pub stats: Tally,
    pub log: Tally,
}

impl Parts {
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        [self.entries, self.blobs, self.stats, self.log].into_iter().for_each(|part| total += part);
        total
    }
}

impl AddAssign for Parts {
    fn add_assign(&mut self, other: Parts) {
        self.entries += other.entries;
        self.blobs += other.blobs;
        self.stats += other.stats;
        self.log += other.log;
    }
}

/// What a cleaning did, or would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Collected {
    pub dry_run: bool,
    pub removed: Parts,
    pub kept: Parts,
    /// Of what was kept: what pins hold.
    pub pinned: Tally,
    /// Of what was kept, besides: what was used or written since the first running build began.
    pub in_use: Tally,
    /// Of what was kept, besides: blobs without an entry that were written within a day.
    pub young: Tally,
    pub running_builds: u64,
    /// Entries that were damaged, among those removed.
    pub damaged: u64,
    pub max_bytes: Option<u64>,
    /// Folders of older layouts, which went besides, or would.
    pub old_layouts: Vec<OldLayout>,
    pub interrupted: bool,
}

impl Collected {
    /// Whether more is left than the limit.
    pub fn is_over(&self) -> bool {
        self.max_bytes.is_some_and(|limit| self.kept.total().bytes > limit)
    }
}

impl AddAssign for Collected {
    /// Adds the sums; the limits stay.
    fn add_assign(&mut self, other: Collected) {
        self.removed += other.removed;
        self.kept += other.kept;
        self.pinned += other.pinned;
        self.in_use += other.in_use;
        self.young += other.young;
        self.running_builds += other.running_builds;
        self.damaged += other.damaged;
        self.old_layouts.extend(other.old_layouts);
        self.interrupted |= other.interrupted;
    }
}

impl LocalCache {
    /// Cleans the cache. `progress` is called with the number of removed files from time to time.
    pub fn collect(
        &self,
        requested: &GcRules,
        cancelled: &AtomicBool,
        progress: &dyn Fn(Tally),
    ) -> Result<Collected, CacheError> {
        let mut report =
            Collected { dry_run: requested.dry_run, max_bytes: requested.max_bytes, ..Collected::default() };
        let Some((_lock, now)) = self.only_one(cancelled)? else {
            report.interrupted = true;
            return Ok(report);
        };
        report.old_layouts = self.remove_old_layouts(requested.dry_run, cancelled)?;
        let running = builds::running(&self.root.join("builds"))?;
        report.running_builds = running.builds;
        let pins = self.pinned_keys()?;
        let Some(marks) = Marks::read(&self.root, now, cancelled, &|_, _| {})? else {
            report.interrupted = true;
            return Ok(report);
        };
        let mut pinned = vec![false; marks.entries.len()];
        marks.mark(pins.iter().filter_map(|key| marks.find(key)), &mut pinned);

        let mut cleaning =
            Cleaning { cache: self, dry_run: requested.dry_run, cancelled, progress, gone: Tally::default() };
        let forgotten = now - requested.max_age.unwrap_or(FORGOTTEN_AFTER).as_nanos() as Nanos;
        let mut rules = Rules {
            now,
            builds_since: running.since.map(nanos),
            max_age: requested.max_age.map(|age| age.as_nanos() as Nanos),
            max_bytes: requested.max_bytes,
            other_bytes: 0,
        };
        cleaning.stats(forgotten, &rules, &mut report)?;
        cleaning.log(forgotten, &mut report)?;
        cleaning.damaged(&marks, &mut report)?;
        rules.other_bytes = report.kept.stats.bytes + report.kept.log.bytes;
        let plan = plan(&marks, &pinned, &rules);
        let gone = cleaning.entries(&marks, &plan, &mut report)?;
        let blobs_gone = cleaning.blobs(&marks, &plan, &gone, &mut report)?;
        report.tell_why(&marks, &pinned, &rules, &blobs_gone);
        report.interrupted = cancelled.load(Ordering::Relaxed);
        Ok(report)
    }

    /// Waits until no other cleaning goes on, and returns the lock that keeps others out and the time
    /// by the file system's clock. `None` when interrupted.
    pub(super) fn only_one(&self, cancelled: &AtomicBool) -> Result<Option<(File, Nanos)>, CacheError> {
        let path = self.root.join(GC_LOCK);
        let failed = || CacheError::io("lock", &path);
        let file = open_lock(&path).map_err(failed())?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
                Err(TryLockError::WouldBlock) if cancelled.load(Ordering::Relaxed) => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
            }
        }
        used::touch(&path);
        let now = file.metadata().and_then(|meta| meta.modified()).map_err(failed())?;
        Ok(Some((file, nanos(now))))
    }
}

/// A cleaning as it goes on.
struct Cleaning<'a> {
    cache: &'a LocalCache,
    dry_run: bool,
    cancelled: &'a AtomicBool,
    progress: &'a dyn Fn(Tally),
    gone: Tally,
}

impl Cleaning<'_> {
    /// Removes a file; in a dry run, counts it.
    fn remove(&mut self, path: &Path, bytes: u64) -> Result<(), CacheError> {
        if !self.dry_run {
            shards::remove(path)?;
        }
        self.gone.add(bytes);
        if self.gone.files.is_multiple_of(REPORT_EVERY) {
            (self.progress)(self.gone);
        }
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Whether a file is as it was seen: neither gone, nor used or written since.
    fn is_untouched(path: &Path, seen: Nanos) -> bool {
        let modified = fs::symlink_metadata(path).and_then(|meta| meta.modified());
        modified.is_ok_and(|modified| nanos(modified) == seen)
    }

    /// Digests of sources that were not used since `forgotten`.
    fn stats(&mut self, forgotten: Nanos, rules: &Rules, report: &mut Collected) -> Result<(), CacheError> {
        let part = self.cache.root.join("stats");
        for file in shards::each(|shard| shards::files(&part, shard, &mut |_| {}))?.into_iter().flatten() {
            let bytes = disk_bytes(&file.meta);
            let modified = marks::modified(&file);
            // A build goes by what it read of a source until it has done with that.
            let may_go = modified < forgotten && !rules.in_use(modified);
            if may_go && !self.is_cancelled() && Self::is_untouched(&file.path, modified) {
                self.remove(&file.path, bytes)?;
                report.removed.stats.add(bytes);
            } else {
                report.kept.stats.add(bytes);
            }
        }
        Ok(())
    }

    fn log(&mut self, forgotten: Nanos, report: &mut Collected) -> Result<(), CacheError> {
        for name in self.cache.log_names()? {
            let path = self.cache.log.path_of(&name);
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let bytes = disk_bytes(&meta);
            let is_old = meta.modified().is_ok_and(|modified| nanos(modified) < forgotten);
            if is_old && !self.is_cancelled() {
                self.remove(&path, bytes)?;
                report.removed.log.add(bytes);
            } else {
                report.kept.log.add(bytes);
            }
        }
        Ok(())
    }

    /// Removes damaged entries, as a look-up would.
    fn damaged(&mut self, marks: &Marks, report: &mut Collected) -> Result<(), CacheError> {
        for file in &marks.damaged {
            let bytes = disk_bytes(&file.meta);
            // A build may have mended it meanwhile.
            if !self.is_cancelled() && Self::is_untouched(&file.path, marks::modified(file)) {
                self.remove(&file.path, bytes)?;
                report.removed.entries.add(bytes);
                report.damaged += 1;
            } else {
                report.kept.entries.add(bytes);
            }
        }
        Ok(())
    }

    /// Removes entries, except those that were used meanwhile and what they were made from. Returns which are
    /// gone.
    fn entries(
        &mut self,
        marks: &Marks,
        plan: &Plan,
        report: &mut Collected,
    ) -> Result<Vec<bool>, CacheError> {
        let mut rescued = vec![false; marks.entries.len()];
        let mut gone = vec![false; marks.entries.len()];
        for &entry in &plan.entries {
            let at = entry as usize;
            let mark = &marks.entries[at];
            let path = self.cache.path_of("entries", &mark.key.0);
            if self.is_cancelled() {
                break;
            }
            if !rescued[at] && !Self::is_untouched(&path, mark.modified) {
                marks.mark([at], &mut rescued);
            }
            if !rescued[at] {
                self.remove(&path, mark.bytes)?;
                report.removed.entries.add(mark.bytes);
                gone[at] = true;
            }
        }
        for (mark, _) in marks.entries.iter().zip(&gone).filter(|(_, gone)| !**gone) {
            report.kept.entries.add(mark.bytes);
            // A clock went back. Left as it is, it would never be old.
            if mark.modified > mark.used && !self.dry_run {
                used::touch(&self.cache.path_of("entries", &mark.key.0));
            }
        }
        Ok(gone)
    }

    /// Removes blobs that no entry names any more. Returns which are gone.
    fn blobs(
        &mut self,
        marks: &Marks,
        plan: &Plan,
        gone: &[bool],
        report: &mut Collected,
    ) -> Result<Vec<bool>, CacheError> {
        let names = names(marks, |entry| !gone[entry]);
        let mut goes = vec![false; marks.blobs.len()];
        for &blob in &plan.blobs {
            goes[blob as usize] = names[blob as usize] == 0;
        }
        for (blob, goes) in marks.blobs.iter().zip(&mut goes) {
            let path = self.cache.path_of("blobs", &blob.name);
            *goes = *goes && !self.is_cancelled() && Self::is_untouched(&path, blob.modified);
            if *goes {
                self.remove(&path, blob.bytes)?;
                report.removed.blobs.add(blob.bytes);
            } else {
                report.kept.blobs.add(blob.bytes);
            }
        }
        Ok(goes)
    }
}

impl Collected {
    /// Says for whose sake things stay.
    fn tell_why(&mut self, marks: &Marks, pinned: &[bool], rules: &Rules, blobs_gone: &[bool]) {
        let by_pins = names(marks, |entry| pinned[entry]);
        let in_use = |entry: usize| rules.in_use(marks.entries[entry].used);
        let by_builds = names(marks, in_use);
        let by_any = names(marks, |_| true);
        for (at, entry) in marks.entries.iter().enumerate() {
            if pinned[at] {
                self.pinned.add(entry.bytes);
            } else if in_use(at) {
                self.in_use.add(entry.bytes);
            }
        }
        for (at, blob) in marks.blobs.iter().enumerate().filter(|&(at, _)| !blobs_gone[at]) {
            if by_pins[at] > 0 {
                self.pinned.add(blob.bytes);
            } else if by_builds[at] > 0 || rules.in_use(blob.modified) {
                self.in_use.add(blob.bytes);
            } else if by_any[at] == 0 && !rules.may_go(blob.modified, false) {
                self.young.add(blob.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests;
