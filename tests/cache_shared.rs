//! Builds that share a cache share its work: no action is run by two of them at the same time, and
//! one that dies holds nobody up.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{BUNNY_5S, Build, Project, ladder};
use serde_json::Value;

const RUNGS: &str = "[segments]\ntarget = \"1s\"\n[[rung]]\nname = \"a\"\nheight = 90\n[[rung]]\nname = \"b\"\nheight = 54\n\
                     [[audio]]\nname = \"stereo\"\n";
/// What each build does for itself: it lies outside the cache.
const OUTSIDE: [&str; 2] = ["source", "publish"];

/// A film of many spans, with sound.
fn film(project: &Project) {
    let (clip, film) = (common::clip(BUNNY_5S), project.path("film.mkv"));
    let small = ["-vf", "scale=160:90", "-c:v", "ffv1", "-g", "12", "-c:a", "pcm_s16le"];
    common::ffmpeg(&[&["-i", clip.to_str().unwrap()], &small[..], &[film.to_str().unwrap()]].concat());
}

fn spec(output: &str, rungs: &str) -> String {
    ladder("film.mkv", rungs).replace("\"out\"", &format!("\"{output}\""))
}

/// A build of a spec of its own.
fn command(project: &Project, name: &str, rungs: &str) -> Command {
    let mut command = quiet_command(project, name, rungs);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).args(["--jobs", "2"]);
    command
}

/// One that does a step at a time, in the process itself: stopping it stops the step.
fn holder(project: &Project) -> Command {
    let mut command = quiet_command(project, "holder", RUNGS);
    command.args(["--jobs", "1", "--in-process"]);
    command
}

/// A build with its events in a file beside its spec.
fn quiet_command(project: &Project, name: &str, rungs: &str) -> Command {
    project.write(&format!("{name}.toml"), spec(name, rungs));
    let mut command = project.rivet();
    command.args(["build", &format!("{name}.toml"), "--events"]).arg(project.path(&format!("{name}.jsonl")));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn end(project: &Project, name: &str, child: Child) -> Build {
    let build = Build::new(child.wait_with_output().unwrap(), &project.path(&format!("{name}.jsonl")));
    assert_eq!(build.status, 0, "{name}\n{}{}", build.stdout, build.stderr);
    build
}

/// How often each step ran, by kind and name.
fn ran<'a>(builds: impl IntoIterator<Item = &'a Build>) -> BTreeMap<String, u64> {
    let mut ran = BTreeMap::new();
    for event in builds.into_iter().flat_map(|build| &build.events) {
        let (kind, node) = (event["kind"].as_str().unwrap_or_default(), &event["node"]);
        if event["event"] == "finished" && event["origin"] == "ran" && !OUTSIDE.contains(&kind) {
            *ran.entry(format!("{kind} {node}")).or_default() += 1;
        }
    }
    ran
}

#[test]
fn eight_builds_at_once_run_each_action_once() {
    let alone = Project::new();
    film(&alone);
    let whole = end(&alone, "out", command(&alone, "out", RUNGS).spawn().unwrap());
    let once = ran([&whole]);
    assert!(once.len() > 40 && once.values().all(|&times| times == 1), "{once:?}");

    let shared = Project::new();
    film(&shared);
    let names: Vec<String> = (0..8).map(|number| format!("out{number}")).collect();
    let children: Vec<Child> =
        names.iter().map(|name| command(&shared, name, RUNGS).spawn().unwrap()).collect();
    let builds: Vec<Build> =
        names.iter().zip(children).map(|(name, child)| end(&shared, name, child)).collect();
    assert_eq!(ran(&builds), once);
    let expected = alone.output();
    for (name, build) in names.iter().zip(&builds) {
        assert_eq!(common::published(&shared.path(name)), expected, "{name}");
        // All have counted the same steps, whoever made them.
        for kind in ["index", "decode", "chunk", "encode", "audio", "mux", "pack", "contract", "playlist"] {
            let all = |build: &Build| build.count(kind, "ran") + build.count(kind, "cached");
            assert_eq!(all(build), all(&whole), "{name}: {kind}");
        }
    }
}

/// Damage of which nobody knows until the bytes are read: whoever finds it has it repaired, once for all.
#[test]
fn builds_at_once_repair_each_loss_once() {
    let project = Project::new();
    film(&project);
    end(&project, "first", command(&project, "first", RUNGS).spawn().unwrap());
    let expected = common::published(&project.path("first"));
    let blobs = project.path("cache/rivet/v3/blobs");
    let flipped = common::files_under(&blobs).into_iter().filter(|(_, bytes)| !bytes.is_empty());
    for (name, mut bytes) in flipped {
        // The name of a blob that others are linked to stays as it is.
        fs::remove_file(blobs.join(&name)).unwrap();
        *bytes.last_mut().unwrap() ^= 0x10;
        fs::write(blobs.join(&name), bytes).unwrap();
    }
    let names = ["second", "third", "fourth"];
    let children = names.map(|name| command(&project, name, RUNGS).spawn().unwrap());
    let builds: Vec<Build> =
        names.iter().zip(children).map(|(name, child)| end(&project, name, child)).collect();
    let again = ran(&builds);
    assert!(again.keys().any(|node| node.starts_with("encode")), "{again:?}");
    let twice: Vec<_> = again.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for name in names {
        assert_eq!(common::published(&project.path(name)), expected, "{name}");
    }
}

/// Specs with a rung in common, of a film that they have in common.
#[test]
fn two_specs_share_what_they_have_in_common() {
    let rung = |name: &str, height: u32| format!("[[rung]]\nname = \"{name}\"\nheight = {height}\n");
    let common = format!("[segments]\ntarget = \"1s\"\n{}", rung("common", 72));
    let (one, two) = (format!("{common}{}", rung("one", 90)), format!("{common}{}", rung("two", 54)));
    let project = Project::new();
    film(&project);
    let children = [("one", &one), ("two", &two)]
        .map(|(name, rungs)| (name, command(&project, name, rungs).spawn().unwrap()));
    let builds = children.map(|(name, child)| end(&project, name, child));
    let twice: Vec<_> = ran(&builds)
        .into_iter()
        .filter(|(node, times)| *times > 1 && !node.contains("multivariant"))
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
    let encodes = |build: &Build| build.count("encode", "ran") + build.count("encode", "cached");
    let made: u64 = builds.iter().map(|build| build.ran("encode")).sum();
    // Three rungs for both, of which each has two.
    assert_eq!(made * 2, encodes(&builds[0]) * 3);
    assert_eq!(encodes(&builds[0]), encodes(&builds[1]));
}

/// A build's events as they come.
struct Events(Lines<BufReader<fs::File>>);

impl Events {
    /// Starts a build that tells its events through a pipe.
    fn of(command: &mut Command, pipe: &Path) -> (Child, Events) {
        common::quietly("mkfifo", [pipe]);
        let child = command.spawn().unwrap();
        (child, Events(BufReader::new(fs::File::open(pipe).unwrap()).lines()))
    }

    /// Reads on to the first such event.
    fn find(&mut self, event: &str, kind: &str) -> Value {
        let events = self.0.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let mut found = events.filter(|told| told["event"] == event && told["kind"] == kind);
        found.next().unwrap_or_else(|| panic!("no {event} {kind}"))
    }
}

fn signal(name: &str, child: &Child) {
    common::quietly("kill", [name, &child.id().to_string()]);
}

/// One that stands still in the middle of an action is waited for; when it is killed, others do
/// what it was at.
#[test]
fn a_build_that_is_killed_holds_nobody_up() {
    let project = Project::new();
    film(&project);
    let (mut holder, mut told) = Events::of(&mut holder(&project), &project.path("holder.jsonl"));
    told.find("started", "encode");
    told.find("finished", "encode");
    let held = told.find("started", "encode");
    signal("-STOP", &holder);

    let mut other = command(&project, "other", RUNGS);
    let (other, mut told) = Events::of(&mut other, &project.path("other.jsonl"));
    let waits = told.find("waiting", "encode");
    assert_eq!(waits["node"], held["node"]);
    signal("-KILL", &holder);
    holder.wait().unwrap();
    let started = told.find("started", "encode");
    let rest: Vec<Value> = std::iter::once(started)
        .chain(told.0.map(|line| serde_json::from_str(&line.unwrap()).unwrap()))
        .collect();
    let ended = other.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let made = rest.iter().filter(|event| {
        event["event"] == "finished" && event["origin"] == "ran" && event["node"] == held["node"]
    });
    assert_eq!(made.count(), 1, "what the other was at is made after all");
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(text.contains("waiting: another rivet process is "), "{text}");
    let summary = rest.last().unwrap();
    assert!(summary["nodes"]["encode"]["cached"].as_u64().unwrap() >= 1, "what it had made is not");
    assert!(!project.path("holder").exists());

    let alone = Project::new();
    film(&alone);
    end(&alone, "out", command(&alone, "out", RUNGS).spawn().unwrap());
    assert_eq!(common::published(&project.path("other")), alone.output());
}

/// Interrupted while it waits, a build ends.
#[test]
fn a_build_that_waits_can_be_interrupted() {
    let project = Project::new();
    film(&project);
    let (mut holder, mut told) = Events::of(&mut holder(&project), &project.path("holder.jsonl"));
    told.find("started", "decode");
    signal("-STOP", &holder);
    let (mut other, mut told) =
        Events::of(&mut command(&project, "other", RUNGS), &project.path("other.jsonl"));
    told.find("waiting", "decode");
    signal("-INT", &other);
    // Its events go on to their end.
    assert!(told.0.by_ref().all(|line| line.is_ok()));
    assert_eq!(other.wait().unwrap().code(), Some(130));
    signal("-KILL", &holder);
    holder.wait().unwrap();
}
