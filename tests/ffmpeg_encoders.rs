//! AV1 encoders of the installed FFmpeg that rivet has no name of its own for, through libaom: it is in
//! every FFmpeg that these tests run with. What can be told of encoders for hardware without hardware
//! is told in `src/executors/ffmpeg`.

mod common;

use std::fs;

use common::{BUNNY_5S, BUNNY_30S, Build, FLOWER, Project, decoders, ladder};

const RUNGS: &str = "[segments]\ntarget = \"1s\"\n\
                     [[rung]]\nname = \"a\"\nheight = 90\n\
                     [[rung]]\nname = \"b\"\nheight = 64\nbit_depth = 10\n";

/// libaom at its fastest.
const FAST: &str = "cpu-used = 8";

fn project(clip: &str, options: &str) -> Project {
    let project = Project::new();
    project.copy_clip(clip, "clip.mp4");
    write(&project, "\"libaom-av1\"", options);
    project
}

fn write(project: &Project, encoder: &str, options: &str) {
    let video = format!("[video]\nencoder = {encoder}\n[encoder.libaom-av1]\n{options}\n{RUNGS}");
    project.write("ladder.toml", ladder("clip.mp4", &video));
}

#[test]
fn libaom_keeps_the_contract_by_others_eyes() {
    for (clip, frames) in [(BUNNY_5S, 132), (FLOWER, 150)] {
        let project = project(clip, FAST);
        assert!(project.build().ran("encode") > 6);
        decoders::assert_sound(&project, "a", 90, 8, frames);
        decoders::assert_sound(&project, "b", 64, 10, frames);
        // FFmpeg's libaom cannot be told where chroma lies; the clips say that it lies left.
        for (name, header) in decoders::headers(&project, "a") {
            assert_eq!(header.chroma_sample_position, 1, "{name}");
        }
        assert_eq!(project.build().ran_at_all(), 0);
    }
}

#[test]
fn libaom_is_deterministic_with_any_number_of_jobs() {
    let build = |jobs: &str| {
        let project = project(BUNNY_5S, FAST);
        project.build_with(&["--jobs", jobs]);
        project.output()
    };
    let one = build("1");
    assert_eq!(one, build("1"));
    assert_eq!(one, build("3"));
}

/// What libaom makes depends on the CPU's instruction sets, so that is part of the key: a cache that
/// machines share never mixes them.
#[test]
fn instruction_sets_are_part_of_the_key() {
    let project = project(BUNNY_5S, FAST);
    let first = project.build();
    let before = project.output();
    let events = project.path("other.jsonl");
    let mut other = project.rivet();
    other.env("AOM_SIMD_CAPS_MASK", "0x0f").args(["build", "--events"]).arg(&events);
    let build = Build::new(other.output().unwrap(), &events);
    assert_eq!((build.status, build.ran("encode")), (0, first.ran("encode")), "{}", build.stderr);
    // And back again, all is there.
    assert_eq!(project.build().ran("encode"), 0);
    assert_eq!(project.output(), before);
    let devices = project.rivet().arg("devices").output().unwrap();
    let devices = String::from_utf8(devices.stdout).unwrap();
    assert!(devices.contains(&format!(" on {}", std::env::consts::ARCH)), "{devices}");
}

/// libaom would begin anew where the picture changes; a segment begins only once.
#[test]
fn hard_cuts_within_a_segment_make_no_key_frames() {
    let project = Project::new();
    project.copy_clip(BUNNY_30S, "clip.mp4");
    let rungs = "[video]\nencoder = \"libaom-av1\"\n[encoder.libaom-av1]\ncpu-used = 8\n\
                 [segments]\nmode = \"fixed\"\ntarget = \"10s\"\n[[rung]]\nname = \"a\"\nheight = 64\n";
    project.write("ladder.toml", ladder("clip.mp4", rungs));
    assert_eq!(project.build().ran("encode"), 3);
    let joined = project.path("a.mp4");
    common::join_track(&project.path("out/a"), &joined);
    let packets = common::ffprobe(&joined, &["-show_entries", "frame=key_frame"]);
    let frames = packets["frames"].as_array().unwrap();
    assert_eq!(frames.iter().filter(|frame| frame["key_frame"] == 1).count(), 3);
    assert_eq!(frames.len(), 720);
}

#[test]
fn options_are_part_of_the_key_and_their_order_is_not() {
    let project = project(BUNNY_5S, "cpu-used = 8\nenable-cdef = true");
    let first = project.build();
    let before = project.output();
    // The same options otherwise written, and options of an encoder that no rung may use.
    write(
        &project,
        "\"libaom-av1\"",
        "enable-cdef = 1\n\"cpu-used\" = \"8\"\n[encoder.av1_qsv]\nasync_depth = 2",
    );
    assert_eq!(project.build().ran("encode"), 0);
    assert_eq!(project.output(), before);
    for other in ["cpu-used = 7\nenable-cdef = true", "cpu-used = 8", "cpu-used = 8\nenable-cdef = false"] {
        write(&project, "\"libaom-av1\"", other);
        assert_eq!(project.build().ran("encode"), first.ran("encode"), "{other}");
    }
    assert_ne!(project.output(), before);
    let explained = project.rivet().args(["explain", "ladder.toml", "a/1"]).output().unwrap();
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert!(explained.contains("cpu-used=8"), "{explained}");
}

#[test]
fn options_that_the_encoder_does_not_take_are_shown_in_their_place() {
    let project = project(BUNNY_5S, "cpu-usde = 8\naq-mode = 9\ntune = \"nicely\"");
    let build = project.try_build(&[]);
    assert_eq!(build.status, 2, "{}", build.stderr);
    let place = |option: &str| {
        let text = fs::read_to_string(project.path("ladder.toml")).unwrap();
        let line = text.lines().position(|line| line.starts_with(option)).unwrap() + 1;
        format!("--> ladder.toml:{line}:1")
    };
    for (option, why) in [
        ("cpu-usde", "libaom-av1 has no such option"),
        ("aq-mode", "libaom-av1 takes -1 to 4"),
        ("tune", "libaom-av1 does not take this"),
    ] {
        let headline = format!("error: `{option}` in `[encoder.libaom-av1]` cannot be set");
        said(&build, &[&headline, &place(option), why]);
    }
    said(&build, &["help: did you mean `cpu-used`?", "`ffmpeg -h encoder=libaom-av1` lists its options"]);
    assert!(!project.path("out").exists());

    // All mistakes at once, whoever finds them.
    write(
        &project,
        "\"libaom-av1\"",
        "g = 9\ncpu-usde = 8\n[encoder.rav1d]\n[package]\nformats = [\"dash\"]",
    );
    let build = project.try_build(&[]);
    said(&build, &["`g` in `[encoder.libaom-av1]` is set by rivet", "did you mean `cpu-used`?"]);
    said(&build, &["`dash` for `formats` in `[package]` is reserved", "unknown table `rav1d`"]);
}

#[test]
fn what_libaom_refuses_together_is_told_with_the_options() {
    let project = project(BUNNY_5S, "usage = \"allintra\"");
    let build = project.try_build(&[]);
    assert_eq!(build.status, 1);
    said(&build, &["libaom-av1 takes no frames of 160x90 with usage allintra"]);
}

#[test]
fn an_encoder_that_ffmpeg_lacks_is_told_and_passed_over_in_a_list() {
    let project = project(BUNNY_5S, FAST);
    write(&project, "[\"libnosuch-av1\", \"av1_nosuch\"]", FAST);
    let build = project.try_build(&[]);
    assert_eq!(build.status, 1);
    let told = [
        "rung a: none of its encoders can be used on this machine: libnosuch-av1 (libavcodec ",
        "has no such encoder), av1_nosuch (libavcodec ",
        "hint: `rivet devices` lists what can be used here",
    ];
    said(&build, &told);
    assert!(build.events.is_empty(), "nothing was begun: {:?}", build.events);
    let plan = project.rivet().arg("plan").output().unwrap();
    assert_eq!(plan.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&plan.stderr).contains(told[0]));

    write(&project, "[\"libnosuch-av1\", \"libaom-av1\"]", FAST);
    let build = project.build();
    assert!(build.ran("encode") > 6);
    let warning = "warning: rungs that may use libnosuch-av1 are left to their other encoders: libavcodec";
    assert_eq!(build.stderr.matches(warning).count(), 1, "{}", build.stderr);
    // What it made is found again by whoever names it, too.
    write(&project, "\"libaom-av1\"", FAST);
    assert_eq!(project.build().ran("encode"), 0);
}

#[test]
fn devices_lists_each_encoder_once_by_the_name_that_a_spec_has_for_it() {
    let output = Project::new().rivet().arg("devices").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let encoders = text.split_once("decoders").unwrap().0;
    for name in ["rav1e", "svt-av1", "libaom-av1", "opus"] {
        let lines = encoders.lines().filter(|line| line.trim_start().starts_with(&format!("{name} ")));
        assert_eq!(lines.count(), 1, "{name}\n{text}");
    }
    assert!(!text.contains("libsvtav1") && !text.contains("librav1e"), "{text}");
    let libaom = encoders.lines().find(|line| line.contains("libaom-av1")).unwrap();
    assert!(libaom.contains(", libavcodec ") && libaom.contains("8 and 10 bit"), "{libaom}");
}

/// Asserts that each part was told.
#[track_caller]
fn said(build: &Build, parts: &[&str]) {
    for part in parts {
        assert!(build.stderr.contains(part), "`{part}` is not in\n{}", build.stderr);
    }
}
