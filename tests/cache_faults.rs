//! Remotes that are slow, down or full, and remotes that lie: builds end as well as without any, nothing
//! of the lies gets in, and what was the matter is told once.
#![cfg(feature = "stores")]

mod common;
#[cfg(feature = "reapi")]
#[path = "common/reapi_server/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it can misbehave in more ways")]
mod reapi_server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::proxy::{self, Fault};
use common::servers::free_port;
use common::servers::mock::Request;
use common::servers::webdav::{self, WebDav};
use common::{BUNNY_5S, Build, Project, TINY_RUNG, ladder};
use rivet::testing::cache::trust::{KeyFolder, SigningKey, Trust, seal};
use rivet::testing::cache::{CacheEntry, Digest, EntryKey};
use serde_json::Value;

/// A machine: a folder with a film and a spec, a cache, and a user with a key.
struct Machine {
    project: Project,
    key: SigningKey,
}

impl Machine {
    /// One that trusts itself alone.
    fn new(film: &Path) -> Machine {
        let project = Project::new();
        fs::copy(film, project.path("film.mkv")).unwrap();
        project
            .write("ladder.toml", ladder("film.mkv", &format!("[segments]\ntarget = \"1s\"\n{TINY_RUNG}")));
        let key = SigningKey::generate().unwrap();
        KeyFolder::new(project.path("config/rivet")).keep(&key, false).unwrap();
        Machine { project, key }
    }

    fn trusting(self, other: &Machine) -> Machine {
        KeyFolder::new(self.project.path("config/rivet")).trust(&other.key.public(), "another").unwrap();
        self
    }

    fn command(&self, remote: &str, arguments: &[&str]) -> Command {
        let mut command = self.project.rivet();
        command
            .env("RIVET_REMOTE_USER", webdav::USER)
            .env("RIVET_REMOTE_PASSWORD", webdav::PASSWORD)
            .args(["build", "--jobs", "2", "--remote-cache", remote, "--events"])
            .arg(self.project.path("events.jsonl"))
            .args(arguments);
        command
    }

    fn build(&self, remote: &str, arguments: &[&str]) -> Build {
        self.end(&mut self.command(remote, arguments))
    }

    fn end(&self, command: &mut Command) -> Build {
        Build::new(command.output().unwrap(), &self.project.path("events.jsonl"))
    }

    /// The names of what lies beside the film.
    fn beside(&self) -> Vec<String> {
        let names = fs::read_dir(self.project.root()).unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A film of two segments, in a folder of its own.
fn film() -> (Project, PathBuf) {
    let project = Project::new();
    let (clip, film) = (common::clip(BUNNY_5S), project.path("film.mkv"));
    let small = ["-t", "2", "-vf", "scale=64:36", "-c:v", "ffv1", "-g", "12", "-an"];
    common::ffmpeg(&[&["-i", clip.to_str().unwrap()], &small[..], &[film.to_str().unwrap()]].concat());
    (project, film)
}

fn remote_of(build: &Build) -> &Value {
    &build.summary()["remote"]
}

fn number(build: &Build, what: &str) -> u64 {
    remote_of(build)[what].as_u64().unwrap_or_else(|| panic!("no remote.{what}"))
}

/// The warnings, which are of the remote, but for those of results that are made again.
fn warnings(build: &Build) -> Vec<&str> {
    let warns = |line: &&str| line.starts_with("warning:") && !line.ends_with("; rebuilding it");
    let warnings: Vec<&str> = build.stderr.lines().filter(warns).collect();
    assert!(warnings.iter().all(|line| line.contains("the remote cache")), "{warnings:#?}");
    warnings
}

fn assert_well(what: &str, build: &Build, machine: &Machine, expected: &BTreeMap<String, String>) {
    assert_eq!(build.status, 0, "{what}\n{}{}", build.stdout, build.stderr);
    assert_eq!(&machine.project.output(), expected, "{what}");
}

fn webdav_at(port: u16) -> String {
    format!("webdav://127.0.0.1:{port}/team/cache")
}

/// What a remote's answers suffer, and whether that ends its use.
type Trouble = (&'static str, fn(usize, &Request) -> Fault, bool);

fn is_get_of(part: &str, request: &Request) -> bool {
    request.line.starts_with("GET ") && request.line.contains(part)
}

const TROUBLES: [Trouble; 10] = [
    ("late", |_, _| Fault::Late(Duration::from_secs(2)), true),
    ("hang", |_, _| Fault::Hang, true),
    ("cut", |_, _| Fault::Cut, true),
    ("503", |_, _| Fault::Says("503 Service Unavailable"), true),
    ("403", |_, _| Fault::Says("403 Forbidden"), true),
    ("507", |_, _| Fault::Says("507 Insufficient Storage"), true),
    ("dies", |before, _| if before < 8 { Fault::Nothing } else { Fault::Cut }, true),
    ("bodies cut", |_, asked| if is_get_of("/blobs/", asked) { Fault::Cut } else { Fault::Nothing }, false),
    (
        "bodies short",
        |_, asked| if is_get_of("/blobs/", asked) { Fault::Short } else { Fault::Nothing },
        false,
    ),
    ("bodies flipped", |_, asked| if is_get_of("/", asked) { Fault::Flip } else { Fault::Nothing }, false),
];

#[test]
fn a_remote_in_trouble_breaks_no_build() {
    let (_folder, film) = film();
    let full = WebDav::start();
    let first = Machine::new(&film);
    let filled = first.build(&full.url("webdav"), &[]);
    assert_eq!(filled.status, 0, "{}", filled.stderr);
    assert!(number(&filled, "stored_entries") > 0);
    let expected = first.project.output();
    let steps = number(&filled, "misses");

    for trouble in TROUBLES {
        // One that would have found everything, and one that has all to make and to store.
        let (warm, cold) = (Machine::new(&film).trusting(&first), Machine::new(&film));
        let empty = WebDav::start();
        std::thread::scope(|scope| {
            let expected = &expected;
            scope.spawn(move || survives(trouble, "cold", &cold, &empty, expected, steps));
            survives(trouble, "warm", &warm, &full, expected, steps);
        });
    }

    let machine = Machine::new(&film).trusting(&first);
    let build = machine.build(&webdav_at(free_port()), &["--remote-timeout", "300ms"]);
    assert_well("refused", &build, &machine, &expected);
    assert_eq!(warnings(&build).len(), 1, "{}", build.stderr);
    assert!(remote_of(&build)["went_on_without"].is_string());
    assert_eq!(number(&build, "misses"), 0, "nobody said that anything is missing");
}

/// `steps` is how many steps there are to ask for.
fn survives(
    (what, fault, ends): Trouble,
    kind: &str,
    machine: &Machine,
    server: &WebDav,
    expected: &BTreeMap<String, String>,
    steps: u64,
) {
    let proxy = proxy::start(server.port(), fault);
    let build = machine.build(&webdav_at(proxy.port), &["--remote-timeout", "300ms"]);
    let what = format!("{what}, {kind}");
    assert_well(&what, &build, machine, expected);
    let told = warnings(&build);
    assert!(told.len() <= 1, "{what}: {told:#?}");
    if ends {
        assert_eq!(told.len(), 1, "{what}\n{}", build.stderr);
        let remote = remote_of(&build);
        let is_told = remote["went_on_without"].is_string() || remote["read_only"].is_string();
        assert!(is_told && number(&build, "errors") > 0, "{what}: {remote}");
        assert!(number(&build, "hits") + number(&build, "misses") <= 8, "{what}: {remote}");
        // Five attempts at all steps and their blobs together, and never again.
        let asked = proxy.asked().len() as u64;
        assert!(asked <= 20 * steps, "{what}: {asked} requests for {steps} steps");
    } else if kind == "warm" {
        let noticed = number(&build, "errors") + number(&build, "corrupt");
        let rejected = remote_of(&build)["rejected"].as_object().is_some_and(|by| !by.is_empty());
        assert!(noticed > 0 || rejected, "{what}: {}", remote_of(&build));
    }
}

#[cfg(feature = "reapi")]
#[test]
fn remote_execution_over_a_bad_line_breaks_no_build() {
    use common::proxy::{Line, Tcp};
    let (_folder, film) = film();
    let server = reapi_server::ReapiServer::start(reapi_server::Behaviour::default());
    let first = Machine::new(&film);
    let filled = first.build(&server.url(), &[]);
    assert_eq!(filled.status, 0, "{}", filled.stderr);
    assert!(number(&filled, "stored_entries") > 0 && number(&filled, "errors") == 0);
    let expected = first.project.output();
    for (line, ends) in
        [(Line::Silent, true), (Line::Ends(0), true), (Line::Ends(1000), true), (Line::Flips(1500), false)]
    {
        let tcp = Tcp::start(server.port(), line);
        let url = format!("grpc://127.0.0.1:{}/{}", tcp.port, reapi_server::INSTANCE);
        let machine = Machine::new(&film).trusting(&first);
        let build = machine.build(&url, &["--remote-timeout", "300ms"]);
        let what = format!("{line:?}");
        assert_well(&what, &build, &machine, &expected);
        assert!(warnings(&build).len() <= 1, "{what}\n{}", build.stderr);
        if ends {
            assert_eq!(warnings(&build).len(), 1, "{what}\n{}", build.stderr);
            assert!(remote_of(&build)["went_on_without"].is_string(), "{what}: {}", remote_of(&build));
        }
        assert!(number(&build, "errors") + number(&build, "corrupt") > 0, "{what}: {}", remote_of(&build));
        assert!(tcp.connections() <= 40, "{what}: {} connections", tcp.connections());
    }
}

#[test]
fn a_full_remote_is_still_read() {
    let (_folder, film) = film();
    let server = WebDav::start();
    let first = Machine::new(&film);
    assert_eq!(first.build(&server.url("webdav"), &[]).status, 0);
    let full = |_: usize, request: &Request| match request.line.split(' ').next() {
        Some("PUT") => Fault::Says("507 Insufficient Storage"),
        _ => Fault::Nothing,
    };
    let proxy = proxy::start(server.port(), full);
    let machine = Machine::new(&film).trusting(&first);
    // A rung that is there, and one that is to be made.
    let rungs = format!("[segments]\ntarget = \"1s\"\n{TINY_RUNG}[[rung]]\nname = \"less\"\nheight = 18\n");
    machine.project.write("ladder.toml", ladder("film.mkv", &rungs));
    let build = machine.build(&webdav_at(proxy.port), &[]);
    assert_eq!(build.status, 0, "{}", build.stderr);
    assert!(number(&build, "hits") > 0 && number(&build, "not_stored") > 0, "{}", remote_of(&build));
    let encoded = build.encoded();
    assert!(!encoded.is_empty() && encoded.iter().all(|node| node.starts_with("less/")), "{encoded:?}");
    assert!(remote_of(&build)["read_only"].is_string() && remote_of(&build)["went_on_without"].is_null());
    assert_eq!(warnings(&build).len(), 1, "{}", build.stderr);
    let puts = proxy.asked().iter().filter(|asked| asked.line.starts_with("PUT ")).count();
    assert!(puts <= 32, "{puts} that are put side by side, and no more");
}

#[test]
fn an_interrupted_build_does_not_wait_for_a_remote_that_hangs() {
    let (_folder, film) = film();
    let machine = Machine::new(&film);
    let (told, asked) = std::sync::mpsc::channel();
    let proxy = proxy::start(0, move |_, _| {
        let _ = told.send(());
        Fault::Hang
    });
    let mut command = machine.command(&webdav_at(proxy.port), &["--remote-timeout", "1h"]);
    let mut build = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    asked.recv().unwrap();
    let process = rustix::process::Pid::from_child(&build);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(build.wait().unwrap().code(), Some(130));
}

/// What a remote that lies has: files in a folder, which it may change.
struct Lies<'a> {
    folder: PathBuf,
    /// Whose entries are there.
    machine: &'a Machine,
}

impl Lies<'_> {
    /// Changes all files of a part, `entries` or `blobs`, together.
    fn change(&self, part: &str, change: impl FnOnce(Vec<Vec<u8>>) -> Vec<Vec<u8>>) {
        let folder = self.folder.join("v3").join(part);
        let (names, files): (Vec<String>, Vec<Vec<u8>>) = common::files_under(&folder).into_iter().unzip();
        assert!(files.len() > 3, "there are {part}");
        for (name, bytes) in names.iter().zip(change(files)) {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    fn change_each(&self, part: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
        self.change(part, |files| files.into_iter().map(change).collect());
    }

    /// Changes the entries, and has them written down anew by `seal`.
    fn change_entries(
        &self,
        change: impl FnOnce(&mut Vec<CacheEntry>),
        seal: impl Fn(&EntryKey, &CacheEntry) -> Vec<u8>,
    ) {
        let folder = self.folder.join("v3/entries");
        let trust = Trust::new(Some(self.key()));
        let files = common::files_under(&folder);
        let key = |name: &str| EntryKey(name.rsplit('/').next().unwrap().parse::<Digest>().unwrap());
        let mut entries = files.iter().map(|(name, bytes)| trust.open(&key(name), bytes).unwrap()).collect();
        change(&mut entries);
        for (name, entry) in files.keys().zip(&entries) {
            fs::write(folder.join(name), seal(&key(name), entry)).unwrap();
        }
    }

    fn key(&self) -> SigningKey {
        self.machine.key.secret_text().parse().unwrap()
    }

    /// Signed by whom the others trust, whatever it says.
    fn sign_anything(&self, key: &EntryKey, entry: &CacheEntry) -> Vec<u8> {
        use ed25519_dalek::Signer;
        let text = self.machine.key.secret_text();
        let seed: Digest = text.rsplit(':').next().unwrap().parse().unwrap();
        let signer = ed25519_dalek::SigningKey::from_bytes(&seed.0);
        let body = postcard::to_stdvec(entry).unwrap();
        let message = [b"rivet sealed action entry v1", &key.0.0[..], &body].concat();
        let (public, seal) = (signer.verifying_key().to_bytes(), signer.sign(&message).to_bytes());
        [&b"rivetAE\x01\x01"[..], &public, &seal, &body].concat()
    }

    /// Files whose length is a lie, too: of a terabyte, of which nothing is on the disk.
    fn stretch(&self, part: &str) {
        let folder = self.folder.join("v3").join(part);
        for name in common::files_under(&folder).keys() {
            fs::OpenOptions::new().write(true).open(folder.join(name)).unwrap().set_len(1 << 40).unwrap();
        }
    }

    /// Blobs with other bytes than their names say.
    fn wrong_blobs(&self) -> BTreeSet<String> {
        let files = common::files_under(&self.folder.join("v3/blobs"));
        let is_wrong = |(name, bytes): &(&String, &Vec<u8>)| !name.ends_with(&Digest::of(bytes).to_string());
        files.iter().filter(is_wrong).map(|(name, _)| name.clone()).collect()
    }
}

fn flip_last(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x10;
    }
    bytes
}

fn rotated(mut files: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    files.rotate_left(1);
    files
}

/// What is done to a remote, and what the summary then counts: a pointer into its `remote`.
type Poison = (&'static str, fn(&Lies), &'static str);

const POISONS: [Poison; 12] = [
    ("flipped blobs", |lies| lies.change_each("blobs", flip_last), "/corrupt"),
    ("swapped blobs", |lies| lies.change("blobs", rotated), "/incomplete"),
    ("empty blobs", |lies| lies.change_each("blobs", |_| Vec::new()), "/incomplete"),
    ("endless blobs", |lies| lies.stretch("blobs"), "/incomplete"),
    ("flipped entries", |lies| lies.change_each("entries", flip_last), "/rejected/wrong signature"),
    ("swapped entries", |lies| lies.change("entries", rotated), "/rejected/wrong signature"),
    ("empty entries", |lies| lies.change_each("entries", |_| Vec::new()), "/rejected/malformed"),
    ("endless entries", |lies| lies.stretch("entries"), "/errors"),
    (
        "unsigned",
        |lies| lies.change_entries(|_| (), |key, entry| seal(key, entry, None).unwrap()),
        "/rejected/unsigned",
    ),
    (
        "signed by a stranger",
        |lies| {
            let stranger = SigningKey::generate().unwrap();
            lies.change_entries(|_| (), |key, entry| seal(key, entry, Some(&stranger)).unwrap());
        },
        "/rejected/unknown key",
    ),
    (
        "another size",
        |lies| {
            lies.change_entries(
                |entries| resize(entries, |size| size + 1),
                |key, entry| lies.sign_anything(key, entry),
            )
        },
        "/incomplete",
    ),
    (
        "a petabyte",
        |lies| {
            lies.change_entries(
                |entries| resize(entries, |_| 1 << 50),
                |key, entry| lies.sign_anything(key, entry),
            )
        },
        "/rejected/too large",
    ),
];

fn resize(entries: &mut [CacheEntry], size: fn(u64) -> u64) {
    let blobs = entries.iter_mut().flat_map(|entry| &mut entry.result.blobs);
    blobs.for_each(|blob| blob.size = size(blob.size));
}

/// Gives a build less memory, in all of its processes, than the lies promise bytes.
fn within_bounds(command: &Command) -> Command {
    let mut bounded = Command::new("sh");
    bounded.args(["-c", "ulimit -v 8388608 && exec \"$0\" \"$@\""]);
    bounded.arg(command.get_program()).args(command.get_args());
    bounded.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded
}

/// A remote in a folder, and the machine that filled it.
fn filled(film: &Path) -> (Machine, PathBuf) {
    let machine = Machine::new(film);
    let folder = machine.project.path("remote");
    fs::create_dir(&folder).unwrap();
    let build = machine.build(&format!("fs://{}", folder.display()), &[]);
    assert_eq!(build.status, 0, "{}", build.stderr);
    assert_eq!(number(&build, "not_stored"), 0);
    (machine, folder)
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in common::files_under(from) {
        let file = to.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

#[test]
fn lies_are_not_believed() {
    let (_folder, film) = film();
    let (first, remote) = filled(&film);
    let expected = first.project.output();
    for (what, poison, counted) in POISONS {
        let place = Project::new();
        let lies = Lies { folder: place.path("remote"), machine: &first };
        copy(&remote, &lies.folder);
        poison(&lies);
        let machine = Machine::new(&film).trusting(&first);
        let mut beside = machine.beside();
        let url = format!("fs://{}", lies.folder.display());
        let build = machine.end(&mut within_bounds(&machine.command(&url, &[])));
        assert_well(what, &build, &machine, &expected);
        let told = remote_of(&build);
        assert!(told.pointer(counted).and_then(Value::as_u64).is_some_and(|n| n > 0), "{what}: {told}");
        assert!(warnings(&build).len() <= 1, "{what}\n{}", build.stderr);
        beside.extend(["cache", "events.jsonl", "out"].map(str::to_owned));
        beside.sort();
        assert_eq!(machine.beside(), beside, "{what}: nothing else is written");
        assert_eq!(place.root().read_dir().unwrap().count(), 1, "{what}: nor beside the remote");
        // Sparse files of a terabyte are not for reading.
        if what == "flipped blobs" {
            assert_eq!(warnings(&build).len(), 1, "{}", build.stderr);
            let still = lies.wrong_blobs();
            let names = |folder: &Path| -> BTreeSet<String> {
                common::files_under(&folder.join("v3/blobs")).into_keys().collect()
            };
            let was = names(&remote);
            assert_eq!(names(&lies.folder), was, "whoever builds the same stores the same");
            let healed: Vec<&String> = was.difference(&still).collect();
            assert_eq!(healed.len() as u64, number(&build, "corrupt"), "{healed:?} of {was:?}, {told}");
        }
    }
}

/// What somebody trusted makes of entries before signing them.
type Change = fn(&mut Vec<CacheEntry>);

/// Whoever is trusted can say what they will of a step's result; what cannot be one is found out.
#[test]
fn nonsense_of_somebody_trusted_is_no_panic() {
    let (_folder, film) = film();
    let (first, remote) = filled(&film);
    let facts = |entries: &mut Vec<CacheEntry>| {
        entries.iter_mut().for_each(|entry| entry.result.facts = b"\xff\xff\xff\xff\xff nonsense".to_vec());
    };
    let none = |entries: &mut Vec<CacheEntry>| {
        entries.iter_mut().for_each(|entry| entry.result = Default::default());
    };
    let rotated = |entries: &mut Vec<CacheEntry>| {
        let first = entries[0].result.clone();
        for at in 1..entries.len() {
            entries[at - 1].result = entries[at].result.clone();
        }
        entries.last_mut().unwrap().result = first;
    };
    let changes: [(&str, Change); 3] = [("facts", facts), ("nothing", none), ("another step's", rotated)];
    for (what, change) in changes {
        let place = Project::new();
        let lies = Lies { folder: place.path("remote"), machine: &first };
        copy(&remote, &lies.folder);
        lies.change_entries(change, |key, entry| lies.sign_anything(key, entry));
        let machine = Machine::new(&film).trusting(&first);
        let url = format!("fs://{}", lies.folder.display());
        let build = machine.end(&mut within_bounds(&machine.command(&url, &[])));
        assert!(matches!(build.status, 0 | 1), "{what}: {}\n{}", build.status, build.stderr);
        assert!(!build.stderr.contains("panicked"), "{what}\n{}", build.stderr);
        assert!(number(&build, "hits") > 0, "{what}: the nonsense came through\n{}", build.stdout);
    }
}
