//! What the folder holds: by kind of step, by title, by age; as long as it is, and as it lies on the
//! disk. A blob that several name is counted once in each row, and once in all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use super::LocalCache;
use super::marks::{Marks, nanos};
use super::shards::{self, disk_bytes};
use crate::cache::{CacheEntry, CacheError, EntryKey};

/// The age limits of the groups, in days.
const AGES: [u32; 4] = [1, 7, 30, 90];

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CacheStats {
    pub blobs: u64,
    pub blob_bytes: u64,
    pub blob_disk_bytes: u64,
    pub entries: u64,
    /// On the disk.
    pub entry_bytes: u64,
    /// Stats of sources, and records of builds, on the disk.
    pub other_bytes: u64,
    /// Blobs that no entry names.
    pub orphans: GroupStats,
    /// By the kind of step that made them.
    pub kinds: Vec<GroupStats>,
    pub titles: Vec<GroupStats>,
    pub ages: Vec<AgeStats>,
}

/// Entries that have something in common, and their blobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GroupStats {
    pub name: String,
    pub entries: u64,
    pub blobs: u64,
    /// Of the blobs.
    pub bytes: u64,
    /// Of blobs and entries.
    pub disk_bytes: u64,
}

/// What was last used so long ago.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AgeStats {
    /// `None`: longer than all others.
    pub within_days: Option<u32>,
    pub entries: u64,
    pub blobs: u64,
    pub bytes: u64,
    pub disk_bytes: u64,
}

impl LocalCache {
    /// Adds up what there is. `title_of` returns the name of the title that an entry stands for, if it stands
    /// for one; several with one name are counted as one.
    pub fn stats(
        &self,
        title_of: &(dyn Fn(&EntryKey, &CacheEntry) -> Option<String> + Sync),
    ) -> Result<CacheStats, CacheError> {
        let roots: Mutex<BTreeMap<String, Vec<EntryKey>>> = Mutex::default();
        let now = nanos(SystemTime::now());
        // Who only looks may just go.
        let go_on = AtomicBool::new(false);
        let marks = Marks::read(&self.root, now, &go_on, &|key, entry| {
            if let Some(name) = title_of(key, entry) {
                let mut roots = roots.lock().unwrap_or_else(PoisonError::into_inner);
                roots.entry(name).or_default().push(*key);
            }
        })?
        .unwrap_or_default();
        let roots = roots.into_inner().unwrap_or_else(PoisonError::into_inner);
        let age = |used: i128| {
            let days = (now - used) / (24 * 60 * 60 * 1_000_000_000);
            AGES.iter().position(|&most| days < i128::from(most)).unwrap_or(AGES.len())
        };
        let all: Vec<u32> = (0..marks.entries.len() as u32).collect();
        let of = |choose: &dyn Fn(usize) -> bool| {
            let chosen: Vec<u32> = all.iter().copied().filter(|&at| choose(at as usize)).collect();
            group(&marks, &chosen)
        };
        let everything = group(&marks, &all);
        let kinds = marks.kinds.iter().enumerate().map(|(kind, name)| GroupStats {
            name: name.clone(),
            ..of(&|at| usize::from(marks.entries[at].kind) == kind)
        });
        let titles = roots.iter().map(|(name, keys)| {
            let mut marked = vec![false; marks.entries.len()];
            marks.mark(keys.iter().filter_map(|key| marks.find(key)), &mut marked);
            GroupStats { name: name.clone(), ..of(&|at| marked[at]) }
        });
        let ages = (0..=AGES.len()).map(|place| {
            let GroupStats { entries, blobs, bytes, disk_bytes, .. } =
                of(&|at| age(marks.entries[at].used) == place);
            AgeStats { within_days: AGES.get(place).copied(), entries, blobs, bytes, disk_bytes }
        });
        let mut kinds: Vec<GroupStats> = kinds.collect();
        kinds.sort_by(|a, b| b.disk_bytes.cmp(&a.disk_bytes).then_with(|| a.name.cmp(&b.name)));
        let mut stats = CacheStats {
            kinds,
            titles: titles.collect(),
            ages: ages.collect(),
            entries: marks.entries.len() as u64,
            entry_bytes: marks.entries.iter().map(|entry| entry.bytes).sum(),
            blobs: marks.blobs.len() as u64,
            blob_bytes: marks.blobs.iter().map(|blob| blob.length).sum(),
            blob_disk_bytes: marks.blobs.iter().map(|blob| blob.bytes).sum(),
            ..CacheStats::default()
        };
        stats.orphans = GroupStats {
            name: String::new(),
            entries: 0,
            blobs: stats.blobs - everything.blobs,
            bytes: stats.blob_bytes - everything.bytes,
            disk_bytes: stats.blob_disk_bytes - (everything.disk_bytes - stats.entry_bytes),
        };
        stats.other_bytes = self.other_bytes(&self.root.join("stats"))?;
        Ok(stats)
    }

    fn other_bytes(&self, sources: &Path) -> Result<u64, CacheError> {
        let sources = shards::each(|shard| {
            Ok(shards::files(sources, shard, &mut |_| {})?
                .iter()
                .map(|file| disk_bytes(&file.meta))
                .sum::<u64>())
        })?;
        let records = self.log_names()?.into_iter().map(|name| {
            let meta = self.log.path_of(&name).symlink_metadata();
            meta.map_or(0, |meta| disk_bytes(&meta))
        });
        Ok(sources.into_iter().chain(records).sum())
    }
}

fn group(marks: &Marks, entries: &[u32]) -> GroupStats {
    let mut seen = vec![false; marks.blobs.len()];
    let mut group = GroupStats { entries: entries.len() as u64, ..GroupStats::default() };
    for &entry in entries {
        group.disk_bytes += marks.entries[entry as usize].bytes;
        for &blob in marks.blobs_of(entry as usize) {
            if !std::mem::replace(&mut seen[blob as usize], true) {
                let blob = &marks.blobs[blob as usize];
                group.blobs += 1;
                group.bytes += blob.length;
                group.disk_bytes += blob.bytes;
            }
        }
    }
    group
}
