//! Film-length work: ten hours in 2 s chunks on 8 rungs, which is 144,000 encodes. What a build
//! costs that has nothing to do, and one that has one chunk to do, beside `ninja` with as many
//! edges, in one run on one machine, in time and in memory. And how fast a source is hashed,
//! beside `b3sum` where that is installed.
//!
//! The cache is filled through the real code paths; only the encoder is a stand-in that encodes
//! one chunk and hands out copies of it, each a little different, so that no two results are one.
//!
//! `cargo bench --bench scale`; `RIVET_BENCH_HOURS` (default 10) sets the length. It needs about 4
//! GB in `/dev/shm` or the temporary folder, and ninja (Debian: ninja-build).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rivet::spec;
use rivet::testing::build;
use rivet::testing::cache::{LocalCache, Tiers};
use rivet::testing::executors::{EncodeJob, EncodedChunk, Executor, Failure, Rav1e};

const RUNGS: usize = 8;
/// Frames a second of the film, and of a group of pictures, which is a chunk, too.
const RATE: usize = 5;
const GROUP: usize = 10;

fn hours() -> f64 {
    std::env::var("RIVET_BENCH_HOURS").ok().and_then(|text| text.parse().ok()).unwrap_or(10.0)
}

/// Encodes the first chunk of each length, and hands out copies.
struct Copies {
    rav1e: Rav1e,
    made: Mutex<HashMap<usize, EncodedChunk>>,
}

impl Executor for Copies {
    fn name(&self) -> &str {
        "copies"
    }

    fn identity(&self) -> String {
        "copies of one chunk".to_owned()
    }

    fn encoder(&self) -> &str {
        self.rav1e.encoder()
    }

    fn slots(&self) -> usize {
        self.rav1e.slots()
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let mut made = self.made.lock().expect("no thread panicked");
        let count = job.count();
        let first = job.decoded.open().next().expect("there is a picture").expect("it decodes");
        let mut chunk = match made.get(&count) {
            Some(chunk) => chunk.clone(),
            None => {
                let chunk = self.rav1e.encode(job).expect("it encodes");
                made.insert(count, chunk.clone());
                chunk
            }
        };
        drop(made);
        // A padding OBU (AV1 5.8.2) that tells this chunk from all others.
        let mut padding = vec![0x7a, 33, job.task.settings.crf];
        padding.extend(&first.digest().0[..31]);
        padding.push(0x80);
        chunk.units.last_mut().expect("there is a unit").extend(padding);
        Ok(chunk)
    }
}

/// One build, in this process: prints what it took.
fn build(folder: &Path, spec: &str) {
    let start = Instant::now();
    let ladder = spec::load(&folder.join(spec)).expect("the spec is sound");
    let cache = LocalCache::open(&folder.join("cache")).expect("a cache");
    let cache = Arc::new(Tiers::from(cache));
    let jobs = build::default_jobs();
    let executor = Copies { rav1e: Rav1e::new(jobs), made: Mutex::default() };
    let options = build::Options { executors: Some(vec![Arc::new(executor)]), ..build::Options::default() };
    let summary = build::build(&ladder, cache, &options, Arc::default(), &|_| {}).expect("it builds");
    assert!(summary.succeeded(), "{:?}", summary.failures);
    let encodes = summary.nodes[&build::Kind::Encode];
    let ran: u64 = summary.nodes.values().map(|counts| counts.ran).sum();
    println!("{} {} {} {}", start.elapsed().as_secs_f64(), encodes.ran, encodes.cached, ran);
}

struct Cost {
    seconds: f64,
    /// Most bytes in memory at once.
    memory: f64,
    output: String,
}

/// Runs a program and watches its memory.
fn run(command: &mut Command) -> Cost {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0.0f64;
    while child.try_wait().expect("it can be waited for").is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        memory = memory.max(peak.unwrap_or(0.0) * 1024.0);
        std::thread::sleep(Duration::from_millis(2));
    }
    let seconds = start.elapsed().as_secs_f64();
    let output = child.wait_with_output().expect("it has ended");
    assert!(output.status.success(), "{command:?}");
    Cost { seconds, memory, output: String::from_utf8_lossy(&output.stdout).into_owned() }
}

fn median(costs: &mut [Cost]) -> &Cost {
    costs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    &costs[costs.len() / 2]
}

/// The film, or the film with `changed`, the number of a chunk, upside down.
fn film(to: &Path, changed: Option<usize>) {
    let seconds = hours() * 3600.0;
    // Noise, so that no two frames are equal.
    let mut source = format!("testsrc2=s=16x16:r={RATE}:d={seconds},noise=alls=4:allf=t");
    if let Some(chunk) = changed {
        let (first, last) = (chunk * GROUP, (chunk + 1) * GROUP - 1);
        source += &format!(",negate=enable='between(n,{first},{last})'");
    }
    let group = GROUP.to_string();
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-pix_fmt", "yuv420p"])
        .args(["-c:v", "ffv1", "-level", "3", "-g", &group])
        .arg(to)
        .status();
    assert!(status.expect("ffmpeg runs").success());
}

fn ladder(folder: &Path, name: &str, source: &str) {
    let rungs: Vec<String> = (0..RUNGS)
        .map(|n| format!("[[rung]]\nname = \"r{n}\"\nwidth = 16\nheight = 16\ncrf = {}\n", 20 + n))
        .collect();
    let text = format!(
        "[title]\nsource = \"{source}\"\noutput = \"out\"\n[segments]\nmode = \"fixed\"\ntarget = \"2s\"\n\
         [encoder.rav1e]\nspeed = 10\n{}",
        rungs.concat()
    );
    fs::write(folder.join(name), text).expect("written");
}

/// A graph of as many edges for ninja: each makes a file of its own from one of its own.
fn ninja(folder: &Path, edges: usize) -> [Cost; 2] {
    let folder = folder.join("ninja");
    let mut text = String::from("rule make\n  command = : > $out\n");
    for edge in 0..edges {
        let part = edge / 1000;
        if edge % 1000 == 0 {
            for kind in ["in", "out"] {
                fs::create_dir_all(folder.join(format!("{kind}/{part}"))).expect("a folder");
            }
        }
        let input = format!("in/{part}/{edge}");
        fs::write(folder.join(&input), "").expect("written");
        text += &format!("build out/{part}/{edge}: make {input}\n");
    }
    fs::write(folder.join("build.ninja"), text).expect("written");
    let run_it = || run(Command::new("ninja").arg("-C").arg(&folder).arg("--quiet"));
    let first = run_it();
    println!("(ninja's first build took {:.0} s)", first.seconds);
    let mut nothing: Vec<Cost> = (0..5).map(|_| run_it()).collect();
    let mut one: Vec<Cost> = (0..5)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(20));
            fs::write(folder.join(format!("in/0/{n}")), "changed").expect("written");
            run_it()
        })
        .collect();
    median(&mut nothing);
    median(&mut one);
    [nothing.swap_remove(2), one.swap_remove(2)]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, folder, spec] = arguments.as_slice()
        && mode == "--build"
    {
        return build(Path::new(folder), spec);
    }
    // `cargo test --benches` and `cargo bench -- --list` ask for nothing to be measured.
    if arguments.iter().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let place = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir());
    let place = place.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("rivet-scale-").tempdir_in(place).expect("a folder");
    let folder = folder.path();
    let this = std::env::current_exe().expect("this program");
    let build = |spec: &str| run(Command::new(&this).arg("--build").arg(folder).arg(spec));

    film(&folder.join("film.mkv"), None);
    ladder(folder, "film.toml", "film.mkv");
    let cold = build("film.toml");
    let numbers: Vec<usize> = cold.output.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    let encodes = numbers[0];
    println!("{encodes} encodes; the cache was filled in {:.0} s, {:.0} MB", cold.seconds, cold.memory / 1e6);

    let mut nothing: Vec<Cost> = (0..5).map(|_| build("film.toml")).collect();
    let nothing = median(&mut nothing);
    assert!(nothing.output.trim_end().ends_with(" 0"), "nothing ran: {}", nothing.output);
    let mut changed: Vec<Cost> = (0..3)
        .map(|n| {
            let name = format!("changed-{n}");
            film(&folder.join(format!("{name}.mkv")), Some(100 + n * 50));
            ladder(folder, &format!("{name}.toml"), &format!("{name}.mkv"));
            // A file that changed a moment ago is waited for.
            std::thread::sleep(Duration::from_millis(300));
            let cost = build(&format!("{name}.toml"));
            assert!(cost.output.contains(&format!(" {RUNGS} ")), "one chunk a rung: {}", cost.output);
            cost
        })
        .collect();
    let changed = median(&mut changed);

    let [ninja_nothing, ninja_one] = ninja(folder, encodes);
    let row = |what: &str, ours: &Cost, theirs: &Cost| {
        println!(
            "{what:<18} {:7.3} s {:6.0} MB   ninja {:7.3} s {:6.0} MB   {:.2} of its time, {:.2} of its memory",
            ours.seconds,
            ours.memory / 1e6,
            theirs.seconds,
            theirs.memory / 1e6,
            ours.seconds / theirs.seconds,
            ours.memory / theirs.memory,
        );
    };
    row("nothing to do", nothing, &ninja_nothing);
    row("one chunk changed", changed, &ninja_one);
    hashing(folder);
}

/// Hashing a source for the first time, beside `b3sum` on the same file.
fn hashing(folder: &Path) {
    let path = folder.join("large.bin");
    let mut file = fs::File::create(&path).expect("created");
    let piece: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..1024 {
        std::io::Write::write_all(&mut file, &piece).expect("written");
    }
    let gigabytes = 1.024 * 1.048_576;
    std::thread::sleep(Duration::from_millis(300));
    let best = |run: &mut dyn FnMut() -> f64| (0..5).map(|_| run()).fold(f64::MAX, f64::min);
    let ours = best(&mut || {
        let start = Instant::now();
        build::hash_file(&path, &|| false).expect("it is hashed");
        start.elapsed().as_secs_f64()
    });
    let theirs = Command::new("b3sum")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok()
        .then(|| best(&mut || run(Command::new("b3sum").arg(&path)).seconds));
    match theirs {
        Some(theirs) => println!(
            "hashing            {:.2} GB/s, b3sum {:.2} GB/s: {:.2} of its time",
            gigabytes / ours,
            gigabytes / theirs,
            ours / theirs
        ),
        None => println!("hashing            {:.2} GB/s (b3sum is not installed)", gigabytes / ours),
    }
}
