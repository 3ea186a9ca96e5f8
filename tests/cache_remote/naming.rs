//! Where the remote's name comes from, and whose results count.

use super::common::files_under;
use super::common::servers::webdav::{self, WebDav};
use super::machine::{Machine, Place, codec_runs, remote};

#[test]
fn a_flag_comes_before_the_variable_and_that_before_the_spec() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| Place::folder(&folder.path().join(name));
    let has = |name: &str| !files_under(&folder.path().join(name)).is_empty();
    let (spec, variable, flag) = (place("spec"), place("variable"), place("flag"));
    let (mut machine, _) = Machine::signer_at(&spec);

    let build = machine.build(&[]);
    assert_eq!(remote(&build)["remote"], spec.url.as_str());
    assert!(has("spec"));
    machine.forget();
    machine.variables = vec![("RIVET_REMOTE_CACHE", variable.url.clone())];
    let build = machine.build(&[]);
    assert_eq!(remote(&build)["remote"], variable.url.as_str());
    assert!(codec_runs(&build).0 >= 4 && has("variable"));
    machine.forget();
    let build = machine.build(&["--remote-cache", &flag.url]);
    assert_eq!(remote(&build)["remote"], flag.url.as_str());
    assert!(codec_runs(&build).0 >= 4 && has("flag"));

    // Empty means that there is none, whatever the spec says.
    machine.forget();
    machine.variables = vec![("RIVET_REMOTE_CACHE", String::new())];
    let build = machine.build(&[]);
    assert!(codec_runs(&build).0 >= 4 && build.summary()["remote"].is_null(), "{}", build.summary());
    assert!(!build.stdout.contains("remote cache"), "{}", build.stdout);

    for wrong in
        ["nonsense", "s3://key:hunter3@bucket/", "s3://b/?endpoint=http://a:hunter3@h", "gopher://host/"]
    {
        let told = machine.tell(&["build", "--remote-cache", wrong]);
        assert_eq!(told.status, 2, "{}", told.err);
        assert!(told.err.contains("the remote cache's URL is invalid"), "{}", told.err);
        assert!(!told.err.contains("hunter3"), "{}", told.err);
    }
}

#[test]
fn parameters_that_may_be_secrets_are_not_repeated() {
    for flags in [&[][..], &["--insecure-unsigned"]] {
        let url = "s3://bucket/?region=x&pw=hunter3";
        let told = Machine::alone().tell(&[&["build", "--remote-cache", url], flags].concat());
        assert_eq!(told.status, 2, "{}", told.err);
        assert!(
            told.err.contains("the remote cache s3://bucket/: `pw` is no parameter of s3"),
            "{}",
            told.err
        );
        assert!(!told.err.contains("hunter3"), "{}", told.err);
    }
}

#[test]
fn a_key_that_cannot_be_used_is_in_nobodys_way_offline() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::at(&Place::folder(&folder.path().join("remote")));
    machine.variables.push(("RIVET_SIGNING_KEY", "bad".to_owned()));
    for command in [&["plan"][..], &["cache", "keys"]] {
        let told = machine.tell(command);
        assert_eq!(told.status, 2, "{}", told.err);
        assert!(told.err.contains("RIVET_SIGNING_KEY holds no private key"), "{}", told.err);
    }
    machine.ok(&["plan", "--offline"]);
}

#[test]
fn what_is_believed_because_of_a_spec_is_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (ann, public) = Machine::signer_at(&place);
    let encodes = codec_runs(&ann.build(&[])).0;

    let without = format!("[cache]\nremote = \"{}\"\n", place.url);
    let mut bob = Machine::at(&place);
    // Even for somebody who signs, who would vouch for it otherwise.
    bob.keygen();
    bob.say_of_caches(&format!("{without}trusted-keys = [\"{public}\"]\n"));
    let believed = bob.build(&[]);
    assert_eq!(codec_runs(&believed), (0, 0), "{}", believed.summary());
    assert_eq!(bob.output(), ann.output());
    let why = remote(&believed)["read_only"].as_str().unwrap();
    assert!(why.contains("keys count that only the spec names"), "{why}");
    assert!(bob.blobs().is_empty() && bob.project.path("cache/rivet/isolated").is_dir());

    bob.say_of_caches(&without);
    let disbelieved = bob.build(&["--remote-read-only"]);
    assert_eq!(codec_runs(&disbelieved).0, encodes, "{}", disbelieved.summary());
    assert!(remote(&disbelieved)["rejected"]["unknown key"].as_u64() > Some(0));
    assert!(disbelieved.stdout.contains("rejected"), "{}", disbelieved.stdout);
    assert_eq!(bob.output(), ann.output());
}

/// Whoever wrote the spec may have put entries into the folder beside it.
#[test]
fn what_lies_in_a_folder_of_the_specs_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let (mut ann, _) = Machine::signer_at(&place);
    ann.say_of_caches(&format!("[cache]\nremote = \"{}\"\ndir = \"beside\"\n", place.url));
    for arguments in [&[][..], &["--insecure-unsigned"]] {
        let build = ann.build(arguments);
        let why = remote(&build)["read_only"].as_str().unwrap();
        assert!(why.contains("the spec chose the cache folder"), "{why}");
    }
    let told = ann.tell(&["cache", "push"]);
    assert_eq!(told.status, 2, "{}", told.err);
    assert!(told.err.contains("--cache-dir makes it your choice"), "{}", told.err);
    assert!(files_under(folder.path()).is_empty());
    let chosen = ann.project.path("beside").display().to_string();
    ann.ok(&["cache", "push", "--cache-dir", &chosen]);
    assert!(!files_under(folder.path()).is_empty());
}

#[test]
fn a_server_that_only_the_spec_names_is_told_no_password() {
    let server = WebDav::start();
    let credentials = [("RIVET_REMOTE_USER", webdav::USER), ("RIVET_REMOTE_PASSWORD", webdav::PASSWORD)];
    let place = Place::new(server.url("webdav"), &credentials);
    let (mut machine, _) = Machine::signer_at(&place);
    machine.variables.retain(|(name, _)| *name != "RIVET_REMOTE_HOST");
    let told = machine.tell(&["build"]);
    assert_eq!(told.status, 2, "{}{}", told.out, told.err);
    assert!(told.err.contains("RIVET_REMOTE_USER is set, and only the spec names"), "{}", told.err);
    let build = machine.build(&["--remote-cache", &place.url]);
    assert!(remote(&build)["stored_entries"].as_u64() > Some(0), "{}", remote(&build));
}

#[test]
fn unsigned_results_count_only_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(&folder.path().join("remote"));
    let nobody = Machine::at(&place);
    let build = nobody.build(&["--insecure-unsigned"]);
    assert!(remote(&build)["stored_entries"].as_u64() > Some(0), "{}", remote(&build));
    assert!(build.stderr.contains("whoever can write to"), "{}", build.stderr);

    let careful = Machine::at(&place);
    let build = careful.build(&[]);
    assert!(codec_runs(&build).0 >= 4);
    assert!(remote(&build)["rejected"]["unsigned"].as_u64() > Some(0), "{}", remote(&build));
    let careless = Machine::at(&place);
    assert_eq!(codec_runs(&careless.build(&["--insecure-unsigned"])), (0, 0));
    assert_eq!(careless.output(), careful.output());
}
