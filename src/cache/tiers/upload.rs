//! Uploads results in the background: blobs first, then the entry that names them, unless the remote has an
//! entry there that a trusted key signed. Adding a result never waits for the network; the end of the build
//! does.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::client::{Outcomes, RemoteClient};
use super::existing::{self, ExistingEntry};
use super::local_source::LocalSource;
use super::{blobs_of, groups};
use crate::cache::trust::{PublicKey, Trust};
use crate::cache::{BlobRef, CacheEntry, EntryKey, LocalCache};

/// Entries of a batch.
const BATCH: usize = 64;
/// Batches uploaded at a time.
const MAX_CONCURRENT: usize = 4;

/// An entry to upload.
pub(super) struct PendingEntry {
    pub key: EntryKey,
    pub entry: CacheEntry,
    /// Whether it replaces an entry whose signature is not trusted here.
    pub replaces: bool,
}

pub(super) struct Uploader {
    queue: mpsc::UnboundedSender<PendingEntry>,
    shared: Arc<Shared>,
}

struct Shared {
    client: Arc<RemoteClient>,
    trust: Arc<Trust>,
    source: LocalSource,
    /// Entries that were added and are neither stored nor given up.
    left: AtomicUsize,
    /// Notified whenever `left` falls.
    fewer: Notify,
    /// The number of entries left in place, by the untrusted key that signed them.
    foreign: Mutex<BTreeMap<PublicKey, u64>>,
}

impl Uploader {
    /// Uploads what is in `local`, signed by `trust`'s signer.
    pub(super) fn start(
        runtime: &Handle,
        client: Arc<RemoteClient>,
        trust: Arc<Trust>,
        local: Arc<LocalCache>,
    ) -> Uploader {
        let (queue, waiting) = mpsc::unbounded_channel();
        let (left, fewer, foreign) = Default::default();
        let shared = Arc::new(Shared { client, trust, source: LocalSource(local), left, fewer, foreign });
        runtime.spawn(run(Arc::clone(&shared), waiting));
        Uploader { queue, shared }
    }

    /// Queues an entry whose blobs are in the local cache or in the remote.
    pub(super) fn add(&self, pending: PendingEntry) {
        self.shared.left.fetch_add(1, Ordering::SeqCst);
        if self.queue.send(pending).is_err() {
            self.shared.done(1);
        }
    }

    /// Entries that are not stored yet.
    pub(super) fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }

    /// Waits until `left` falls.
    pub(super) async fn progress(&self) {
        self.shared.fewer.notified().await;
    }

    /// The number of entries left in place, by the untrusted key that signed them, since the last call.
    pub(super) fn take_foreign(&self) -> BTreeMap<PublicKey, u64> {
        std::mem::take(&mut self.shared.foreign.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn run(shared: Arc<Shared>, mut waiting: mpsc::UnboundedReceiver<PendingEntry>) {
    let slots = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        // The semaphore is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (shared, batch) = (Arc::clone(&shared), std::mem::take(&mut batch));
        tokio::spawn(async move {
            let mut tally = Batch { shared: &shared, entries: batch.len(), outcome: BatchOutcome::default() };
            if shared.client.can_write() {
                shared.store(batch, &mut tally.outcome).await;
            }
            drop(tally);
            drop(slot);
        });
    }
}

/// Entries that are being uploaded together. Dropping it counts them, however the upload ended.
struct Batch<'s> {
    shared: &'s Shared,
    entries: usize,
    outcome: BatchOutcome,
}

/// How many entries of a batch ended how.
#[derive(Default)]
struct BatchOutcome {
    stored: usize,
    already_there: usize,
    /// Left in place, as signed by an untrusted key.
    foreign: usize,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut report = self.shared.client.counts.report();
        report.stored_entries += self.outcome.stored as u64;
        report.already_there += self.outcome.already_there as u64;
        report.others += self.outcome.foreign as u64;
        report.not_stored += (self.entries - self.outcome.stored - self.outcome.already_there) as u64;
        // While the report is locked: what is left counts as not stored there.
        self.shared.done(self.entries);
    }
}

impl Shared {
    fn done(&self, entries: usize) {
        self.left.fetch_sub(entries, Ordering::SeqCst);
        // At most one task waits.
        self.fewer.notify_one();
    }

    /// Uploads entries with their blobs, except where the remote's own entry stays.
    async fn store(&self, batch: Vec<PendingEntry>, outcome: &mut BatchOutcome) {
        let keys: Vec<EntryKey> = batch.iter().map(|pending| pending.key).collect();
        let blobs = blobs_of(batch.iter().map(|pending| &pending.entry));
        let (answers, found) = join(self.client.has(&blobs), self.client.entries(&keys)).await;
        let existing = self.existing_entries(&batch, found).await;
        let mut wanted = Vec::with_capacity(batch.len());
        for (pending, existing) in batch.iter().zip(existing) {
            match existing {
                ExistingEntry::Nothing | ExistingEntry::Same => wanted.push((pending, existing)),
                ExistingEntry::Another(_) => outcome.already_there += 1,
                ExistingEntry::Foreign(signer, _) => {
                    outcome.foreign += 1;
                    *self
                        .foreign
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(signer)
                        .or_default() += 1;
                }
                ExistingEntry::Unknown => {}
            }
        }
        // An entry may only name blobs that are known to be in the remote.
        let mut there: HashMap<BlobRef, bool> = HashMap::new();
        for (blob, answer) in blobs.into_iter().zip(answers) {
            if let Ok(answer) = answer {
                there.insert(blob, answer);
            }
        }
        let mut missing = blobs_of(wanted.iter().map(|(pending, _)| &pending.entry));
        missing.retain(|blob| there.get(blob) == Some(&false));
        for group in groups::of(&missing) {
            there.extend(self.store_blobs(group).await);
        }
        let is_there = |blob: &BlobRef| there.get(blob) == Some(&true);
        wanted.retain(|(pending, _)| pending.entry.result.blobs.iter().all(is_there));
        let (same, new): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(_, existing)| *existing == ExistingEntry::Same);
        outcome.already_there += same.len();
        let stored =
            join_all(new.iter().map(|(pending, _)| self.store_entry(&pending.key, &pending.entry))).await;
        outcome.stored += stored.into_iter().filter(|stored| *stored).count();
    }

    /// The remote's existing entries under the keys of a batch.
    async fn existing_entries(
        &self,
        batch: &[PendingEntry],
        found: Outcomes<Option<Bytes>>,
    ) -> Vec<ExistingEntry> {
        let classify = |(pending, answer): (&PendingEntry, _)| match existing::classify(
            &self.trust,
            &pending.key,
            &pending.entry,
            answer,
        ) {
            ExistingEntry::Foreign(..) if pending.replaces => ExistingEntry::Nothing,
            existing => existing,
        };
        let mut existing: Vec<ExistingEntry> = batch.iter().zip(found).map(classify).collect();
        let blobs = existing::blobs_of_kept(&existing);
        if !blobs.is_empty() {
            let answers = self.client.has(&blobs).await;
            existing::drop_incomplete(&mut existing, blobs, answers);
        }
        existing
    }

    async fn store_blobs(&self, group: &[BlobRef]) -> Vec<(BlobRef, bool)> {
        let put = self.client.put_blobs(group, &self.source).await;
        let mut report = self.client.counts.report();
        let there = group.iter().copied().zip(put);
        let there = there.inspect(|(blob, put)| {
            report.stored_blobs += u64::from(*put);
            report.stored_bytes += if *put { blob.size } else { 0 };
        });
        there.collect()
    }

    async fn store_entry(&self, key: &EntryKey, entry: &CacheEntry) -> bool {
        match self.trust.seal(key, entry) {
            Ok(bytes) => self.client.put_entry(key, bytes.into(), &entry.result.blobs).await,
            Err(error) => {
                let notice = format!("{key} is not stored in the remote cache: {error}");
                self.client.counts.notice(notice);
                false
            }
        }
    }
}
