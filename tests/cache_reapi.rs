//! Remotes of the Remote Execution API: against buildbox-casd, which has SHA-256, and against a server
//! of the tests' own, which has BLAKE3, knows the rules, and breaks them.
#![cfg(feature = "reapi")]

mod common;
#[path = "common/reapi_server/mod.rs"]
mod reapi_server;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use rivet::cache::remote::{self, MOST_ENTRY, Remote, RemoteError, RemoteFault, RemoteUrl};
use rivet::cache::{ActionKey, BlobRef, Digest};
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use common::own_process::own_process;
use common::servers::casd::Casd;
use reapi_server::{Behaviour, Function, QueryStatus, ReapiServer};

const PATIENCE: Duration = Duration::from_secs(20);

/// A remote, and where its calls run.
struct Client {
    runtime: Runtime,
    remote: Arc<dyn Remote>,
}

fn open(url: &str) -> Result<Client, RemoteError> {
    let runtime = Runtime::new().unwrap();
    let remote = {
        let _inside = runtime.enter();
        remote::open(&url.parse::<RemoteUrl>().unwrap(), PATIENCE)?
    };
    Ok(Client { runtime, remote })
}

type Outcome<T> = Result<T, RemoteError>;

impl Client {
    fn of(server: &ReapiServer) -> Client {
        open(&server.url()).unwrap()
    }

    fn put(&self, blobs: &[(BlobRef, Bytes)]) -> Vec<Outcome<()>> {
        self.runtime.block_on(self.remote.put_blobs(blobs))
    }

    fn put_well(&self, blobs: &[(BlobRef, Bytes)]) {
        for outcome in self.put(blobs) {
            outcome.unwrap();
        }
    }

    fn get(&self, blobs: &[BlobRef]) -> Vec<Outcome<Option<Bytes>>> {
        self.runtime.block_on(self.remote.blobs(blobs))
    }

    fn get_one(&self, blob: BlobRef) -> Outcome<Option<Bytes>> {
        self.get(&[blob]).remove(0)
    }

    fn missing(&self, blobs: &[BlobRef]) -> Outcome<Vec<BlobRef>> {
        self.runtime.block_on(self.remote.missing(blobs))
    }

    fn entry(&self, key: ActionKey) -> Outcome<Option<Bytes>> {
        self.runtime.block_on(self.remote.entries(&[key])).remove(0)
    }

    fn put_entry(&self, key: ActionKey, bytes: &Bytes, blobs: &[BlobRef]) -> Outcome<()> {
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

fn key(n: u8) -> ActionKey {
    ActionKey(Digest::of(&[n]))
}

fn fault<T: std::fmt::Debug>(outcome: Outcome<T>) -> RemoteFault {
    outcome.unwrap_err().fault
}

fn failing(method: &'static str, code: Code, times: usize) -> Behaviour {
    Behaviour { failing: [(method, (code, times))].into(), ..Behaviour::default() }
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
    assert_eq!(server.calls("FindMissingBlobs"), 2);
    // 1.1 MB, which one message holds.
    assert_eq!((server.calls("BatchUpdateBlobs"), server.calls("BatchReadBlobs")), (1, 1));
    assert_eq!((server.calls("Write"), server.calls("Read")), (0, 0));
    assert_eq!((server.calls("GetActionResult"), server.calls("UpdateActionResult")), (0, 0));
    // What is there already is not sent again.
    client.put_well(&(0..500).map(|n| blob(1000 + n, 2000 + n as usize)).collect::<Vec<_>>());
    assert_eq!(server.calls("BatchUpdateBlobs"), 1);
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
    assert_eq!(faults(got), [None, Some(RemoteFault::Passing), Some(RemoteFault::Passing), None]);
}

#[test]
fn a_cut_upload_goes_on_where_it_was_cut() {
    let (name, bytes) = blob(1, 10_000_000);
    let server = ReapiServer::start(Behaviour { cut_write_after: Some(3_333_333), ..Behaviour::default() });
    let client = Client::of(&server);
    client.put_well(&[(name, bytes.clone())]);
    {
        let state = server.state();
        assert_eq!(state.write_offsets, [0, 3_333_333]);
        // Only the message in which it was cut came twice, in part.
        assert!(state.written < 10_000_000 + (1 << 20), "{} bytes were sent", state.written);
        assert_eq!(state.uploads.len(), 1);
    }
    assert!(client.get_one(name).unwrap().unwrap() == bytes);
}

#[test]
fn an_upload_starts_again_where_the_server_cannot_tell() {
    for query_status in [QueryStatus::Unimplemented, QueryStatus::TooMuch] {
        let (name, bytes) = blob(1, 6_000_000);
        let server = ReapiServer::start(Behaviour {
            cut_write_after: Some(5_000_000),
            query_status,
            ..Behaviour::default()
        });
        let client = Client::of(&server);
        client.put_well(&[(name, bytes.clone())]);
        assert_eq!(server.state().write_offsets, [0, 0]);
        assert_eq!(server.state().uploads.len(), 2, "what is half there is left alone");
        assert!(client.get_one(name).unwrap().unwrap() == bytes);
    }
}

#[test]
fn a_server_that_has_a_blob_may_say_so_early() {
    let (name, bytes) = blob(1, 50_000_000);
    for committed in [-1, 50_000_000, 50_000_001] {
        let behaviour = Behaviour { early_answer: Some(committed), ..Behaviour::default() };
        let server = ReapiServer::start(behaviour);
        Client::of(&server).put_well(&[(name, bytes.clone())]);
        assert_eq!(server.state().written, 256 << 10);
    }
    let behaviour = Behaviour {
        cut_write_after: Some(1 << 20),
        query_status: QueryStatus::Completes,
        ..Behaviour::default()
    };
    let server = ReapiServer::start(behaviour);
    Client::of(&server).put_well(&[(name, bytes.clone())]);
    assert_eq!(server.state().write_offsets, [0]);
    // One that took less is asked once where it stands, and then believed.
    let behaviour = Behaviour { early_answer: Some(1000), ..Behaviour::default() };
    let server = ReapiServer::start(behaviour);
    assert_eq!(fault(Client::of(&server).put(&[(name, bytes)]).remove(0)), RemoteFault::Passing);
    assert_eq!((server.calls("Write"), server.calls("QueryWriteStatus")), (2, 1));
}

#[test]
fn blobs_of_another_length_are_nonsense() {
    let spoils: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes.truncate(bytes.len() - 1), |bytes| bytes.push(0), |bytes| bytes.clear()];
    let blobs = [blob(1, 10), blob(2, 8_000_000)];
    for spoil in spoils {
        let server = ReapiServer::start(Behaviour { spoil: Some(spoil), ..Behaviour::default() });
        let client = Client::of(&server);
        client.put_well(&blobs);
        for outcome in client.get(&names(&blobs)) {
            assert_eq!(fault(outcome), RemoteFault::Nonsense);
        }
    }
    // Of its length, and yet another one: that is for others to see.
    let flip: fn(&mut Vec<u8>) = |bytes| bytes[0] ^= 1;
    let server = ReapiServer::start(Behaviour { spoil: Some(flip), ..Behaviour::default() });
    let client = Client::of(&server);
    client.put_well(&blobs);
    assert!(client.get(&names(&blobs)).into_iter().all(|outcome| outcome.unwrap().is_some()));
}

#[test]
fn streams_and_batches_without_end_are_left() {
    let large = blob(1, 8_000_000);
    let server = ReapiServer::start(Behaviour { endless: true, ..Behaviour::default() });
    let client = Client::of(&server);
    client.put_well(std::slice::from_ref(&large));
    assert_eq!(fault(client.get_one(large.0)), RemoteFault::Nonsense);
    // A message of 64 MB where ten bytes were asked for.
    let small = blob(2, 10);
    client.put_well(std::slice::from_ref(&small));
    server.state().behaviour.spoil = Some(|bytes| bytes.resize(64 << 20, 0));
    assert_eq!(fault(client.get_one(small.0)), RemoteFault::Nonsense);
}

#[test]
fn a_promised_petabyte_is_not_asked_for() {
    let server = ReapiServer::start(Behaviour::default());
    let client = Client::of(&server);
    for size in [1 << 50, u64::MAX] {
        let absurd = BlobRef { digest: Digest::of(b"x"), size };
        assert_eq!(fault(client.get_one(absurd)), RemoteFault::Nonsense);
        assert_eq!(client.missing(&[absurd]).unwrap(), [absurd]);
    }
    assert_eq!((server.calls("Read"), server.calls("BatchReadBlobs")), (0, 0));
}

#[test]
fn forged_results_are_nonsense() {
    use bazel_remote_apis::build::bazel::remote::execution::v2::{ActionResult, Digest as Wire};
    fn stored(result: &mut ActionResult, hash: &str, size_bytes: i64) {
        result.stdout_raw.clear();
        result.stdout_digest = Some(Wire { hash: hash.to_owned(), size_bytes });
    }
    let forgeries: [fn(&mut ActionResult); 10] = [
        |result| result.stdout_raw = vec![1; MOST_ENTRY as usize + 1],
        |result| result.stdout_raw = vec![1; 40 << 20],
        |result| result.stdout_raw.clear(),
        |result| stored(result, &"a".repeat(64), 1 << 50),
        |result| stored(result, &"a".repeat(64), i64::MIN),
        |result| stored(result, &"a".repeat(64), MOST_ENTRY as i64 + 1),
        |result| stored(result, "", 10),
        |result| stored(result, &"A".repeat(64), 10),
        |result| stored(result, &"é".repeat(32), 10),
        |result| stored(result, &"a".repeat(1 << 20), 10),
    ];
    let server = ReapiServer::start(Behaviour::default());
    let client = Client::of(&server);
    client.put_entry(key(1), &Bytes::from_static(b"an entry"), &[]).unwrap();
    for (n, forge) in forgeries.into_iter().enumerate() {
        server.state().behaviour.forge = Some(forge);
        assert_eq!(fault(client.entry(key(1))), RemoteFault::Nonsense, "forgery {n}");
    }
    // What is said to be stored, and is not, is a miss.
    server.state().behaviour.forge = Some(|result| stored(result, &"a".repeat(64), 10));
    assert_eq!(client.entry(key(1)).unwrap(), None);
    server.state().behaviour.forge = None;
    assert!(client.entry(key(1)).unwrap().is_some());
}

#[test]
fn forged_aliases_lead_nowhere_and_are_mended() {
    use bazel_remote_apis::build::bazel::remote::execution::v2::ActionResult;
    let forgeries: [fn(&mut ActionResult); 4] = [
        |result| result.output_files[0].digest.as_mut().unwrap().size_bytes += 1,
        |result| result.output_files[0].digest.as_mut().unwrap().hash = "xyz".into(),
        |result| result.output_files[0].digest = None,
        |result| result.output_files.clear(),
    ];
    let (name, bytes) = blob(1, 1000);
    for forge in forgeries {
        let server = ReapiServer::start(sha256());
        Client::of(&server).put_well(&[(name, bytes.clone())]);
        server.state().behaviour.forge = Some(forge);
        let client = Client::of(&server);
        assert_eq!(fault(client.get_one(name)), RemoteFault::Nonsense);
        assert_eq!(client.missing(&[name]).unwrap(), [name]);
        client.put_well(&[(name, bytes.clone())]);
        server.state().behaviour.forge = None;
        assert!(client.get_one(name).unwrap().unwrap() == bytes);
        assert!(Client::of(&server).get_one(name).unwrap().unwrap() == bytes);
    }
}

#[test]
fn what_a_server_lost_is_missing() {
    for behaviour in [Behaviour::default(), sha256()] {
        let server = ReapiServer::start(behaviour);
        let client = Client::of(&server);
        let (name, bytes) = blob(1, 1000);
        client.put_well(&[(name, bytes.clone())]);
        client.put_entry(key(1), &Bytes::from_static(b"an entry"), &[name]).unwrap();
        server.state().blobs.clear();
        assert_eq!(client.missing(&[name]).unwrap(), [name]);
        assert_eq!(client.get_one(name).unwrap(), None);
        assert_eq!(client.entry(key(1)).unwrap(), None, "what belongs together is kept together");
        client.put_well(&[(name, bytes.clone())]);
        assert!(client.get_one(name).unwrap().unwrap() == bytes);
    }
}

#[test]
fn faults_say_what_helps() {
    let blobs = [blob(1, 10)];
    let cases = [
        (Code::Unavailable, RemoteFault::Passing, RemoteFault::Passing),
        (Code::Unknown, RemoteFault::Passing, RemoteFault::Passing),
        (Code::PermissionDenied, RemoteFault::Denied, RemoteFault::Denied),
        (Code::ResourceExhausted, RemoteFault::Passing, RemoteFault::Full),
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
    assert_eq!(error.fault, RemoteFault::Passing);
    assert!(error.message.contains("refused"), "{error}");
}

#[test]
fn abilities_are_asked_once_and_after_a_failure_again() {
    let server = ReapiServer::start(failing("GetCapabilities", Code::Unavailable, 1));
    let client = Client::of(&server);
    let name = blob(1, 10).0;
    assert_eq!(fault(client.missing(&[name])), RemoteFault::Passing);
    let all = join_all((0..20).map(|_| client.remote.missing(std::slice::from_ref(&name))));
    for outcome in client.runtime.block_on(all) {
        assert_eq!(outcome.unwrap(), [name]);
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

#[test]
fn urls_take_no_parameters() {
    assert_eq!(open("grpc://host:1/main?x=y").err().unwrap().fault, RemoteFault::Refused);
}

/// Not a test by itself: what `ask` runs, with credentials in its environment.
#[test]
fn asks_as_a_child() {
    let (Some(url), Some(told)) = (env::var_os("RIVET_TEST_URL"), env::var_os("RIVET_TEST_TOLD")) else {
        return;
    };
    let outcome = open(url.to_str().unwrap())
        .and_then(|client| client.missing(&[blob(1, 10).0]).map(|missing| missing.len()));
    fs::write(told, format!("{outcome:?}")).unwrap();
}

/// What asking for a missing blob comes to, by a process with these variables.
fn ask(url: &str, variables: &[(&str, &dyn AsRef<OsStr>)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "asks_as_a_child"]).env("RIVET_TEST_URL", url).env("RIVET_TEST_TOLD", &told);
    for name in ["TOKEN", "CA", "CERT", "KEY"] {
        command.env_remove(format!("RIVET_REMOTE_{name}"));
    }
    for (name, value) in variables {
        command.env(name, value.as_ref());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(told).unwrap()
}

const ANSWERED: &str = "Ok(1)";

#[test]
fn tokens_are_sent_only_where_nobody_reads_them() {
    let behaviour = Behaviour { token: Some("hunter2".into()), ..Behaviour::default() };
    let server = ReapiServer::start(behaviour);
    assert_eq!(ask(&server.url(), &[("RIVET_REMOTE_TOKEN", &"hunter2\n")]), ANSWERED);
    for variables in [&[][..], &[("RIVET_REMOTE_TOKEN", &"hunter3" as &dyn AsRef<OsStr>)]] {
        let told = ask(&server.url(), variables);
        assert!(told.contains("Denied") && !told.contains("hunter"), "{told}");
    }
    let told = ask("grpc://cache.example:1/main", &[("RIVET_REMOTE_TOKEN", &"hunter2")]);
    assert!(told.contains("Refused") && told.contains("use grpcs://"), "{told}");
    let told = ask(&server.url(), &[("RIVET_REMOTE_TOKEN", &"hunter\u{7}2")]);
    assert!(told.contains("Refused") && !told.contains("hunter"), "{told}");
}

#[test]
fn tokens_are_never_shown() {
    let variables = [("RIVET_REMOTE_TOKEN", "hunter2-secret")];
    own_process("tokens_are_never_shown", &variables, &["hunter2-secret"], || {
        let behaviour = Behaviour { token: Some("hunter2-secret".into()), ..Behaviour::default() };
        let server = ReapiServer::start(behaviour);
        let client = Client::of(&server);
        assert_eq!(client.missing(&[blob(1, 10).0]).unwrap().len(), 1);
        server.state().behaviour.token = Some("another".into());
        let error = client.missing(&[blob(1, 10).0]).unwrap_err();
        assert_eq!(error.fault, RemoteFault::Denied);
    });
}

/// An authority, and what it vouches for.
struct Authority {
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { params, key, pem }
    }

    /// A certificate and its key.
    fn vouch(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[test]
fn tls_says_who_is_who() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let ca = file("ca.pem", &authority.pem);
    let (cert, key) = authority.vouch("client");
    let (cert, key) = (file("client.pem", &cert), file("client.key", &key));
    let (server_cert, server_key) = authority.vouch("localhost");
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(server_cert, server_key));
    let url =
        |server: &ReapiServer| format!("grpcs://localhost:{}/{}", server.port(), reapi_server::INSTANCE);

    let behaviour = Behaviour { token: Some("hunter2".into()), ..Behaviour::default() };
    let server = ReapiServer::start_tls(behaviour, tls.clone());
    let token: (&str, &dyn AsRef<OsStr>) = ("RIVET_REMOTE_TOKEN", &"hunter2");
    assert_eq!(ask(&url(&server), &[token, ("RIVET_REMOTE_CA", &ca)]), ANSWERED);
    let other = file("other.pem", &stranger.pem);
    let told = ask(&url(&server), &[token, ("RIVET_REMOTE_CA", &other)]);
    assert!(told.starts_with("Err") && told.contains("certificate"), "{told}");

    let tls = tls.client_ca_root(Certificate::from_pem(&authority.pem));
    let server = ReapiServer::start_tls(Behaviour::default(), tls);
    let known: (&str, &dyn AsRef<OsStr>) = ("RIVET_REMOTE_CA", &ca);
    let certified: (&str, &dyn AsRef<OsStr>) = ("RIVET_REMOTE_CERT", &cert);
    let keyed: (&str, &dyn AsRef<OsStr>) = ("RIVET_REMOTE_KEY", &key);
    assert_eq!(ask(&url(&server), &[known, certified, keyed]), ANSWERED);
    assert!(ask(&url(&server), &[known]).starts_with("Err"));

    // What is wrong with the files is told before anybody is asked.
    for variables in [
        &[known, certified][..],
        &[known, keyed],
        &[("RIVET_REMOTE_CA", &key)],
        &[("RIVET_REMOTE_CA", &Path::new("/nowhere/ca.pem"))],
        &[known, certified, ("RIVET_REMOTE_KEY", &cert)],
    ] {
        let told = ask(&url(&server), variables);
        assert!(told.contains("Refused") && told.contains("RIVET_REMOTE_"), "{told}");
    }
}
