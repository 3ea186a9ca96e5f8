//! A remote that fails as it is told, and what is made of that.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, join_all, pending};

use super::*;
use crate::cache::Digest;
use crate::cache::remote::{BlobSink, BlobStream};

/// What comes of asking for a thing; `None` is no answer at all.
type Answer = Option<Result<(), RemoteError>>;

/// Answers every call by `answer`, which is told how many calls there were before and about which of the
/// things it is.
struct Faulty<F> {
    answer: F,
    /// About how many things each call was.
    calls: Mutex<Vec<usize>>,
}

impl<F: Fn(usize, usize) -> Answer + Send + Sync + 'static> Faulty<F> {
    fn new(answer: F) -> Arc<Faulty<F>> {
        Arc::new(Faulty { answer, calls: Mutex::default() })
    }

    fn client(self: &Arc<Self>, timeout: Duration) -> RemoteClient {
        RemoteClient::new(self.clone(), timeout, Arc::default(), Arc::default())
    }

    fn calls(&self) -> Vec<usize> {
        self.calls.lock().unwrap().clone()
    }

    fn each<T: Send + 'static>(
        &self,
        things: usize,
        good: impl Fn() -> T + Send + Sync + 'static,
    ) -> BoxFuture<'_, Vec<Result<T, RemoteError>>> {
        let before = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(things);
            calls.len() - 1
        };
        let good = Arc::new(good);
        join_all((0..things).map(move |thing| {
            let (answer, good) = ((self.answer)(before, thing), Arc::clone(&good));
            async move {
                match answer {
                    Some(answer) => answer.map(|()| good()),
                    None => pending().await,
                }
            }
        }))
        .boxed()
    }
}

impl<F: Fn(usize, usize) -> Answer + Send + Sync + 'static> Remote for Faulty<F> {
    fn entries<'a>(&'a self, keys: &'a [EntryKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>, RemoteError>>> {
        self.each(keys.len(), || None)
    }

    fn put_entry<'a>(
        &'a self,
        _key: &'a EntryKey,
        _bytes: Bytes,
        _blobs: &'a [BlobRef],
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.each(1, || ()).map(|mut answers| answers.remove(0)).boxed()
    }

    fn has<'a>(&'a self, blobs: &'a [BlobRef]) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        self.each(blobs.len(), || true)
    }

    fn read_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        _sink: &'a dyn BlobSink,
    ) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        self.each(blobs.len(), || false)
    }

    fn forget<'a>(&'a self, _blob: &'a BlobRef) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.each(1, || ()).map(|mut answers| answers.remove(0)).boxed()
    }

    fn put_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        _source: &'a dyn BlobSource,
    ) -> BoxFuture<'a, Vec<Result<(), RemoteError>>> {
        self.each(blobs.len(), || ())
    }
}

/// Nobody opens it.
struct NoSource;

impl BlobSource for NoSource {
    fn open(&self, _blob: &BlobRef) -> BlobStream {
        futures_util::stream::empty().boxed()
    }
}

/// What comes of asking for blobs.
async fn fetch(client: &RemoteClient, blobs: &[BlobRef]) -> Vec<Fetched> {
    let local = LocalCache::open_read_only("/nowhere/at/all".as_ref()).unwrap();
    client.blobs(blobs, &local).await.unwrap()
}

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

fn fails(fault: RemoteFault) -> Answer {
    Some(Err(RemoteError::new(fault, "no")))
}

fn key(number: u8) -> EntryKey {
    EntryKey(Digest::of(&[number]))
}

fn blob(number: u8) -> BlobRef {
    BlobRef { digest: Digest::of(&[number]), size: 1 }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn only_what_failed_is_asked_for_again() {
    let remote =
        Faulty::new(
            |before, thing| {
                if before == 0 && thing == 1 { fails(RemoteFault::Transient) } else { Some(Ok(())) }
            },
        );
    let client = remote.client(LONG);
    let found = run(client.entries(&[key(0), key(1), key(2)]));
    assert!(found.iter().all(|found| matches!(found, Ok(None))));
    assert_eq!(remote.calls(), [3, 1]);
    assert_eq!(client.counts.report().errors, 0, "it went well in the end");
}

#[test]
fn what_is_not_allowed_is_not_tried_again() {
    for fault in [RemoteFault::Denied, RemoteFault::Refused, RemoteFault::Full] {
        let remote = Faulty::new(move |_, _| fails(fault));
        let client = remote.client(LONG);
        for _ in 0..3 {
            assert!(run(client.entries(&[key(0)])).iter().all(Result::is_err));
        }
        assert_eq!(remote.calls(), [1]);
        assert!(!client.can_read());
        assert_eq!(client.counts.report().errors, 1, "calls that were not made did not fail");
        assert_eq!(client.counts.take_notices().len(), 1);
    }
}

/// Eight calls at once.
async fn concurrently(client: &RemoteClient) -> Vec<Outcomes<Option<Bytes>>> {
    join_all((0..8).map(|number| async move { client.entries(&[key(number)]).await })).await
}

#[test]
fn a_blip_under_calls_side_by_side_is_no_outage() {
    let remote = Faulty::new(|before, _| if before < 8 { None } else { Some(Ok(())) });
    let client = remote.client(SHORT);
    assert!(run(concurrently(&client)).iter().all(|answer| answer[0].is_ok()));
    assert!(client.can_read() && client.counts.take_notices().is_empty());
    assert_eq!(client.counts.report().errors, 0);
}

#[test]
fn calls_side_by_side_that_get_no_answer_end_it_once() {
    let remote = Faulty::new(|_, _| None);
    let client = remote.client(SHORT);
    assert!(run(concurrently(&client)).iter().all(|answer| answer[0].is_err()));
    assert!(!client.can_read());
    assert_eq!(remote.calls().len(), 2 * 8, "each is tried once more, and that is all");
    assert_eq!(client.counts.take_notices().len(), 1);
    assert!(client.counts.report().went_on_without.as_ref().unwrap().contains("no answer within"));
}

/// One that waits for many bytes is not waited for when others have found out that nobody is there.
#[test]
fn a_call_on_its_way_ends_when_others_give_up() {
    let remote = Faulty::new(|before, _| if before == 0 { None } else { fails(RemoteFault::Denied) });
    let client = remote.client(LONG);
    let (waits, denied) =
        run(async { futures_util::future::join(client.entries(&[key(0)]), client.entries(&[key(1)])).await });
    assert!(waits[0].is_err() && denied[0].is_err());
    assert_eq!(client.counts.report().errors, 1);
}

/// However often, and whether or not there are others besides.
#[test]
fn one_thing_that_is_not_taken_ends_nothing() {
    let remote =
        Faulty::new(|_, thing| if thing == 0 { fails(RemoteFault::Unsupported) } else { Some(Ok(())) });
    let client = remote.client(LONG);
    run(async {
        for number in 0..10 {
            assert!(!client.put_entry(&key(number), Bytes::new(), &[]).await);
            assert_eq!(client.put_blobs(&[blob(number)], &NoSource).await, [false]);
        }
        assert_eq!(client.put_blobs(&[blob(0), blob(1)], &NoSource).await, [false, true]);
        assert!(client.entries(&[key(0)]).await[0].is_err());
    });
    assert_eq!(remote.calls().len(), 22, "none was tried again");
    assert!(client.can_write() && client.can_read());
    assert_eq!(client.counts.report().unfit, 22);
    let notices = client.counts.take_notices();
    assert!(notices.len() == 1 && notices[0].contains("only counted"), "{notices:?}");
}

/// What its many bytes take is no silence.
#[test]
fn one_that_is_slow_is_asked_again() {
    let remote = Faulty::new(|before, _| if before < 2 { None } else { Some(Ok(())) });
    let client = remote.client(SHORT);
    let large = BlobRef { size: MIN_BYTES_PER_SECOND / 10, ..blob(0) };
    assert!(matches!(run(fetch(&client, &[large]))[..], [Fetched::Nothing]));
    assert_eq!(remote.calls(), [1, 1, 1]);
    assert!(client.can_read() && client.counts.report().errors == 0);
}

#[test]
fn one_answer_that_is_missing_leaves_the_others() {
    let remote = Faulty::new(|_, thing| if thing == 1 { fails(RemoteFault::Denied) } else { Some(Ok(())) });
    let client = remote.client(LONG);
    let there = run(client.has(&[blob(0), blob(1), blob(2)]));
    assert!(matches!(there[..], [Ok(true), Err(_), Ok(true)]));
}

#[test]
fn no_patience_is_too_long() {
    let client = Faulty::new(|_, _| Some(Ok(()))).client(Duration::MAX);
    assert!(run(client.entries(&[key(0)]))[0].is_ok());
}

#[test]
fn one_that_is_full_is_still_read() {
    let asked = Arc::new(AtomicUsize::new(0));
    let remote = Faulty::new({
        let asked = Arc::clone(&asked);
        move |_, _| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => fails(RemoteFault::Full),
            _ => Some(Ok(())),
        }
    });
    let client = remote.client(LONG);
    assert_eq!(run(client.put_blobs(&[blob(0)], &NoSource)), [false]);
    assert!(!client.can_write() && client.can_read());
    assert!(run(client.entries(&[key(0)]))[0].is_ok());
    assert!(!run(client.put_entry(&key(0), Bytes::new(), &[])));
    assert_eq!(remote.calls(), [1, 1], "nothing more is put");
    let report = client.counts.report().clone();
    assert!(report.read_only.is_some() && report.went_on_without.is_none());
}

#[test]
fn an_outage_that_ends_writes_and_then_reads_is_told_of_both() {
    let remote = Faulty::new(|_, _| fails(RemoteFault::Transient));
    let client = remote.client(LONG);
    run(async {
        while client.can_write() {
            client.put_entry(&key(0), Bytes::new(), &[]).await;
        }
        while client.can_read() {
            client.entries(&[key(0)]).await;
        }
    });
    let report = client.counts.report().clone();
    assert!(report.read_only.is_some() && report.went_on_without.is_some());
    assert_eq!(client.counts.take_notices().len(), 2);
}

#[test]
fn a_few_damaged_blobs_are_no_outage() {
    let remote =
        Faulty::new(|_, thing| if thing == 0 { fails(RemoteFault::InvalidResponse) } else { Some(Ok(())) });
    let client = remote.client(LONG);
    for number in 0..3 {
        assert!(matches!(run(fetch(&client, &[blob(number)]))[..], [Fetched::Wrong]));
    }
    for _ in 0..3 {
        let fetched = run(fetch(&client, &[blob(0), blob(1)]));
        assert!(matches!(fetched[..], [Fetched::Wrong, Fetched::Nothing]));
    }
    assert!(client.can_read());
    assert!(client.counts.take_notices().is_empty());
}

#[test]
fn a_call_that_is_cancelled_ends_and_is_no_error() {
    let remote = Faulty::new(|_, _| None);
    let client = remote.client(LONG);
    run(async {
        let stop = async { client.cancelled.store(true, Ordering::Relaxed) };
        futures_util::future::join(client.entries(&[key(0)]), stop).await
    });
    assert_eq!(remote.calls(), [1]);
    assert_eq!(client.counts.report().errors, 0);
    assert!(client.counts.take_notices().is_empty());
}

/// It says nothing of the remote, however often.
#[test]
fn what_cannot_be_read_here_is_neither_tried_again_nor_an_error_of_the_remote() {
    let remote = Faulty::new(|_, _| fails(RemoteFault::Local));
    let client = remote.client(LONG);
    for _ in 0..10 {
        assert_eq!(run(client.put_blobs(&[blob(0)], &NoSource)), [false]);
    }
    assert_eq!(remote.calls().len(), 10);
    assert!(client.can_write() && client.counts.report().errors == 0);
    assert!(client.counts.take_notices().is_empty());
}
