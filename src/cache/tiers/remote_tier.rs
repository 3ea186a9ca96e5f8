//! A remote as a tier: the answers it gave about keys, whose signatures are accepted, and which of its blobs
//! are corrupt. It stores nothing locally; the tiers write what was found to the folder.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::client::{Fetched, Outcomes, RemoteClient};
use super::threads::Threads;
use super::upload::Uploader;
use super::{blobs_of, is_of_one};
use crate::cache::remote::RemoteError;
use crate::cache::trust::{PublicKey, Rejection, Trust};
use crate::cache::{BlobRef, BlobWriter, CacheEntry, Digest, EntryKey};

/// How long a caller waits for the remote before a notice is shown; less with a short timeout.
pub(super) const NOTICE_AFTER: Duration = Duration::from_secs(2);

/// Called once, when a caller has to wait for the remote.
type OnWait = Box<dyn Fn(&str) + Send + Sync>;

/// A remote, with what is known of it so far.
pub(super) struct RemoteTier {
    pub(super) client: Arc<RemoteClient>,
    pub(super) trust: Arc<Trust>,
    pub(super) uploader: Option<Uploader>,
    /// Answers about keys: the entry, or that there is none.
    pub(super) answers: Mutex<HashMap<EntryKey, Option<CacheEntry>>>,
    /// Blobs that it has with wrong bytes.
    pub(super) corrupt: Mutex<HashSet<Digest>>,
    /// Taken when it is called, so that it is called once.
    pub(super) on_wait: Mutex<Option<OnWait>>,
    pub(super) notice_after: Duration,
    pub(super) threads: Threads,
}

impl RemoteTier {
    pub(super) fn answers(&self) -> MutexGuard<'_, HashMap<EntryKey, Option<CacheEntry>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn corrupt(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.corrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_waiting(&self) {
        let tell = self.on_wait.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tell) = tell {
            let remote = self.client.counts.report().remote.clone();
            tell(&format!("waiting for the remote cache {remote} …"));
        }
    }

    /// Runs a call that a caller waits for, and reports a long wait.
    pub(super) fn wait<F: Future>(&self, call: F) -> F::Output {
        self.threads.block_on(async {
            let mut call = std::pin::pin!(call);
            let fetched = || self.client.counts.report().fetched_blobs;
            let before = fetched();
            if let Ok(answer) = tokio::time::timeout(self.notice_after, call.as_mut()).await {
                return answer;
            }
            // No notice while blobs keep arriving.
            if fetched() == before {
                self.report_waiting();
            }
            call.await
        })
    }

    /// The remote's entries under `keys` that are signed by a trusted key and complete; an error where the
    /// remote did not answer.
    pub(super) async fn entries(&self, keys: &[EntryKey]) -> Outcomes<Option<CacheEntry>> {
        let answers = self.client.entries(keys).await;
        let verified = keys.iter().zip(answers).map(|(key, answer)| Ok(self.verify_entry(key, answer?)));
        let mut found: Outcomes<Option<CacheEntry>> = verified.collect();
        let blobs = blobs_of(found.iter().flatten().flatten());
        let answers = if blobs.is_empty() { Vec::new() } else { self.client.has(&blobs).await };
        let there: HashMap<BlobRef, Result<bool, RemoteError>> = blobs.into_iter().zip(answers).collect();
        let mut report = self.client.counts.report();
        for found in &mut found {
            let Ok(Some(entry)) = &*found else { continue };
            match self.is_whole(entry, &there) {
                Ok(true) => report.hits += 1,
                Ok(false) => {
                    report.incomplete += 1;
                    *found = Ok(None);
                }
                // The call is counted as an error.
                Err(error) => *found = Err(error),
            }
        }
        found
    }

    /// The entry in the bytes under a key, if a trusted key signed it.
    fn verify_entry(&self, key: &EntryKey, bytes: Option<Bytes>) -> Option<CacheEntry> {
        let opened = bytes.map(|bytes| self.trust.open(key, &bytes));
        let mut report = self.client.counts.report();
        match opened {
            Some(Ok(entry)) => return Some(entry),
            Some(Err(rejection)) => {
                tracing::info!("rejected an entry of the remote cache: {key}: {rejection}");
                *report.rejected.entry(rejection.reason().into()).or_default() += 1;
                if let Rejection::UnknownKey(signer) = rejection {
                    report.unknown_key.get_or_insert_with(|| signer.to_string());
                }
            }
            None => report.misses += 1,
        }
        None
    }

    /// Reports entries that were left in place because a key signed them that is not trusted here.
    pub(super) fn report_foreign(&self, foreign: &BTreeMap<PublicKey, u64>) {
        let Some((signer, _)) = foreign.iter().max_by_key(|(_, number)| **number) else { return };
        let number: u64 = foreign.values().sum();
        let results = if number == 1 { "result" } else { "results" };
        let and_others = if foreign.len() > 1 { " and others" } else { "" };
        let mut report = self.client.counts.report();
        report.unknown_key.get_or_insert_with(|| signer.to_string());
        let remote = report.remote.clone();
        self.client.counts.notice(format!(
            "not stored in the remote cache {remote}, as they are there: {number} {results} signed by \
             {signer}{and_others}, which is not trusted here. If that is your team's key, `rivet cache trust \
             {signer}`; `rivet cache push --replace` puts yours in their place"
        ));
    }

    /// Whether all blobs of an entry are in the remote.
    fn is_whole(
        &self,
        entry: &CacheEntry,
        there: &HashMap<BlobRef, Result<bool, RemoteError>>,
    ) -> Result<bool, RemoteError> {
        let mut unanswered = None;
        for blob in &entry.result.blobs {
            match there.get(blob) {
                Some(Ok(true)) if !self.corrupt().contains(&blob.digest) => {}
                Some(Err(error)) if !is_of_one(error) => unanswered = Some(error),
                _ => return Ok(false),
            }
        }
        unanswered.map_or(Ok(true), |error| Err(error.clone()))
    }

    /// Counts a downloaded blob and returns its writer. A corrupt one is counted and removed from the remote.
    pub(super) async fn accept_blob(&self, blob: &BlobRef, fetched: Fetched) -> Option<BlobWriter> {
        match fetched {
            Fetched::Right(writer) => {
                let mut report = self.client.counts.report();
                report.fetched_blobs += 1;
                report.fetched_bytes += blob.size;
                return Some(*writer);
            }
            Fetched::Nothing => return None,
            Fetched::Wrong => {}
        }
        let (is_new, is_first) = {
            let mut corrupt = self.corrupt();
            (corrupt.insert(blob.digest), corrupt.len() == 1)
        };
        if is_new {
            self.client.counts.report().corrupt += 1;
        }
        if is_new && is_first {
            let remote = self.client.counts.report().remote.clone();
            self.client.counts.notice(format!(
                "the remote cache {remote} has corrupt blobs, which are rebuilt here; the first is {}",
                blob.digest
            ));
        }
        if self.uploader.is_some() {
            self.client.forget(blob).await;
        }
        None
    }
}
