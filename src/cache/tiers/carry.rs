//! Carrying all that belongs together to a remote, or from there: from an entry to those that it was
//! made from, and so on, with all their blobs. What a step is, or a title, is not known here.

use std::collections::HashSet;

use serde::Serialize;

use super::Tiers;
use crate::cache::{ActionEntry, ActionKey, BlobRef, Cache, CacheError};

/// Entries that are looked at together.
const BATCH: usize = 256;

/// What was reached from the entries that were named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// Entries with all of their blobs.
    pub entries: u64,
    /// The bytes of those blobs.
    pub bytes: u64,
    /// Entries that are not there, or not whole.
    pub missing: u64,
    pub interrupted: bool,
}

/// Tells what is under each key of a batch.
type Take<'a> = dyn FnMut(&[ActionKey]) -> Result<Vec<Option<ActionEntry>>, CacheError> + 'a;

impl Tiers {
    /// Has everything stored in the remote that `keys` lead to here. It is on its way when this returns:
    /// see [`Tiers::finish`].
    pub fn push_all(&self, keys: &[ActionKey], cancelled: &dyn Fn() -> bool) -> Result<Carried, CacheError> {
        self.walk(keys, cancelled, &mut |batch| {
            let mut found = Vec::with_capacity(batch.len());
            for key in batch {
                let entry = self.local().action(key)?;
                if let Some(entry) = &entry {
                    self.push(*key, entry.clone());
                }
                found.push(entry);
            }
            Ok(found)
        })
    }

    /// Brings everything here that `keys` lead to in the remote, or here.
    pub fn pull_all(
        &self,
        keys: &[ActionKey],
        cancelled: &dyn Fn() -> bool,
        observe: &dyn Fn(Carried),
    ) -> Result<Carried, CacheError> {
        let mut so_far = Carried::default();
        self.walk(keys, cancelled, &mut |batch| {
            self.look_ahead(batch)?;
            let found: Vec<_> = batch.iter().map(|key| self.action(key)).collect::<Result<_, _>>()?;
            let blobs: Vec<BlobRef> =
                found.iter().flatten().flat_map(|entry| entry.result.blobs.iter().copied()).collect();
            self.fetch(&blobs)?;
            // Only what is whole by now is here.
            let mut whole = Vec::with_capacity(found.len());
            for (key, found) in batch.iter().zip(found) {
                whole.push(if found.is_some() { self.local().action(key)? } else { None });
            }
            so_far.entries += whole.iter().flatten().count() as u64;
            so_far.bytes += blobs.iter().map(|blob| blob.size).sum::<u64>();
            observe(so_far);
            Ok(whole)
        })
    }

    /// Goes from entries to their inputs, each once. `take` tells what is under each key of a batch.
    fn walk(
        &self,
        keys: &[ActionKey],
        cancelled: &dyn Fn() -> bool,
        take: &mut Take<'_>,
    ) -> Result<Carried, CacheError> {
        let mut carried = Carried::default();
        let mut seen: HashSet<ActionKey> = keys.iter().copied().collect();
        let mut waiting: Vec<ActionKey> = seen.iter().copied().collect();
        while !waiting.is_empty() {
            if cancelled() {
                carried.interrupted = true;
                break;
            }
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            for entry in take(&batch)? {
                let Some(entry) = entry else {
                    carried.missing += 1;
                    continue;
                };
                carried.entries += 1;
                carried.bytes += entry.result.blobs.iter().map(|blob| blob.size).sum::<u64>();
                waiting.extend(entry.inputs.into_iter().filter(|input| seen.insert(*input)));
            }
        }
        Ok(carried)
    }
}
