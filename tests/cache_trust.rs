//! Keys from the command line: made once, never lost, shown to nobody, and read from where they should
//! be and nowhere else.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::Project;
use rivet::testing::cache::trust::{KeyFolder, PublicKey, Rejection, SigningKey, Trust, TrustError};
use rivet::testing::cache::{CacheEntry, Digest, EntryKey};

/// Exit status, standard output and standard error.
struct Told(i32, String, String);

fn cache_with(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
    let mut command = project.rivet();
    let output = command.arg("cache").args(arguments).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told(output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn cache(project: &Project, arguments: &[&str]) -> Told {
    cache_with(project, arguments, &[])
}

fn keygen(project: &Project) -> PublicKey {
    let Told(status, public, told) = cache(project, &["keygen"]);
    assert_eq!(status, 0, "{told}");
    public.trim_end().parse().unwrap()
}

fn folder(project: &Project) -> KeyFolder {
    KeyFolder::new(project.path("config/rivet"))
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn secret_of(project: &Project) -> String {
    fs::read_to_string(project.path("config/rivet/signing-key")).unwrap().trim_end().to_owned()
}

#[test]
fn keygen_makes_a_key_that_signs_and_is_trusted() {
    let project = Project::new();
    let public = keygen(&project);
    let folder = folder(&project);
    assert_eq!(mode(project.path("config/rivet")), 0o700);
    assert_eq!(mode(folder.signing_key_path()), 0o600);
    assert_eq!(folder.signing_key().unwrap().unwrap().public(), public);
    assert_eq!(folder.trusted_keys().unwrap(), [(public, "own".to_owned())]);

    let key = EntryKey(Digest::of(b"key"));
    let own = Trust::load(Some(&folder), None, &[]).unwrap();
    let bytes = own.seal(&key, &CacheEntry::default()).unwrap();
    assert_eq!(own.open(&key, &bytes), Ok(CacheEntry::default()));
    let stranger = Trust::load(None, None, &[]).unwrap();
    assert_eq!(stranger.open(&key, &bytes), Err(Rejection::UnknownKey(public)));
    let reader = Trust::load(None, None, &[public]).unwrap();
    assert_eq!(reader.open(&key, &bytes), Ok(CacheEntry::default()));
}

#[test]
fn nothing_that_is_printed_holds_the_private_key() {
    let project = Project::new();
    let mut texts = Vec::new();
    for arguments in [&["keygen"][..], &["keygen"], &["keygen", "--force"], &["keys"], &["keys", "--json"]] {
        let Told(_, out, err) = cache(&project, arguments);
        texts.extend([out, err]);
    }
    for file in ["signing-key", "signing-key.old"] {
        let secret = fs::read_to_string(project.path("config/rivet").join(file)).unwrap();
        let digits = secret.trim_end().rsplit(':').next().unwrap();
        assert_eq!(digits.len(), 64);
        assert!(texts.iter().all(|text| !text.contains(digits)), "{file}");
    }
}

#[test]
fn a_key_is_never_lost() {
    let project = Project::new();
    let first = keygen(&project);
    let secret = secret_of(&project);
    let Told(status, out, err) = cache(&project, &["keygen"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains("there is a private key in") && err.contains("--force"), "{err}");
    assert_eq!(secret_of(&project), secret);
    assert_eq!(folder(&project).trusted_keys().unwrap().len(), 1);

    let Told(status, second, err) = cache(&project, &["keygen", "--force"]);
    assert_eq!(status, 0, "{err}");
    let second: PublicKey = second.trim_end().parse().unwrap();
    assert_ne!(second, first);
    assert!(err.contains("signing-key.old"), "{err}");
    let old = project.path("config/rivet/signing-key.old");
    assert_eq!(fs::read_to_string(&old).unwrap().trim_end(), secret);
    assert_eq!(mode(&old), 0o600);
    let trusted = folder(&project).trusted_keys().unwrap();
    assert_eq!(trusted.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [first, second]);
    assert!(trusted[0].1.starts_with("own until 20"), "{trusted:?}");
    assert_eq!(trusted[1].1, "own");

    let secret = secret_of(&project);
    assert_eq!(cache(&project, &["keygen", "--force"]).0, 0);
    assert_eq!(
        fs::read_to_string(project.path("config/rivet/signing-key.old-2")).unwrap().trim_end(),
        secret
    );
}

#[test]
fn a_private_key_that_others_may_read_is_refused() {
    let project = Project::new();
    keygen(&project);
    let path = folder(&project).signing_key_path();
    for readable in [0o644, 0o640, 0o604, 0o660] {
        set_mode(&path, readable);
        let Told(status, _, err) = cache(&project, &["keys"]);
        assert_eq!(status, 2);
        assert!(err.contains("others may read it") && err.contains("chmod 600"), "{err}");
    }
    set_mode(&path, 0o400);
    assert_eq!(cache(&project, &["keys"]).0, 0);
    fs::write(project.path("config/rivet/trusted-keys"), "").unwrap();
    set_mode(project.path("config/rivet/trusted-keys"), 0o666);
    let Told(status, _, err) = cache(&project, &["keys"]);
    assert!(status == 2 && err.contains("everybody may write it"), "{err}");
}

#[test]
fn a_key_in_the_environment_comes_first_and_is_not_repeated() {
    let project = Project::new();
    let (own, other) = (keygen(&project), SigningKey::generate().unwrap());
    let text = other.secret_text();
    let Told(status, out, _) = cache_with(&project, &["keys"], &[("RIVET_SIGNING_KEY", &text)]);
    assert_eq!(status, 0);
    assert!(out.starts_with(&format!("signs   {}  RIVET_SIGNING_KEY\n", other.public())), "{out}");
    assert!(out.contains(&format!("trusts  {own}  own\n")), "{out}");

    let empty = cache_with(&project, &["keys"], &[("RIVET_SIGNING_KEY", "")]);
    assert!(empty.1.starts_with(&format!("signs   {own}  ")), "{}", empty.1);

    for wrong in [&text[..text.len() - 1], text.rsplit(':').next().unwrap(), &other.public().to_string()] {
        let Told(status, out, err) = cache_with(&project, &["keys"], &[("RIVET_SIGNING_KEY", wrong)]);
        assert_eq!(status, 2, "{out}");
        assert!(err.contains("RIVET_SIGNING_KEY holds no private key"), "{err}");
        assert!(!err.contains(&text.rsplit(':').next().unwrap()[..8]), "{err}");
    }
}

#[test]
fn a_wrong_line_is_named() {
    let project = Project::new();
    let key = SigningKey::generate().unwrap().public();
    let list = project.path("config/rivet/trusted-keys");
    let good = format!("# the team\n\n  {key}\tCI of the main branch\r\n");
    project.write("config/rivet/trusted-keys", &good);
    assert_eq!(folder(&project).trusted_keys().unwrap(), [(key, "CI of the main branch".to_owned())]);
    for wrong in ["ssh-ed25519 AAAA", "rivet-ed25519:12", &format!("rivet-ed25519:{}", "0".repeat(64))] {
        project.write("config/rivet/trusted-keys", format!("{good}{wrong} eve\n"));
        let Told(status, _, err) = cache(&project, &["keys"]);
        assert_eq!(status, 2);
        assert!(err.contains(&format!("{}:4: ", list.display())), "{err}");
        // A key is not made when it could not be trusted.
        assert_eq!(cache(&project, &["keygen"]).0, 2);
        assert!(!project.path("config/rivet/signing-key").exists());
    }
    project.write("config/rivet/trusted-keys", "");
    project.write("config/rivet/signing-key", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    set_mode(project.path("config/rivet/signing-key"), 0o600);
    let Told(status, _, err) = cache(&project, &["keys"]);
    assert!(status == 2 && err.contains("holds no private key"), "{err}");
    assert!(!err.contains("BEGIN"), "{err}");
}

#[test]
fn others_are_trusted_once() {
    let project = Project::new();
    let (ann, bob) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    // The list may be a link to where somebody keeps configuration, and its last line may be open.
    project.write("dotfiles/trusted", format!("# mine\n{} Ann", ann.public()));
    fs::create_dir_all(project.path("config/rivet")).unwrap();
    symlink(project.path("dotfiles/trusted"), folder(&project).trusted_keys_path()).unwrap();

    let bobs = bob.public().to_string();
    let Told(status, out, _) = cache(&project, &["trust", &bobs, "Bob,\nof the team"]);
    assert!(status == 0 && out.contains("is now trusted"), "{out}");
    let text = fs::read_to_string(project.path("dotfiles/trusted")).unwrap();
    assert_eq!(text, format!("# mine\n{} Ann\n{bobs} Bob, of the team\n", ann.public()));
    let Told(status, out, _) = cache(&project, &["trust", &bobs, "Robert"]);
    assert!(status == 0 && out.contains("was already trusted"), "{out}");
    assert_eq!(fs::read_to_string(project.path("dotfiles/trusted")).unwrap(), text);

    let Told(_, out, err) = cache(&project, &["keys"]);
    assert!(out.contains(&format!("trusts  {bobs}  Bob, of the team\n")), "{out}");
    assert!(err.contains("`rivet cache keygen` makes one"), "{err}");
    let json = cache(&project, &["keys", "--json"]).1;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["signing"], serde_json::Value::Null);
    assert_eq!(json["trusted"].as_array().unwrap().len(), 2);

    let secret = bob.secret_text();
    let Told(status, out, err) = cache(&project, &["trust", &secret]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains("this is a private key") && !err.contains(secret.as_str()), "{err}");
    assert_eq!(cache(&project, &["trust", "bob"]).0, 2);
}

#[test]
fn keys_lie_in_the_home_folder_where_nothing_else_is_said() {
    let project = Project::new();
    for relative in [None, Some("config")] {
        let mut command = project.rivet();
        command.args(["cache", "keygen", "--force"]).env("HOME", project.path("ann"));
        match relative {
            Some(folder) => command.env("XDG_CONFIG_HOME", folder),
            None => command.env_remove("XDG_CONFIG_HOME"),
        };
        assert!(command.output().unwrap().status.success());
    }
    assert!(project.path("ann/.config/rivet/signing-key.old").exists());
    assert!(!project.path("config").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let project = Project::new();
    project.write("config", "a file");
    let Told(status, _, err) = cache(&project, &["keygen"]);
    assert_eq!(status, 1);
    assert!(err.starts_with("error: cannot ") && err.contains("config/rivet"), "{err}");
    let refused = folder(&project).trust(&SigningKey::generate().unwrap().public(), "");
    assert!(matches!(refused, Err(TrustError::Io { .. })), "{refused:?}");
}
