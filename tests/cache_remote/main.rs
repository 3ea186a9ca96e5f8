//! Machines that share a remote cache, through the program: what one has built no other builds again, over
//! every kind of remote, and whatever is wrong with it no build ends badly.
#![cfg(all(feature = "reapi", feature = "stores"))]

mod carrying;
#[path = "../common/mod.rs"]
mod common;
mod machine;
mod naming;
mod reading;
#[path = "../common/reapi_server/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it can misbehave, which other tests ask of it")]
mod reapi_server;

use common::servers::casd::Casd;
use common::servers::redis::{self, Redis};
use common::servers::s3::{self, S3};
use common::servers::webdav::{self, WebDav};
use machine::{Machine, Place, codec_runs, encoded, remote};
use reapi_server::{Behaviour, Function, ReapiServer};

/// What every remote must do for those who share it.
fn serves_two_machines(place: &Place) {
    let (mut ann, public) = Machine::signer_at(place);
    let first = ann.build(&[]);
    let (encodes, decodes) = codec_runs(&first);
    assert!(encodes >= 4 && decodes >= 2, "{}", first.summary());
    let stored = remote(&first);
    assert!(stored["stored_entries"].as_u64() > Some(encodes + decodes), "{stored}");
    assert_eq!((&stored["not_stored"], &stored["errors"]), (&0.into(), &0.into()), "{stored}");

    // The other finds all of it.
    let mut bob = Machine::reader_at(place, &public);
    let second = bob.build(&[]);
    assert_eq!(codec_runs(&second), (0, 0), "{}", second.summary());
    assert_eq!(bob.output(), ann.output());
    let found = remote(&second);
    assert_eq!((&found["misses"], &found["errors"]), (&0.into(), &0.into()), "{found}");
    assert_eq!((&found["rejected"], &found["stored_entries"]), (&serde_json::json!({}), &0.into()));

    // Another rung is encoded, and nothing else is. Who has no key cannot give it to others.
    bob.add_rung();
    let own = bob.build(&[]);
    assert!(own.ran("encode") >= 2 && own.ran("audio") == 0, "{}", own.summary());
    assert!(own.encoded().iter().all(|node| node.starts_with("other/")), "{:?}", own.encoded());
    assert_eq!(remote(&own)["stored_entries"], 0);
    assert!(remote(&own)["read_only"].as_str().unwrap().contains("there is no key to sign with"));
    ann.add_rung();
    assert_eq!(encoded(&ann.build(&[])), encoded(&own));
    assert_eq!(ann.output(), bob.output());

    // What was edited is encoded by who has a key, and found by the other.
    ann.recolour();
    let edited = ann.build(&[]);
    assert!(edited.ran("encode") >= 2 && edited.ran("audio") == 0, "{}", edited.summary());
    assert!(edited.ran("encode") < encodes + own.ran("encode"), "{}", edited.summary());
    bob.recolour();
    let found = bob.build(&[]);
    assert_eq!(codec_runs(&found), (0, 0), "{}", found.summary());
    assert_eq!(bob.output(), ann.output());
    let before = remote(&second)["fetched_bytes"].as_u64();
    assert!(remote(&found)["fetched_bytes"].as_u64() < before, "{}", remote(&found));
}

#[test]
fn a_folder_serves_two_machines() {
    let folder = tempfile::tempdir().unwrap();
    serves_two_machines(&Place::folder(&folder.path().join("remote")));
}

#[test]
fn s3_serves_two_machines() {
    let server = S3::start();
    serves_two_machines(&at_s3(&server, s3::SECRET));
}

#[test]
fn redis_serves_two_machines() {
    let server = Redis::start(&[]);
    serves_two_machines(&at_redis(&server, redis::PASSWORD));
}

#[test]
fn webdav_serves_two_machines() {
    let server = WebDav::start();
    serves_two_machines(&at_webdav(&server, webdav::PASSWORD));
}

#[test]
fn casd_serves_two_machines() {
    let server = Casd::start();
    serves_two_machines(&Place::new(server.url(), &[]));
}

#[test]
fn a_server_with_blake3_serves_two_machines() {
    let token = "reapi-hunter2-token";
    let server = ReapiServer::start(Behaviour { token: Some(token.to_owned()), ..Behaviour::default() });
    serves_two_machines(&Place::new(server.url(), &[("RIVET_REMOTE_TOKEN", token)]));
    assert_eq!(server.state().behaviour.function, Function::Blake3);
}

/// Steps that can be looked up together are asked for together, however far away the server is.
#[test]
fn many_results_are_asked_for_at_once() {
    let server = ReapiServer::start(Behaviour::default());
    let place = Place::new(server.url(), &[]);
    let (ann, public) = Machine::signer_at(&place);
    ann.build(&[]);
    let calls = || [server.calls("GetActionResult"), server.calls("FindMissingBlobs")];
    let before = calls();
    // A picture of all steps looks every one of them up.
    Machine::reader_at(&place, &public).ok(&["graph", "--all"]);
    let [entries, questions] = [0, 1].map(|call| calls()[call] - before[call]);
    // There is one question for the blobs of each batch of entries.
    assert!(entries > 20 && 2 * questions <= entries, "{questions} questions for {entries} entries");
}

fn at_s3(server: &S3, secret: &str) -> Place {
    let credentials = [("AWS_ACCESS_KEY_ID", s3::KEY_ID), ("AWS_SECRET_ACCESS_KEY", secret)];
    Place::new(server.url(s3::BUCKET), &credentials)
}

fn at_redis(server: &Redis, password: &str) -> Place {
    Place::new(server.url("redis"), &[("RIVET_REMOTE_PASSWORD", password)])
}

fn at_webdav(server: &WebDav, password: &str) -> Place {
    let credentials = [("RIVET_REMOTE_USER", webdav::USER), ("RIVET_REMOTE_PASSWORD", password)];
    Place::new(server.url("webdav"), &credentials)
}

/// A build with wrong credentials ends well, says so once, and not what they were.
fn goes_on_when_denied(place: &Place) {
    let (machine, _) = Machine::signer_at(place);
    let build = machine.build(&[]);
    assert!(codec_runs(&build).0 >= 4);
    let told = format!("continuing without the remote cache {}: ", place.url);
    assert_eq!(build.stderr.matches(&told).count(), 1, "{}", build.stderr);
    let warnings = build.events.iter().filter(|event| event["event"] == "warning");
    assert_eq!(warnings.count(), 1, "{}", build.stderr);
    let report = remote(&build);
    assert!(report["went_on_without"].is_string() && report["errors"].as_u64() >= Some(1), "{report}");
    assert_eq!((&report["hits"], &report["stored_entries"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(machine.build(&[]).ran("encode"), 0, "what was built here is here");
}

#[test]
fn wrong_credentials_are_told_once_and_never_shown() {
    goes_on_when_denied(&at_s3(&S3::start(), "hunter2-of-somebody-else"));
    goes_on_when_denied(&at_redis(&Redis::start(&[]), "hunter2-of-somebody-else"));
    goes_on_when_denied(&at_webdav(&WebDav::start(), "hunter2-of-somebody-else"));
    let asks = Behaviour { token: Some("reapi-hunter2-token".to_owned()), ..Behaviour::default() };
    let server = ReapiServer::start(asks);
    goes_on_when_denied(&Place::new(server.url(), &[("RIVET_REMOTE_TOKEN", "hunter2-of-somebody-else")]));
}
