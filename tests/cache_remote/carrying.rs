//! Filling a remote from a cache, and a cache from a remote: a film on a plane.

use std::fs;

use super::common::files_under;
use super::common::proxy::{self, Fault};
use super::common::servers::free_port;
use super::machine::{Machine, Place, codec_runs, encoded};

#[test]
fn push_fills_a_remote_and_pull_leaves_nothing_to_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    // Built by somebody who knew of no remote.
    let ann = Machine::alone();
    let public = ann.keygen();
    let encodes = codec_runs(&ann.build(&[])).0;
    let pushed = ann.ok(&["cache", "push", "--remote-cache", &place.url]);
    assert!(pushed.out.contains(&format!("stored in {}", place.url)), "{}", pushed.out);
    assert!(pushed.err.is_empty(), "{}", pushed.err);
    let full = files_under(folder.path());
    // Again, there is nothing to do.
    let again = ann.ok(&["cache", "push", "--json", "--remote-cache", &place.url]).json();
    assert_eq!((&again["remote"]["stored_blobs"], &again["carried"]["missing"]), (&0.into(), &0.into()));
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
    assert!(never.err.contains("nothing of it as it is now was built with this cache"), "{}", never.err);
    let empty = ann.tell(&["cache", "pull"]);
    assert_eq!(empty.status, 1, "{}", empty.err);
    assert!(empty.err.contains("the remote cache has nothing of it as it is now"), "{}", empty.err);

    // Who does not answer has not said that there is nothing.
    let nobody = format!("webdav://127.0.0.1:{}/", free_port());
    let silent = ann.tell(&["cache", "pull", "--remote-cache", &nobody]);
    assert_eq!(silent.status, 1, "{}", silent.err);
    assert!(silent.err.contains("did not say whether it has anything"), "{}", silent.err);
    assert!(!silent.err.contains("has nothing of it"), "{}", silent.err);

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
    assert!(told.out.starts_with("0 of ") && told.out.contains(" results stored in "), "{}", told.out);

    // What is not whole there is told of, and the rest comes.
    ann.forget();
    ann.build(&[]);
    let encode = ann.results()["encode"][0].clone();
    fs::remove_file(folder.path().join(format!("remote/v2/blobs/{}/{encode}", &encode[..2]))).unwrap();
    ann.forget();
    let told = ann.tell(&["cache", "pull"]);
    assert_eq!(told.status, 1, "{}{}", told.out, told.err);
    assert!(told.out.contains("1 result not there, or not whole"), "{}", told.out);
    assert!(ann.blobs().len() > 10);
}
