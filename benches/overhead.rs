//! What rivet costs on top of its encoder, and what a rebuild costs. Everything is measured in
//! one run on one machine, and quoted as ratios:
//!
//! - a cold build of the example clip against the bare sum of its rav1e encodes, pictures ready
//!   in memory (scheduling, decoding, hashing, scaling and muxing should stay under 10 %);
//! - the rebuild after one second of the clip has changed against the cold build;
//! - a build with nothing to do, which should take less than 0.3 s.
//!
//! `cargo bench --bench overhead`; `RIVET_BENCH_SPEED` (0 to 10, default 10) sets rav1e's speed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rav1e::prelude::*;
use rivet::media::{Colour, Picture, PictureFormat, Rotation, Scaler};
use rivet::media::{PacketReader, SpanDecoder};

const CLIP: &str = "examples/media/bbb_1280x720_25_51aac.mp4";
const RUNGS: [(usize, usize, usize, usize); 3] =
    [(1280, 720, 128, 2), (854, 480, 128, 1), (640, 360, 144, 1)];

fn speed() -> u8 {
    std::env::var("RIVET_BENCH_SPEED").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// CPU seconds of this process, and of its children that have ended.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

struct Cost {
    wall: f64,
    cpu: f64,
    encoded: f64,
}

fn build(folder: &Path, spec: &str) -> Cost {
    let events = folder.join("events.jsonl");
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_rivet"))
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env_remove("RIVET_CACHE_DIR")
        .args(["build", "--quiet", spec, "--events"])
        .arg(&events)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("rivet runs");
    let wall = start.elapsed().as_secs_f64();
    assert!(status.success());
    let text = std::fs::read_to_string(events).expect("there are events");
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ran = |event: &&serde_json::Value| {
        event["kind"] == "encode" && event["event"] == "finished" && event["origin"] == "ran"
    };
    let encoded = events.iter().filter(ran).filter_map(|event| event["encode"]["seconds"].as_f64()).sum();
    let cpu = events.last().and_then(|event| event["cpu_seconds"].as_f64()).expect("a summary");
    Cost { wall, cpu, encoded }
}

/// The frames that each segment of a build has, from its playlist.
fn chunks(playlist: &Path) -> Vec<usize> {
    let text = std::fs::read_to_string(playlist).expect("a playlist");
    let seconds = text
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse::<f64>().ok());
    seconds.map(|seconds| (seconds * 25.0).round() as usize).collect()
}

/// All pictures of the clip, scaled for a rung.
fn pictures(clip: &Path, (width, height): (usize, usize)) -> Vec<Picture> {
    let index = rivet::media::scan(clip, &|| false).expect("the clip is sound");
    let track = Arc::new(index.video);
    let colour = Colour { primaries: 2, transfer: 2, matrix: 2, full_range: false, chroma_position: 1 };
    let format = PictureFormat {
        width: width as u32,
        height: height as u32,
        bit_depth: 8,
        rotation: Rotation::None,
        colour,
    };
    let mut scaler = Scaler::new(format);
    let mut reader = PacketReader::open(clip, Arc::clone(&track)).expect("the clip opens");
    let mut pictures = Vec::new();
    for span in 0..track.spans.len() {
        let mut decoder = SpanDecoder::new(reader.read_span(span).expect("a span"), 1).expect("a decoder");
        while let Some(decoded) = decoder.next_frame().expect("a frame") {
            pictures.push(scaler.picture(&decoded.frame).expect("a picture"));
        }
    }
    pictures
}

fn encode(pictures: &[Picture], (width, height, quantizer, tiles): (usize, usize, usize, usize)) {
    let mut config = EncoderConfig::with_speed_preset(speed());
    (config.width, config.height, config.quantizer, config.tiles) = (width, height, quantizer, tiles);
    config.set_key_frame_interval(0, 0);
    config.speed_settings.scene_detection_mode = SceneDetectionSpeed::None;
    let mut context: Context<u8> =
        Config::new().with_encoder_config(config).new_context().expect("a context");
    for picture in pictures {
        let mut frame = context.new_frame();
        for (number, (plane, samples)) in frame.planes.iter_mut().zip(&picture.planes).enumerate() {
            plane.copy_from_raw_u8(samples, if number == 0 { width } else { width.div_ceil(2) }, 1);
        }
        context.send_frame(frame).expect("a frame is taken");
    }
    context.flush();
    loop {
        match context.receive_packet() {
            Ok(_) | Err(EncoderStatus::Encoded) => {}
            Err(EncoderStatus::LimitReached) => break,
            Err(status) => panic!("rav1e: {status}"),
        }
    }
}

fn main() {
    // `cargo test --benches` and `cargo bench -- --list` ask for nothing to be measured.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join(CLIP);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    // Every frame stands for itself, so that a second can be changed and no other frame is.
    for (name, filter) in [("a.mkv", "null"), ("b.mkv", "negate=enable='between(t,2,2.99)'")] {
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-i"])
            .arg(&clip)
            .args(["-vf", filter, "-an", "-c:v", "ffv1", "-g", "1", "-slices", "4"])
            .arg(path(name))
            .status()
            .expect("ffmpeg runs");
        assert!(status.success());
    }
    let spec = |source: &str| {
        let rungs = RUNGS.map(|(_, height, quantizer, _)| {
            format!("[[rung]]\nname = \"{height}\"\nheight = {height}\ncrf = {}\n", quantizer / 4)
        });
        let speed = speed();
        format!(
            "[title]\nsource = \"{source}\"\noutput = \"out\"\n[encoder.rav1e]\nspeed = {speed}\n{}",
            rungs.concat()
        )
    };
    std::fs::write(path("a.toml"), spec("a.mkv")).expect("written");
    std::fs::write(path("b.toml"), spec("b.mkv")).expect("written");

    std::fs::copy(&clip, path("clip.mp4")).expect("copied");
    std::fs::write(path("clip.toml"), spec("clip.mp4")).expect("written");
    let cold = build(folder.path(), "clip.toml");
    let lossless = build(folder.path(), "a.toml");
    assert_eq!(lossless.encoded, 0.0, "the same frames are encoded already");
    let chunks = chunks(&path("out/720/playlist.m3u8"));
    let mut nothing: Vec<f64> = (0..5).map(|_| build(folder.path(), "a.toml").wall).collect();
    nothing.sort_by(f64::total_cmp);
    let changed = build(folder.path(), "b.toml");

    // As many encodes side by side as the build had: cores that share caches slow each other.
    let rungs: Vec<Vec<Picture>> = RUNGS.iter().map(|rung| pictures(&clip, (rung.0, rung.1))).collect();
    let mut first = 0;
    let mut encodes = Vec::new();
    for &frames in &chunks {
        for (rung, pictures) in RUNGS.iter().zip(&rungs) {
            encodes.push((&pictures[first..first + frames], *rung));
        }
        first += frames;
    }
    assert_eq!(first, rungs[0].len());
    let next = AtomicUsize::new(0);
    let before = cpu();
    std::thread::scope(|scope| {
        for _ in 0..rivet::graph::default_jobs() {
            scope.spawn(|| {
                // Tiles stay on the thread.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
                while let Some(&(pictures, rung)) = encodes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    pool.install(|| encode(pictures, rung));
                }
            });
        }
    });
    let bare = cpu() - before;

    println!("rav1e speed {}, {} chunks, {} rungs", speed(), chunks.len(), RUNGS.len());
    println!("bare encodes     {bare:8.1} CPU s");
    println!(
        "cold build       {:8.1} CPU s  {:5.3} of the bare encodes  {:7.1} s",
        cold.cpu,
        cold.cpu / bare,
        cold.wall
    );
    println!(
        "1 s changed      {:8.1} CPU s  {:5.3} of the cold build    {:7.1} s  ({:.1} of {:.1} s encoded)",
        changed.cpu,
        changed.cpu / cold.cpu,
        changed.wall,
        changed.encoded / 3.0,
        cold.encoded / 3.0,
    );
    println!(
        "nothing changed  {:8.3} s (median of {}; the limit is 0.3 s)",
        nothing[nothing.len() / 2],
        nothing.len()
    );
}
