//! What a machine that only reads asks of a remote, and what it leaves alone.

use std::fs;

use super::common::files_under;
use super::common::servers::free_port;
use super::machine::{Machine, Place, codec_runs, remote};

#[test]
fn only_what_is_published_and_needed_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (ann, public) = Machine::signer_at(&place);
    ann.build(&[]);
    let bob = Machine::reader_at(&place, &public);
    let build = bob.build(&[]);

    let (all, here) = (ann.results(), bob.blobs());
    // Of what was decoded, only what says how the sound is cut. Segments are put together of all encodes, and
    // are themselves nowhere.
    for (kind, needed) in [("encode", usize::MAX), ("audio", usize::MAX), ("decode", 1)] {
        let came = all[kind].iter().filter(|digest| here.contains_key(*digest)).count();
        assert!(all[kind].len() > 1 && came == needed.min(all[kind].len()), "{kind}: {came}");
    }
    let published: Vec<_> = bob.output().into_values().collect();
    assert!(published.iter().all(|digest| !here.contains_key(digest) && !ann.blobs().contains_key(digest)));
    // Each once, and what is counted is what came: of the title as a whole each build leaves the same itself.
    let report = remote(&build);
    let fetched = |digest: &&String| ann.blobs().contains_key(*digest) && !all["title"].contains(*digest);
    assert_eq!(report["fetched_blobs"].as_u64(), Some(here.keys().filter(fetched).count() as u64));
    let bytes: u64 = here.iter().filter(|(digest, _)| fetched(digest)).map(|(_, size)| size).sum();
    assert_eq!(report["fetched_bytes"].as_u64(), Some(bytes));
}

#[test]
fn a_plan_knows_what_the_remote_has() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (ann, public) = Machine::signer_at(&place);
    ann.build(&[]);
    let mut bob = Machine::reader_at(&place, &public);
    let encodes = |machine: &Machine| {
        let plan = machine.ok(&["plan", "--json"]).json();
        assert_eq!(plan["titles"][0]["exact"], true, "{plan}");
        let tracks = plan["titles"][0]["tracks"].as_array().unwrap().clone();
        tracks.iter().map(|track| track["to_encode"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(encodes(&bob), 0);
    let told = bob.tell(&["plan", "--exit-code"]);
    assert_eq!(told.status, 3, "it has yet to be published\n{}{}", told.out, told.err);
    // Looking leaves nothing behind.
    assert!(!bob.project.path("cache").exists() && !bob.project.path("out").exists());
    bob.add_rung();
    let planned = encodes(&bob);
    assert_eq!(bob.build(&[]).ran("encode"), planned);
}

#[test]
fn a_plan_tells_that_nobody_answers() {
    let ann = Machine::alone();
    let nobody = format!("webdav://127.0.0.1:{}/", free_port());
    let told = ann.ok(&["plan", "--json", "--remote-cache", &nobody]);
    let plan = told.json();
    assert!(plan["remote"]["errors"].as_u64() > Some(0), "{plan}");
    assert!(plan["remote"]["last_error"].is_string(), "{plan}");
    let warning = format!("warning: the remote cache {nobody}");
    assert!(told.err.contains(&warning), "{}", told.err);
    for command in [&["graph"][..], &["plan"]] {
        let told = ann.ok(&[command, &["--remote-cache", &nobody]].concat());
        assert!(told.err.contains(&warning), "{command:?}: {}", told.err);
    }
    assert!(ann.ok(&["plan", "--json"]).json()["remote"].is_null());
}

#[test]
fn who_is_set_up_to_read_is_not_told_that_nothing_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (ann, public) = Machine::signer_at(&place);
    ann.build(&[]);
    let mut bob = Machine::reader_at(&place, &public);
    bob.add_rung();
    let build = bob.build(&[]);
    assert!(codec_runs(&build).0 > 0 && !build.stdout.contains("nothing uploaded"), "{}", build.stdout);
    assert!(remote(&build)["read_only"].as_str().unwrap().contains("no key to sign with"));
    // Who trusts nobody either has not been set up at all.
    let build = Machine::at(&place).build(&[]);
    assert!(build.stdout.contains("nothing uploaded (there is no key"), "{}", build.stdout);
}

#[test]
fn read_only_stores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (ann, _) = Machine::signer_at(&place);
    let build = ann.build(&["--remote-read-only"]);
    assert!(codec_runs(&build).0 >= 4);
    assert_eq!(remote(&build)["read_only"], "--remote-read-only");
    assert_eq!((&remote(&build)["stored_entries"], &remote(&build)["errors"]), (&0.into(), &0.into()));
    assert!(files_under(folder.path()).is_empty());

    // Also where there is something to read.
    ann.forget();
    ann.build(&[]);
    let before = files_under(folder.path());
    assert!(!before.is_empty());
    ann.forget();
    ann.recolour();
    assert!(ann.build(&["--remote-read-only"]).ran("encode") >= 1);
    assert_eq!(files_under(folder.path()), before);
}

#[test]
fn offline_asks_nobody_and_builds_an_edit_with_what_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (mut ann, public) = Machine::signer_at(&place);
    ann.build(&[]);
    let mut bob = Machine::reader_at(&place, &public);
    bob.build(&[]);
    // Whoever asked would hear of it.
    fs::remove_dir_all(folder.path()).unwrap();
    let again = bob.build(&["--offline"]);
    assert_eq!(again.ran_at_all(), 0, "{}", again.summary());
    bob.add_rung();
    let edited = bob.build(&["--offline"]);
    assert!(edited.encoded().iter().all(|node| node.starts_with("other/")), "{:?}", edited.encoded());
    assert!(edited.ran("encode") >= 2 && edited.ran("audio") == 0, "{}", edited.summary());
    assert!(edited.summary()["remote"].is_null() && !edited.stderr.contains("remote cache"));
    ann.add_rung();
    ann.build(&["--offline"]);
    assert_eq!(bob.output(), ann.output());

    // What was published can be lost: it is in the cache.
    fs::remove_dir_all(bob.project.path("out")).unwrap();
    assert_eq!(codec_runs(&bob.build(&["--offline"])), (0, 0));
    assert_eq!(bob.output(), ann.output());
}
