//! How often pictures are decoded, and how many are held at once.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use common::{BUNNY_30S, Project, clip, ffmpeg, ladder};

const RUNGS: &str = "[[rung]]\nname = \"a\"\nheight = 36\n[[rung]]\nname = \"b\"\nheight = 54\n\
                     [[rung]]\nname = \"c\"\nheight = 48\n";

#[test]
fn a_cold_build_decodes_once_for_all_rungs() {
    let project = Project::new();
    project.copy_clip(BUNNY_30S, "film.mp4");
    project.write("ladder.toml", ladder("film.mp4", RUNGS));
    let cold = project.build();
    assert_eq!(cold.summary()["decoded_frames"], 720);
    assert_eq!(project.build().summary()["decoded_frames"], 0);

    // Little memory means to decode twice, not to fail.
    let tight = Project::new();
    tight.copy_clip(BUNNY_30S, "film.mp4");
    tight.write("ladder.toml", ladder("film.mp4", RUNGS));
    let build = tight.build_with(&["--memory", "30M"]);
    assert!(build.summary()["decoded_frames"].as_u64().unwrap() > 720);
    assert_eq!(project.output(), tight.output());
}

/// What is missing is all that is decoded: here one chunk of one rung.
#[test]
fn a_warm_build_decodes_what_lies_under_missing_chunks() {
    let project = Project::new();
    project.copy_clip(BUNNY_30S, "film.mp4");
    project.write("ladder.toml", ladder("film.mp4", RUNGS));
    let cold = project.build();
    let last = cold.ran("encode") / 3;
    let blobs = [format!("b/{last}"), format!("b/{last}/mux")].map(|step| {
        let explained = project.rivet().args(["explain", "ladder.toml", &step, "--json"]).output().unwrap();
        let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
        explained[0]["result"]["blobs"][0].as_str().unwrap().to_owned()
    });
    assert_eq!(blobs[0], blobs[1], "a segment is made of its encode's blob");
    fs::remove_file(project.path("cache/rivet/v3/blobs").join(&blobs[0][..2]).join(&blobs[0])).unwrap();
    fs::remove_dir_all(project.path("out")).unwrap();
    let build = project.build();
    assert_eq!((build.ran("encode"), build.ran("decode")), (1, 0), "{}", build.summary());
    let decoded = build.summary()["decoded_frames"].as_u64().unwrap();
    assert!(decoded > 0 && decoded <= 250, "a span or two of 720 frames: {decoded}");
}

/// Bytes that a build and its workers take, at most.
fn peak(project: &Project, memory: &str) -> u64 {
    let mut child = project
        .rivet()
        .args(["build", "--quiet", "--jobs", "2", "--memory", memory])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    loop {
        peak = peak.max(taken(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return peak;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a process and its children have for themselves, and the pictures that they share, which
/// belong to whoever still has them open.
fn taken(build: u32) -> u64 {
    let mut own = 0;
    let mut shared = BTreeMap::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let field =
            |name: &str| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        let is_it = |name| field(name).is_some_and(|id| id == build.to_string());
        if !is_it("Pid:") && !is_it("PPid:") {
            continue;
        }
        let anonymous = field("RssAnon:").and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        own += anonymous.unwrap_or(0) * 1024;
        for file in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let is_slab = fs::read_link(file.path())
                .is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:rivet frames"));
            if let (true, Ok(meta)) = (is_slab, fs::metadata(file.path())) {
                shared.insert(meta.ino(), meta.blocks() * 512);
            }
        }
    }
    own + shared.values().sum::<u64>()
}

/// A picture of this source takes 25 MB, and a chunk of it a gigabyte.
#[test]
fn memory_is_bounded_for_a_large_source() {
    let project = Project::new();
    let (from, to) = (clip(BUNNY_30S), project.path("large.mkv"));
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    #[rustfmt::skip]
    ffmpeg(&[
        "-i", from, "-frames:v", "72", "-an", "-vf", "scale=3840:2160", "-pix_fmt", "yuv420p10le",
        "-c:v", "libx264", "-preset", "ultrafast", "-qp", "30", "-g", "24", "-threads", "2", to,
    ]);
    project.write(
        "ladder.toml",
        ladder(
            "large.mkv",
            "[segments]\nmode = \"fixed\"\ntarget = \"2s\"\n[[rung]]\nname = \"a\"\nheight = 36\n",
        ),
    );
    let bounded = peak(&project, "700M");
    // What the libraries and the program take without a picture.
    let base = 200 << 20;
    assert!(bounded < (700 << 20) + base, "{} MB", bounded >> 20);
    let small = project.output();
    let roomy = Project::new();
    fs::copy(to, roomy.path("large.mkv")).unwrap();
    roomy.write("ladder.toml", fs::read(project.path("ladder.toml")).unwrap());
    let free = peak(&roomy, "8G");
    assert!(free > bounded, "with room frames are kept: {} MB and {} MB", free >> 20, bounded >> 20);
    assert_eq!(roomy.output(), small);
}
