//! Remotes in stores, each on a real server with real credentials: what is put comes back from another
//! client, what is wrong is told apart, and no credential is ever printed.
#![cfg(feature = "stores")]

mod common;

use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::blobs::{get_blobs, put_blobs};
use common::own_process::own_process;
use common::servers::mock::Mock;
use common::servers::redis::{self, Redis};
use common::servers::s3::{self, S3};
use common::servers::webdav::{self, WebDav};
use common::servers::{free_port, make_certificate};
use futures_util::future::join_all;
use rivet::testing::cache::remote::{self, MAX_ENTRY, NamedBy, Remote, RemoteError, RemoteFault};
use rivet::testing::cache::{BlobRef, Digest, EntryKey};

const PATIENCE: Duration = Duration::from_secs(10);

fn open(url: &str) -> Arc<dyn Remote> {
    try_open(url).unwrap()
}

fn try_open(url: &str) -> Result<Arc<dyn Remote>, RemoteError> {
    remote::open(&url.parse().unwrap(), NamedBy::User, PATIENCE)
}

/// What comes of a remote that only a spec names.
fn named_by_a_spec(url: &str) -> Result<Arc<dyn Remote>, RemoteError> {
    remote::open(&url.parse().unwrap(), NamedBy::Spec, PATIENCE)
}

/// Those that are not there.
async fn missing(remote: &Arc<dyn Remote>, blobs: &[BlobRef]) -> Vec<BlobRef> {
    let answers = remote.has(blobs).await.into_iter().zip(blobs);
    answers.filter(|(is_there, _)| !is_there.as_ref().unwrap()).map(|(_, blob)| *blob).collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

/// A blob of `size` bytes that no other `seed` has.
fn blob(seed: u64, size: usize) -> (BlobRef, Bytes) {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    (BlobRef { digest: Digest::of(&bytes), size: size as u64 }, bytes.into())
}

fn key(name: &str) -> EntryKey {
    EntryKey(Digest::of(name.as_bytes()))
}

fn name_of(part: &str, digest: Digest) -> String {
    let hex = digest.to_string();
    format!("{part}/{}/{hex}", &hex[..2])
}

fn plant_file(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn all_put(puts: Vec<Result<(), RemoteError>>) {
    for put in puts {
        put.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// What every store must do. `plant` puts bytes under a name behind the remote's back.
async fn keeps_what_it_is_given(url: &str, plant: impl Fn(&str, &[u8])) {
    let (ours, theirs) = (open(url), open(url));
    let mut blobs: Vec<_> = (0..100).map(|seed| blob(seed, 1000 + seed as usize)).collect();
    // In several parts, where a store takes such.
    blobs.push(blob(100, 20_000_000));
    blobs.push(blob(101, 0));
    let names: Vec<_> = blobs.iter().map(|(name, _)| *name).collect();

    // Nothing is there.
    assert_eq!(missing(&ours, &names).await, names);
    assert!(get_blobs(&*ours, &names).await.into_iter().all(|found| found.unwrap().is_none()));
    assert!(ours.entries(&[key("a"), key("b")]).await.into_iter().all(|found| found.unwrap().is_none()));

    // What one puts, another finds, in order.
    let (first, rest) = blobs.split_at(50);
    all_put(put_blobs(&*ours, first).await);
    assert_eq!(missing(&theirs, &names).await, names[50..]);
    all_put(put_blobs(&*theirs, rest).await);
    all_put(put_blobs(&*theirs, &blobs[..3]).await);
    assert_eq!(missing(&ours, &names).await, []);
    for (found, (_, bytes)) in get_blobs(&*ours, &names).await.into_iter().zip(&blobs) {
        assert!(found.unwrap().unwrap() == bytes);
    }

    // Entries are replaced.
    ours.put_entry(&key("a"), Bytes::from_static(b"one"), &names[..1]).await.unwrap();
    ours.put_entry(&key("a"), Bytes::from_static(b"two"), &names[..1]).await.unwrap();
    let most = Bytes::from(vec![7; MAX_ENTRY as usize]);
    ours.put_entry(&key("most"), most.clone(), &[]).await.unwrap();
    let mut found = theirs.entries(&[key("a"), key("b"), key("most")]).await.into_iter();
    assert_eq!(found.next().unwrap().unwrap().unwrap(), "two");
    assert_eq!(found.next().unwrap().unwrap(), None);
    assert!(found.next().unwrap().unwrap().unwrap() == most);

    // An entry without end is not read to it, and harms no other.
    plant(&name_of("entries", key("huge").0), &vec![7; MAX_ENTRY as usize + 1]);
    let found = ours.entries(&[key("a"), key("huge")]).await;
    assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap(), "two");
    assert_eq!(found[1].as_ref().unwrap_err().fault, RemoteFault::InvalidResponse);

    // Blobs of another length are no blobs, and make room for right ones.
    let wrong = [blob(200, 5000), blob(201, 5000), blob(202, 5000)];
    let wrong_names: Vec<_> = wrong.iter().map(|(name, _)| *name).collect();
    for (name, length) in wrong_names.iter().zip([4999, 5001, 30_000_000]) {
        plant(&name_of("blobs", name.digest), &vec![0; length]);
    }
    for found in get_blobs(&*ours, &wrong_names).await {
        assert_eq!(found.unwrap_err().fault, RemoteFault::InvalidResponse);
    }
    assert_eq!(missing(&ours, &wrong_names).await, wrong_names);
    all_put(put_blobs(&*ours, &wrong).await);
    for (found, (_, bytes)) in get_blobs(&*theirs, &wrong_names).await.into_iter().zip(&wrong) {
        assert!(found.unwrap().unwrap() == bytes);
    }

    // Several put one blob at once.
    let (name, bytes) = blob(300, 300_000);
    let same = vec![(name, bytes.clone()); 8];
    for puts in join_all([put_blobs(&*ours, &same), put_blobs(&*theirs, &same)]).await {
        all_put(puts);
    }
    assert!(get_blobs(&*ours, &[name]).await.remove(0).unwrap().unwrap() == bytes);
}

/// What every store says to somebody without the right credentials.
async fn denies(url: &str) {
    let remote = open(url);
    let (name, bytes) = blob(1, 10);
    let mut errors = vec![
        remote.entries(&[key("a")]).await.remove(0).unwrap_err(),
        get_blobs(&*remote, &[name]).await.remove(0).unwrap_err(),
        remote.has(&[name]).await.remove(0).unwrap_err(),
        remote.put_entry(&key("a"), bytes.clone(), &[]).await.unwrap_err(),
    ];
    errors.push(put_blobs(&*remote, &[(name, bytes)]).await.remove(0).unwrap_err());
    for error in errors {
        println!("{error}");
        assert_eq!(error.fault, RemoteFault::Denied, "{error}");
        assert!(!error.message.contains("hunter2"));
    }
}

const S3_KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", s3::KEY_ID), ("AWS_SECRET_ACCESS_KEY", s3::SECRET)];

#[test]
fn s3_keeps_what_it_is_given() {
    own_process("s3_keeps_what_it_is_given", &S3_KEYS, &[s3::SECRET], || {
        let server = S3::start();
        let url = server.url(s3::BUCKET);
        run(keeps_what_it_is_given(&url, |name, bytes| server.plant(name, bytes)));
    });
}

#[test]
fn s3_takes_credentials_from_a_profile() {
    own_process("s3_takes_credentials_from_a_profile", &[], &[s3::SECRET], || {
        let server = S3::start();
        let home = std::env::home_dir().unwrap();
        let keys = format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", s3::KEY_ID, s3::SECRET);
        plant_file(&home.join(".aws/credentials"), format!("[team]\n{keys}").as_bytes());
        let remote = open(&format!("{}&profile=team", server.url(s3::BUCKET)));
        run(async {
            remote.put_entry(&key("a"), Bytes::from_static(b"one"), &[]).await.unwrap();
            assert_eq!(remote.entries(&[key("a")]).await.remove(0).unwrap().unwrap(), "one");
        });
    });
}

#[test]
fn s3_denies() {
    let keys = [("AWS_ACCESS_KEY_ID", s3::KEY_ID), ("AWS_SECRET_ACCESS_KEY", "wrong-hunter2-secret")];
    own_process("s3_denies", &keys, &[s3::SECRET, "wrong-hunter2-secret"], || {
        let server = S3::start();
        run(denies(&server.url(s3::BUCKET)));
    });
}

#[test]
fn s3_denies_whoever_has_no_credentials() {
    own_process(
        "s3_denies_whoever_has_no_credentials",
        &[("AWS_EC2_METADATA_DISABLED", "true")],
        &[],
        || {
            let server = S3::start();
            run(denies(&server.url(s3::BUCKET)));
        },
    );
}

#[test]
fn s3_knows_no_such_bucket() {
    own_process("s3_knows_no_such_bucket", &S3_KEYS, &[s3::SECRET], || {
        let server = S3::start();
        let remote = open(&server.url("bukket"));
        let (name, bytes) = blob(1, 10);
        run(async {
            let read = remote.entries(&[key("a")]).await.remove(0).unwrap_err();
            let put = remote.put_entry(&key("a"), bytes.clone(), &[]).await.unwrap_err();
            let put_blob = put_blobs(&*remote, &[(name, bytes)]).await.remove(0).unwrap_err();
            for error in [read, put, put_blob] {
                assert_eq!(error.fault, RemoteFault::Refused, "{error}");
                assert!(error.message.contains("NoSuchBucket"), "{error}");
            }
        });
    });
}

const DAV_USER: (&str, &str) = ("RIVET_REMOTE_USER", webdav::USER);

#[test]
fn webdav_keeps_what_it_is_given() {
    let variables = [DAV_USER, ("RIVET_REMOTE_PASSWORD", webdav::PASSWORD)];
    own_process("webdav_keeps_what_it_is_given", &variables, &[webdav::PASSWORD], || {
        let server = WebDav::start();
        let plant = |name: &str, bytes: &[u8]| plant_file(&server.file(name), bytes);
        run(keeps_what_it_is_given(&server.url("webdav"), plant));
    });
}

#[test]
fn webdav_denies() {
    let variables = [DAV_USER, ("RIVET_REMOTE_PASSWORD", "wrong-hunter2")];
    own_process("webdav_denies", &variables, &["wrong-hunter2"], || {
        let server = WebDav::start();
        run(denies(&server.url("webdav")));
    });
}

#[test]
fn webdav_says_which_credentials_it_wants() {
    own_process("webdav_says_which_credentials_it_wants", &[], &[], || {
        let mock = Mock::says("401 Unauthorized", "");
        let remote = open(&format!("webdav://127.0.0.1:{}/team", mock.port));
        let error = run(remote.entries(&[key("a")])).remove(0).unwrap_err();
        assert!(error.message.contains("RIVET_REMOTE_PASSWORD, or RIVET_REMOTE_TOKEN"), "{error}");
        assert!(!error.message.contains("webdav://"), "whoever shows it says where: {error}");
    });
}

#[test]
fn webdav_takes_a_token() {
    own_process(
        "webdav_takes_a_token",
        &[("RIVET_REMOTE_TOKEN", "token-hunter2")],
        &["token-hunter2"],
        || {
            let mock = Mock::says("404 Not Found", "");
            let remote = open(&format!("webdav://127.0.0.1:{}/team", mock.port));
            assert_eq!(run(remote.entries(&[key("a")])).remove(0).unwrap(), None);
            let asked = mock.asked();
            assert_eq!(asked[0].header("authorization"), Some("Bearer token-hunter2"));
            let name = name_of("entries", key("a").0);
            assert_eq!(asked[0].line, format!("GET /team/v3/{name} HTTP/1.1"));
        },
    );
}

#[test]
fn redis_keeps_what_it_is_given() {
    let variables = [("RIVET_REMOTE_PASSWORD", redis::PASSWORD)];
    own_process("redis_keeps_what_it_is_given", &variables, &[redis::PASSWORD], || {
        let server = Redis::start(&[]);
        run(keeps_what_it_is_given(&server.url("redis"), |name, bytes| server.plant(name, bytes)));
        let error = run(open(&format!("{}?db=99", server.url("redis"))).entries(&[key("a")])).remove(0);
        let error = error.unwrap_err();
        assert_eq!(error.fault, RemoteFault::Refused, "{error}");
        assert!(error.message.contains("no database of the number `db`"), "{error}");
    });
}

#[test]
fn redis_denies() {
    let wrong = [("RIVET_REMOTE_USER", "default"), ("RIVET_REMOTE_PASSWORD", "wrong-hunter2")];
    own_process("redis_denies", &wrong, &["wrong-hunter2"], || {
        let server = Redis::start(&[]);
        run(denies(&server.url("redis")));
    });
}

#[test]
fn redis_denies_whoever_says_nothing() {
    own_process("redis_denies_whoever_says_nothing", &[], &[], || {
        let server = Redis::start(&[]);
        run(denies(&server.url("redis")));
    });
}

#[test]
fn redis_is_full() {
    let variables = [("RIVET_REMOTE_PASSWORD", redis::PASSWORD)];
    own_process("redis_is_full", &variables, &[redis::PASSWORD], || {
        let server = Redis::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
        let remote = open(&server.url("redis"));
        let puts = run(async {
            let blobs: Vec<_> = (0..4).map(|seed| blob(seed, 2_000_000)).collect();
            put_blobs(&*remote, &blobs).await
        });
        let error = puts.into_iter().find_map(Result::err).unwrap();
        assert_eq!(error.fault, RemoteFault::Full, "{error}");
    });
}

#[test]
fn redis_comes_back() {
    let variables = [("RIVET_REMOTE_PASSWORD", redis::PASSWORD)];
    own_process("redis_comes_back", &variables, &[redis::PASSWORD], || {
        let server = Redis::start(&[]);
        let remote = open(&server.url("redis"));
        run(async {
            remote.put_entry(&key("a"), Bytes::from_static(b"one"), &[]).await.unwrap();
            server.drop_clients();
            // One request may meet the connection that broke; the next has a new one.
            let _ = remote.entries(&[key("a")]).await;
            assert_eq!(remote.entries(&[key("a")]).await.remove(0).unwrap().unwrap(), "one");
        });
    });
}

#[test]
fn tls_is_spoken_with_whom_the_system_trusts() {
    let place = tempfile::tempdir().unwrap();
    let certificate = place.path().join("cert.pem");
    let variables = [("SSL_CERT_FILE", certificate.to_str().unwrap()), DAV_USER];
    own_process("tls_is_spoken_with_whom_the_system_trusts", &variables, &[], || {
        let certificate = std::env::var("SSL_CERT_FILE").unwrap();
        let folder = Path::new(&certificate).parent().unwrap();
        make_certificate(folder);
        let (webdav, redis) = (WebDav::start_tls(folder), Redis::start_tls(folder));
        // Nobody gets past the greeting without it, and there each is told that the password is wrong.
        run(denies(&webdav.url("webdavs")));
        run(denies(&redis.url("rediss")));
    });
}

#[test]
fn an_unknown_certificate_is_not_trusted() {
    own_process("an_unknown_certificate_is_not_trusted", &[DAV_USER], &[], || {
        let place = tempfile::tempdir().unwrap();
        make_certificate(place.path());
        let server = WebDav::start_tls(place.path());
        let error = run(open(&server.url("webdavs")).entries(&[key("a")])).remove(0).unwrap_err();
        assert_eq!(error.fault, RemoteFault::Refused, "{error}");
        assert!(error.message.contains("certificate"), "{error}");
        let server = Redis::start_tls(place.path());
        let error = run(open(&server.url("rediss")).entries(&[key("a")])).remove(0).unwrap_err();
        assert_ne!(error.fault, RemoteFault::Denied, "{error}");
    });
}

#[test]
fn a_folder_keeps_what_it_is_given() {
    let place = tempfile::tempdir().unwrap();
    let team = place.path().join("team");
    fs::create_dir(&team).unwrap();
    let plant = |name: &str, bytes: &[u8]| plant_file(&team.join("v3").join(name), bytes);
    run(keeps_what_it_is_given(&format!("fs://{}", team.display()), plant));
    let left = fs::read_dir(team.join("v3/tmp")).unwrap().count();
    assert_eq!(left, 0, "files were written under other names, and renamed");
}

#[test]
fn what_is_no_file_in_a_folder_is_not_read() {
    let place = tempfile::tempdir().unwrap();
    let remote = open(&format!("fs://{}", place.path().display()));
    let at = |name: &str| place.path().join("v3").join(name_of("entries", key(name).0));
    for name in ["folder", "pipe", "device"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
    }
    fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for found in run(remote.entries(&["folder", "pipe", "device"].map(key))) {
        assert_eq!(found.unwrap_err().fault, RemoteFault::InvalidResponse);
    }
}

#[test]
fn where_nobody_answers_it_may_pass() {
    own_process("where_nobody_answers_it_may_pass", &S3_KEYS, &[s3::SECRET], || {
        let at = format!("127.0.0.1:{}", free_port());
        for url in [
            format!("s3://bucket/?region=us-east-1&endpoint=http://{at}"),
            format!("webdav://{at}/"),
            format!("redis://{at}/"),
            format!("rediss://{at}/"),
        ] {
            let remote = open(&url);
            let error = run(remote.entries(&[key("a")])).remove(0).unwrap_err();
            println!("{error}");
            assert_eq!(error.fault, RemoteFault::Transient, "{error}");
        }
    });
}

/// What a remote makes of an answer, when it looks for an entry and when it puts a blob.
fn faults(status: &'static str, body: &'static str) -> (Option<RemoteFault>, Option<RemoteFault>) {
    let mock = Mock::says(status, body);
    let remote = open(&format!("s3://bucket/?region=us-east-1&anonymous=true&endpoint={}", mock.endpoint()));
    run(async {
        let read = remote.entries(&[key("a")]).await.remove(0);
        let put = put_blobs(&*remote, &[blob(1, 10)]).await.remove(0);
        (read.err().map(|error| error.fault), put.err().map(|error| error.fault))
    })
}

#[test]
fn answers_are_told_apart() {
    own_process("answers_are_told_apart", &[], &[], || {
        let both = |fault| (Some(fault), Some(fault));
        assert_eq!(faults("401 Unauthorized", ""), both(RemoteFault::Denied));
        assert_eq!(faults("429 Too Many Requests", ""), both(RemoteFault::Transient));
        assert_eq!(faults("500 Internal Server Error", "oops"), both(RemoteFault::Transient));
        assert_eq!(
            faults("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"),
            both(RemoteFault::Transient)
        );
        assert_eq!(faults("507 Insufficient Storage", ""), both(RemoteFault::Full));
        assert_eq!(faults("301 Moved Permanently", ""), both(RemoteFault::Refused));
        assert_eq!(
            faults("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>"),
            both(RemoteFault::Denied)
        );
        let gone = "<Error><Code>NoSuchBucket</Code></Error>";
        assert_eq!(faults("404 Not Found", gone), both(RemoteFault::Refused));
    });
}

#[test]
fn a_blob_that_is_there_is_not_sent_again() {
    own_process("a_blob_that_is_there_is_not_sent_again", &[], &[], || {
        let mock = Mock::start(|request, stream| {
            let head = match request.line.split(' ').next() {
                Some("PUT") if request.header("if-none-match") == Some("*") => {
                    "412 Precondition Failed\r\ncontent-length: 0"
                }
                Some("HEAD") => "200 OK\r\ncontent-length: 10",
                _ => "500 Unexpected\r\ncontent-length: 0",
            };
            let _ = write!(stream, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
        });
        let url = format!("s3://bucket/?region=us-east-1&anonymous=true&endpoint={}", mock.endpoint());
        run(put_blobs(&*open(&url), &[blob(1, 10)])).remove(0).unwrap();
        assert_eq!(mock.asked().len(), 2, "one says that it is there, one how long it is");
    });
}

#[test]
fn a_server_without_conditions_is_written_to_without() {
    own_process("a_server_without_conditions_is_written_to_without", &[], &[], || {
        let mock = Mock::start(|request, stream| {
            let is_conditional = request.header("if-none-match").is_some();
            let status = match request.line.split(' ').next() {
                Some("PUT") if is_conditional => "501 Not Implemented",
                Some("PUT") => "200 OK",
                _ => "404 Not Found",
            };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        });
        let url = format!("s3://bucket/?region=us-east-1&anonymous=true&endpoint={}", mock.endpoint());
        let remote = open(&url);
        run(async {
            put_blobs(&*remote, &[blob(1, 10)]).await.remove(0).unwrap();
            put_blobs(&*remote, &[blob(2, 10)]).await.remove(0).unwrap();
        });
        let conditional = mock.asked().iter().filter(|asked| asked.header("if-none-match").is_some()).count();
        assert_eq!(conditional, 1);
    });
}

#[test]
fn an_answer_without_end_is_given_up() {
    own_process("an_answer_without_end_is_given_up", &[], &[], || {
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        let mock = Mock::start(move |_, stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            while stream.write_all(&[0; 10_000]).is_ok() {
                counted.fetch_add(10_000, Ordering::Relaxed);
            }
        });
        let remote = open(&format!("webdav://127.0.0.1:{}/", mock.port));
        run(async {
            let entry = remote.entries(&[key("a")]).await.remove(0).unwrap_err();
            let (name, _) = blob(1, 10);
            let small = get_blobs(&*remote, &[name]).await.remove(0).unwrap_err();
            // Properties of a file are read whole, so there is a limit on them.
            let properties = remote.has(&[name]).await.remove(0).unwrap_err();
            for error in [entry, small, properties] {
                assert_eq!(error.fault, RemoteFault::InvalidResponse, "{error}");
            }
        });
        assert!(sent.load(Ordering::Relaxed) < 64 << 20);
    });
}

#[test]
fn a_promised_petabyte_takes_no_memory() {
    own_process("a_promised_petabyte_takes_no_memory", &[], &[], || {
        let mock = Mock::start(|_, stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1125899906842624\r\n\r\nfew bytes");
        });
        let remote = open(&format!("webdav://127.0.0.1:{}/", mock.port));
        let name = BlobRef { digest: Digest::of(b"few bytes"), size: 1 << 50 };
        let error = run(get_blobs(&*remote, &[name])).remove(0).unwrap_err();
        assert_eq!(error.fault, RemoteFault::Transient, "it broke: {error}");
    });
}

#[test]
fn google_takes_application_credentials() {
    let token = "token-hunter2";
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("credentials.json");
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())];
    own_process("google_takes_application_credentials", &variables, &[token], || {
        let mock = Mock::start(|request, stream| {
            let body = if request.line.starts_with("POST /token") {
                r#"{"access_token":"token-hunter2","issued_token_type":"x","token_type":"Bearer","expires_in":3600}"#
            } else {
                "the entry"
            };
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
            let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        });
        let file = std::env::var("GOOGLE_APPLICATION_CREDENTIALS").unwrap();
        let subject = Path::new(&std::env::var("HOME").unwrap()).join("subject");
        plant_file(&subject, b"subject-hunter2");
        let json = serde_json::json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/token", mock.endpoint()),
            "credential_source": { "file": subject, "format": { "type": "text" } },
        });
        plant_file(Path::new(&file), json.to_string().as_bytes());
        let remote = open(&format!("gs://bucket/team?endpoint={}", mock.endpoint()));
        assert_eq!(run(remote.entries(&[key("a")])).remove(0).unwrap().unwrap(), "the entry");
        let asked = mock.asked().pop().unwrap();
        println!("{}", asked.line);
        assert!(
            asked.line.contains("bucket") && asked.line.contains(&key("a").to_string()),
            "{}",
            asked.line
        );
        assert_eq!(asked.header("authorization"), Some("Bearer token-hunter2"));
    });
}

#[test]
fn azure_signs_with_the_accounts_key() {
    // Base64 of the words.
    let secret = "YXp1cmUtaHVudGVyMg==";
    let variables = [("AZURE_STORAGE_KEY", secret)];
    own_process("azure_signs_with_the_accounts_key", &variables, &[secret], || {
        let mock = Mock::says("200 OK", "the entry");
        let remote = open(&format!("azblob://films/team?account=ann&endpoint={}", mock.endpoint()));
        assert_eq!(run(remote.entries(&[key("a")])).remove(0).unwrap().unwrap(), "the entry");
        let asked = mock.asked().pop().unwrap();
        let name = name_of("entries", key("a").0);
        assert_eq!(asked.line, format!("GET /films/team/v3/{name} HTTP/1.1"));
        assert!(asked.header("authorization").unwrap().starts_with("SharedKey ann:"));
    });
}

#[test]
fn a_shared_access_signature_is_not_shown() {
    let variables = [("AZURE_STORAGE_SAS_TOKEN", "?sv=2024-11-04&sig=sas-hunter2")];
    own_process("a_shared_access_signature_is_not_shown", &variables, &["hunter2"], || {
        let mock = Mock::says("403 Forbidden", "");
        let remote = open(&format!("azblob://films/?account=ann&endpoint={}", mock.endpoint()));
        let error = run(remote.entries(&[key("a")])).remove(0).unwrap_err();
        assert_eq!(error.fault, RemoteFault::Denied);
        assert!(!error.message.contains("hunter2"), "{error}");
        assert!(mock.asked()[0].line.contains("sig=sas-hunter2"));
    });
}

#[test]
fn what_a_url_asks_for_in_vain_is_told_at_once() {
    own_process("what_a_url_asks_for_in_vain_is_told_at_once", &[], &[], || {
        for (url, told) in [
            ("s3://bucket", "the region is missing"),
            ("s3://bucket?regoin=x", "did you mean `region`?"),
            ("s3://bucket:9000?region=x", "a bucket has no port"),
            ("s3://bucket?region=x&endpoint=http://host/?x=hunter2", "without credentials"),
            ("s3://bucket?region=x&pw=hunter2", "no parameter of s3 remotes"),
            ("azblob://films?account=evil.example/x", "small letters and digits"),
            ("gs://bucket?region=x", "no parameter of gs remotes"),
            ("azblob://films", "the account is missing"),
            ("redis://host?db=x", "must be a number"),
            ("fs:///mnt/team?mode=770", "which have none"),
        ] {
            let error = try_open(url).err().unwrap();
            assert_eq!(error.fault, RemoteFault::Refused, "{error}");
            assert!(error.message.contains(told), "{error}");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
    });
}

#[test]
fn nothing_that_lets_in_goes_unencrypted_to_others() {
    let variables = [
        ("RIVET_REMOTE_USER", "ann"),
        ("RIVET_REMOTE_PASSWORD", "hunter2"),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=hunter2"),
    ];
    own_process("nothing_that_lets_in_goes_unencrypted_to_others", &variables, &["hunter2"], || {
        for url in [
            "webdav://cache.example/x",
            "gs://bucket?endpoint=http://cache.example",
            "azblob://films?account=ann&endpoint=http://cache.example",
        ] {
            let error = try_open(url).err().unwrap();
            assert_eq!(error.fault, RemoteFault::Refused, "{error}");
            assert!(error.message.contains("unencrypted"), "{error}");
        }
        for url in [
            "webdavs://cache.example/x",
            "webdav://localhost/x",
            "gs://bucket?endpoint=https://cache.example",
            "gs://bucket?endpoint=http://cache.example&anonymous=true",
            "azblob://films?account=ann&endpoint=http://127.0.0.1:10000",
        ] {
            open(url);
        }
    });
}

#[test]
fn a_spec_is_told_no_secrets() {
    let variables = [("RIVET_REMOTE_PASSWORD", "hunter2"), ("RIVET_REMOTE_HOST", "cache.example, other:81")];
    own_process("a_spec_is_told_no_secrets", &variables, &["hunter2"], || {
        for url in ["webdavs://evil.example/", "redis://evil.example/", "rediss://other:82/"] {
            let error = named_by_a_spec(url).err().unwrap();
            assert_eq!(error.fault, RemoteFault::Denied, "{error}");
            assert!(error.message.contains("RIVET_REMOTE_PASSWORD is set, and only the spec"), "{error}");
        }
        for url in ["webdavs://cache.example/", "rediss://cache.example:99/", "rediss://other:81/"] {
            named_by_a_spec(url).unwrap_or_else(|error| panic!("{error}"));
        }
        for url in [
            "gs://bucket?endpoint=https://evil.example",
            "azblob://films?account=ann&endpoint=https://evil.example",
        ] {
            let error = named_by_a_spec(url).err().unwrap();
            assert!(error.message.contains("RIVET_REMOTE_CACHE"), "{error}");
            open(url);
        }
        let error = named_by_a_spec("redis://cache.example/").err().unwrap();
        assert!(error.fault == RemoteFault::Refused && error.message.contains("unencrypted"), "{error}");
        open("redis://cache.example/");
        named_by_a_spec("gs://bucket").unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn redis_leaves_a_connection_that_went_silent() {
    own_process("redis_leaves_a_connection_that_went_silent", &[], &[], || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            // The first one is taken, and hears nothing.
            let _silent = listener.accept().unwrap();
            let (mut client, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            while let Ok(count @ 1..) = client.read(&mut asked) {
                let asked = String::from_utf8_lossy(&asked[..count]);
                for (command, answer) in [("EXISTS", ":0\r\n"), ("GETRANGE", "$0\r\n\r\n")] {
                    if asked.contains(command) {
                        client.write_all(answer.as_bytes()).unwrap();
                    }
                }
            }
        });
        let remote = open(&format!("redis://127.0.0.1:{port}/"));
        run(async {
            let keys = [key("a")];
            let given_up = tokio::time::timeout(Duration::from_millis(200), remote.entries(&keys)).await;
            assert!(given_up.is_err(), "nobody answers");
            let answer = tokio::time::timeout(Duration::from_secs(60), remote.entries(&keys)).await;
            assert_eq!(answer.unwrap().remove(0).unwrap(), None);
        });
    });
}

/// Whoever looks something up does not wait behind what is stored, however much that is.
#[test]
fn uploads_keep_nobody_waiting() {
    own_process("uploads_keep_nobody_waiting", &[], &[], || {
        let mock = Mock::start(|request, stream| {
            if request.line.starts_with("PUT ") {
                // Until the other side has gone.
                let _ = stream.read(&mut [0]);
            }
            let _ =
                write!(stream, "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        });
        let url = format!("s3://bucket/?region=us-east-1&anonymous=true&endpoint={}", mock.endpoint());
        let remote = open(&url);
        run(async {
            let blobs: Vec<_> = (0..100).map(|seed| blob(seed, 10)).collect();
            let uploads = remote.clone();
            let uploads = tokio::spawn(async move { put_blobs(&*uploads, &blobs).await.len() });
            while mock.asked().len() < 32 {
                tokio::task::yield_now().await;
            }
            let found = tokio::time::timeout(Duration::from_secs(60), remote.entries(&[key("a")])).await;
            assert_eq!(found.unwrap().remove(0).unwrap(), None);
            uploads.abort();
        });
    });
}

#[test]
fn a_folder_that_may_only_be_read_is_read() {
    let place = tempfile::tempdir().unwrap();
    let team = place.path().join("team");
    let url = format!("fs://{}", team.display());
    plant_file(&team.join("v3").join(name_of("entries", key("a").0)), b"one");
    plant_file(&team.join("v3").join(name_of("entries", key("b").0)), b"two");
    let remote = open(&url);
    assert_eq!(run(remote.entries(&[key("a")])).remove(0).unwrap().unwrap(), "one");
    assert!(!team.join("v3/tmp").exists());
    // One file is one file.
    let closed = team.join("v3").join(name_of("entries", key("b").0));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&closed).is_err() {
        let found = run(remote.entries(&[key("a"), key("b")]));
        assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap(), "one");
        assert_eq!(found[1].as_ref().unwrap_err().fault, RemoteFault::Unsupported);
    }
}
