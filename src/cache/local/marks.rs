//! All entries of a cache folder, as cleaning and counting see them: what each was made from, which
//! blobs it names, when it was last used. A few hundred bytes an entry, so that a million fit; what
//! their results mean is unknown here.
//!
//! What went into an entry has been used when that was: a title's entry or a pack stands for all that
//! is on it, which nobody looks at as long as it is there.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::MAX_ENTRY;
use super::files::{self, read};
use super::shards::{self, Stored, disk_bytes};
use crate::cache::{CacheEntry, CacheError, Digest, EntryKey};

/// Nanoseconds since 1970.
pub(super) type Nanos = i128;

/// A file system's time.
pub(super) fn nanos(time: SystemTime) -> Nanos {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as Nanos,
        Err(before) => -(before.duration().as_nanos() as Nanos),
    }
}

pub(super) struct Mark {
    pub key: EntryKey,
    /// When its file was last used or written.
    pub modified: Nanos,
    /// When it was last used, or what it went into.
    pub used: Nanos,
    /// Bytes on disk.
    pub bytes: u64,
    pub wall_ms: u64,
    /// Which of `Marks::kinds`.
    pub kind: u16,
    /// Steps from it to the farthest that went into it.
    pub height: u32,
    /// Where its inputs and its blobs begin in the lists of all.
    inputs: usize,
    blobs: usize,
}

pub(super) struct Blob {
    pub name: Digest,
    pub modified: Nanos,
    /// As long as it is, and as it lies on the disk.
    pub length: u64,
    pub bytes: u64,
}

#[derive(Default)]
pub(super) struct Marks {
    /// In order of their keys.
    pub entries: Vec<Mark>,
    /// In order of their names; all that are there, whether an entry names them or not.
    pub blobs: Vec<Blob>,
    pub kinds: Vec<String>,
    /// Files among the entries that are none.
    pub damaged: Vec<Stored>,
    inputs: Vec<u32>,
    named: Vec<u32>,
}

/// What is kept of an entry, before it is known what else there is.
pub(super) struct Read {
    pub key: EntryKey,
    pub modified: Nanos,
    pub bytes: u64,
    pub wall_ms: u64,
    pub kind: String,
    pub inputs: Vec<EntryKey>,
    pub blobs: Vec<Digest>,
}

impl Marks {
    /// Reads all of `root` as of `now`. `see` is told of each entry, on many threads. `None` when
    /// cancelled.
    pub(super) fn read(
        root: &Path,
        now: Nanos,
        cancelled: &AtomicBool,
        see: &(dyn Fn(&EntryKey, &CacheEntry) + Sync),
    ) -> Result<Option<Marks>, CacheError> {
        // Entries first: blobs written meanwhile are young and not named yet.
        let folder = root.join("entries");
        let shards = shards::each(|shard| {
            let (mut entries, mut damaged) = (Vec::new(), Vec::new());
            for file in shards::files(&folder, shard, &mut |_| {})? {
                if cancelled.load(Ordering::Relaxed) {
                    break;
                }
                match read_entry(&file)? {
                    Some(Some(entry)) => {
                        let key = EntryKey(file.name);
                        see(&key, &entry);
                        let (modified, bytes) = (modified(&file), disk_bytes(&file.meta));
                        entries.push(Read {
                            key,
                            modified,
                            bytes,
                            wall_ms: entry.cost.wall_ms,
                            kind: entry.cost.kind,
                            inputs: entry.inputs,
                            blobs: entry.result.blobs.iter().map(|blob| blob.digest).collect(),
                        });
                    }
                    Some(None) => damaged.push(file),
                    None => {}
                }
            }
            Ok((entries, damaged))
        })?;
        let blobs = root.join("blobs");
        let blobs = shards::each(|shard| {
            let files = shards::files(&blobs, shard, &mut |_| {})?.into_iter();
            let blob = |file: Stored| Blob {
                name: file.name,
                modified: modified(&file),
                length: file.meta.len(),
                bytes: disk_bytes(&file.meta),
            };
            Ok(files.map(blob).collect::<Vec<_>>())
        })?;
        // What has been left out is not known to be there: nothing may be done by that.
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut entries = Vec::new();
        let mut damaged = Vec::new();
        for (some, bad) in shards {
            entries.extend(some);
            damaged.extend(bad);
        }
        Ok(Some(Marks { damaged, ..Marks::new(entries, blobs.into_iter().flatten().collect(), now) }))
    }

    /// Both in order of their names. What claims to have been used later than `now` was not.
    pub(super) fn new(read: Vec<Read>, blobs: Vec<Blob>, now: Nanos) -> Marks {
        let mut marks = Marks { blobs, ..Marks::default() };
        let keys: Vec<EntryKey> = read.iter().map(|read| read.key).collect();
        for read in read {
            let kind = marks.kind(&read.kind);
            marks.entries.push(Mark {
                key: read.key,
                modified: read.modified,
                used: read.modified.min(now),
                bytes: read.bytes,
                wall_ms: read.wall_ms,
                kind,
                height: 0,
                inputs: marks.inputs.len(),
                blobs: marks.named.len(),
            });
            // What is not there, or was never here, cannot be kept.
            let there = read.inputs.iter().filter_map(|input| keys.binary_search(input).ok());
            marks.inputs.extend(there.map(|at| at as u32));
            let find = |name: &Digest| marks.blobs.binary_search_by_key(name, |blob| blob.name).ok();
            let mut named: Vec<u32> = read.blobs.iter().filter_map(find).map(|at| at as u32).collect();
            // Naming one twice makes no second file.
            named.sort_unstable();
            named.dedup();
            marks.named.extend(named);
        }
        marks.hand_down();
        marks
    }

    fn kind(&mut self, name: &str) -> u16 {
        let known = self.kinds.iter().position(|kind| kind == name);
        let at = known.unwrap_or_else(|| {
            // There are a dozen kinds; a foreign entry may name any kind.
            if self.kinds.len() < usize::from(u16::MAX) {
                self.kinds.push(name.to_owned());
            }
            self.kinds.len() - 1
        });
        at as u16
    }

    /// The entries that went into an entry, as far as they are there.
    pub(super) fn inputs_of(&self, entry: usize) -> &[u32] {
        let end = self.entries.get(entry + 1).map_or(self.inputs.len(), |next| next.inputs);
        &self.inputs[self.entries[entry].inputs..end]
    }

    /// The blobs that an entry names, as far as they are there.
    pub(super) fn blobs_of(&self, entry: usize) -> &[u32] {
        let end = self.entries.get(entry + 1).map_or(self.named.len(), |next| next.blobs);
        &self.named[self.entries[entry].blobs..end]
    }

    pub(super) fn find(&self, key: &EntryKey) -> Option<usize> {
        self.entries.binary_search_by_key(key, |entry| entry.key).ok()
    }

    /// Marks all that went into `roots`, and them, in `marked`; what is marked already is done.
    pub(super) fn mark(&self, roots: impl IntoIterator<Item = usize>, marked: &mut [bool]) {
        let mut stack: Vec<usize> = roots.into_iter().collect();
        while let Some(entry) = stack.pop() {
            if !std::mem::replace(&mut marked[entry], true) {
                stack.extend(self.inputs_of(entry).iter().map(|&input| input as usize));
            }
        }
    }

    /// Lets what went into an entry be used at least as recently, and finds how high each stands.
    fn hand_down(&mut self) {
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        order.sort_unstable_by_key(|&entry| std::cmp::Reverse(self.entries[entry as usize].used));
        // Whoever comes first to an entry is what used it last. Keys
        // are made of results, so there are no circles; of a forged one some part comes first.
        let mut seen = vec![false; self.entries.len()];
        let mut stack: Vec<(u32, bool)> = Vec::new();
        for root in order {
            let used = self.entries[root as usize].used;
            stack.push((root, false));
            while let Some((entry, is_done)) = stack.pop() {
                let at = entry as usize;
                if is_done {
                    let below = self.inputs_of(at).iter();
                    let height = below.map(|&input| self.entries[input as usize].height + 1).max();
                    self.entries[at].height = height.unwrap_or(0);
                } else if !std::mem::replace(&mut seen[at], true) {
                    self.entries[at].used = used;
                    stack.push((entry, true));
                    stack.extend(self.inputs_of(at).iter().map(|&input| (input, false)));
                }
            }
        }
    }
}

/// `None` where it has gone, `Some(None)` where it is damaged.
fn read_entry(file: &Stored) -> Result<Option<Option<CacheEntry>>, CacheError> {
    Ok(match read(&file.path, MAX_ENTRY, "read the cache entry")? {
        files::Found::Nothing => None,
        files::Found::Bytes(bytes, _) => Some(CacheEntry::from_bytes(&bytes)),
        files::Found::TooLong | files::Found::Unusable(_) => Some(None),
    })
}

pub(super) fn modified(file: &Stored) -> Nanos {
    file.meta.modified().map_or(0, nanos)
}
