//! Stores results in the remote behind the build's back: blobs first, then the entry that names them.
//! Whoever adds results never waits for the network; the build does, at its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::guard::Guard;
use super::{blobs_of, groups};
use crate::cache::trust::Trust;
use crate::cache::{ActionEntry, ActionKey, BlobRef, Cache, LocalCache};

/// Entries that are stored together.
const BATCH: usize = 64;
/// Batches on their way at a time.
const SIDE_BY_SIDE: usize = 4;

type Result = (ActionKey, ActionEntry);

pub(super) struct Uploader {
    queue: mpsc::UnboundedSender<Result>,
    shared: Arc<Shared>,
}

struct Shared {
    guard: Arc<Guard>,
    trust: Arc<Trust>,
    local: Arc<LocalCache>,
    /// Entries that were added and are neither stored nor given up.
    left: AtomicUsize,
    /// Told whenever there are fewer.
    fewer: Notify,
}

impl Uploader {
    /// Stores what is in `local`, signed by `trust`'s signer.
    pub(super) fn start(
        runtime: &Handle,
        guard: Arc<Guard>,
        trust: Arc<Trust>,
        local: Arc<LocalCache>,
    ) -> Uploader {
        let (queue, waiting) = mpsc::unbounded_channel();
        let shared =
            Arc::new(Shared { guard, trust, local, left: AtomicUsize::new(0), fewer: Notify::new() });
        runtime.spawn(run(Arc::clone(&shared), waiting));
        Uploader { queue, shared }
    }

    /// Has a result stored, of which everything is in the local cache.
    pub(super) fn add(&self, key: ActionKey, entry: ActionEntry) {
        self.shared.left.fetch_add(1, Ordering::SeqCst);
        if self.queue.send((key, entry)).is_err() {
            self.shared.done(1);
        }
    }

    /// Entries that are not stored yet.
    pub(super) fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }

    /// Waits until there are fewer entries left than there were.
    pub(super) async fn progress(&self) {
        self.shared.fewer.notified().await;
    }
}

async fn run(shared: Arc<Shared>, mut waiting: mpsc::UnboundedReceiver<Result>) {
    let slots = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        // The semaphore is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (shared, batch) = (Arc::clone(&shared), std::mem::take(&mut batch));
        tokio::spawn(async move {
            let mut tally = Batch { shared: &shared, entries: batch.len(), stored: 0 };
            if shared.guard.can_write() {
                tally.stored = shared.store(batch).await;
            }
            drop(tally);
            drop(slot);
        });
    }
}

/// Entries that are on their way together. However that ends, they are left no longer, and counted once.
struct Batch<'s> {
    shared: &'s Shared,
    entries: usize,
    stored: usize,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut report = self.shared.guard.counts.report();
        report.stored_entries += self.stored as u64;
        report.not_stored += (self.entries - self.stored) as u64;
        // While nobody can look at the report, in which those that are left count, too.
        self.shared.done(self.entries);
    }
}

impl Shared {
    fn done(&self, entries: usize) {
        self.left.fetch_sub(entries, Ordering::SeqCst);
        // One waits, or none.
        self.fewer.notify_one();
    }

    /// Stores entries with their blobs. Returns how many are stored.
    async fn store(&self, batch: Vec<Result>) -> usize {
        let blobs = blobs_of(batch.iter().map(|(_, entry)| entry));
        let answers = self.guard.has(&blobs).await;
        // Of what nobody says whether it is there, nothing is known that an entry could name.
        let mut there: HashMap<BlobRef, bool> = HashMap::new();
        let mut missing = Vec::new();
        for (blob, answer) in blobs.into_iter().zip(answers) {
            match answer {
                Ok(true) => drop(there.insert(blob, true)),
                Ok(false) => missing.push(blob),
                Err(_) => {}
            }
        }
        for group in groups::of(&missing) {
            for (blob, is_there) in self.store_blobs(group).await {
                there.insert(blob, is_there);
            }
        }
        let whole = batch.iter().filter(|(_, entry)| {
            entry.result.blobs.iter().all(|blob| there.get(blob).is_some_and(|there| *there))
        });
        let stored = join_all(whole.map(|(key, entry)| self.store_entry(key, entry))).await;
        stored.into_iter().filter(|stored| *stored).count()
    }

    async fn store_blobs(&self, group: &[BlobRef]) -> Vec<(BlobRef, bool)> {
        let local = Arc::clone(&self.local);
        let wanted = group.to_vec();
        let read = tokio::task::spawn_blocking(move || {
            let read = wanted.into_iter().map(|blob| (blob, local.blob(&blob).ok().flatten()));
            read.collect::<Vec<_>>()
        });
        let read = read.await.unwrap_or_default();
        let mut there: Vec<(BlobRef, bool)> =
            read.iter().filter(|(_, bytes)| bytes.is_none()).map(|(blob, _)| (*blob, false)).collect();
        let ours: Vec<(BlobRef, Bytes)> =
            read.into_iter().filter_map(|(blob, bytes)| Some((blob, Bytes::from(bytes?)))).collect();
        let put = self.guard.put_blobs(&ours).await;
        let mut report = self.guard.counts.report();
        for ((blob, _), put) in ours.iter().zip(put) {
            there.push((*blob, put));
            report.stored_blobs += u64::from(put);
            report.stored_bytes += if put { blob.size } else { 0 };
        }
        there
    }

    async fn store_entry(&self, key: &ActionKey, entry: &ActionEntry) -> bool {
        match self.trust.seal(key, entry) {
            Ok(bytes) => self.guard.put_entry(key, bytes.into(), &entry.result.blobs).await,
            Err(error) => {
                tracing::warn!("{key} is not stored in the remote cache: {error}");
                false
            }
        }
    }
}
