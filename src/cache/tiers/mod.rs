//! The tiers of the cache: the local folder, and, where there is one, a remote behind it. What is found in
//! the remote fills the folder; what is made here goes up in the background. Nothing that goes wrong with
//! a remote is an error here: it is a miss, counted and told.
//!
//! An entry of a remote counts once it is signed by somebody trusted and its blobs are there; those are
//! fetched only when somebody needs them, and count once their digest is right.

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
use super::{ActionEntry, ActionKey, BlobReader, BlobRef, BlobWriter, Cache, CacheError, LocalCache};

/// Groups of blobs that are fetched at a time.
const MAX_CONCURRENT: usize = 4;

/// How a remote is used.
pub struct RemoteOptions {
    pub url: RemoteUrl,
    pub named_by: NamedBy,
    /// Who chose the local folder. What lies in one that came with a spec may be anybody's, and is not
    /// signed.
    pub folder_named_by: NamedBy,
    pub trust: Trust,
    /// Whether nothing shall be stored there. Without a key to sign with nothing is, either, but for
    /// those who trust everybody: others would not believe it.
    pub read_only: bool,
    /// How long a call may take, besides what its bytes take.
    pub timeout: Duration,
    /// Ends calls that are on their way, and all that would follow.
    pub cancelled: Arc<AtomicBool>,
}

/// A local cache with whatever lies behind it.
pub struct Tiers {
    local: Arc<LocalCache>,
    tier: Option<RemoteTier>,
    /// Whether a remote is named but not to be asked: its entries then count without their blobs.
    offline: bool,
}

impl From<Arc<LocalCache>> for Tiers {
    /// The folder alone.
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
    /// `local` for a build that is not to ask the remote that it has otherwise. What came from there
    /// counts as found, also where only its entry did: a step whose bytes turn out to be wanted runs.
    pub fn offline(local: Arc<LocalCache>) -> Tiers {
        Tiers { offline: true, ..Tiers::from(local) }
    }

    /// `local` with a remote behind it. Whether anybody answers there shows when it is first asked.
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
            () if options.read_only => Some("it was asked for"),
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
            tracing::info!("nothing is stored in the remote cache: {why}");
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

    /// Has it said, once, on the thread that waits, when the remote lets somebody wait.
    pub fn on_wait(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        if let Some(tier) = &self.tier {
            *tier.on_wait.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tell));
        }
    }

    /// The local folder.
    pub fn local(&self) -> &Arc<LocalCache> {
        &self.local
    }

    /// Whether there is a remote that is asked.
    pub fn has_remote(&self) -> bool {
        self.tier.as_ref().is_some_and(|tier| tier.client.can_read())
    }

    /// Asks the remote for all of `keys` at once that are not found here, so that looking them up one by
    /// one costs no round trip each.
    pub fn look_ahead(&self, keys: &[ActionKey]) -> Result<(), CacheError> {
        let Some(tier) = &self.tier else { return Ok(()) };
        let unanswered: Vec<ActionKey> = {
            let answers = tier.answers();
            keys.iter().filter(|key| !answers.contains_key(key)).copied().collect()
        };
        let is_unknown = |key: &ActionKey| Ok(self.local.action(key)?.is_none().then_some(*key));
        let unknown: Vec<Option<ActionKey>> =
            unanswered.par_iter().map(is_unknown).collect::<Result<_, CacheError>>()?;
        let unknown: Vec<ActionKey> = unknown.into_iter().flatten().collect();
        self.look_up(tier, &unknown)
    }

    /// Brings those of `blobs` here that are not, a few calls at a time. What cannot be had is passed over.
    pub fn fetch(&self, blobs: &[BlobRef]) -> Result<(), CacheError> {
        // What would be kept by nobody is not brought.
        let can_fetch = |tier: &&RemoteTier| tier.client.can_read() && self.local.is_writable();
        let Some(tier) = self.tier.as_ref().filter(can_fetch) else { return Ok(()) };
        let mut seen = HashSet::new();
        let each_once: Vec<BlobRef> = blobs.iter().copied().filter(|blob| seen.insert(*blob)).collect();
        let is_wanted = |blob: &BlobRef| Ok((!self.local.has_blob(blob)?).then_some(*blob));
        let wanted: Vec<Option<BlobRef>> =
            each_once.par_iter().map(is_wanted).collect::<Result<_, CacheError>>()?;
        let wanted: Vec<BlobRef> = wanted.into_iter().flatten().collect();
        tier.wait(async {
            // On the remote's own threads, so that bytes come in while others are written.
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
                // It does not panic, and nobody aborts it.
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

    /// Has an entry stored in the remote that is here already. `replaces` also puts it in the place of what
    /// somebody signed who is not believed here.
    fn push(&self, key: ActionKey, entry: ActionEntry, replaces: bool) {
        if let Some(uploader) = self.tier.as_ref().and_then(|tier| tier.uploader.as_ref()) {
            uploader.add(PendingEntry { key, entry, replaces });
        }
    }

    /// Waits until all that was made is stored in the remote, or given up, or `cancelled` says so. Tells
    /// `observe` how many entries are left.
    pub fn finish(&self, cancelled: &dyn Fn() -> bool, observe: &dyn Fn(usize)) {
        let Some((tier, uploader)) =
            self.tier.as_ref().and_then(|tier| Some((tier, tier.uploader.as_ref()?)))
        else {
            return;
        };
        tier.threads.block_on(async {
            while uploader.left() > 0 && !cancelled() {
                observe(uploader.left());
                // Also now and then, to notice that it is cancelled.
                let _ = tokio::time::timeout(Duration::from_millis(200), uploader.progress()).await;
            }
        });
        tier.report_foreign(&uploader.take_foreign());
    }

    /// What there is to tell a person since the last call.
    pub fn take_notices(&self) -> Vec<String> {
        self.tier.as_ref().map(|tier| tier.client.counts.take_notices()).unwrap_or_default()
    }

    /// What came of the remote, if there is one. Entries that are still to be stored count as not stored.
    pub fn report(&self) -> Option<RemoteReport> {
        self.tier.as_ref().map(|tier| {
            let counts = tier.client.counts.report();
            let left = tier.uploader.as_ref().map_or(0, Uploader::left) as u64;
            RemoteReport { not_stored: counts.not_stored + left, ..counts.clone() }
        })
    }

    /// Counts an entry that was to be stored, and need not be.
    fn count_as_there(&self) {
        if let Some(tier) = &self.tier {
            tier.client.counts.report().already_there += 1;
        }
    }

    /// Whether the remote says that it has each of `blobs`.
    fn has_there(&self, blobs: &[BlobRef]) -> Vec<bool> {
        let Some(tier) = self.tier.as_ref().filter(|tier| !blobs.is_empty() && tier.client.can_read()) else {
            return vec![false; blobs.len()];
        };
        let answers = tier.wait(tier.client.has(blobs));
        answers.into_iter().map(|answer| answer.unwrap_or(false)).collect()
    }

    /// Asks the remote for entries of which nothing is known yet, and files what it has here.
    fn look_up(&self, tier: &RemoteTier, keys: &[ActionKey]) -> Result<(), CacheError> {
        if keys.is_empty() || !tier.client.can_read() {
            return Ok(());
        }
        let answers = tier.wait(tier.entries(keys));
        // What it left unsaid is not known to be missing.
        let answers: Vec<(ActionKey, Option<ActionEntry>)> = keys
            .iter()
            .zip(answers)
            .filter_map(|(key, answer)| match answer {
                Ok(answer) => Some((*key, answer)),
                // What is wrong there stays so, and is nothing to ask for again.
                Err(error) if is_of_one(&error) => Some((*key, None)),
                Err(_) => None,
            })
            .collect();
        if self.local.is_writable() {
            answers.par_iter().try_for_each(|(key, answer)| match answer {
                Some(entry) => self.local.put_action(key, entry),
                None => Ok(()),
            })?;
        }
        tier.answers().extend(answers);
        Ok(())
    }
}

impl Cache for Tiers {
    fn action(&self, key: &ActionKey) -> Result<Option<ActionEntry>, CacheError> {
        if let Some(entry) = self.local.action(key)? {
            return Ok(Some(entry));
        }
        let Some(tier) = &self.tier else {
            return if self.offline { self.local.entry(key) } else { Ok(None) };
        };
        if !tier.answers().contains_key(key) {
            self.look_up(tier, &[*key])?;
        }
        let known = tier.answers().get(key).cloned();
        match known {
            Some(answer) => Ok(answer),
            // Nobody can tell whether the remote still has the blobs of what came from there before.
            None if !tier.client.can_read() => self.local.entry(key),
            None => Ok(None),
        }
    }

    fn put_action(&self, key: &ActionKey, entry: &ActionEntry) -> Result<(), CacheError> {
        self.local.put_action(key, entry)?;
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

/// Whether an error tells of the one thing that was asked for, rather than of the remote.
fn is_of_one(error: &RemoteError) -> bool {
    matches!(error.fault, RemoteFault::InvalidResponse | RemoteFault::Unsupported)
}

/// Blobs of entries, each once.
fn blobs_of<'e>(entries: impl Iterator<Item = &'e ActionEntry>) -> Vec<BlobRef> {
    let mut blobs: Vec<BlobRef> = entries.flat_map(|entry| entry.result.blobs.iter().copied()).collect();
    blobs.sort_unstable_by_key(|blob| (blob.digest, blob.size));
    blobs.dedup();
    blobs
}

#[cfg(test)]
mod tests;
