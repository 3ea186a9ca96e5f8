//! Filling a remote from a cache, and a cache from a remote: a film on a plane.

use std::fs;

use super::common::files_under;
use super::common::proxy::{self, Fault};
use super::common::servers::free_port;
use super::machine::{Machine, Place, codec_runs, encoded, remote};

#[test]
fn push_fills_a_remote_and_pull_leaves_nothing_to_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    // Built by somebody who knew of no remote.
    let ann = Machine::alone();
    let public = ann.keygen();
    let encodes = codec_runs(&ann.build(&[])).0;
    let pushed = ann.ok(&["cache", "push", "--remote-cache", &place.url]);
    assert!(pushed.out.contains(&format!(" in {}", place.url)), "{}", pushed.out);
    assert!(pushed.err.is_empty(), "{}", pushed.err);
    let full = files_under(folder.path());
    // Again, there is nothing to do.
    let again = ann.ok(&["cache", "push", "--json", "--remote-cache", &place.url]).json();
    assert_eq!((&again["remote"]["stored_blobs"], &again["carried"]["missing"]), (&0.into(), &0.into()));
    assert_eq!(again["remote"]["stored_entries"], 0, "{again}");
    assert_eq!(again["remote"]["already_there"], again["carried"]["entries"], "{again}");
    assert_eq!(files_under(folder.path()).len(), full.len());

    let bob = Machine::reader_at(&place, &public);
    let pulled = bob.ok(&["cache", "pull"]);
    assert!(pulled.out.contains(&format!("here from {}", place.url)), "{}", pulled.out);
    assert!(pulled.err.is_empty(), "{}", pulled.err);
    let (theirs, ours) = (ann.results(), bob.results());
    for kind in ["encode", "decode", "audio", "mux"] {
        let (mut theirs, mut ours) = (theirs[kind].clone(), ours[kind].clone());
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs, "{kind}");
    }

    // On the plane.
    fs::remove_dir_all(folder.path()).unwrap();
    let build = bob.build(&["--offline"]);
    assert_eq!(codec_runs(&build), (0, 0), "{}", build.summary());
    assert_eq!(bob.output(), ann.output());
    bob.recolour();
    let edited = bob.build(&["--offline"]);
    assert!((1..encodes).contains(&edited.ran("encode")) && edited.ran("audio") == 0, "{}", edited.summary());
    ann.recolour();
    assert_eq!(encoded(&ann.build(&[])), encoded(&edited), "as one does who has all of it");
    assert_eq!(bob.output(), ann.output());
}

#[test]
fn what_cannot_be_carried_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (ann, _) = Machine::signer_at(&place);
    let never = ann.tell(&["cache", "push"]);
    assert_eq!(never.status, 1, "{}", never.err);
    assert!(never.err.contains("this cache has no build of it as it is now"), "{}", never.err);
    let empty = ann.tell(&["cache", "pull"]);
    assert_eq!(empty.status, 1, "{}", empty.err);
    assert!(empty.err.contains("the remote cache has no build of it as it is now"), "{}", empty.err);

    // Who does not answer has not said that there is nothing.
    let nobody = format!("webdav://127.0.0.1:{}/", free_port());
    let silent = ann.tell(&["cache", "pull", "--remote-cache", &nobody]);
    assert_eq!(silent.status, 1, "{}", silent.err);
    assert!(silent.err.contains("the remote cache did not answer"), "{}", silent.err);
    assert!(!silent.err.contains("has no build"), "{}", silent.err);

    let alone = Machine::alone();
    for command in ["push", "pull"] {
        let told = alone.tell(&["cache", command]);
        assert_eq!(told.status, 2, "{command}: {}", told.err);
        assert!(told.err.contains("there is no remote cache"), "{}", told.err);
    }

    // Who has no key can store nothing that anybody would believe.
    let bob = Machine::at(&place);
    bob.build(&["--offline"]);
    let told = bob.tell(&["cache", "push"]);
    assert_eq!(told.status, 2, "{}{}", told.out, told.err);
    assert!(told.err.contains("there is no key to sign with"), "{}{}", told.out, told.err);
    assert!(files_under(folder.path()).is_empty());

    // Nor does what a remote does not take count as stored.
    ann.build(&["--offline"]);
    let full = proxy::start(0, |_, asked| match asked.line.split(' ').next() {
        Some("PUT" | "MKCOL") => Fault::Says("507 Insufficient Storage"),
        _ => Fault::Says("404 Not Found"),
    });
    let told = ann.tell(&["cache", "push", "--remote-cache", &format!("webdav://127.0.0.1:{}/", full.port)]);
    assert_eq!(told.status, 1, "{}{}", told.out, told.err);
    assert!(told.out.starts_with("0 of ") && told.out.contains(" results in "), "{}", told.out);

    // What is not whole there is told of, and the rest comes.
    ann.forget();
    ann.build(&[]);
    let encode = ann.results()["encode"][0].clone();
    fs::remove_file(folder.path().join(format!("remote/v3/blobs/{}/{encode}", &encode[..2]))).unwrap();
    ann.forget();
    let told = ann.tell(&["cache", "pull"]);
    assert_eq!(told.status, 1, "{}{}", told.out, told.err);
    assert!(told.out.contains("1 result not there, or incomplete"), "{}", told.out);
    assert!(ann.blobs().len() > 10);
}

/// Entries are told apart by whose signature they bear.
#[test]
fn what_ci_has_signed_stays_ci_s() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let entries = || files_under(&folder.path().join("remote/v3/entries"));
    let (ci, public) = Machine::signer_at(&place);
    ci.build(&[]);
    let of_ci = entries();

    // Somebody who trusts CI, and has a key, too, makes the entry of the title as a whole again.
    let (friend, _) = Machine::signer_at(&place);
    friend.ok(&["cache", "trust", &public, "CI"]);
    let build = friend.build(&[]);
    assert_eq!(codec_runs(&build), (0, 0));
    assert_eq!(entries(), of_ci);
    assert_eq!(remote(&build)["stored_entries"], 0, "{}", remote(&build));
    assert!(remote(&build)["already_there"].as_u64() > Some(0), "{}", remote(&build));
    // All of it is there, although little of it is here.
    let pushed = friend.ok(&["cache", "push", "--json"]).json();
    assert_eq!((&pushed["carried"]["missing"], &pushed["remote"]["not_stored"]), (&0.into(), &0.into()));
    assert_eq!(entries(), of_ci);

    // One who forgot to trust CI is told.
    let (forgetful, own) = Machine::signer_at(&place);
    let build = forgetful.build(&[]);
    assert!(codec_runs(&build).0 > 0);
    let kept = remote(&build)["others"].as_u64();
    assert!(kept > Some(0) && remote(&build)["not_stored"].as_u64() == kept, "{}", remote(&build));
    let hint = format!("rivet cache trust {public}");
    assert_eq!(build.stderr.matches(&hint).count(), 1, "{}", build.stderr);
    assert!(build.stdout.contains(&format!("untrusted key {public}")), "{}", build.stdout);
    let told = forgetful.tell(&["cache", "push"]);
    assert_eq!(told.status, 1, "{}{}", told.out, told.err);
    assert!(told.err.contains(&hint) && told.err.contains("push --replace"), "{}", told.err);
    assert_eq!(entries(), of_ci);

    let careless = Machine::at(&place);
    careless.build(&["--insecure-unsigned"]);
    assert_eq!(entries(), of_ci);
    let pulled = Machine::reader_at(&place, &public).ok(&["cache", "pull"]);
    assert!(pulled.out.contains("here from"), "{}", pulled.out);

    // Unless somebody means it.
    let told = forgetful.tell(&["cache", "push", "--replace", "--insecure-unsigned"]);
    assert_eq!(told.status, 2, "{}{}", told.out, told.err);
    forgetful.ok(&["cache", "push", "--replace"]);
    assert!(entries().iter().all(|(name, bytes)| of_ci.get(name) != Some(bytes)));
    let reader = Machine::reader_at(&place, &public).tell(&["cache", "pull", "--json"]);
    assert_eq!(reader.status, 1, "{}", reader.err);
    assert!(reader.err.contains("was rejected") && reader.err.contains(&own), "{}", reader.err);
    assert!(reader.json()["remote"]["rejected"]["unknown key"].as_u64() > Some(0), "{}", reader.out);
}

#[test]
fn what_is_neither_here_nor_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (ann, _) = Machine::signer_at(&place);
    ann.build(&["--offline"]);
    let encode = ann.results()["encode"][0].clone();
    fs::remove_file(ann.project.path(&format!("cache/rivet/v3/blobs/{}/{encode}", &encode[..2]))).unwrap();
    let told = ann.tell(&["cache", "push"]);
    assert_eq!(told.status, 1, "{}{}", told.out, told.err);
    // The segment is nothing but that encode and what is around it.
    for part in ["1 result neither here nor there", ": mux ", "rivet cache pull"] {
        assert!(told.out.contains(part), "{part}: {}", told.out);
    }
    let told = ann.tell(&["cache", "push", "--json"]).json();
    assert_eq!((&told["missing"][0]["kind"], &told["carried"]["missing"]), (&"mux".into(), &1.into()));
    assert!(told["missing"][0]["title"].is_string(), "{told}");
}
