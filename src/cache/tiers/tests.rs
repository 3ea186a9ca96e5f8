//! Tiers over a remote that says what a test has it say.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::{BoxFuture, FutureExt, pending};

use super::*;
use crate::cache::remote::{BlobSink, BlobSource};
use crate::cache::trust::SigningKey;
use crate::cache::{Digest, EntryResult};

/// Bytes that come at a time.
const PIECE: usize = 64 << 10;

/// Has the entries and blobs that it was given.
#[derive(Default)]
struct Told {
    entries: HashMap<EntryKey, Bytes>,
    blobs: HashMap<BlobRef, Bytes>,
    /// Nobody says whether it is there.
    unanswered: Option<BlobRef>,
    /// Puts never end.
    hangs: bool,
    /// Nobody says what is filed.
    silent: bool,
    /// What was put: keys of entries, and blobs.
    put: Mutex<(Vec<EntryKey>, Vec<BlobRef>)>,
    /// Entries that were asked for, and blobs.
    asked: AtomicUsize,
    fetched: AtomicUsize,
}

fn no() -> RemoteError {
    RemoteError::new(RemoteFault::Transient, "no")
}

impl Remote for Told {
    fn entries<'a>(&'a self, keys: &'a [EntryKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>, RemoteError>>> {
        self.asked.fetch_add(keys.len(), Ordering::SeqCst);
        if self.silent {
            return pending().boxed();
        }
        std::future::ready(keys.iter().map(|key| Ok(self.entries.get(key).cloned())).collect()).boxed()
    }

    fn put_entry<'a>(
        &'a self,
        key: &'a EntryKey,
        _bytes: Bytes,
        _blobs: &'a [BlobRef],
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.put.lock().unwrap().0.push(*key);
        if self.hangs { pending().boxed() } else { std::future::ready(Ok(())).boxed() }
    }

    fn has<'a>(&'a self, blobs: &'a [BlobRef]) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        let is_there = |blob: &BlobRef| match self.unanswered {
            Some(unanswered) if unanswered == *blob => Err(no()),
            _ => Ok(self.blobs.contains_key(blob)),
        };
        std::future::ready(blobs.iter().map(is_there).collect()).boxed()
    }

    fn read_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        sink: &'a dyn BlobSink,
    ) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        self.fetched.fetch_add(blobs.len(), Ordering::SeqCst);
        async move {
            let mut answers = Vec::new();
            for (index, blob) in blobs.iter().enumerate() {
                let Some(bytes) = self.blobs.get(blob) else {
                    answers.push(Ok(false));
                    continue;
                };
                for piece in bytes.chunks(PIECE) {
                    sink.write(index, Bytes::copy_from_slice(piece)).await.unwrap();
                }
                answers.push(Ok(true));
            }
            answers
        }
        .boxed()
    }

    fn forget<'a>(&'a self, _blob: &'a BlobRef) -> BoxFuture<'a, Result<(), RemoteError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn put_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        source: &'a dyn BlobSource,
    ) -> BoxFuture<'a, Vec<Result<(), RemoteError>>> {
        async move {
            let mut puts = Vec::new();
            for blob in blobs {
                let pieces = source.open(blob).try_collect::<Vec<Bytes>>().await;
                puts.push(pieces.map(|pieces| {
                    assert_eq!(Digest::of(&pieces.concat()), blob.digest);
                    self.put.lock().unwrap().1.push(*blob);
                }));
            }
            puts
        }
        .boxed()
    }
}

fn key(number: u8) -> EntryKey {
    EntryKey(Digest::of(&[number]))
}

fn blob(number: u8) -> (BlobRef, Bytes) {
    let bytes = Bytes::from(vec![number; 10]);
    (BlobRef { digest: Digest::of(&bytes), size: 10 }, bytes)
}

fn entry(blobs: &[BlobRef]) -> CacheEntry {
    let result = EntryResult { blobs: blobs.to_vec(), ..EntryResult::default() };
    CacheEntry { result, ..CacheEntry::default() }
}

const LONG: Duration = Duration::from_secs(3600);

struct Place {
    _folder: tempfile::TempDir,
    tiers: Tiers,
    tier: Arc<Told>,
    cancelled: Arc<AtomicBool>,
}

/// Tiers whose remote has an entry under each of keys 0 to 2, with a blob of its own.
fn place(change: impl FnOnce(&mut Told)) -> Place {
    place_of(Trust::new(Some(SigningKey::generate().unwrap())), LONG, change)
}

fn place_of(trust: Trust, timeout: Duration, change: impl FnOnce(&mut Told)) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let mut tier = Told::default();
    for number in 0..3 {
        let (name, bytes) = blob(number);
        tier.entries.insert(key(number), trust.seal(&key(number), &entry(&[name])).unwrap().into());
        tier.blobs.insert(name, bytes);
    }
    change(&mut tier);
    let (tier, cancelled) = (Arc::new(tier), Arc::new(AtomicBool::new(false)));
    let options = options(trust, timeout, Arc::clone(&cancelled));
    let local = Arc::new(LocalCache::open(folder.path()).unwrap());
    let tiers = Tiers::over(local, tier.clone(), options, Threads::start().unwrap());
    Place { _folder: folder, tiers, tier, cancelled }
}

fn options(trust: Trust, timeout: Duration, cancelled: Arc<AtomicBool>) -> RemoteOptions {
    RemoteOptions {
        url: "fs:///nowhere/at/all".parse().unwrap(),
        named_by: NamedBy::User,
        folder_named_by: NamedBy::User,
        trust,
        read_only: false,
        timeout,
        cancelled,
    }
}

#[test]
fn what_nobody_said_is_asked_again_and_spoils_no_other_answer() {
    let place = place(|tier| tier.unanswered = Some(blob(1).0));
    place.tiers.look_ahead(&[key(0), key(1), key(2), key(3)]).unwrap();
    assert_eq!(place.tier.asked.swap(0, Ordering::SeqCst), 4);
    for (number, is_found) in [(0, true), (2, true), (3, false)] {
        assert_eq!(place.tiers.find_entry(&key(number)).unwrap().is_some(), is_found, "{number}");
    }
    assert_eq!(place.tier.asked.load(Ordering::SeqCst), 0, "what was answers is known");
    assert!(place.tiers.find_entry(&key(1)).unwrap().is_none());
    assert_eq!(place.tier.asked.load(Ordering::SeqCst), 1);
    let report = place.tiers.report().unwrap();
    assert_eq!((report.hits, report.misses, report.incomplete), (2, 1, 0), "{report:?}");
    assert!(report.errors > 0);
}

#[test]
fn a_blob_is_fetched_once_however_often_it_is_wanted() {
    let place = place(|_| ());
    let wanted = [blob(0).0, blob(1).0, blob(0).0, blob(1).0];
    place.tiers.fetch(&wanted).unwrap();
    assert_eq!(place.tier.fetched.load(Ordering::SeqCst), 2);
    for number in 0..2 {
        let (name, bytes) = blob(number);
        assert_eq!(place.tiers.local().blob(&name).unwrap().unwrap(), bytes);
    }
}

#[test]
fn what_was_not_stored_in_time_counts_once() {
    let place = place(|tier| tier.hangs = true);
    for number in 0..3 {
        place.tiers.push(key(number), entry(&[blob(number).0]), false);
    }
    place.tiers.finish(&|| true, &|_| ());
    assert_eq!(place.tiers.report().unwrap().not_stored, 3);
    place.cancelled.store(true, Ordering::Relaxed);
    // Until what was on its way has ended.
    place.tiers.finish(&|| false, &|_| ());
    assert_eq!(place.tiers.report().unwrap().not_stored, 3);
}

/// What was put of entries 0 to 5, each with a blob of its own that is here.
fn pushes(place: &Place, replaces: bool) -> Vec<EntryKey> {
    for number in 0..6 {
        place.tiers.put_blob(&blob(number).1).unwrap();
        place.tiers.push(key(number), entry(&[blob(number).0]), replaces);
    }
    place.tiers.finish(&|| false, &|_| ());
    let mut put = std::mem::take(&mut place.tier.put.lock().unwrap().0);
    put.sort_by_key(|key| (0..6).find(|number| *key == self::key(*number)));
    put
}

/// A remote with an entry of this trust's under 0 to 2, the blob of 1 being gone and 2 being another
/// result; one of a stranger's under 3, one that nobody signed under 4, and nothing under 5.
fn mixed(trust: Trust, stranger: &Trust) -> Place {
    let another = trust.seal(&key(2), &entry(&[blob(0).0])).unwrap();
    place_of(trust, LONG, |tier| {
        tier.blobs.remove(&blob(1).0);
        tier.entries.insert(key(2), another.into());
        tier.entries.insert(key(3), stranger.seal(&key(3), &entry(&[blob(0).0])).unwrap().into());
        tier.entries.insert(key(4), Trust::new(None).seal(&key(4), &entry(&[blob(4).0])).unwrap().into());
    })
}

#[test]
fn what_somebody_signed_keeps_its_place() {
    let stranger = Trust::new(Some(SigningKey::generate().unwrap()));
    let own = || Trust::new(Some(SigningKey::generate().unwrap()));
    let place = mixed(own(), &stranger);
    assert_eq!(pushes(&place, false), [key(4), key(5)]);
    let blobs = place.tier.put.lock().unwrap().1.clone();
    assert!(blobs.contains(&blob(1).0), "the blob that was gone is there again");
    assert!(!blobs.contains(&blob(2).0) && !blobs.contains(&blob(3).0), "nobody names those");
    let report = place.tiers.report().unwrap();
    let counts = (report.stored_entries, report.already_there, report.not_stored, report.others);
    assert_eq!(counts, (2, 3, 1, 1), "{report:?}");
    let notices = place.tiers.take_notices();
    assert!(
        notices.len() == 1 && notices[0].contains(&stranger.signer().unwrap().to_string()),
        "{notices:?}"
    );

    let place = mixed(own(), &stranger);
    assert_eq!(pushes(&place, true), [key(3), key(4), key(5)]);
    assert!(place.tiers.take_notices().is_empty());

    // Who believes everybody signs nothing, and would take everybody's signature away.
    let mut insecure = own();
    insecure.set_insecure_unsigned(true);
    let place = mixed(insecure, &stranger);
    assert_eq!(pushes(&place, false), [key(5)]);
}

/// It is of use to nobody, and would never be again.
#[test]
fn another_result_whose_blobs_are_gone_is_replaced() {
    let foreign = Trust::new(Some(SigningKey::generate().unwrap()));
    let place = place(|tier| {
        tier.blobs.remove(&blob(9).0);
        tier.entries.insert(key(3), foreign.seal(&key(3), &entry(&[blob(9).0])).unwrap().into());
    });
    assert_eq!(pushes(&place, false), [key(3), key(4), key(5)]);
}

/// The signature must be right before anybody's word is respected.
#[test]
fn what_only_looks_signed_is_replaced() {
    let foreign = Trust::new(Some(SigningKey::generate().unwrap()));
    let place = place(|tier| {
        let elsewhere = foreign.seal(&key(4), &entry(&[blob(0).0])).unwrap();
        tier.entries.insert(key(3), elsewhere.into());
    });
    assert_eq!(pushes(&place, false), [key(3), key(4), key(5)]);
    assert_eq!(place.tiers.report().unwrap().others, 0);
}

#[test]
fn who_waits_is_told_once() {
    let trust = Trust::new(Some(SigningKey::generate().unwrap()));
    let place = place_of(trust, Duration::from_millis(20), |tier| tier.silent = true);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    place.tiers.on_wait(move |text| tell.lock().unwrap().push(text.to_owned()));
    for number in 0..3 {
        assert!(place.tiers.find_entry(&key(number)).unwrap().is_none());
    }
    assert_eq!(*told.lock().unwrap(), ["waiting for the remote cache fs:///nowhere/at/all …"]);
    assert_eq!(place.tier.asked.load(Ordering::SeqCst), 2, "twice, and nobody again");
}

/// A blob that is sent and stored in many pieces.
fn large_blob() -> (BlobRef, Bytes) {
    let bytes: Vec<u8> = (0..3_000_001u32).map(|number| (number.wrapping_mul(number) >> 8) as u8).collect();
    let bytes = Bytes::from(bytes);
    (BlobRef { digest: Digest::of(&bytes), size: bytes.len() as u64 }, bytes)
}

#[test]
fn a_blob_that_was_damaged_here_comes_from_the_remote() {
    let (name, bytes) = large_blob();
    let place = place(|tier| {
        tier.blobs.insert(name, bytes.clone());
    });
    place.tiers.put_blob(&bytes).unwrap();
    let file = place.tiers.blob_file(&name).unwrap();
    let mut damaged = bytes.to_vec();
    damaged[1_500_000] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    assert!(place.tiers.blob(&name).unwrap().unwrap() == bytes);
    assert!(std::fs::read(&file).unwrap() == bytes);
    assert_eq!(place.tier.fetched.load(Ordering::SeqCst), 1);
}

#[test]
fn wrong_bytes_of_a_remote_are_seen_nowhere() {
    let (name, bytes) = large_blob();
    let place = place(|tier| {
        let mut wrong = bytes.to_vec();
        wrong[2_000_000] ^= 1;
        tier.blobs.insert(name, wrong.into());
    });
    assert!(place.tiers.open_blob(&name).unwrap().is_none());
    place.tiers.fetch(&[name]).unwrap();
    assert!(!place.tiers.blob_file(&name).unwrap().exists());
    assert_eq!(place.tiers.report().unwrap().corrupt, 1);
}

/// Who only looks keeps nothing, and reads all the same.
#[test]
fn a_cache_that_is_only_looked_at_reads_what_a_remote_has() {
    let (name, bytes) = large_blob();
    let mut tier = Told::default();
    tier.blobs.insert(name, bytes.clone());
    tier.blobs.insert(blob(0).0, blob(0).1);
    let folder = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalCache::open_read_only(folder.path()).unwrap());
    let options = options(Trust::new(None), LONG, Arc::default());
    let tiers = Tiers::over(local, Arc::new(tier), options, Threads::start().unwrap());
    assert!(tiers.blob(&name).unwrap().unwrap() == bytes);
    assert_eq!(tiers.blob(&blob(0).0).unwrap().unwrap(), blob(0).1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Its entry would name what nobody has.
#[test]
fn a_blob_that_is_damaged_here_is_not_stored_in_the_remote() {
    let (name, bytes) = large_blob();
    let place = place(|_| ());
    place.tiers.put_blob(&bytes).unwrap();
    let file = place.tiers.blob_file(&name).unwrap();
    let mut damaged = bytes.to_vec();
    damaged[2_999_999] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    place.tiers.push(key(9), entry(&[name]), false);
    place.tiers.finish(&|| false, &|_| ());
    assert!(place.tier.put.lock().unwrap().1.is_empty() && place.tier.put.lock().unwrap().0.is_empty());
    let report = place.tiers.report().unwrap();
    assert_eq!((report.not_stored, report.errors), (1, 0), "{report:?}");
    assert!(!file.exists(), "it is made again");
}
