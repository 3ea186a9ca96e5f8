//! A remote behind timeouts, retries with backoff, and a circuit breaker. Failures are counted and reported,
//! and are never more than a cache miss.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::time::{sleep, timeout};

use super::breaker::Breaker;
use super::counts::Counts;
use super::download::receive;
use crate::cache::remote::{BlobSource, Remote, RemoteError, RemoteFault};
use crate::cache::{BlobRef, BlobWriter, CacheError, EntryKey, LocalCache};

/// Attempts per item.
const ATTEMPTS: u32 = 3;
/// Attempts per item that may time out.
const MAX_TIMEOUTS: u32 = 2;
/// Backoff before the second attempt; each further one is three times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How often a waiting call checks for cancellation and for an open circuit breaker.
const TICK: Duration = Duration::from_millis(50);
/// Bytes per second that a transfer is given time for. A slower remote is of no use.
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;
/// A call whose bytes are given more than this many times the timeout is slow rather than silent when it
/// times out.
const SLOW: u32 = 4;
/// Bytes of a usual entry, inputs included, for the timeout of a call. Few have more, and come with many that
/// have less.
const ENTRY_BYTES: u64 = 2 << 10;
/// Bytes for a blob in a call that asks which are present, for its timeout.
const BLOB_QUESTION: u64 = 256;

/// The results of a call about several items, in order.
pub(super) type Outcomes<T> = Vec<Result<T, RemoteError>>;

pub(super) struct RemoteClient {
    remote: Arc<dyn Remote>,
    /// The timeout of a call, besides the time for its bytes.
    call_timeout: Duration,
    cancelled: Arc<AtomicBool>,
    reads: Breaker,
    writes: Breaker,
    /// Whether the notice about unsupported items was given.
    unsupported_reported: AtomicBool,
    pub(super) counts: Arc<Counts>,
}

impl RemoteClient {
    pub(super) fn new(
        remote: Arc<dyn Remote>,
        call_timeout: Duration,
        cancelled: Arc<AtomicBool>,
        counts: Arc<Counts>,
    ) -> RemoteClient {
        let (reads, writes, unsupported_reported) = Default::default();
        RemoteClient { remote, call_timeout, cancelled, reads, writes, unsupported_reported, counts }
    }

    pub(super) fn can_read(&self) -> bool {
        !self.reads.is_open() && !self.cancelled.load(Ordering::Relaxed)
    }

    /// Ends once the build is cancelled, or the circuit breaker has opened.
    async fn given_up(&self, direction: Direction) {
        while self.may(direction) {
            sleep(TICK).await;
        }
    }

    pub(super) fn can_write(&self) -> bool {
        !self.writes.is_open() && self.can_read()
    }

    /// The bytes stored under each key; an error where the remote did not answer.
    pub(super) async fn entries(&self, keys: &[EntryKey]) -> Outcomes<Option<Bytes>> {
        let bytes = keys.len() as u64 * ENTRY_BYTES;
        let ask = |keys: Vec<EntryKey>| async move { self.remote.entries(&keys).await };
        self.each(Direction::Read, keys, bytes, ask).await
    }

    /// Receives each blob in a writer for `local`; an error of the remote counts as none, but for bytes of the
    /// wrong length.
    pub(super) async fn blobs(
        &self,
        blobs: &[BlobRef],
        local: &LocalCache,
    ) -> Result<Vec<Fetched>, CacheError> {
        let unwritten = Mutex::new(None);
        let ask = |blobs: Vec<BlobRef>| {
            let unwritten = &unwritten;
            async move {
                let (inlet, receiving) = receive(blobs.len(), local);
                let answers = self.remote.read_blobs(&blobs, &inlet).await;
                drop(inlet);
                let failed = match receiving.await {
                    Ok(Ok(writers)) => {
                        let pairs = answers.into_iter().zip(writers);
                        return pairs.map(|(answer, writer)| Ok(answer?.then_some(writer))).collect();
                    }
                    Ok(Err(error)) => {
                        let failed = error.to_string();
                        *unwritten.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        failed
                    }
                    Err(ended) => ended.to_string(),
                };
                blobs.iter().map(|_| Err(RemoteError::new(RemoteFault::Local, failed.clone()))).collect()
            }
        };
        let found = self.each(Direction::Read, blobs, sum_of(blobs), ask).await;
        if let Some(error) = unwritten.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let fetched = blobs.iter().zip(found).map(|(blob, found)| match found {
            Ok(Some(writer)) if writer.written() == *blob => Fetched::Right(Box::new(writer)),
            Ok(Some(_)) | Err(RemoteError { fault: RemoteFault::InvalidResponse, .. }) => Fetched::Wrong,
            Ok(None) | Err(_) => Fetched::Nothing,
        });
        Ok(fetched.collect())
    }

    /// Whether each blob is in the remote; an error where it did not answer.
    pub(super) async fn has(&self, blobs: &[BlobRef]) -> Outcomes<bool> {
        let ask = |blobs: Vec<BlobRef>| async move { self.remote.has(&blobs).await };
        self.each(Direction::Read, blobs, blobs.len() as u64 * BLOB_QUESTION, ask).await
    }

    /// Stores blobs. True for each that is in the remote now.
    pub(super) async fn put_blobs(&self, blobs: &[BlobRef], source: &dyn BlobSource) -> Vec<bool> {
        let put = |blobs: Vec<BlobRef>| async move { self.remote.put_blobs(&blobs, source).await };
        let put = self.each(Direction::Write, blobs, sum_of(blobs), put).await;
        put.into_iter().map(|put| put.is_ok()).collect()
    }

    /// Stores an entry. True if it is in the remote now.
    pub(super) async fn put_entry(&self, key: &EntryKey, bytes: Bytes, blobs: &[BlobRef]) -> bool {
        let size = bytes.len() as u64;
        self.one(Direction::Write, size, |()| self.remote.put_entry(key, bytes.clone(), blobs)).await.is_ok()
    }

    /// Removes a corrupt blob. Where that is not allowed it stays.
    pub(super) async fn forget(&self, blob: &BlobRef) {
        if self.can_write()
            && let Ok(Err(error)) = timeout(self.call_timeout, self.remote.forget(blob)).await
        {
            tracing::info!("cannot remove a corrupt blob from the remote cache: {error}");
        }
    }

    /// A call about one item.
    async fn one<T, F>(
        &self,
        direction: Direction,
        bytes: u64,
        call: impl Fn(()) -> F,
    ) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>>,
    {
        let each = self.each(direction, &[()], bytes, |_| {
            let answer = call(());
            async move { vec![answer.await] }
        });
        each.await.pop().unwrap_or_else(|| Err(unanswered()))
    }

    /// A call about several items, `bytes` together. What failed is retried, where that may help.
    async fn each<I, T, F>(
        &self,
        direction: Direction,
        items: &[I],
        bytes: u64,
        call: impl Fn(Vec<I>) -> F,
    ) -> Outcomes<T>
    where
        I: Clone,
        F: Future<Output = Outcomes<T>>,
    {
        let mut results: Vec<Option<Result<T, RemoteError>>> = items.iter().map(|_| None).collect();
        let mut pause = FIRST_PAUSE;
        let mut timeouts = 0;
        for attempt in 1..=ATTEMPTS {
            let again = |result: &Option<Result<T, RemoteError>>| match result {
                None => true,
                Some(Ok(_)) => false,
                Some(Err(error)) => {
                    matches!(error.fault, RemoteFault::Transient | RemoteFault::InvalidResponse)
                }
            };
            let pending: Vec<usize> = (0..items.len()).filter(|&at| again(&results[at])).collect();
            if pending.is_empty() || timeouts == MAX_TIMEOUTS {
                break;
            }
            if attempt > 1 && self.may(direction) {
                sleep(pause).await;
                pause *= 3;
            }
            // Other calls may have opened the breaker meanwhile.
            if !self.may(direction) {
                break;
            }
            let wanted = pending.iter().map(|&at| items[at].clone()).collect();
            let more = Duration::from_millis(bytes.saturating_mul(1000) / MIN_BYTES_PER_SECOND);
            let within = self.call_timeout.saturating_add(more);
            let began = Instant::now();
            let answer = timeout(within, call(wanted));
            let answer = match select(std::pin::pin!(answer), std::pin::pin!(self.given_up(direction))).await
            {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => break,
            };
            // A timeout with many bytes may only mean a slow network.
            let timed_out = answer.is_err() && more <= self.call_timeout.saturating_mul(SLOW);
            timeouts += u32::from(timed_out);
            let answers = match answer {
                Ok(answers) => answers,
                Err(_) => {
                    let told = format!("no answer within {}", humantime::format_duration(within));
                    let late = RemoteError::new(RemoteFault::Transient, told);
                    pending.iter().map(|_| Err(late.clone())).collect()
                }
            };
            for (at, answer) in pending.into_iter().zip(answers) {
                results[at] = Some(answer);
            }
            let attempt = Attempt { began, timed_out, is_last: attempt == ATTEMPTS };
            self.weigh(direction, &results, &attempt);
        }
        // A call that was not made did not fail.
        let is_remotes = |error: &&RemoteError| error.fault != RemoteFault::Local;
        if !self.cancelled.load(Ordering::Relaxed)
            && let Some(error) = results.iter().flatten().filter_map(|it| it.as_ref().err()).find(is_remotes)
        {
            tracing::debug!("remote cache: {error}");
            let mut report = self.counts.report();
            report.errors += 1;
            report.last_error = Some(error.message.clone());
        }
        let unsupported = results.iter().flatten().filter_map(|result| result.as_ref().err());
        let unsupported: Vec<&RemoteError> =
            unsupported.filter(|error| error.fault == RemoteFault::Unsupported).collect();
        if let Some(first) = unsupported.first() {
            self.report_unsupported(first, unsupported.len() as u64);
        }
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(unanswered()))).collect()
    }

    fn may(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.can_read(),
            Direction::Write => self.can_write(),
        }
    }

    /// Counts items that the remote cannot read or store, and reports the first.
    fn report_unsupported(&self, first: &RemoteError, number: u64) {
        let mut report = self.counts.report();
        report.unfit += number;
        if !self.unsupported_reported.swap(true, Ordering::Relaxed) {
            let name = &report.remote;
            self.counts.notice(format!(
                "the remote cache {name} has, or was given, what cannot be read or stored: {first}; more of that is \
                 only counted"
            ));
        }
    }

    /// Reports an attempt to the circuit breaker. It counts once, however many items it was about.
    fn weigh<T>(&self, direction: Direction, results: &[Option<Result<T, RemoteError>>], attempt: &Attempt) {
        let breaker = if direction == Direction::Read { &self.reads } else { &self.writes };
        // A remote that rejects one item works otherwise, and a local failure says nothing about the remote.
        let trouble = |result: &Result<T, RemoteError>| {
            result
                .as_ref()
                .is_err_and(|error| !matches!(error.fault, RemoteFault::Unsupported | RemoteFault::Local))
        };
        let Some(Err(error)) = results.iter().flatten().find(|result| trouble(result)) else {
            breaker.succeeded();
            return;
        };
        let all_failed = results.iter().flatten().all(trouble);
        let counts = match error.fault {
            // The remote is up if any item succeeded.
            RemoteFault::Transient => all_failed,
            // A corrupt item stays corrupt and counts once, however often it is retried.
            RemoteFault::InvalidResponse => all_failed && attempt.is_last,
            RemoteFault::Unsupported | RemoteFault::Local => false,
            RemoteFault::Refused => all_failed,
            RemoteFault::Denied | RemoteFault::Full => true,
        };
        if !counts || !breaker.failed(error, attempt.began, attempt.timed_out) {
            return;
        }
        let mut report = self.counts.report();
        let name = report.remote.clone();
        // A remote that is not read is not written to either.
        let is_news = direction == Direction::Read || report.went_on_without.is_none();
        let notice = match direction {
            Direction::Read => {
                report.went_on_without = Some(error.message.clone());
                format!("continuing without the remote cache {name}: {error}")
            }
            Direction::Write => {
                report.read_only = Some(error.message.clone());
                format!("uploads to the remote cache {name} stopped: {error}")
            }
        };
        if is_news {
            self.counts.notice(notice);
        }
    }
}

/// A call that was not made, or an answer that leaves an item out.
fn unanswered() -> RemoteError {
    RemoteError::new(RemoteFault::Transient, "no answer")
}

/// Bytes of blobs together.
fn sum_of(blobs: &[BlobRef]) -> u64 {
    blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size))
}

/// The outcome of downloading a blob.
pub(super) enum Fetched {
    /// The right bytes, in a writer that is not finished yet.
    Right(Box<BlobWriter>),
    /// Wrong bytes.
    Wrong,
    Nothing,
}

/// An attempt as a whole.
struct Attempt {
    began: Instant,
    /// No answer within the timeout.
    timed_out: bool,
    is_last: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

#[cfg(test)]
mod tests;
