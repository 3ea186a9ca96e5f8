//! The tiers of the cache: the local folder, and optionally a remote behind it. What is found in the remote
//! is written to the folder; new results are uploaded in the background. A failure of the remote is never an
//! error here: it is a miss that is counted and reported.
//!
//! A remote's entry is accepted if a trusted key signed it and its blobs are in the remote. Blobs are
//! downloaded when they are needed, and accepted if their digest is right.

mod breaker;
mod client;
mod counts;
mod download;
mod existing;
mod groups;
mod local_source;
mod remote_tier;
mod threads;
mod transfer;
mod upload;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use client::{Fetched, RemoteClient};
use counts::Counts;
pub use counts::RemoteReport;
use rayon::prelude::*;
use remote_tier::{NOTICE_AFTER, RemoteTier};
use threads::Threads;
pub use transfer::{Missing, TransferStats};
use upload::{PendingEntry, Uploader};

use super::remote::{self, NamedBy, Remote, RemoteError, RemoteFault, RemoteUrl};
use super::trust::Trust;
use super::{BlobReader, BlobRef, BlobWriter, Cache, CacheEntry, CacheError, EntryKey, LocalCache};

/// Groups of blobs downloaded at a time.
const MAX_CONCURRENT: usize = 4;

/// How a remote is used.
pub struct RemoteOptions {
    pub url: RemoteUrl,
    pub named_by: NamedBy,
    /// Who named the local folder. Results in a folder that came with a spec may be anybody's, and are not
    /// signed.
    pub folder_named_by: NamedBy,
    pub trust: Trust,
    /// Whether nothing is uploaded. Without a signing key nothing is uploaded either, unless every signature
    /// is accepted: other machines would reject it.
    pub read_only: bool,
    /// The timeout of a call, besides the time for its bytes.
    pub timeout: Duration,
    /// Cancels calls that are under way, and all later ones.
    pub cancelled: Arc<AtomicBool>,
}

/// A local cache with an optional remote behind it.
pub struct Tiers {
    local: Arc<LocalCache>,
    tier: Option<RemoteTier>,
    /// Whether the configured remote is not contacted: its entries then count without their blobs.
    offline: bool,
}

impl From<Arc<LocalCache>> for Tiers {
    /// The local folder alone.
    fn from(local: Arc<LocalCache>) -> Tiers {
        Tiers { local, tier: None, offline: false }
    }
}

impl From<LocalCache> for Tiers {
    fn from(local: LocalCache) -> Tiers {
        Tiers::from(Arc::new(local))
    }
}

impl Tiers {
    /// `local` for a build that does not contact its remote. An entry that came from the remote counts as
    /// found even where its blobs are not here: a step whose bytes turn out to be needed runs.
    pub fn offline(local: Arc<LocalCache>) -> Tiers {
        Tiers { offline: true, ..Tiers::from(local) }
    }

    /// `local` with a remote behind it. Whether the remote answers shows at the first call.
    pub fn with_remote(local: Arc<LocalCache>, options: RemoteOptions) -> Result<Tiers, RemoteError> {
        let threads = Threads::start().map_err(|error| {
            RemoteError::new(RemoteFault::Transient, format!("cannot start its threads: {error}"))
        })?;
        let remote = {
            let _within = threads.enter();
            remote::open(&options.url, options.named_by, options.timeout)?
        };
        Ok(Tiers::over(local, remote, options, threads))
    }

    fn over(
        local: Arc<LocalCache>,
        remote: Arc<dyn Remote>,
        options: RemoteOptions,
        threads: Threads,
    ) -> Tiers {
        let trust = Arc::new(options.trust);
        let counts = Arc::new(Counts::default());
        let read_only = match () {
            () if options.read_only => Some("--remote-read-only"),
            () if options.folder_named_by == NamedBy::Spec => {
                Some("the spec chose the cache folder; --cache-dir makes it your choice")
            }
            () if trust.is_insecure() => None,
            () if trust.signer().is_none() => {
                Some("there is no key to sign with; `rivet cache keygen` makes one")
            }
            () if trust.extra_trust().is_some() => {
                Some("keys count that only the spec names; `rivet cache trust` makes them yours")
            }
            () => None,
        };
        if let Some(why) = read_only {
            tracing::info!("nothing is uploaded to the remote cache: {why}");
        }
        {
            let mut report = counts.report();
            report.remote = options.url.to_string();
            report.read_only = read_only.map(str::to_owned);
            report.is_reader =
                !options.read_only && trust.signer().is_none() && trust.trusted().next().is_some();
        }
        let notice_after = NOTICE_AFTER.min(options.timeout / 5);
        let client = Arc::new(RemoteClient::new(remote, options.timeout, options.cancelled, counts));
        let uploader = read_only.is_none().then(|| {
            Uploader::start(threads.handle(), Arc::clone(&client), Arc::clone(&trust), Arc::clone(&local))
        });
        let (answers, corrupt, on_wait) = Default::default();
        let tier = RemoteTier { client, trust, uploader, answers, corrupt, on_wait, notice_after, threads };
        Tiers { local, tier: Some(tier), offline: false }
    }

    /// Calls `tell` once, on the waiting thread, when a caller has to wait for the remote.
    pub fn on_wait(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        if let Some(tier) = &self.tier {
            *tier.on_wait.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tell));
        }
    }

    /// The local folder.
    pub fn local(&self) -> &Arc<LocalCache> {
        &self.local
    }

    /// Whether there is a remote that is still read.
    pub fn has_remote(&self) -> bool {
        self.tier.as_ref().is_some_and(|tier| tier.client.can_read())
    }

    /// The entries that the remote has under keys that the local folder does not have, all looked up in one go;
    /// they are written to the local folder. The folder itself is not looked at.
    pub fn remote_entries(&self, keys: &[EntryKey]) -> Result<Vec<Option<CacheEntry>>, CacheError> {
        let Some(tier) = &self.tier else {
            return keys
                .iter()
                .map(|key| if self.offline { self.local.entry(key) } else { Ok(None) })
                .collect();
        };
        let unanswered: Vec<EntryKey> = {
            let answers = tier.answers();
            keys.iter().filter(|key| !answers.contains_key(key)).copied().collect()
        };
        self.look_up(tier, &unanswered)?;
        let answered: Vec<Option<Option<CacheEntry>>> = {
            let answers = tier.answers();
            keys.iter().map(|key| answers.get(key).cloned()).collect()
        };
        let entry = |(key, answer): (&EntryKey, Option<Option<CacheEntry>>)| match answer {
            Some(answer) => Ok(answer),
            // Whether the remote still has the blobs of an earlier look-up is unknown; the entry counts.
            None if !tier.client.can_read() => self.local.entry(key),
            None => Ok(None),
        };
        keys.iter().zip(answered).map(entry).collect()
    }

    /// Looks up all of `keys` in the remote at once that are not found here, so that later look-ups cost no
    /// round trip each.
    pub fn look_ahead(&self, keys: &[EntryKey]) -> Result<(), CacheError> {
        if self.tier.is_none() {
            return Ok(());
        }
        let absent = |key: &EntryKey| Ok(self.local.find_entry(key)?.is_none().then_some(*key));
        let absent: Vec<Option<EntryKey>> = keys.par_iter().map(absent).collect::<Result<_, CacheError>>()?;
        self.remote_entries(&absent.into_iter().flatten().collect::<Vec<_>>()).map(drop)
    }

    /// Downloads those of `blobs` that are not here, a few calls at a time. Unavailable ones are skipped.
    pub fn fetch(&self, blobs: &[BlobRef]) -> Result<(), CacheError> {
        // Nothing could be stored in a read-only cache.
        let can_fetch = |tier: &&RemoteTier| tier.client.can_read() && self.local.is_writable();
        let Some(tier) = self.tier.as_ref().filter(can_fetch) else { return Ok(()) };
        let mut seen = HashSet::new();
        let each_once: Vec<BlobRef> = blobs.iter().copied().filter(|blob| seen.insert(*blob)).collect();
        let is_wanted = |blob: &BlobRef| Ok((!self.local.has_blob(blob)?).then_some(*blob));
        let wanted: Vec<Option<BlobRef>> =
            each_once.par_iter().map(is_wanted).collect::<Result<_, CacheError>>()?;
        let wanted: Vec<BlobRef> = wanted.into_iter().flatten().collect();
        tier.wait(async {
            // On the remote's own threads, so that downloads overlap with writes.
            let groups = stream::iter(groups::of(&wanted)).map(|group| {
                let (client, local, group) =
                    (Arc::clone(&tier.client), Arc::clone(&self.local), group.to_vec());
                tokio::spawn(async move {
                    let fetched = client.blobs(&group, &local).await?;
                    Ok::<_, CacheError>(group.into_iter().zip(fetched).collect::<Vec<_>>())
                })
            });
            let mut groups = groups.buffer_unordered(MAX_CONCURRENT);
            while let Some(group) = groups.next().await {
                // The task neither panics nor is aborted.
                let Ok(group) = group else { continue };
                let mut right = Vec::new();
                for (blob, fetched) in group? {
                    right.extend(tier.accept_blob(&blob, fetched).await);
                }
                right.into_par_iter().try_for_each(|writer| writer.finish().map(drop))?;
            }
            Ok(())
        })
    }

    /// Uploads an entry of the local cache. `replaces` also replaces an entry whose signature is not trusted
    /// here.
    fn push(&self, key: EntryKey, entry: CacheEntry, replaces: bool) {
        if let Some(uploader) = self.tier.as_ref().and_then(|tier| tier.uploader.as_ref()) {
            uploader.add(PendingEntry { key, entry, replaces });
        }
    }

    /// Waits until all results are uploaded or given up, or until `cancelled` returns true. Calls `observe`
    /// with the number of entries left.
    pub fn finish(&self, cancelled: &dyn Fn() -> bool, observe: &dyn Fn(usize)) {
        let Some((tier, uploader)) =
            self.tier.as_ref().and_then(|tier| Some((tier, tier.uploader.as_ref()?)))
        else {
            return;
        };
        tier.threads.block_on(async {
            while uploader.left() > 0 && !cancelled() {
                observe(uploader.left());
                // With a timeout, to notice the cancellation.
                let _ = tokio::time::timeout(Duration::from_millis(200), uploader.progress()).await;
            }
        });
        tier.report_foreign(&uploader.take_foreign());
    }

    /// Notices for the user since the last call.
    pub fn take_notices(&self) -> Vec<String> {
        let mut notices = self.local.take_notices();
        notices.extend(self.tier.iter().flat_map(|tier| tier.client.counts.take_notices()));
        notices
    }

    /// The counters of the remote, if there is one. Entries that are still queued count as not stored.
    pub fn report(&self) -> Option<RemoteReport> {
        self.tier.as_ref().map(|tier| {
            let counts = tier.client.counts.report();
            let left = tier.uploader.as_ref().map_or(0, Uploader::left) as u64;
            RemoteReport { not_stored: counts.not_stored + left, ..counts.clone() }
        })
    }

    /// Counts an entry that need not be uploaded.
    fn count_as_there(&self) {
        if let Some(tier) = &self.tier {
            tier.client.counts.report().already_there += 1;
        }
    }

    /// Whether each of `blobs` is in the remote.
    fn has_there(&self, blobs: &[BlobRef]) -> Vec<bool> {
        let Some(tier) = self.tier.as_ref().filter(|tier| !blobs.is_empty() && tier.client.can_read()) else {
            return vec![false; blobs.len()];
        };
        let answers = tier.wait(tier.client.has(blobs));
        answers.into_iter().map(|answer| answer.unwrap_or(false)).collect()
    }

    /// Looks up entries in the remote that are not known yet, and writes what it has to the local folder.
    fn look_up(&self, tier: &RemoteTier, keys: &[EntryKey]) -> Result<(), CacheError> {
        if keys.is_empty() || !tier.client.can_read() {
            return Ok(());
        }
        let answers = tier.wait(tier.entries(keys));
        // A missing answer is no miss.
        let answers: Vec<(EntryKey, Option<CacheEntry>)> = keys
            .iter()
            .zip(answers)
            .filter_map(|(key, answer)| match answer {
                Ok(answer) => Some((*key, answer)),
                // A corrupt entry stays corrupt: a miss that is not looked up again.
                Err(error) if is_of_one(&error) => Some((*key, None)),
                Err(_) => None,
            })
            .collect();
        if self.local.is_writable() {
            answers.par_iter().try_for_each(|(key, answer)| match answer {
                Some(entry) => self.local.put_entry(key, entry),
                None => Ok(()),
            })?;
        }
        tier.answers().extend(answers);
        Ok(())
    }
}

impl Cache for Tiers {
    fn find_entry(&self, key: &EntryKey) -> Result<Option<CacheEntry>, CacheError> {
        if let Some(entry) = self.local.find_entry(key)? {
            return Ok(Some(entry));
        }
        Ok(self.remote_entries(&[*key])?.pop().flatten())
    }

    fn put_entry(&self, key: &EntryKey, entry: &CacheEntry) -> Result<(), CacheError> {
        self.local.put_entry(key, entry)?;
        if let Some(tier) = &self.tier {
            tier.answers().remove(key);
        }
        self.push(*key, entry.clone(), false);
        Ok(())
    }

    fn open_blob(&self, blob: &BlobRef) -> Result<Option<BlobReader>, CacheError> {
        if let Some(reader) = self.local.open_blob(blob)? {
            return Ok(Some(reader));
        }
        let is_of_use = |tier: &&RemoteTier| tier.client.can_read() && !tier.corrupt().contains(&blob.digest);
        let Some(tier) = self.tier.as_ref().filter(is_of_use) else { return Ok(None) };
        let right = tier.wait(async {
            let fetched = tier.client.blobs(&[*blob], &self.local).await?.pop().unwrap_or(Fetched::Nothing);
            Ok::<_, CacheError>(tier.accept_blob(blob, fetched).await)
        });
        match right? {
            None => Ok(None),
            Some(writer) if self.local.is_writable() => {
                writer.finish()?;
                self.local.open_blob(blob)
            }
            Some(writer) => writer.into_reader().map(Some),
        }
    }

    fn blob_writer(&self) -> Result<BlobWriter, CacheError> {
        self.local.blob_writer()
    }

    fn blob_file(&self, blob: &BlobRef) -> Option<PathBuf> {
        self.local.blob_file(blob)
    }
}

/// Whether an error is about one item, rather than about the remote.
fn is_of_one(error: &RemoteError) -> bool {
    matches!(error.fault, RemoteFault::InvalidResponse | RemoteFault::Unsupported)
}

/// The blobs of entries, without duplicates.
fn blobs_of<'e>(entries: impl Iterator<Item = &'e CacheEntry>) -> Vec<BlobRef> {
    let mut blobs: Vec<BlobRef> = entries.flat_map(|entry| entry.result.blobs.iter().copied()).collect();
    blobs.sort_unstable_by_key(|blob| (blob.digest, blob.size));
    blobs.dedup();
    blobs
}

#[cfg(test)]
mod tests;
