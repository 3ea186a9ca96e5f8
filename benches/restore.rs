//! What taking a whole ladder from a remote cache costs: an S3 server on this machine, against rclone
//! copying the same files from the same server. Everything is measured in one run, as medians, and quoted
//! as ratios:
//!
//! - restoring: an empty cache and no output folder, as on a machine that has never built the film;
//! - publishing again: the cache is warm, the output folder is gone, and the server is asked for nothing
//!   but what a build always looks up.
//!
//! `cargo bench --bench restore`; `RIVET_BENCH_LONG=1` takes thirty seconds of film on two rungs instead of
//! five on one.

#[path = "../tests/common/servers/mod.rs"]
#[allow(dead_code, reason = "only one of them is needed here")]
mod servers;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use servers::s3::{KEY_ID, S3, SECRET};
use servers::tool;

/// Each is measured so often.
const ROUNDS: usize = 5;
const KEY: &str = "rivet-ed25519-secret:1111111111111111111111111111111111111111111111111111111111111111";

fn main() {
    let long = std::env::var_os("RIVET_BENCH_LONG").is_some();
    let (clip, rungs) = if long {
        (
            "tests/media/bbb_854x480_24_30s.mp4",
            "[[rung]]\nname = \"240p\"\nheight = 240\n[[rung]]\nname = \"144p\"\nheight = 144\n",
        )
    } else {
        ("examples/media/bbb_1280x720_25_51aac.mp4", "[[rung]]\nname = \"360p\"\nheight = 360\n")
    };
    let server = S3::start();
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::copy(clip, root.join("film.mp4")).expect("the clip");
    fs::write(
        root.join("ladder.toml"),
        format!(
            "[title]\nsource = \"film.mp4\"\noutput = \"out\"\n[encoder.rav1e]\nspeed = 10\n\
             [cache]\nremote = \"{}\"\n{rungs}[[audio]]\nname = \"main\"\n",
            server.url(servers::s3::BUCKET)
        ),
    )
    .expect("the spec");
    build(root);
    let media = size(&root.join("out"));
    let copy = format!("{}/copy", server.rclone_remote());
    rclone(&["copy", &root.join("out").display().to_string(), &copy]);

    let restored = median(|| {
        let _ = fs::remove_dir_all(root.join("cache"));
        let _ = fs::remove_dir_all(root.join("out"));
        build(root)
    });
    let published = median(|| {
        let _ = fs::remove_dir_all(root.join("out"));
        build(root)
    });
    let copied = median(|| {
        let _ = fs::remove_dir_all(root.join("copied"));
        let start = Instant::now();
        rclone(&["copy", &copy, &root.join("copied").display().to_string()]);
        start.elapsed().as_secs_f64()
    });
    assert_eq!(size(&root.join("copied")), media);
    println!("{} files, {:.1} MB", media.0, media.1 as f64 / 1e6);
    println!("rclone copies them in       {copied:.2} s");
    println!("restored from nothing in    {restored:.2} s, {:.2} of that", restored / copied);
    println!("published from the cache in {published:.2} s, {:.2} of that", published / copied);
}

/// Seconds that a build takes in which nothing is to be encoded, or the first one.
fn build(folder: &Path) -> f64 {
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_rivet"))
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env_remove("RIVET_CACHE_DIR")
        .env_remove("RIVET_REMOTE_CACHE")
        .env("RIVET_SIGNING_KEY", KEY)
        .env("AWS_ACCESS_KEY_ID", KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .args(["build", "--quiet"])
        .stdout(Stdio::null())
        .status()
        .expect("rivet runs");
    assert!(status.success());
    start.elapsed().as_secs_f64()
}

fn rclone(arguments: &[&str]) {
    let status = Command::new(tool("rclone")).args(["--config", ""]).args(arguments).status();
    assert!(status.expect("rclone runs; `scripts/setup.sh bench` brings it").success());
}

fn median(run: impl Fn() -> f64) -> f64 {
    let mut seconds: Vec<f64> = (0..ROUNDS).map(|_| run()).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[ROUNDS / 2]
}

/// Files and bytes of a folder.
fn size(folder: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let meta = entry.metadata().expect("a file");
        if meta.is_dir() {
            let (files, bytes) = size(&entry.path());
            sum = (sum.0 + files, sum.1 + bytes);
        } else {
            sum = (sum.0 + 1, sum.1 + meta.len());
        }
    }
    sum
}
