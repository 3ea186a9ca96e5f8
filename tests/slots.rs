//! Devices beside the CPUs: several on one rung, slots that are not granted, and devices that fail.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{BUNNY_5S, ladder};
use rivet::testing::build::{self, Event, Kind};
use rivet::testing::cache::{LocalCache, Tiers};
use rivet::testing::executors::{
    EncodeJob, EncodedChunk, EncoderSettings, Executor, Failure, FailureKind, Rav1e,
};

/// What is wrong with a device.
#[derive(Clone, Copy)]
enum Fault {
    None,
    /// It does no more than so many jobs at a time.
    Grants(usize),
    /// It has no room for the first so many jobs.
    BusyFor(usize),
    /// It never works.
    Always,
    /// It has room for no job, now or later.
    Full,
    /// Streams of another depth than was agreed.
    OtherDepth,
    /// It cannot make pictures of so many rows, and says so of several jobs at once.
    NoHeight(u32),
}

/// A device that is rav1e, with a fault.
struct Device {
    name: String,
    rav1e: Rav1e,
    slots: usize,
    fault: Fault,
    attempts: AtomicUsize,
    running: AtomicUsize,
    /// Jobs that it cannot do, and is at.
    unfit: Mutex<usize>,
    more_unfit: Condvar,
    most: AtomicUsize,
    done: AtomicUsize,
}

impl Device {
    fn new(number: usize, slots: usize, fault: Fault) -> Arc<Device> {
        Arc::new(Device {
            name: format!("device:{number}"),
            rav1e: Rav1e::new(1),
            slots,
            fault,
            attempts: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            unfit: Mutex::default(),
            more_unfit: Condvar::new(),
            most: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        })
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    /// Waits until several such jobs have come, so that they fail one after another. Where they do not
    /// come, as others were faster, there is nothing to wait for.
    fn unfit(&self) -> Failure {
        const SEVERAL: usize = 3;
        let mut unfit = self.unfit.lock().unwrap();
        *unfit += 1;
        self.more_unfit.notify_all();
        let wait =
            self.more_unfit.wait_timeout_while(unfit, Duration::from_secs(5), |unfit| *unfit < SEVERAL);
        drop(wait.unwrap());
        Failure { kind: FailureKind::Spec, message: "the device makes no such pictures".to_owned() }
    }
}

impl Executor for Device {
    fn name(&self) -> &str {
        &self.name
    }

    fn encoder(&self) -> &'static str {
        "nvenc"
    }

    fn identity(&self) -> String {
        "a device".to_owned()
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn is_device(&self) -> bool {
        true
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let refused = || Failure { kind: FailureKind::ResourceExhausted, message: "no session".to_owned() };
        let mut task = job.task.clone();
        task.settings.encoder = EncoderSettings::Rav1e { speed: 10, tiles: 1 };
        let outcome = match self.fault {
            Fault::Grants(most) if running > most => Err(refused()),
            Fault::BusyFor(jobs) if attempt < jobs => Err(refused()),
            Fault::Full => Err(refused()),
            Fault::Always => Err(Failure::machine("the device is gone")),
            Fault::NoHeight(height) if job.task.settings.format.height == height => Err(self.unfit()),
            fault => {
                self.most.fetch_max(running, Ordering::SeqCst);
                if matches!(fault, Fault::OtherDepth) {
                    task.settings.format.bit_depth = 18 - task.settings.format.bit_depth;
                }
                self.rav1e.encode(&EncodeJob { task: &task, ..*job })
            }
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(usize::from(outcome.is_ok()), Ordering::SeqCst);
        outcome
    }
}

struct Outcome {
    warnings: Vec<String>,
    failures: Vec<String>,
    /// Encodes that ran.
    encodes: usize,
}

/// Builds two rungs, the first with `encoder`, the second with devices alone, on one CPU slot, so
/// that whatever else runs at a time runs on devices.
fn build(folder: &Path, encoder: &str, devices: &[Arc<Device>]) -> Outcome {
    build_with(folder, encoder, devices, build::Options::default())
}

fn build_with(folder: &Path, encoder: &str, devices: &[Arc<Device>], options: build::Options) -> Outcome {
    fs::copy(common::clip(BUNNY_5S), folder.join("clip.mp4")).unwrap();
    let rungs = format!(
        "[[rung]]\nname = \"a\"\nheight = 72\nencoder = {encoder}\n[[rung]]\nname = \"b\"\nheight = 54\nencoder = \"nvenc\"\n"
    );
    fs::write(folder.join("ladder.toml"), ladder("clip.mp4", &rungs)).unwrap();
    let spec = rivet::spec::load(&folder.join("ladder.toml")).unwrap();
    let cache = Arc::new(Tiers::from(LocalCache::open(&folder.join("cache")).unwrap()));
    let mut executors: Vec<Arc<dyn Executor>> = vec![Arc::new(Rav1e::new(1))];
    executors.extend(devices.iter().map(|device| Arc::clone(device) as Arc<dyn Executor>));
    let options = build::Options { jobs: 1, executors: Some(executors), ..options };
    let warnings = Mutex::new(Vec::new());
    let summary = build::build(&spec, cache, &options, Arc::default(), &|event| {
        if let Event::Warning { message, .. } = event {
            warnings.lock().unwrap().push(message.clone());
        }
    });
    let summary = summary.unwrap();
    let failures = summary.failures.iter().map(|failure| format!("{}: {}", failure.node, failure.message));
    Outcome {
        warnings: warnings.into_inner().unwrap(),
        failures: failures.collect(),
        encodes: summary.nodes[&Kind::Encode].ran as usize,
    }
}

const BOTH: &str = "[\"nvenc\", \"rav1e\"]";

#[test]
fn devices_share_the_work_and_none_does_more_than_it_can() {
    for count in [2, 8] {
        let folder = tempfile::tempdir().unwrap();
        let devices: Vec<_> = (0..count).map(|number| Device::new(number, 2, Fault::None)).collect();
        let outcome = build(folder.path(), BOTH, &devices);
        assert_eq!((outcome.failures.len(), outcome.warnings.len()), (0, 0), "{:?}", outcome.warnings);
        assert!(outcome.encodes > 10);
        let by_devices: usize = devices.iter().map(|device| device.done()).sum();
        assert!(by_devices <= outcome.encodes && by_devices >= outcome.encodes / 2, "{by_devices}");
        assert!(devices.iter().filter(|device| device.done() > 0).count() > 1);
        for device in &devices {
            assert!(device.most.load(Ordering::SeqCst) <= 2, "{}", device.name);
        }
        // Whoever made a segment, it is found again.
        let again = build(folder.path(), BOTH, &devices);
        assert_eq!((again.encodes, again.failures.len()), (0, 0));
        let again = build(folder.path(), "[\"rav1e\", \"nvenc\"]", &devices);
        assert_eq!((again.encodes, again.failures.len()), (0, 0));
        common::join_track(&folder.path().join("out/a"), &folder.path().join("a.mp4"));
        let frames = common::ffprobe(
            &folder.path().join("a.mp4"),
            &["-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames"],
        );
        assert_eq!(frames["streams"][0]["nb_read_frames"], "132");
    }
}

#[test]
fn slots_that_a_device_does_not_grant_are_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let devices = [Device::new(0, 4, Fault::Grants(1)), Device::new(1, 2, Fault::None)];
    let outcome = build(folder.path(), "\"nvenc\"", &devices);
    assert_eq!(outcome.failures, [] as [&str; 0]);
    assert_eq!(devices[0].most.load(Ordering::SeqCst), 1);
    assert!(devices[0].done() > 0);
    assert_eq!(devices[0].done() + devices[1].done(), outcome.encodes);
    assert!(outcome.warnings.iter().any(|told| told.contains("device:0")), "{:?}", outcome.warnings);
    assert!(outcome.warnings.iter().all(|told| told.contains("no session")), "{:?}", outcome.warnings);
}

#[test]
fn a_device_that_comes_free_joins_in() {
    // The second rung has nobody else, so the build waits for it.
    let folder = tempfile::tempdir().unwrap();
    let devices = [Device::new(0, 2, Fault::BusyFor(3))];
    let outcome = build(folder.path(), BOTH, &devices);
    assert_eq!(outcome.failures, [] as [&str; 0]);
    assert!(outcome.encodes > 10);
    assert!(devices[0].done() >= outcome.encodes / 2, "all of the second rung is its own");
    let busy = outcome.warnings.iter().filter(|told| told.contains("device:0 is busy")).count();
    assert_eq!(busy, 1, "it is told once: {:?}", outcome.warnings);
}

/// The second rung has nobody else: the build fails, soon, and says why; what the first needs is made.
#[test]
fn a_device_that_never_has_room_is_given_up() {
    let cooling: Vec<Duration> = [1, 2, 4].map(Duration::from_millis).to_vec();
    for keep_going in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let devices = [Device::new(0, 2, Fault::Full)];
        let options = build::Options { cooling: cooling.clone(), keep_going, ..build::Options::default() };
        let outcome = build_with(folder.path(), BOTH, &devices, options);
        assert!(!outcome.failures.is_empty());
        for failure in &outcome.failures {
            let why = ["no session", "device:0: it had no room for a job in 7ms"];
            assert!(why.iter().any(|why| failure.contains(why)), "{failure}");
            assert!(!failure.contains("internal error"), "{failure}");
        }
        let told = outcome.warnings.iter().filter(|told| told.contains("device:0 is busy")).count();
        assert_eq!(told, 1, "it is told once: {:?}", outcome.warnings);
        let why = "device:0 is given up: it had no room for a job in 7ms: no session";
        assert_eq!(outcome.warnings.iter().filter(|told| *told == why).count(), 1, "{:?}", outcome.warnings);
        assert!(devices[0].attempts() > cooling.len(), "once, and once after each wait");
        assert!(!folder.path().join("out/master.m3u8").exists());
    }
}

/// That it is no good for one rung is no reason to take it from another.
#[test]
fn a_device_that_cannot_make_one_rung_is_kept_for_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let devices = [Device::new(0, 8, Fault::NoHeight(54)), Device::new(1, 1, Fault::None)];
    let outcome = build(folder.path(), "\"nvenc\"", &devices);
    assert_eq!(outcome.failures, [] as [&str; 0]);
    let retired = outcome.warnings.iter().filter(|told| told.contains("device:0 encodes no more of rung b"));
    assert_eq!(retired.count(), 1, "{:?}", outcome.warnings);
    assert!(!outcome.warnings.iter().any(|told| told.contains("given up")), "{:?}", outcome.warnings);
}

#[test]
fn a_device_that_always_fails_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let devices = [Device::new(0, 1, Fault::Always), Device::new(1, 1, Fault::None)];
    let outcome = build(folder.path(), BOTH, &devices);
    assert_eq!(outcome.failures, [] as [&str; 0]);
    assert_eq!(devices[0].attempts(), 3);
    let given_up = |told: &&String| told.contains("the device is gone; device:0 is given up");
    assert_eq!(outcome.warnings.iter().filter(given_up).count(), 1, "{:?}", outcome.warnings);

    // Alone it fails the build, which says why.
    let folder = tempfile::tempdir().unwrap();
    let devices = [Device::new(0, 1, Fault::Always)];
    let outcome = build(folder.path(), "\"nvenc\"", &devices);
    assert!(outcome.failures[0].contains("the device is gone"), "{:?}", outcome.failures);
    assert!(devices[0].attempts() <= 3);
}

#[test]
fn a_device_that_breaks_the_contract_makes_no_more_of_the_rung() {
    let folder = tempfile::tempdir().unwrap();
    let devices = [Device::new(0, 1, Fault::OtherDepth), Device::new(1, 1, Fault::None)];
    let outcome = build(folder.path(), "\"nvenc\"", &devices);
    assert_eq!(outcome.failures, [] as [&str; 0]);
    assert_eq!(devices[0].attempts(), 2, "once on each rung");
    let told = |told: &&String| told.contains("bit_depth is 10, expected 8");
    assert_eq!(outcome.warnings.iter().filter(told).count(), 2, "{:?}", outcome.warnings);
    assert!(outcome.warnings.iter().any(|told| told.contains("device:0 encodes no more of rung a")));
}
