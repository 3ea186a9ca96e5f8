//! Builds on GPUs, through the whole program and the fake driver: several on one rung, with the CPUs
//! beside them or not, and every way in which a driver can let a build down.

#![cfg(feature = "nvidia")]

mod common;

use common::fake_nvidia::{Journal, give};
use common::{BUNNY_5S, BUNNY_30S, Build, Project, clip, ffmpeg, ladder};

const RUNGS: &str = "[segments]\ntarget = \"1s\"\n[[rung]]\nname = \"a\"\nheight = 180\n\
                     [[rung]]\nname = \"b\"\nheight = 144\nbit_depth = 10\n";
const FRAMES: u64 = 132;

fn project(encoder: &str) -> Project {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("ladder.toml", ladder("clip.mp4", &format!("[video]\nencoder = {encoder}\n{RUNGS}")));
    project
}

fn build(project: &Project, words: &str, arguments: &[&str]) -> (Build, Journal) {
    let (events, journal) = (project.path("events.jsonl"), project.path("journal"));
    let mut command = project.rivet();
    give(&mut command, words, &journal);
    command.args(["build", "--worker-timeout", "5s", "--events"]).arg(&events).args(arguments);
    let build = Build::new(command.output().unwrap(), &events);
    (build, Journal::read(&journal))
}

fn warnings(build: &Build) -> Vec<&str> {
    let events = build.events.iter().filter(|event| event["event"] == "warning");
    events.map(|event| event["message"].as_str().unwrap()).collect()
}

/// Every rung is whole, and one stream that all decoders agree on.
fn assert_whole(project: &Project) {
    for (rung, height, depth) in [("a", 180, 8), ("b", 144, 10)] {
        common::decoders::assert_sound(project, rung, height, depth, FRAMES);
    }
}

#[test]
fn gpus_and_cpus_share_a_rung() {
    for (words, encoder) in [
        ("gpus=2", "\"nvenc\""),
        ("gpus=8", "[\"nvenc\", \"rav1e\"]"),
        ("gpus=2 engines=2", "[\"rav1e\", \"nvenc\"]"),
    ] {
        let project = project(encoder);
        let (made, journal) = build(&project, words, &[]);
        assert_eq!(made.status, 0, "{words}: {}", made.stderr);
        assert_eq!(warnings(&made), [] as [&str; 0], "{words}");
        journal.assert_no_breach();
        assert!(journal.count("+session") > 2, "{words}: GPUs have made something");
        assert_whole(&project);
        // Whoever made a segment, it is found again.
        let (again, _) = build(&project, words, &[]);
        assert_eq!((again.status, again.ran("encode")), (0, 0), "{words}");
    }
}

#[test]
fn a_driver_that_lets_a_build_down_costs_it_nothing_else() {
    for (fault, told) in [
        ("hang=2", "worker timed out after 5s"),
        ("abort=3", "(aborted)"),
        ("lose=4", "nvenc:1 is given up"),
        ("no-memory=1", "nvenc"),
        ("empty=2", "nvenc"),
        ("other-colour", "color_primaries is 4, expected 2"),
        ("level=13", "level is 5.1, expected"),
        ("key=3", "put a key frame at frame 3"),
    ] {
        // The other GPU goes on, and nobody else is needed.
        let words = format!("gpus=2 faulty=1 {fault}");
        let project = project("\"nvenc\"");
        let (made, journal) = build(&project, &words, &[]);
        assert_eq!(made.status, 0, "{fault}: {}", made.stderr);
        journal.assert_no_breach();
        let all = warnings(&made).join("\n");
        assert!(all.contains(told), "{fault}: {all}\n{}", made.stderr);
        assert_whole(&project);
        // Nothing of it was kept.
        let (again, _) = build(&project, "gpus=2", &[]);
        assert_eq!((again.status, again.ran("encode")), (0, 0), "{fault}");
    }
}

/// A driver may never work again in a process in which it has failed once.
#[test]
fn a_process_that_a_driver_has_failed_in_does_no_more() {
    for fault in ["lose=0", "lose=3"] {
        let project = project("\"nvenc\"");
        let (made, journal) = build(&project, &format!("processes=2 {fault}"), &[]);
        assert_eq!(made.status, 0, "{fault}: {}", made.stderr);
        assert_eq!(journal.count("fault: lose"), 2, "{fault}");
        journal.assert_no_breach();
        let told = warnings(&made);
        assert!(told.len() == 2 && !told.iter().any(|told| told.contains("given up")), "{fault}: {told:?}");
        assert_whole(&project);
    }
}

#[test]
fn gpus_that_all_fail_leave_the_work_to_the_cpus_or_fail_the_build() {
    for words in ["lose=4", "sessions=0", "engines=0", "no-av1", "api=11.0", "gpus=0"] {
        let mixed = project("[\"nvenc\", \"rav1e\"]");
        let (made, _) = build(&mixed, words, &[]);
        assert_eq!(made.status, 0, "{words}: {}", made.stderr);
        assert_whole(&mixed);
        let alone = project("\"nvenc\"");
        let (made, _) = build(&alone, words, &[]);
        assert_eq!(made.status, 1, "{words}");
        assert!(made.stderr.contains("nvenc"), "{words}: {}", made.stderr);
        assert!(!alone.path("out/master.m3u8").exists());
    }
}

/// A driver counts the sessions of all processes: a worker that finds none left has failed at nothing.
#[test]
fn sessions_that_other_workers_hold_are_waited_for() {
    for sessions in [1, 2] {
        let project = project("\"nvenc\"");
        let (made, journal) = build(&project, &format!("engines=2 sessions={sessions}"), &[]);
        assert_eq!(made.status, 0, "{}", made.stderr);
        journal.assert_no_breach();
        let told = warnings(&made);
        assert!(told.iter().any(|told| told.contains("no encode session is available")), "{told:?}");
        assert!(!told.iter().any(|told| told.contains("given up")), "{told:?}");
        assert_whole(&project);
    }
}

#[test]
fn devices_tells_what_a_gpu_can_do_and_why_not() {
    for (words, expected) in [
        ("gpus=2", vec!["nvenc:0 ", "nvenc:1 ", "GPU Fake RTX 4090, 2 slots"]),
        ("engines=0", vec!["encoders that cannot be used", "the GPU has no encoder"]),
        ("no-av1", vec!["encoders that cannot be used", "AV1"]),
        ("gpus=0", vec!["there is no NVIDIA GPU"]),
    ] {
        let project = Project::new();
        let mut command = project.rivet();
        give(&mut command, words, &project.path("journal"));
        let told = command.arg("devices").output().unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        assert!(told.status.success());
        for words in expected {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
    let project = Project::new();
    let told = project.rivet().arg("devices").env("RIVET_NVIDIA_DRIVER", "/nowhere.so").output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success() && text.contains("rav1e"), "{text}");
}

/// Decoders of a GPU join in where encodes wait for pictures. One that declines whatever it is given is soon
/// left alone, and the film is what it is without.
#[test]
fn a_gpu_that_declines_all_that_it_decodes_changes_nothing() {
    let [with, without] = [true, false].map(|has_gpu| {
        let project = Project::new();
        let (whole, film) = (clip(BUNNY_30S), project.path("film.mp4"));
        let made_of = ["-i", whole.to_str().unwrap(), "-t", "12", "-an", "-vf", "scale=160:90"];
        ffmpeg(&[&made_of[..], &["-c:v", "libx264", "-g", "12", film.to_str().unwrap()]].concat());
        let rung = "[[rung]]\nname = \"a\"\nheight = 72\nencoder = \"rav1e\"\n";
        project.write("ladder.toml", ladder("film.mp4", rung));
        let words = if has_gpu { "engines=0 decoders=2" } else { "gpus=0" };
        let (made, journal) = build(&project, words, &["-v", "-j", "1"]);
        assert_eq!(made.status, 0, "{}", made.stderr);
        assert_eq!(journal.count("declined") >= 3, has_gpu, "{:?}", journal.lines);
        assert_eq!(made.stderr.contains("is given no more of film"), has_gpu, "{}", made.stderr);
        project.output()
    });
    assert_eq!(with, without);
}
