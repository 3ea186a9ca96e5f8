//! A folder to try rivet in, and ways to look at what it makes through other programs' eyes.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod blobs;
pub mod chunk;
pub mod decoders;
pub mod fake_nvidia;
#[cfg(feature = "nvidia")]
pub mod nvenc;
pub mod own_process;
pub mod proxy;
pub mod servers;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// One rung so small that its encodes take no time.
pub const TINY_RUNG: &str = "[[rung]]\nname = \"tiny\"\nheight = 36\n";

pub struct Project {
    dir: TempDir,
}

/// A clip that lies in the repository.
pub fn clip(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [root.join("tests/media").join(name), root.join("examples/media").join(name)];
    places.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("there is no clip {name}"))
}

pub const BUNNY_30S: &str = "bbb_854x480_24_30s.mp4";
pub const BUNNY_5S: &str = "bbb_1280x720_25_51aac.mp4";
pub const FLOWER: &str = "flower_960x540_2997_aac.mp4";
pub const FRIDAY: &str = "friday_640x480_30_aac.mp4";

/// A spec for one title, with rav1e at its fastest.
pub fn ladder(source: &str, rest: &str) -> String {
    format!("[title]\nsource = \"{source}\"\noutput = \"out\"\n[encoder.rav1e]\nspeed = 10\n{rest}")
}

impl Project {
    pub fn new() -> Project {
        Project { dir: tempfile::tempdir().unwrap() }
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Copies a clip of the repository.
    pub fn copy_clip(&self, name: &str, to: &str) -> PathBuf {
        let path = self.path(to);
        fs::copy(clip(name), &path).unwrap();
        path
    }

    /// rivet, with its cache and its user's configuration in this folder.
    pub fn rivet(&self) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_rivet")))
    }

    /// The same by somebody to whom permissions apply: root may do anything.
    pub fn rivet_as_anybody(&self) -> Command {
        if !rustix::process::geteuid().is_root() {
            return self.rivet();
        }
        // The repository may lie in a private folder.
        let program = self.path("rivet");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_rivet"), &program).unwrap();
        }
        let mut command = self.command(&program);
        command.uid(65534).gid(65534);
        command
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.root())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env_remove("RIVET_CACHE_DIR")
            .env_remove("RIVET_REMOTE_CACHE")
            .env_remove("RIVET_SIGNING_KEY");
        command
    }

    /// Builds `ladder.toml`, and expects it to end well.
    pub fn build(&self) -> Build {
        self.build_with(&[])
    }

    pub fn build_with(&self, arguments: &[&str]) -> Build {
        let build = self.try_build(arguments);
        assert!(build.status == 0, "exit status {}\n{}{}", build.status, build.stdout, build.stderr);
        build
    }

    pub fn try_build(&self, arguments: &[&str]) -> Build {
        let events = self.path("events.jsonl");
        let _ = fs::remove_file(&events);
        let output = self.rivet().args(["build", "--events"]).arg(&events).args(arguments).output().unwrap();
        Build::new(output, &events)
    }

    /// Every file of the output folder that a player may ask for.
    pub fn output(&self) -> BTreeMap<String, String> {
        published(&self.path("out"))
    }
}

/// The files that a player may ask for, by name, with the digest of their content.
pub fn published(folder: &Path) -> BTreeMap<String, String> {
    let files = files_under(folder).into_iter().filter(|(name, _)| !name.starts_with(".rivet"));
    files.map(|(name, bytes)| (name, blake3::hash(&bytes).to_string())).collect()
}

pub fn files_under(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

pub struct Build {
    /// Exit status; -1 when a signal ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    pub events: Vec<Value>,
}

impl Build {
    pub fn new(output: Output, events: &Path) -> Build {
        let text = fs::read_to_string(events).unwrap_or_default();
        Build {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            events: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        }
    }

    pub fn summary(&self) -> &Value {
        let last = self.events.last().expect("there are events");
        assert_eq!(last["event"], "summary", "the last event is the summary");
        last
    }

    pub fn count(&self, kind: &str, what: &str) -> u64 {
        self.summary()["nodes"][kind][what].as_u64().unwrap_or_else(|| panic!("no nodes.{kind}.{what}"))
    }

    pub fn ran(&self, kind: &str) -> u64 {
        self.count(kind, "ran")
    }

    /// How many steps ran, of all kinds.
    pub fn ran_at_all(&self) -> u64 {
        let nodes = self.summary()["nodes"].as_object().unwrap();
        nodes.values().map(|counts| counts["ran"].as_u64().unwrap()).sum()
    }

    /// The encodes that ran, e.g. `tiny/3`.
    pub fn encoded(&self) -> Vec<String> {
        let ran = |event: &&Value| {
            event["event"] == "finished" && event["kind"] == "encode" && event["origin"] == "ran"
        };
        self.events.iter().filter(ran).map(|event| event["node"].as_str().unwrap().to_owned()).collect()
    }

    /// Seconds of film that were encoded, over all rungs.
    pub fn seconds_encoded(&self) -> f64 {
        let ran = |event: &&Value| {
            event["event"] == "finished" && event["kind"] == "encode" && event["origin"] == "ran"
        };
        self.events.iter().filter(ran).map(|event| event["encode"]["seconds"].as_f64().unwrap()).sum()
    }
}

/// Waits for what must come; a test that waits in vain has failed.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}");
}

/// Runs a program and returns what it printed; any failure, and any word on standard error,
/// fails the test.
pub fn quietly(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{command:?}\n{complaints}");
    output.stdout
}

/// ffmpeg, which may say nothing.
pub fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    quietly("ffmpeg", ["-v", "warning", "-nostdin", "-y"].iter().chain(arguments))
}

pub fn ffprobe(path: &Path, arguments: &[&str]) -> Value {
    let mut all = vec!["-v", "warning", "-of", "json"];
    all.extend(arguments);
    all.push(path.to_str().unwrap());
    serde_json::from_slice(&quietly("ffprobe", all)).unwrap()
}

/// A media playlist's segments: name and seconds.
pub fn segments(playlist: &Path) -> Vec<(String, f64)> {
    let text = fs::read_to_string(playlist).unwrap();
    let mut lines = text.lines();
    let mut segments = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("#EXTINF:") {
            let seconds = rest.trim_end_matches(',').parse().unwrap();
            segments.push((lines.next().unwrap().to_owned(), seconds));
        }
    }
    segments
}

/// A track's initialisation segment and segments as one MP4 file.
pub fn join_track(folder: &Path, to: &Path) {
    let text = fs::read_to_string(folder.join("playlist.m3u8")).unwrap();
    let map = text.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")).unwrap();
    let mut bytes = fs::read(folder.join(map.trim_end_matches('"'))).unwrap();
    for (name, _) in segments(&folder.join("playlist.m3u8")) {
        bytes.extend(fs::read(folder.join(name)).unwrap());
    }
    fs::write(to, bytes).unwrap();
}

/// The duration of every sample of a track, in ticks, as the boxes of its segments tell it.
pub fn sample_durations(folder: &Path) -> Vec<u32> {
    use mp4_atom::{Any, DecodeMaybe};
    let mut durations = Vec::new();
    for (name, _) in segments(&folder.join("playlist.m3u8")) {
        let bytes = fs::read(folder.join(name)).unwrap();
        let mut rest = &bytes[..];
        while let Some(atom) = Any::decode_maybe(&mut rest).unwrap() {
            let Any::Moof(moof) = atom else { continue };
            for traf in &moof.traf {
                let default = traf.tfhd.default_sample_duration;
                let samples = traf.trun.iter().flat_map(|run| run.samples.iter());
                durations.extend(samples.map(|sample| sample.duration.or(default).unwrap()));
            }
        }
    }
    durations
}
