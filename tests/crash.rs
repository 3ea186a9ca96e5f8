//! Nothing half done is ever seen: a build that is killed, or whose cache is damaged, ends with
//! the same bytes the next time, and does again only what had not been done.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use common::{BUNNY_5S, Build, Project, ladder};

const RUNGS: &str = "[segments]\ntarget = \"1s\"\n[[rung]]\nname = \"a\"\nheight = 90\n[[rung]]\nname = \"b\"\nheight = 54\n\
                     [[audio]]\nname = \"stereo\"\n";

fn project() -> Project {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("ladder.toml", ladder("clip.mp4", RUNGS));
    project
}

/// Starts a build, and returns it once `count` of its encodes have ended.
fn start(project: &Project, count: usize) -> (Child, PathBuf) {
    // A pipe by name: the build's events come as they happen.
    let pipe = project.path("events.pipe");
    let _ = fs::remove_file(&pipe);
    common::quietly("mkfifo", [&pipe]);
    let child = project
        .rivet()
        .args(["build", "--jobs", "1", "--events"])
        .arg(&pipe)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut seen = 0;
    for line in BufReader::new(fs::File::open(&pipe).unwrap()).lines() {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        seen += usize::from(event["event"] == "finished" && event["kind"] == "encode");
        if seen == count {
            break;
        }
    }
    (child, pipe)
}

#[test]
fn a_killed_build_goes_on_where_it_was() {
    let undisturbed = project();
    let whole = undisturbed.build();
    let encodes = whole.ran("encode");
    assert!(encodes >= 8);

    let killed = project();
    let mut done = 0;
    for more in [1, 3] {
        let (mut child, _) = start(&killed, done + more);
        child.kill().unwrap();
        child.wait().unwrap();
        done += more;
        assert!(!killed.path("out/master.m3u8").exists(), "nothing is published before it is whole");
    }
    let last = killed.build();
    assert!(last.count("encode", "cached") >= done as u64, "finished encodes are not repeated");
    assert!(last.ran("encode") <= encodes - done as u64);
    assert_eq!(killed.output(), undisturbed.output());
}

#[test]
fn an_interrupted_build_stops_cleanly() {
    let project = project();
    let (mut child, _pipe) = start(&project, 1);
    common::quietly("kill", ["-INT", &child.id().to_string()]);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!project.path("out").exists());
    assert!(project.build().count("encode", "cached") >= 1);
}

/// Whoever only looks reads a source that was never seen, and can be interrupted while it does.
#[test]
fn an_interrupted_look_stops_cleanly() {
    let project = Project::new();
    let film = project.path("film.mkv");
    // Reading it takes far longer than this test.
    fs::File::create(&film).unwrap().set_len(1 << 40).unwrap();
    project.write("ladder.toml", ladder("film.mkv", RUNGS));
    let film = film.canonicalize().unwrap();
    let looks: [&[&str]; 4] =
        [&["plan"], &["explain", "ladder.toml", "index"], &["graph"], &["cache", "pin"]];
    for look in looks {
        let child = project.rivet().args(look).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let files = PathBuf::from(format!("/proc/{}/fd", child.id()));
        let reads = || {
            fs::read_dir(&files)
                .into_iter()
                .flatten()
                .flatten()
                .any(|file| fs::read_link(file.path()).is_ok_and(|path| path == film))
        };
        common::until("the source is not read", reads);
        common::quietly("kill", ["-INT", &child.id().to_string()]);
        let told = child.wait_with_output().unwrap();
        assert_eq!(told.status.code(), Some(130), "{look:?}: {}", String::from_utf8_lossy(&told.stderr));
        assert!(look[0] == "plan" || told.stdout.is_empty(), "{look:?}: a part of it was printed");
    }
}

/// Files of the cache, by what they are.
fn cached(project: &Project, part: &str) -> Vec<PathBuf> {
    let folder = project.path("cache/rivet/v3").join(part);
    common::files_under(&folder).into_keys().map(|name| folder.join(name)).collect()
}

#[test]
fn a_damaged_cache_heals() {
    let project = project();
    let whole = project.build();
    let before = project.output();
    let check = |what: &str, build: Build| {
        assert_eq!(project.output(), before, "{what}");
        assert!(build.ran("encode") <= whole.ran("encode"), "{what}");
    };

    // A bit flipped in every result, which only shows when it is read.
    for path in cached(&project, "blobs") {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    }
    fs::remove_dir_all(project.path("out")).unwrap();
    check("flipped bits", project.build());
    let again = project.build();
    assert_eq!(again.ran_at_all(), 0, "it is whole again");

    for path in cached(&project, "blobs") {
        fs::write(&path, "").unwrap();
    }
    fs::remove_dir_all(project.path("out")).unwrap();
    check("emptied results", project.build());

    for path in cached(&project, "blobs") {
        fs::remove_file(&path).unwrap();
    }
    fs::remove_dir_all(project.path("out")).unwrap();
    check("lost results", project.build());

    for path in cached(&project, "entries") {
        fs::write(&path, "garbage").unwrap();
    }
    fs::remove_dir_all(project.path("out")).unwrap();
    check("garbled entries", project.build());

    // One damaged encode costs one encode.
    let largest =
        cached(&project, "blobs").into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    fs::write(&largest, "x").unwrap();
    fs::remove_dir_all(project.path("out")).unwrap();
    let build = project.build();
    assert!(build.ran("encode") + build.ran("mux") <= 2, "{}", build.summary());
    assert_eq!(project.output(), before);
}

/// However much is damaged, a person is told once of each way in which it showed.
#[test]
fn damage_is_told_once_and_a_plan_leaves_it() {
    let project = project();
    project.build();
    let flip = || {
        fs::remove_dir_all(project.path("out")).unwrap();
        for blob in cached(&project, "blobs") {
            let mut bytes = fs::read(&blob).unwrap();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            fs::remove_file(&blob).unwrap();
            fs::write(&blob, bytes).unwrap();
        }
    };
    let told = |stderr: &str| stderr.lines().filter(|line| line.starts_with("warning:")).count();
    flip();
    let before = cached(&project, "blobs");
    let plan = project.rivet().arg("plan").output().unwrap();
    assert!(plan.status.success() && told(&String::from_utf8(plan.stderr).unwrap()) <= 1);
    assert_eq!(cached(&project, "blobs"), before, "who only looks removes nothing");
    let build = project.build();
    assert!(build.ran("encode") > 3);
    assert_eq!(told(&build.stderr), 2, "{}", build.stderr);
    flip();
    assert_eq!(told(&project.build_with(&["--quiet"]).stderr), 0);
}

/// Decoded spans are looked up as a pack; what of it is lost is decoded again, and no other.
#[test]
fn a_damaged_pack_of_spans_is_mended_alone() {
    let project = Project::new();
    let (clip, film) = (common::clip(BUNNY_5S), project.path("film.mkv"));
    let small = ["-an", "-vf", "scale=160:90", "-c:v", "ffv1", "-g", "12"];
    common::ffmpeg(&[&["-i", clip.to_str().unwrap()], &small[..], &[film.to_str().unwrap()]].concat());
    project.write("ladder.toml", ladder("film.mkv", "[[rung]]\nname = \"a\"\nheight = 90\n"));
    let first = project.build();
    assert_eq!(first.ran("decode"), 11, "{}", first.summary());
    let before = project.output();
    for step in ["chunk", "decode/pack/1", "decode/2"] {
        damage(&project, step);
    }
    fs::remove_dir_all(project.path("out")).unwrap();
    let build = project.build();
    assert_eq!((build.ran("decode"), build.ran("encode")), (1, 0), "{}", build.summary());
    assert_eq!(project.output(), before);
    assert_eq!(project.build().ran_at_all(), 0);
}

/// Flips a bit in the cached result of a step.
fn damage(project: &Project, step: &str) {
    let explained = project.rivet().args(["explain", "ladder.toml", step, "--json"]).output().unwrap();
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    let blob = explained[0]["result"]["blobs"][0].as_str().unwrap();
    let path = project.path("cache/rivet/v3/blobs").join(&blob[..2]).join(blob);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

/// A window of sound that is lost is made again, and no other.
#[test]
fn a_damaged_window_of_sound_is_mended_alone() {
    let project = project();
    let first = project.build();
    assert!(first.ran("audio") >= 2);
    let before = project.output();
    damage(&project, "audio/stereo/2");
    fs::remove_dir_all(project.path("out")).unwrap();
    let build = project.build_with(&["--jobs", "8"]);
    assert_eq!((build.ran("audio"), build.ran("encode")), (1, 0), "{}", build.summary());
    assert_eq!(project.output(), before);
    assert_eq!(project.build().ran_at_all(), 0);
}

#[test]
fn a_touched_output_is_repaired() {
    let project = project();
    project.build();
    let before = project.output();
    let segment = before.keys().find(|name| name.ends_with(".m4s")).unwrap();
    fs::write(project.path("out").join(segment), "vandalism").unwrap();
    fs::remove_file(project.path("out/master.m3u8")).unwrap();
    let build = project.build();
    assert_eq!((build.ran("encode"), build.ran("publish")), (0, 1));
    assert_eq!(project.output(), before);
}

/// As by a copy that leaves hidden files out.
#[test]
fn a_lost_record_of_what_was_published_is_written_again() {
    let project = project();
    project.build();
    let files = project.output();
    fs::remove_file(project.path("out/.rivet-published.json")).unwrap();
    assert_eq!(project.build().ran_at_all(), 1, "it is published again");
    assert_eq!(project.output(), files);
    assert_eq!(project.build().ran_at_all(), 0);
}

/// Two builds of one project at once share the cache and the output folder.
#[test]
fn two_builds_at_once() {
    let project = project();
    let spawn =
        || project.rivet().arg("build").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (one, two) = (spawn(), spawn());
    for child in [one, two] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let undisturbed = self::project();
    undisturbed.build();
    assert_eq!(project.output(), undisturbed.output());
}
