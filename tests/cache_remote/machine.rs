//! Machines that share a remote: each with a cache, a user's keys and an output folder of its own. No test
//! may make one say a secret.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use rivet::testing::cache::{Cache, Digest, EntryKey, LocalCache};
use serde_json::Value;

use super::common::{BUNNY_5S, Build, Project, TINY_RUNG, clip, ffmpeg, files_under, ladder};

/// A rung that is there from the beginning, and sound.
pub const RUNGS: [&str; 2] = [TINY_RUNG, "[[audio]]\nname = \"stereo\"\nbitrate = \"48k\"\n"];
/// One that somebody adds.
pub const OTHER_RUNG: &str = "[[rung]]\nname = \"other\"\nheight = 54\n";
/// In every password of the tests' servers.
const SECRET: &str = "hunter2";

/// Where a remote is, and the variables with its credentials.
#[derive(Clone)]
pub struct Place {
    pub url: String,
    pub variables: Vec<(&'static str, String)>,
}

impl Place {
    pub fn new(url: String, variables: &[(&'static str, &str)]) -> Place {
        // The machines' specs name it, which alone gets nobody's secrets.
        let trusted = [("RIVET_REMOTE_HOST", "localhost,127.0.0.1")];
        let variables = trusted.iter().chain(variables);
        Place { url, variables: variables.map(|(name, value)| (*name, (*value).to_owned())).collect() }
    }

    /// A folder that all machines see, and that somebody made.
    pub fn folder(folder: &Path) -> Place {
        fs::create_dir_all(folder).unwrap();
        Place::new(format!("fs://{}", folder.display()), &[])
    }

    fn cache_table(&self) -> String {
        format!("[cache]\nremote = \"{}\"\n", self.url)
    }
}

/// What a command told.
pub struct Told {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Told {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

pub struct Machine {
    pub project: Project,
    pub variables: Vec<(&'static str, String)>,
    /// Of the spec: rungs and sound, and what it says of caches.
    rungs: Vec<&'static str>,
    cache_table: String,
}

impl Machine {
    /// One that names no remote, with the film.
    pub fn alone() -> Machine {
        let machine = Machine {
            project: Project::new(),
            variables: Vec::new(),
            rungs: RUNGS.to_vec(),
            cache_table: String::new(),
        };
        machine.write_spec();
        film(&machine, "null");
        machine
    }

    /// One whose spec names a remote.
    pub fn at(place: &Place) -> Machine {
        let mut machine = Machine::alone();
        machine.variables.clone_from(&place.variables);
        machine.say_of_caches(&place.cache_table());
        machine
    }

    /// One that holds a key.
    pub fn signer_at(place: &Place) -> (Machine, String) {
        let machine = Machine::at(place);
        let public = machine.keygen();
        (machine, public)
    }

    /// One that holds none, and believes somebody else's.
    pub fn reader_at(place: &Place, public: &str) -> Machine {
        let machine = Machine::at(place);
        machine.ok(&["cache", "trust", public, "CI"]);
        machine
    }

    pub fn keygen(&self) -> String {
        self.ok(&["cache", "keygen"]).out.trim_end().to_owned()
    }

    /// Has the spec's `[cache]` replaced.
    pub fn say_of_caches(&mut self, table: &str) {
        table.clone_into(&mut self.cache_table);
        self.write_spec();
    }

    pub fn add_rung(&mut self) {
        self.rungs.push(OTHER_RUNG);
        self.write_spec();
    }

    /// Has the end of the film in another colour.
    pub fn recolour(&self) {
        film(self, "hue=h=120:enable='gte(t,1.4)'");
    }

    fn write_spec(&self) {
        let rest = ["[segments]\ntarget = \"1s\"\n", &self.rungs.concat(), &self.cache_table].concat();
        self.project.write("ladder.toml", ladder("film.mkv", &rest));
    }

    fn command(&self) -> Command {
        let mut command = self.project.rivet();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn tell(&self, arguments: &[&str]) -> Told {
        let output = self.command().args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = Told {
            status: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        };
        self.keeps_secrets(&[&told.out, &told.err]);
        told
    }

    /// Expects a command to end well.
    pub fn ok(&self, arguments: &[&str]) -> Told {
        let told = self.tell(arguments);
        assert_eq!(told.status, 0, "{arguments:?}\n{}{}", told.out, told.err);
        told
    }

    pub fn build(&self, arguments: &[&str]) -> Build {
        let events = self.project.path("events.jsonl");
        let _ = fs::remove_file(&events);
        // As much as it would tell anybody.
        let arguments = [&["build", "-vv", "--events", "events.jsonl"], arguments].concat();
        let build = Build::new(self.command().args(arguments).output().unwrap(), &events);
        assert!(build.status == 0, "exit status {}\n{}{}", build.status, build.stdout, build.stderr);
        self.keeps_secrets(&[&build.stdout, &build.stderr, &fs::read_to_string(&events).unwrap()]);
        build
    }

    /// No text holds a password or a private key, and neither does what lies in the cache.
    fn keeps_secrets(&self, texts: &[&str]) {
        let key = fs::read_to_string(self.project.path("config/rivet/signing-key")).unwrap_or_default();
        let mut secrets = vec![SECRET];
        secrets.extend(key.trim_end().rsplit(':').next().filter(|digits| !digits.is_empty()));
        let cached = files_under(&self.project.path("cache"));
        for secret in secrets {
            assert!(texts.iter().all(|text| !text.contains(secret)), "{texts:?}");
            for (name, bytes) in &cached {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{name} has a secret in it");
            }
        }
    }

    /// Removes all that was built here, as if it had never been.
    pub fn forget(&self) {
        for folder in ["cache", "out"] {
            let _ = fs::remove_dir_all(self.project.path(folder));
        }
    }

    pub fn output(&self) -> BTreeMap<String, String> {
        let output = self.project.output();
        assert!(output.len() > 5, "{output:?}");
        output
    }

    /// The blobs in its cache, by digest, and the bytes of each.
    pub fn blobs(&self) -> BTreeMap<String, u64> {
        let files = files_under(&self.project.path("cache/rivet/v3/blobs")).into_iter();
        files.map(|(name, bytes)| (last_part(&name), bytes.len() as u64)).collect()
    }

    /// The digests of the results in its cache, by the kind of step that made them.
    pub fn results(&self) -> HashMap<String, Vec<String>> {
        let cache = LocalCache::open_read_only(&self.project.path("cache/rivet")).unwrap();
        let mut results: HashMap<String, Vec<String>> = HashMap::new();
        for name in files_under(&self.project.path("cache/rivet/v3/entries")).keys() {
            let hex = blake3::Hash::from_hex(last_part(name)).unwrap();
            let entry = cache.find_entry(&EntryKey(Digest::from(hex))).unwrap().unwrap();
            let blobs = entry.result.blobs.iter().map(|blob| blob.digest.to_string());
            results.entry(entry.cost.kind).or_default().extend(blobs);
        }
        results
    }
}

fn last_part(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

/// Two seconds of picture and sound, whose end may be painted differently.
fn film(machine: &Machine, paint: &str) {
    let (source, film) = (clip(BUNNY_5S), machine.project.path("film.mkv"));
    let filter = format!("scale=96:54,{paint}");
    let arguments = ["-t", "2", "-vf", &filter, "-c:v", "ffv1", "-g", "5", "-c:a", "pcm_s16le"];
    let bitexact = ["-fflags", "+bitexact", "-flags", "+bitexact"];
    let source = ["-i", source.to_str().unwrap()];
    ffmpeg(&[&source[..], &arguments, &bitexact, &[film.to_str().unwrap()]].concat());
}

/// What came of a build's remote.
pub fn remote(build: &Build) -> &Value {
    let remote = &build.summary()["remote"];
    assert!(remote.is_object(), "there is no remote: {}", build.summary());
    remote
}

/// How many encodes and decodes ran.
pub fn codec_runs(build: &Build) -> (u64, u64) {
    (build.ran("encode") + build.ran("audio"), build.ran("decode"))
}

/// The encodes that ran, in no order of time.
pub fn encoded(build: &Build) -> BTreeSet<String> {
    build.encoded().into_iter().collect()
}
