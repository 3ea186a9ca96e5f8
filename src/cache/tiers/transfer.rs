//! Pushing to a remote and pulling from it all that belongs together: an entry, the entries it was made from,
//! and so on, with their blobs. Steps and titles are not known here.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::{Tiers, blobs_of};
use crate::cache::{BlobRef, Cache, CacheEntry, CacheError, EntryKey};

/// Entries of a batch.
const BATCH: usize = 256;
/// Missing entries that are listed.
const MAX_NAMED: usize = 5;

/// Statistics of a transfer: the entries reached from the named ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransferStats {
    /// Complete entries.
    pub entries: u64,
    /// The bytes of those blobs.
    pub bytes: u64,
    /// Entries that are missing or incomplete.
    pub missing: u64,
    /// The first few of them.
    #[serde(skip)]
    pub named: Vec<Missing>,
    pub interrupted: bool,
}

/// A missing or incomplete entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub key: EntryKey,
    /// The named entry that led to it.
    pub of: EntryKey,
    /// The kind of its step, if at least its entry is here.
    pub kind: Option<String>,
}

/// Returns the entry under each key of a batch.
type Take<'a> = dyn FnMut(&[EntryKey]) -> Result<Vec<Option<CacheEntry>>, CacheError> + 'a;

impl Tiers {
    /// Uploads everything that `keys` lead to here. The upload goes on when this returns: see
    /// [`Tiers::finish`]. What is complete in the remote need not be here. `replaces` also replaces entries
    /// whose signatures are not trusted here.
    pub fn push_all(
        &self,
        keys: &[EntryKey],
        replaces: bool,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<TransferStats, CacheError> {
        self.walk(keys, cancelled, &mut |batch| {
            self.look_ahead(batch)?;
            let mut found = Vec::with_capacity(batch.len());
            let mut partial = Vec::new();
            for (at, key) in batch.iter().enumerate() {
                let here = self.local().find_entry(key)?;
                if let Some(entry) = &here {
                    self.push(*key, entry.clone(), replaces);
                    found.push(here);
                    continue;
                }
                let there = self.find_entry(key)?;
                if there.is_some() {
                    self.count_as_there();
                } else if let Some(entry) = self.local().entry(key)? {
                    partial.push((at, *key, entry));
                }
                found.push(there);
            }
            for (at, key, entry) in self.whole_together(partial)? {
                self.push(key, entry.clone(), replaces);
                found[at] = Some(entry);
            }
            Ok(found)
        })
    }

    /// Those entries whose blobs are each here or in the remote.
    fn whole_together(
        &self,
        mut entries: Vec<(usize, EntryKey, CacheEntry)>,
    ) -> Result<Vec<(usize, EntryKey, CacheEntry)>, CacheError> {
        let mut elsewhere = Vec::new();
        for blob in blobs_of(entries.iter().map(|(.., entry)| entry)) {
            if !self.local().has_blob(&blob)? {
                elsewhere.push(blob);
            }
        }
        let answers: Vec<bool> = self.has_there(&elsewhere);
        let answers: HashMap<BlobRef, bool> = elsewhere.into_iter().zip(answers).collect();
        let is_somewhere = |blob: &BlobRef| answers.get(blob).copied().unwrap_or(true);
        entries.retain(|(.., entry)| entry.result.blobs.iter().all(is_somewhere));
        Ok(entries)
    }

    /// Downloads everything that `keys` lead to in the remote, or here.
    pub fn pull_all(
        &self,
        keys: &[EntryKey],
        cancelled: &dyn Fn() -> bool,
        observe: &dyn Fn(&TransferStats),
    ) -> Result<TransferStats, CacheError> {
        let mut so_far = TransferStats::default();
        self.walk(keys, cancelled, &mut |batch| {
            self.look_ahead(batch)?;
            let found: Vec<_> = batch.iter().map(|key| self.find_entry(key)).collect::<Result<_, _>>()?;
            let blobs: Vec<BlobRef> =
                found.iter().flatten().flat_map(|entry| entry.result.blobs.iter().copied()).collect();
            self.fetch(&blobs)?;
            // Only complete entries count.
            let mut whole = Vec::with_capacity(found.len());
            for (key, found) in batch.iter().zip(found) {
                whole.push(if found.is_some() { self.local().find_entry(key)? } else { None });
            }
            so_far.entries += whole.iter().flatten().count() as u64;
            so_far.bytes += blobs.iter().map(|blob| blob.size).sum::<u64>();
            observe(&so_far);
            Ok(whole)
        })
    }

    /// Walks from entries to their inputs, each once. `take` returns the entry under each key of a batch.
    fn walk(
        &self,
        keys: &[EntryKey],
        cancelled: &dyn Fn() -> bool,
        take: &mut Take<'_>,
    ) -> Result<TransferStats, CacheError> {
        let mut stats = TransferStats::default();
        let mut seen: HashSet<EntryKey> = keys.iter().copied().collect();
        // Each with the named key that led to it.
        let mut waiting: Vec<(EntryKey, EntryKey)> = seen.iter().map(|key| (*key, *key)).collect();
        while !waiting.is_empty() {
            if cancelled() {
                stats.interrupted = true;
                break;
            }
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            let keys: Vec<EntryKey> = batch.iter().map(|(key, _)| *key).collect();
            for (entry, (key, of)) in take(&keys)?.into_iter().zip(batch) {
                let Some(entry) = entry else {
                    stats.missing += 1;
                    if stats.named.len() < MAX_NAMED {
                        let kind = self.local().entry(&key)?.map(|entry| entry.cost.kind);
                        stats.named.push(Missing { key, of, kind });
                    }
                    continue;
                };
                stats.entries += 1;
                stats.bytes += entry.result.blobs.iter().map(|blob| blob.size).sum::<u64>();
                let inputs = entry.inputs.into_iter().filter(|input| seen.insert(*input));
                waiting.extend(inputs.map(|input| (input, of)));
            }
        }
        Ok(stats)
    }
}
