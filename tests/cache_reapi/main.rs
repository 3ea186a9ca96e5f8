//! Remotes of the Remote Execution API: against buildbox-casd, which has SHA-256, and against a server
//! of the tests' own, which has BLAKE3, knows the rules, and breaks them.
#![cfg(feature = "reapi")]

#[path = "../common/mod.rs"]
mod common;
mod credentials;
mod lies;
#[path = "../common/reapi_server/mod.rs"]
mod reapi_server;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::blobs::{get_blobs, put_blobs};
use common::servers::casd::Casd;
use futures_util::future::join_all;
use rivet::testing::cache::remote::{self, NamedBy, Remote, RemoteError, RemoteFault, RemoteUrl};
use rivet::testing::cache::{BlobRef, Digest, EntryKey};
use tokio::runtime::Runtime;
use tonic::Code;

use reapi_server::{Behaviour, Function, ReapiServer};

const PATIENCE: Duration = Duration::from_secs(20);

/// A remote, and where its calls run.
struct Client {
    runtime: Runtime,
    remote: Arc<dyn Remote>,
}

fn open(url: &str) -> Result<Client, RemoteError> {
    open_as(NamedBy::User, url)
}

fn open_as(named_by: NamedBy, url: &str) -> Result<Client, RemoteError> {
    let runtime = Runtime::new().unwrap();
    let remote = {
        let _inside = runtime.enter();
        remote::open(&url.parse::<RemoteUrl>().unwrap(), named_by, PATIENCE)?
    };
    Ok(Client { runtime, remote })
}

type Outcome<T> = Result<T, RemoteError>;

impl Client {
    fn of(server: &ReapiServer) -> Client {
        open(&server.url()).unwrap()
    }

    fn put(&self, blobs: &[(BlobRef, Bytes)]) -> Vec<Outcome<()>> {
        self.runtime.block_on(put_blobs(&*self.remote, blobs))
    }

    fn put_well(&self, blobs: &[(BlobRef, Bytes)]) {
        for outcome in self.put(blobs) {
            outcome.unwrap();
        }
    }

    fn get(&self, blobs: &[BlobRef]) -> Vec<Outcome<Option<Bytes>>> {
        self.runtime.block_on(get_blobs(&*self.remote, blobs))
    }

    fn get_one(&self, blob: BlobRef) -> Outcome<Option<Bytes>> {
        self.get(&[blob]).remove(0)
    }

    fn missing(&self, blobs: &[BlobRef]) -> Outcome<Vec<BlobRef>> {
        let mut missing = Vec::new();
        for (blob, is_there) in blobs.iter().zip(self.runtime.block_on(self.remote.has(blobs))) {
            if !is_there? {
                missing.push(*blob);
            }
        }
        Ok(missing)
    }

    fn forget(&self, blob: &BlobRef) {
        self.runtime.block_on(self.remote.forget(blob)).unwrap();
    }

    fn entry(&self, key: EntryKey) -> Outcome<Option<Bytes>> {
        self.runtime.block_on(self.remote.entries(&[key])).remove(0)
    }

    fn put_entry(&self, key: EntryKey, bytes: &Bytes, blobs: &[BlobRef]) -> Outcome<()> {
        self.runtime.block_on(self.remote.put_entry(&key, bytes.clone(), blobs))
    }

    /// Everything that must come back as it was sent, by another client than the one that sent it.
    fn round_trips(&self, other: &Client) {
        let mut blobs = vec![blob(0, 0), blob(1, 1), blob(2, 100_000), blob(3, 10_000_000)];
        blobs.push(blob(4, (4 << 20) - 1));
        let names = names(&blobs);
        let absent = blob(5, 77).0;
        let unknown: Vec<BlobRef> = names[1..].iter().copied().chain([absent]).collect();
        assert_eq!(self.missing(&unknown).unwrap(), unknown);
        self.put_well(&blobs);
        let asked: Vec<BlobRef> = names.iter().copied().chain([absent, names[1]]).collect();
        for client in [self, other] {
            assert_eq!(client.missing(&asked).unwrap(), [absent]);
            let got: Vec<Option<Bytes>> = client.get(&asked).into_iter().map(Result::unwrap).collect();
            let expected = blobs.iter().map(|(_, bytes)| Some(bytes.clone()));
            assert!(got == expected.chain([None, Some(blobs[1].1.clone())]).collect::<Vec<_>>());
        }
        // Once more, now that all is there.
        self.put_well(&blobs);

        let small = Bytes::from_static(b"an entry");
        let large = blob(6, 1_900_000).1;
        let keys = [key(1), key(2), key(3)];
        self.put_entry(keys[0], &small, &names).unwrap();
        self.put_entry(keys[1], &large, &names[1..2]).unwrap();
        let got = other.runtime.block_on(other.remote.entries(&keys));
        let got: Vec<Option<Bytes>> = got.into_iter().map(Result::unwrap).collect();
        assert!(got == [Some(small), Some(large), None]);
        self.put_entry(keys[0], &Bytes::from_static(b"another one"), &[]).unwrap();
        assert_eq!(other.entry(keys[0]).unwrap().unwrap(), "another one");
    }

    /// A title's worth of small blobs, at once.
    fn many(&self, other: &Client) {
        let blobs: Vec<(BlobRef, Bytes)> = (0..500).map(|n| blob(1000 + n, 2000 + n as usize)).collect();
        self.put_well(&blobs);
        let names = names(&blobs);
        assert!(other.missing(&names).unwrap().is_empty());
        let got = other.get(&names).into_iter().map(|outcome| outcome.unwrap().unwrap());
        assert!(got.eq(blobs.into_iter().map(|(_, bytes)| bytes)));
    }
}

/// Bytes that no other seed has.
fn blob(seed: u64, length: usize) -> (BlobRef, Bytes) {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_derive_key("test blob").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let blob = BlobRef { digest: Digest::of(&bytes), size: length as u64 };
    (blob, Bytes::from(bytes))
}

fn names(blobs: &[(BlobRef, Bytes)]) -> Vec<BlobRef> {
    blobs.iter().map(|(blob, _)| *blob).collect()
}

fn key(n: u8) -> EntryKey {
    EntryKey(Digest::of(&[n]))
}

fn fault<T: std::fmt::Debug>(outcome: Outcome<T>) -> RemoteFault {
    outcome.unwrap_err().fault
}

fn sha256() -> Behaviour {
    Behaviour { function: Function::Sha256, listed: vec![Function::Sha256], ..Behaviour::default() }
}

#[test]
fn casd_keeps_what_it_is_given() {
    let casd = Casd::start();
    let (one, other) = (open(&casd.url()).unwrap(), open(&casd.url()).unwrap());
    one.round_trips(&other);
    one.many(&other);
}

#[test]
fn what_is_put_comes_back_by_either_digest() {
    for behaviour in [Behaviour::default(), sha256()] {
        let server = ReapiServer::start(behaviour);
        let (one, other) = (Client::of(&server), Client::of(&server));
        one.round_trips(&other);
        one.many(&other);
        assert_eq!(server.calls("GetCapabilities"), 2, "each client asks once");
    }
}

#[test]
fn small_blobs_go_by_batches() {
    let server = ReapiServer::start(Behaviour { reverse: true, ..Behaviour::default() });
    let client = Client::of(&server);
    client.many(&client);
    assert_eq!(server.calls("FindMissingBlobs"), 1, "whoever puts them has asked");
    // 1.1 MB, which one message holds.
    assert_eq!((server.calls("BatchUpdateBlobs"), server.calls("BatchReadBlobs")), (1, 1));
    assert_eq!((server.calls("Write"), server.calls("Read")), (0, 0));
    assert_eq!((server.calls("GetActionResult"), server.calls("UpdateActionResult")), (0, 0));
}

#[test]
fn a_tiny_batch_limit_is_kept_to() {
    for limit in [1, 3000, 100_000] {
        let server = ReapiServer::start(Behaviour { max_batch: limit, ..Behaviour::default() });
        let client = Client::of(&server);
        let blobs: Vec<_> = (0..40).map(|n| blob(n, 500 + 100 * n as usize)).collect();
        client.put_well(&blobs);
        let got = client.get(&names(&blobs));
        assert!(got.into_iter().map(|it| it.unwrap().unwrap()).eq(blobs.into_iter().map(|it| it.1)));
        let larger = (0..40).filter(|n| 500 + 100 * n > limit).count();
        assert_eq!((server.calls("Write"), server.calls("Read")), (larger, larger), "{limit}");
    }
}

#[test]
fn each_blob_has_its_own_fate() {
    let server = ReapiServer::start(Behaviour {
        failing_blobs: [(30, Code::ResourceExhausted), (40, Code::PermissionDenied)].into(),
        reverse: true,
        ..Behaviour::default()
    });
    let client = Client::of(&server);
    let blobs = [blob(1, 20), blob(2, 30), blob(3, 40), blob(4, 50)];
    let faults = |outcomes: Vec<Option<RemoteError>>| -> Vec<Option<RemoteFault>> {
        outcomes.into_iter().map(|error| error.map(|error| error.fault)).collect()
    };
    let put = client.put(&blobs).into_iter().map(Result::err).collect();
    assert_eq!(faults(put), [None, Some(RemoteFault::Full), Some(RemoteFault::Denied), None]);
    server.state().behaviour.failing_blobs.clear();
    client.put_well(&blobs);
    server.state().behaviour.failing_blobs = [(30, Code::ResourceExhausted), (40, Code::Internal)].into();
    let got = client.get(&names(&blobs)).into_iter().map(Result::err).collect();
    assert_eq!(faults(got), [None, Some(RemoteFault::Transient), Some(RemoteFault::Transient), None]);
}

#[test]
fn faults_say_what_helps() {
    let blobs = [blob(1, 10)];
    let cases = [
        (Code::Unavailable, RemoteFault::Transient, RemoteFault::Transient),
        (Code::Unknown, RemoteFault::Transient, RemoteFault::Transient),
        (Code::PermissionDenied, RemoteFault::Denied, RemoteFault::Denied),
        (Code::ResourceExhausted, RemoteFault::Transient, RemoteFault::Full),
        (Code::Unimplemented, RemoteFault::Refused, RemoteFault::Refused),
    ];
    for (code, reading, storing) in cases {
        let methods = ["BatchReadBlobs", "BatchUpdateBlobs", "GetActionResult", "UpdateActionResult"];
        let server = ReapiServer::start(Behaviour::default());
        let client = Client::of(&server);
        server.state().behaviour.failing = methods.map(|method| (method, (code, usize::MAX))).into();
        assert_eq!(fault(client.get_one(blobs[0].0)), reading, "{code:?}");
        assert_eq!(fault(client.entry(key(1))), reading, "{code:?}");
        assert_eq!(fault(client.put(&blobs).remove(0)), storing, "{code:?}");
        assert_eq!(fault(client.put_entry(key(1), &blobs[0].1, &[])), storing, "{code:?}");
    }
    let client = open("grpc://127.0.0.1:1/main").unwrap();
    let error = client.missing(&[blobs[0].0]).unwrap_err();
    assert_eq!(error.fault, RemoteFault::Transient);
    assert!(error.message.contains("refused"), "{error}");
}

#[test]
fn abilities_are_asked_once_and_after_a_failure_again() {
    let failing = [("GetCapabilities", (Code::Unavailable, 1))].into();
    let server = ReapiServer::start(Behaviour { failing, ..Behaviour::default() });
    let client = Client::of(&server);
    let name = blob(1, 10).0;
    assert_eq!(fault(client.missing(&[name])), RemoteFault::Transient);
    let all = join_all((0..20).map(|_| client.remote.has(std::slice::from_ref(&name))));
    for mut outcome in client.runtime.block_on(all) {
        assert!(!outcome.remove(0).unwrap());
    }
    assert_eq!(server.calls("GetCapabilities"), 2);

    let behaviour = Behaviour { listed: vec![Function::Sha1, Function::Md5], ..Behaviour::default() };
    let error = Client::of(&ReapiServer::start(behaviour)).missing(&[name]).unwrap_err();
    assert_eq!(error.fault, RemoteFault::Refused);
    assert!(error.message.contains("neither BLAKE3 nor SHA-256"), "{error}");
}

#[test]
fn a_server_that_is_only_read_says_so() {
    for behaviour in [Behaviour::default(), sha256()] {
        let server = ReapiServer::start(Behaviour { update_enabled: false, ..behaviour });
        let client = Client::of(&server);
        let outcome = client.put_entry(key(1), &Bytes::from_static(b"an entry"), &[]);
        assert_eq!(fault(outcome), RemoteFault::Denied);
        assert_eq!(server.calls("UpdateActionResult"), 0);
        assert_eq!(client.entry(key(1)).unwrap(), None);
    }
}

/// By another name than its BLAKE3, a blob may be there without anybody knowing.
#[test]
fn what_is_there_by_another_name_is_not_sent_again() {
    let server = ReapiServer::start(sha256());
    let blobs = [blob(1, 8_000_000)];
    Client::of(&server).put_well(&blobs);
    let written = server.state().written;
    server.state().results.clear();
    let client = Client::of(&server);
    assert_eq!(client.missing(&names(&blobs)).unwrap(), names(&blobs));
    client.put_well(&blobs);
    assert_eq!(client.missing(&names(&blobs)).unwrap(), []);
    assert_eq!(server.state().written, written);
}

#[test]
fn urls_take_no_parameters() {
    assert_eq!(open("grpc://host:1/main?x=y").err().unwrap().fault, RemoteFault::Refused);
}
