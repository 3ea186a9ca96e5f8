//! A real browser plays the stream: headless Chromium with hls.js, from a local server.

mod common;

use std::path::Path;
use std::process::Command;

use common::{BUNNY_5S, Project, ladder};
use serde_json::{Value, json};

fn play(folder: &Path, screenshot: &Path) -> Value {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/player/play.mjs");
    let output = Command::new("node")
        .arg(harness)
        .arg("--dir")
        .arg(folder)
        .args(["--master", "master.m3u8", "--timeout", "180", "--screenshot"])
        .arg(screenshot)
        .output()
        .expect("node runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn chromium_plays_every_rung_to_the_end() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    let rungs = "[video]\ncrf = 40\n[segments]\ntarget = \"1s\"\n\
                 [[rung]]\nname = \"small\"\nheight = 90\n[[rung]]\nname = \"middle\"\nheight = 180\n\
                 [[rung]]\nname = \"large\"\nheight = 270\n[[audio]]\nname = \"stereo\"\nbitrate = \"64k\"\n";
    project.write("ladder.toml", ladder("clip.mp4", rungs));
    project.build();
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/player/out");
    std::fs::create_dir_all(&out).unwrap();
    let screenshot = out.join("hls.png");
    let seen = play(&project.path("out"), &screenshot);

    assert_eq!(seen["ended"], true, "{seen:#}");
    for nothing in ["fatal", "errors", "failedRequests"] {
        assert_eq!(seen[nothing], json!([]), "{nothing}: {seen:#}");
    }
    assert_eq!(seen["stalls"], 0);
    assert_eq!(seen["audioTracks"], 1);
    let levels = seen["levels"].as_array().unwrap();
    let sizes: Vec<&Value> = levels.iter().map(|level| &level["sizes"]).collect();
    assert_eq!(sizes, [&json!(["160x90"]), &json!(["320x180"]), &json!(["480x270"])]);
    let segments = common::segments(&project.path("out/small/playlist.m3u8")).len();
    for pass in levels.iter().chain([&seen["mixed"]]) {
        for track in ["media", "video", "audio"] {
            let ranges = pass["buffered"][track].as_array().unwrap();
            assert_eq!(ranges.len(), 1, "{track}: one range without holes: {pass:#}");
            let (start, end) = (ranges[0][0].as_f64().unwrap(), ranges[0][1].as_f64().unwrap());
            assert!(start == 0.0 && (end - 5.3).abs() < 0.05, "{track}: {start} to {end}");
        }
    }
    for level in levels {
        assert_eq!(level["played"], true, "{level:#}");
        assert_eq!(level["segments"], json!((0..segments).collect::<Vec<_>>()), "{level:#}");
    }
    // One buffer through all rungs in turn: the seams between rungs hold.
    assert_eq!(seen["mixed"]["ended"], true);
    assert!(std::fs::metadata(&screenshot).unwrap().len() > 10_000, "the screenshot shows something");
}
