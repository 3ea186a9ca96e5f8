//! What rivet costs on top of its encoder, and what a rebuild costs. Everything is measured in
//! one run on one machine, and quoted as ratios:
//!
//! - a cold build of the example clip against the bare sum of its rav1e encodes, pictures ready
//!   in memory (what is more is scheduling, decoding, hashing, scaling and muxing);
//! - the rebuild after three seconds of a one-minute film have been replaced against the bare sum
//!   of the encodes that it runs (finding them should stay under 25 %);
//! - a build with nothing to do, which should take less than 0.3 s.
//!
//! `cargo bench --bench overhead`; `RIVET_BENCH_SPEED` (0 to 10, default 10) sets rav1e's speed.
//! It needs about 1 GB in the temporary folder.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rav1e::prelude::*;
use rivet::testing::media::{
    Colour, Frame, FrameConverter, FrameFormat, PacketReader, Rotation, SpanDecoder,
};

const CLIP: &str = "examples/media/bbb_1280x720_25_51aac.mp4";
const HALF_A_MINUTE: &str = "tests/media/bbb_854x480_24_30s.mp4";
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
    /// The steps that encoded, and the seconds of film of all.
    encodes: Vec<String>,
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
    let encodes = events.iter().filter(ran).filter_map(|event| event["node"].as_str().map(str::to_owned));
    let encodes = encodes.collect();
    let cpu = events.last().and_then(|event| event["cpu_seconds"].as_f64()).expect("a summary");
    Cost { wall, cpu, encodes, encoded }
}

/// The frames that each segment of a build has, from its playlist.
fn chunks(playlist: &Path, rate: f64) -> Vec<Range<usize>> {
    let text = std::fs::read_to_string(playlist).expect("a playlist");
    let seconds = text
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse::<f64>().ok());
    let frames = seconds.map(|seconds| (seconds * rate).round() as usize);
    let chunks = frames.scan(0, |end, frames| {
        *end += frames;
        Some(*end - frames..*end)
    });
    chunks.collect()
}

/// Pictures of a film, scaled for a rung.
fn pictures(clip: &Path, (width, height): (usize, usize), wanted: &Range<usize>) -> Vec<Arc<Frame>> {
    let index = rivet::testing::media::scan(clip, &|| false).expect("the clip is sound");
    let track = Arc::new(index.video);
    let colour = Colour { primaries: 2, transfer: 2, matrix: 2, full_range: false, chroma_position: 1 };
    let format = FrameFormat {
        width: width as u32,
        height: height as u32,
        bit_depth: 8,
        rotation: Rotation::None,
        colour,
    };
    let mut converter = FrameConverter::new(format);
    let mut reader = PacketReader::open(clip, Arc::clone(&track)).expect("the clip opens");
    let mut pictures = Vec::new();
    let mut number = 0;
    for span in 0..track.spans.len() {
        let mut decoder = SpanDecoder::new(reader.read_span(span).expect("a span"), 1).expect("a decoder");
        while let Some(decoded) = decoder.next_frame().expect("a frame") {
            if wanted.contains(&number) {
                pictures.push(converter.convert(Arc::new(decoded.frame)).expect("a picture"));
            }
            number += 1;
        }
    }
    pictures
}

fn encode(pictures: &[Arc<Frame>], (width, height, quantizer, tiles): (usize, usize, usize, usize)) {
    let mut config = EncoderConfig::with_speed_preset(speed());
    (config.width, config.height, config.quantizer, config.tiles) = (width, height, quantizer, tiles);
    config.set_key_frame_interval(0, 0);
    config.speed_settings.scene_detection_mode = SceneDetectionSpeed::None;
    let mut context: Context<u8> =
        Config::new().with_encoder_config(config).new_context().expect("a context");
    for picture in pictures {
        let mut frame = context.new_frame();
        for (number, plane) in frame.planes.iter_mut().enumerate() {
            let samples = picture.rows(number).collect::<Vec<_>>().concat();
            plane.copy_from_raw_u8(&samples, if number == 0 { width } else { width.div_ceil(2) }, 1);
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

/// CPU seconds of encoding these chunks on every rung, and nothing else. As many at once as in a
/// build: cores that share caches slow each other.
fn bare(clip: &Path, chunks: &[Range<usize>]) -> f64 {
    let (first, last) = (chunks[0].start, chunks[chunks.len() - 1].end);
    let rungs: Vec<Vec<Arc<Frame>>> =
        RUNGS.iter().map(|rung| pictures(clip, (rung.0, rung.1), &(first..last))).collect();
    assert_eq!(rungs[0].len(), last - first);
    let mut encodes = Vec::new();
    for chunk in chunks {
        for (rung, pictures) in RUNGS.iter().zip(&rungs) {
            encodes.push((&pictures[chunk.start - first..chunk.end - first], *rung));
        }
    }
    let next = AtomicUsize::new(0);
    let before = cpu();
    std::thread::scope(|scope| {
        for _ in 0..rivet::testing::build::default_jobs() {
            scope.spawn(|| {
                // Tiles stay on the thread.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
                while let Some(&(pictures, rung)) = encodes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    pool.install(|| encode(pictures, rung));
                }
            });
        }
    });
    cpu() - before
}

fn ffmpeg(arguments: &[&str], to: &Path) {
    let status = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).arg(to).status();
    assert!(status.expect("ffmpeg runs").success());
}

/// Writes a spec for a source, and returns its name.
fn ladder(folder: &Path, source: &str) -> String {
    let rungs = RUNGS.map(|(_, height, quantizer, _)| {
        format!("[[rung]]\nname = \"{height}\"\nheight = {height}\ncrf = {}\n", quantizer / 4)
    });
    let text = format!(
        "[title]\nsource = \"{source}\"\noutput = \"out\"\n[encoder.rav1e]\nspeed = {}\n{}",
        speed(),
        rungs.concat()
    );
    let name = format!("{source}.toml");
    std::fs::write(folder.join(&name), text).expect("written");
    name
}

/// A cold build, and builds with nothing to do.
fn cold() {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join(CLIP);
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::copy(&clip, folder.join("clip.mp4")).expect("copied");
    let spec = ladder(folder, "clip.mp4");
    let cold = build(folder, &spec);
    let chunks = chunks(&folder.join("out/720/playlist.m3u8"), 25.0);
    let mut nothing: Vec<f64> = (0..5).map(|_| build(folder, &spec).wall).collect();
    nothing.sort_by(f64::total_cmp);
    let bare = bare(&clip, &chunks);
    println!("a clip of 5 s, rav1e speed {}, {} chunks, {} rungs", speed(), chunks.len(), RUNGS.len());
    println!("  bare encodes     {bare:7.1} CPU s");
    println!("  cold build       {:7.1} CPU s  {:.3} of them  {:.1} s", cold.cpu, cold.cpu / bare, cold.wall);
    println!("  nothing to do    {:7.3} s      (median of 5; the limit is 0.3 s)", nothing[2]);
}

/// What it costs to find what an edit has changed: three seconds replaced, inside a shot.
fn edit() {
    let half = Path::new(env!("CARGO_MANIFEST_DIR")).join(HALF_A_MINUTE);
    let half = half.to_str().expect("a path in UTF-8");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let film = |name: &str, edit: &str| -> PathBuf {
        let filter = format!("[0]scale=1280:720,split[a][b];[b]hflip[c];[a][c]concat=n=2,{edit}");
        let to = folder.join(name);
        let codec = ["-an", "-c:v", "ffv1", "-g", "1", "-slices", "4"];
        ffmpeg(&[&["-i", half, "-filter_complex", &filter], &codec[..]].concat(), &to);
        to
    };
    film("before.mkv", "null");
    let edited = film("after.mkv", "vflip=enable='between(t,18,20.99)'");
    build(folder, &ladder(folder, "before.mkv"));
    let rebuild = build(folder, &ladder(folder, "after.mkv"));
    let all = chunks(&folder.join("out/720/playlist.m3u8"), 24.0);
    let numbers = rebuild.encodes.iter().filter_map(|node| node.strip_prefix("720/")?.parse::<usize>().ok());
    let mut changed: Vec<Range<usize>> = numbers.map(|number| all[number - 1].clone()).collect();
    changed.sort_by_key(|chunk| chunk.start);
    let bare = bare(&edited, &changed);
    println!("3 s replaced in a minute of FFV1, {} of {} chunks", changed.len(), all.len());
    println!("  bare encodes     {bare:7.1} CPU s  of {:.1} s", rebuild.encoded / RUNGS.len() as f64);
    println!(
        "  rebuild          {:7.1} CPU s  {:.3} of them (the limit is 1.25)  {:.1} s",
        rebuild.cpu,
        rebuild.cpu / bare,
        rebuild.wall
    );
}

fn main() {
    // `cargo test --benches` and `cargo bench -- --list` ask for nothing to be measured.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    cold();
    edit();
}
