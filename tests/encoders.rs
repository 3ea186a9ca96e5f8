//! Encoders beside each other: what each makes keeps the rung's contract by others' eyes, any of a
//! rung's encoders will do, and one that fails is no reason for a build to fail.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::chunk::{Chunk, FRAMES, task};
use common::{BUNNY_5S, FLOWER, Project, decoders, ladder};
use rivet::testing::build::{self, Event, Kind};
use rivet::testing::cache::{LocalCache, Tiers};
use rivet::testing::executors::{
    self, EncodeJob, EncodeSettings, EncodedChunk, EncoderSettings, Executor, Failure, FailureKind, Rav1e,
};
use rivet::testing::media::{Colour, FrameFormat, HdrMetadata, Rotation};

const RUNGS: &str = "[encoder.svt-av1]\npreset = 12\n[segments]\ntarget = \"1s\"\n\
                     [[rung]]\nname = \"a\"\nheight = 180\n[[rung]]\nname = \"b\"\nheight = 90\nbit_depth = 10\n";

fn project(clip: &str, encoder: &str) -> Project {
    let project = Project::new();
    project.copy_clip(clip, "clip.mp4");
    write(&project, encoder);
    project
}

fn write(project: &Project, encoder: &str) {
    project.write("ladder.toml", ladder("clip.mp4", &format!("[video]\nencoder = {encoder}\n{RUNGS}")));
}

#[test]
fn svt_av1_keeps_the_contract_by_others_eyes() {
    for (clip, frames) in [(BUNNY_5S, 132), (FLOWER, 150)] {
        let project = project(clip, "\"svt-av1\"");
        let build = project.build();
        assert!(build.ran("encode") > 6);
        for (rung, height, depth) in [("a", 180, 8), ("b", 90, 10)] {
            decoders::assert_sound(&project, rung, height, depth, frames);
        }
        assert_eq!(project.build().ran_at_all(), 0);
    }
}

#[test]
fn what_encodes_no_av1_is_an_error_of_the_spec() {
    for encoder in ["\"libx264\"", "[\"svt-av1\", \"libx264\"]"] {
        let project = project(BUNNY_5S, encoder);
        for command in ["plan", "build"] {
            let told = project.rivet().arg(command).output().unwrap();
            let stderr = String::from_utf8_lossy(&told.stderr);
            assert_eq!(told.status.code(), Some(2), "{command} {encoder}: {stderr}");
            for words in ["ladder.toml:7:", "error: unknown encoder `libx264`", "name of an AV1 encoder"] {
                assert!(stderr.contains(words), "{words} is not in\n{stderr}");
            }
        }
        assert!(!project.path("cache").exists());
    }
}

#[test]
fn a_rung_too_small_for_its_encoder_is_told_before_anything_is_decoded() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    let spec = |encoder: &str| {
        let rungs = format!("[video]\nencoder = {encoder}\n[[rung]]\nname = \"small\"\nheight = 36\n");
        project.write("ladder.toml", ladder("clip.mp4", &rungs));
    };
    spec("\"svt-av1\"");
    let build = project.try_build(&[]);
    assert_eq!(build.status, 1);
    let told = "rung small: its pictures would be 64x36, which none of its encoders makes: svt-av1 \
                (its pictures are at least 64x64); make it larger, or let it have `encoder = \"rav1e\"`";
    assert!(build.stderr.contains(told), "{}", build.stderr);
    assert_eq!(build.ran("decode"), 0);
}

#[test]
fn a_key_that_no_encoder_of_a_rung_has_is_told_once() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    let rungs =
        "[video]\nencoder = \"svt-av1\"\npreset = 12\nspeed = 10\n[[rung]]\nname = \"a\"\nheight = 90\n";
    project.write("ladder.toml", ladder("clip.mp4", rungs));
    let build = project.build();
    let told = "warning: `speed` in `[video]` has no effect\n --> ladder.toml:9:1";
    assert_eq!(build.stderr.matches(told).count(), 1, "{}", build.stderr);
    assert_eq!(build.stderr.matches("warning").count(), 1, "{}", build.stderr);
}

/// Where few encodes are left each gets several cores, for its tiles.
#[test]
fn cores_that_share_an_encode_change_no_byte() {
    let project = Project::new();
    project.copy_clip(FLOWER, "clip.mp4");
    let segments = "[segments]\nmode = \"fixed\"\ntarget = \"2s\"\n";
    let rest = format!("tiles = 4\n{segments}[[rung]]\nname = \"a\"\nheight = 144\n");
    project.write("ladder.toml", ladder("clip.mp4", &rest));
    let outputs = ["1", "16"].map(|jobs| {
        project.build_with(&["--jobs", jobs]);
        fs::remove_dir_all(project.path("cache")).unwrap();
        let output = project.output();
        fs::remove_dir_all(project.path("out")).unwrap();
        output
    });
    assert_eq!(outputs[0], outputs[1]);
}

/// A build knows by that asking that an encode goes on. One that looks far ahead has most of its work to do
/// when the last picture has come.
#[test]
fn encoders_ask_to_the_end_whether_to_stop() {
    let libaom = [("cpu-used".to_owned(), "8".to_owned())].into();
    let encoders = [
        EncoderSettings::Rav1e { speed: 10, tiles: 1 },
        EncoderSettings::SvtAv1 { preset: 12 },
        EncoderSettings::Ffmpeg { encoder: "libaom-av1".to_owned(), options: libaom },
    ];
    for encoder in encoders {
        let name = encoder.name().to_owned();
        let colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 1 };
        let picture = FrameFormat { width: 128, height: 72, bit_depth: 8, rotation: Rotation::None, colour };
        let settings = EncodeSettings { format: picture, hdr: HdrMetadata::default(), crf: 40, encoder };
        let (executor, task) = (executors::open(&name).unwrap(), task(&settings, 25));
        let given = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&given);
        let pictures = Chunk::with(move |number| {
            counter.store(number + 1, Ordering::SeqCst);
            Ok(())
        });
        let all_given = || given.load(Ordering::SeqCst) == FRAMES;
        let encode = |cancelled: &(dyn Fn() -> bool + Sync)| {
            given.store(0, Ordering::SeqCst);
            executor.encode(&EncodeJob { task: &task, decoded: &pictures, threads: 1, cancelled })
        };
        let asked = AtomicUsize::new(0);
        let made = encode(&|| {
            asked.fetch_add(usize::from(all_given()), Ordering::SeqCst);
            false
        });
        assert_eq!(made.unwrap().units.len(), FRAMES, "{name}");
        // Once is that it has got the last picture.
        assert!(asked.load(Ordering::SeqCst) > 2, "{name}: {asked:?}");
        let asked = AtomicUsize::new(0);
        let stopped = encode(&|| all_given() && asked.fetch_add(1, Ordering::SeqCst) == 2);
        assert_eq!(stopped.unwrap_err().kind, FailureKind::Cancelled, "{name}");
    }
}

/// A level limits the bit rate, too, which constant quality does not know beforehand.
#[test]
fn more_bits_than_a_level_allows_are_told() {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    let rungs = |crf: u8| {
        format!(
            "[video]\nencoder = \"svt-av1\"\npreset = 12\n[[rung]]\nname = \"fine\"\nheight = 180\ncrf = {crf}\n\
             [[rung]]\nname = \"coarse\"\nheight = 180\ncrf = 50\n"
        )
    };
    project.write("ladder.toml", ladder("clip.mp4", &rungs(1)));
    let build = project.build();
    assert!(build.stderr.contains("rung fine: its busiest stretch has "), "{}", build.stderr);
    assert!(build.stderr.contains("more than the 1.5 Mbit/s that AV1 level 2.0 allows"), "{}", build.stderr);
    assert!(!build.stderr.contains("rung coarse"), "{}", build.stderr);
    project.write("ladder.toml", ladder("clip.mp4", &rungs(40)));
    assert!(!project.build().stderr.contains("busiest"));
}

#[test]
fn svt_av1_is_as_deterministic_as_rav1e() {
    let build = |jobs: &str| {
        let project = project(BUNNY_5S, "\"svt-av1\"");
        project.build_with(&["--jobs", jobs]);
        project.output()
    };
    let one = build("1");
    assert_eq!(one, build("2"));
    assert_eq!(one, build("7"));
}

#[test]
fn what_any_of_a_rungs_encoders_made_will_do() {
    let project = project(BUNNY_5S, "\"rav1e\"");
    let first = project.build();
    let before = project.output();
    // Nothing of it is SVT-AV1's.
    write(&project, "\"svt-av1\"");
    assert_eq!(project.build().ran("encode"), first.ran("encode"));
    let other = project.output();
    assert_ne!(before, other);
    // Both are in the cache: the one that is preferred comes first.
    for (encoders, expected) in [("[\"svt-av1\", \"rav1e\"]", &other), ("[\"rav1e\", \"svt-av1\"]", &before)]
    {
        write(&project, encoders);
        let build = project.build();
        assert_eq!(build.ran("encode"), 0, "{}", build.summary());
        assert_eq!(&project.output(), expected);
    }
    // A knob that only an encoder has which is not asked for changes nothing.
    let text = fs::read_to_string(project.path("ladder.toml")).unwrap();
    write(&project, "\"rav1e\"");
    project.build();
    project.write("ladder.toml", text.replace("[\"rav1e\", \"svt-av1\"]", "\"rav1e\"").replace("12", "11"));
    assert_eq!(project.build().ran("encode"), 0);
}

/// What the other had made is still in the cache, and not to be blamed on it.
#[test]
fn a_plan_tells_that_another_encoder_may_have_done_it() {
    let project = project(BUNNY_5S, "\"svt-av1\"");
    project.build();
    write(&project, "[\"rav1e\", \"svt-av1\"]");
    assert_eq!(project.build().ran("encode"), 0);
    write(&project, "\"rav1e\"");
    let plan = project.rivet().arg("plan").output().unwrap();
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("in the last build any of rav1e, svt-av1 encoded it"), "{plan}");
}

#[test]
fn pictures_that_one_encoder_does_not_take_go_to_the_next() {
    let rungs = "[video]\nencoder = [\"svt-av1\", \"rav1e\"]\n[[rung]]\nname = \"tiny\"\nheight = 36\n";
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("ladder.toml", ladder("clip.mp4", rungs));
    let plan = project.rivet().arg("plan").output().unwrap();
    let told = "with several encoders, bytes may differ from build to build: tiny";
    assert!(String::from_utf8_lossy(&plan.stdout).contains(told));
    let build = project.build();
    assert!(build.ran("encode") > 0);
    let told = "svt-av1 encodes nothing of rung tiny, which is 64x36: its pictures are at least 64x64";
    assert!(build.stderr.contains(told), "{}", build.stderr);
}

/// What an encoder does that cannot be trusted.
#[derive(Clone, Copy)]
enum Fault {
    /// Streams of another depth than was agreed.
    OtherDepth,
    /// The `n`th attempt fails.
    Nth(usize),
    /// It never works.
    Always,
    /// Its last packet is missing.
    Short,
}

/// Stands in for SVT-AV1, and is rav1e with a fault.
struct Faulty {
    rav1e: Rav1e,
    fault: Fault,
    attempts: AtomicUsize,
}

impl Executor for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn encoder(&self) -> &'static str {
        "svt-av1"
    }

    fn identity(&self) -> String {
        "faulty 1".to_owned()
    }

    fn slots(&self) -> usize {
        self.rav1e.slots()
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let mut task = job.task.clone();
        task.settings.encoder = executors::EncoderSettings::Rav1e { speed: 10, tiles: 1 };
        if matches!(self.fault, Fault::OtherDepth) {
            task.settings.format.bit_depth = 18 - task.settings.format.bit_depth;
        }
        let fails = match self.fault {
            Fault::Nth(nth) => attempt == nth,
            Fault::Always => true,
            Fault::OtherDepth | Fault::Short => false,
        };
        let outcome = if fails {
            Err(Failure { kind: FailureKind::Machine, message: "the device is gone".to_owned() })
        } else {
            self.rav1e.encode(&EncodeJob { task: &task, ..*job })
        };
        outcome.and_then(|chunk| match self.fault {
            Fault::Short => Err(Failure::machine(format!("{} packets are missing", chunk.units.len()))),
            _ => Ok(chunk),
        })
    }
}

/// A build in this process with a faulty encoder, and with rav1e beside it or not. Returns its
/// warnings, its failures, and how often the faulty one was tried.
fn build(folder: &Path, fault: Fault, encoders: &str) -> (Vec<String>, Vec<String>, usize, u64) {
    fs::copy(common::clip(BUNNY_5S), folder.join("clip.mp4")).unwrap();
    let text = ladder("clip.mp4", &format!("[video]\nencoder = {encoders}\n{RUNGS}"));
    fs::write(folder.join("ladder.toml"), text).unwrap();
    let spec = rivet::spec::load(&folder.join("ladder.toml")).unwrap();
    let cache = Arc::new(Tiers::from(LocalCache::open(&folder.join("cache")).unwrap()));
    let faulty = Arc::new(Faulty { rav1e: Rav1e::new(2), fault, attempts: AtomicUsize::new(0) });
    let options = build::Options {
        executors: Some(vec![faulty.clone(), Arc::new(Rav1e::new(2))]),
        ..build::Options::default()
    };
    let warnings = std::cell::RefCell::new(Vec::new());
    let summary = build::build(&spec, cache, &options, Arc::default(), &|event| {
        if let Event::Warning { message, .. } = event {
            warnings.borrow_mut().push(message.clone());
        }
    });
    let summary = summary.unwrap();
    let failures = summary.failures.iter().map(|failure| format!("{}: {}", failure.node, failure.message));
    let encodes = summary.nodes[&Kind::Encode].ran;
    (warnings.into_inner(), failures.collect(), faulty.attempts.load(Ordering::Relaxed), encodes)
}

#[test]
fn an_encoder_that_breaks_the_contract_is_retired_and_fails_no_build() {
    let folder = tempfile::tempdir().unwrap();
    let (warnings, failures, attempts, encodes) =
        build(folder.path(), Fault::OtherDepth, "[\"svt-av1\", \"rav1e\"]");
    assert_eq!(failures, [] as [&str; 0]);
    assert!(encodes > 10);
    // Two slots may each have begun before the first told.
    assert!((2..=4).contains(&attempts), "{attempts}: each rung tried it");
    let told = warnings.iter().filter(|text| text.contains("encodes no more of rung")).count();
    assert_eq!(told, 2, "{warnings:?}");
    assert!(warnings.iter().any(|text| text.contains("bit_depth is 10, expected 8")), "{warnings:?}");
    assert!(warnings.iter().any(|text| text.contains("bit_depth is 8, expected 10")), "{warnings:?}");

    let folder = tempfile::tempdir().unwrap();
    let (_, failures, ..) = build(folder.path(), Fault::OtherDepth, "\"svt-av1\"");
    assert!(!failures.is_empty());
    for failure in failures {
        assert!(failure.starts_with("a/") || failure.starts_with("b/"), "{failure}");
        assert!(failure.contains("sequence header check failed: bit_depth is "), "{failure}");
    }
}

#[test]
fn an_encoder_that_fails_once_costs_one_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let (warnings, failures, attempts, encodes) =
        build(folder.path(), Fault::Nth(3), "[\"svt-av1\", \"rav1e\"]");
    assert_eq!(failures, [] as [&str; 0]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with("goes to rav1e: the device is gone"), "{warnings:?}");
    assert_eq!(attempts as u64, encodes, "all but the one that failed were its own");
}

#[test]
fn an_encoder_that_always_fails_is_retired() {
    for fault in [Fault::Always, Fault::Short] {
        let folder = tempfile::tempdir().unwrap();
        let (warnings, failures, attempts, encodes) = build(folder.path(), fault, "[\"svt-av1\", \"rav1e\"]");
        assert_eq!(failures, [] as [&str; 0]);
        assert!(encodes > 10);
        assert!((6..=8).contains(&attempts), "{attempts}: three times on each rung");
        assert_eq!(warnings.len(), attempts, "{warnings:?}");
        // And nothing of it was kept.
        let (warnings, failures, attempts, encodes) =
            build(folder.path(), Fault::Nth(usize::MAX), "[\"rav1e\"]");
        assert_eq!((warnings.len(), failures.len(), attempts, encodes), (0, 0, 0, 0));
    }
}
