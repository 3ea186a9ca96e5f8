//! Encoding and decoding in processes of their own: the same bytes as in one, on whatever way the
//! pictures go there, and a process that crashes, hangs or lies costs an attempt.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::{BUNNY_5S, Build, Project, ladder, until};
use rivet::testing::media::{self, Codecs, CodecsHere, DecodeOptions, PacketReader, SpanPackets};
use rivet::testing::workers::{WorkerCodecs, WorkerCommand, WorkerOptions, WorkerPool};

const RUNGS: &str =
    "[[rung]]\nname = \"a\"\nheight = 72\n[[rung]]\nname = \"b\"\nheight = 54\nbit_depth = 10\n";
const RIVET: &str = env!("CARGO_BIN_EXE_rivet");

fn project() -> Project {
    let project = Project::new();
    project.copy_clip(BUNNY_5S, "clip.mp4");
    project.write("ladder.toml", ladder("clip.mp4", RUNGS));
    project
}

/// A command that stands for a worker: the first `count` times it runs `instead`, then a worker.
fn script(project: &Project, count: usize, instead: &str) -> String {
    let folder = project.path("times");
    fs::create_dir_all(&folder).unwrap();
    let tries: String = (0..count).map(|n| format!("{n} ")).collect();
    let path = project.write(
        "worker.sh",
        format!(
            "#!/bin/sh\nfor n in {tries}; do if mkdir '{}'/$n 2>/dev/null; then {instead}\nfi; done\nexec '{RIVET}' worker\n",
            folder.display()
        ),
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A shell's words for a worker of which only so many bytes are heard.
fn broken_off(bytes: usize) -> String {
    format!("exec 3<&0; {{ '{RIVET}' worker <&3 & }} | dd bs=1 count={bytes} 2>/dev/null")
}

fn warnings(build: &Build) -> Vec<String> {
    let events = build.events.iter().filter(|event| event["event"] == "warning");
    events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

/// What a build in one process makes.
fn expected() -> std::collections::BTreeMap<String, String> {
    let project = project();
    project.build_with(&["--in-process"]);
    project.output()
}

#[test]
fn the_way_to_the_encoders_changes_no_byte() {
    let expected = expected();
    let elsewhere = format!("{RIVET} worker");
    let ways: [&[&str]; 4] = [&[], &["--jobs", "1"], &["--worker", &elsewhere], &["--memory", "30M"]];
    for way in ways {
        let project = project();
        let build = project.build_with(way);
        assert_eq!(project.output(), expected, "{way:?}");
        assert_eq!(warnings(&build), [] as [&str; 0], "{way:?}");
        assert!(build.stderr.lines().all(|line| !line.contains("warning:")), "{}", build.stderr);
        // An edit decodes and encodes a part, and what is left of the frames is decoded again.
        project.write("ladder.toml", ladder("clip.mp4", &RUNGS.replace("54", "60")));
        let again = project.build_with(way);
        assert_eq!(again.ran("encode") * 2, build.ran("encode"), "{way:?}");
    }
}

#[test]
fn a_worker_that_crashes_costs_an_attempt() {
    let expected = expected();
    // It dies in the middle of what it says: in a greeting, in a decode, in an encode.
    for bytes in [10, 2000, 200_000] {
        let project = project();
        let worker = script(&project, 2, &format!("{}; kill -SEGV $$", broken_off(bytes)));
        let build = project.build_with(&["--worker", &worker]);
        assert_eq!(project.output(), expected, "{bytes}");
        let told = format!("{}{}", warnings(&build).join("\n"), build.stderr);
        assert!(told.contains("was killed by signal 11 (segmentation fault)"), "{bytes}: {told}");
        assert_eq!(build.count("encode", "failed"), 0);
    }
}

#[test]
fn a_worker_that_says_nothing_any_more_is_ended() {
    let expected = expected();
    let project = project();
    let worker = script(&project, 1, &format!("{}; echo $$ > pid; exec sleep 1000", broken_off(2000)));
    let build = project.build_with(&["--worker", &worker, "--worker-timeout", "2s"]);
    assert_eq!(project.output(), expected);
    let told = format!("{}{}", warnings(&build).join("\n"), build.stderr);
    assert!(told.contains("worker timed out after 2s"), "{told}");
    let pid = fs::read_to_string(project.path("pid")).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "it still runs");
}

#[test]
fn a_worker_that_closes_the_conversation_and_lives_on_is_ended() {
    let expected = expected();
    let project = project();
    let instead = format!("{}; echo $$ > pid; exec sleep 1000 > /dev/null", broken_off(2000));
    let build = project.build_with(&["--worker", &script(&project, 1, &instead)]);
    assert_eq!(project.output(), expected);
    let told = format!("{}{}", warnings(&build).join("\n"), build.stderr);
    assert!(told.contains("worker closed its connection without exiting"), "{told}");
    let pid = fs::read_to_string(project.path("pid")).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "it still runs");
}

#[test]
fn a_worker_that_never_works_fails_the_build_with_its_last_words() {
    let project = project();
    let worker = script(&project, 100, "echo out of luck >&2; exit 7");
    let build = project.try_build(&["--worker", &worker]);
    assert_eq!(build.status, 1);
    let message = "reading the source failed: worker exited with status 7: out of luck";
    assert!(build.stderr.contains(message), "{}", build.stderr);
    assert!(!project.path("out/master.m3u8").exists());
    // The log has it, too.
    let log = project.rivet().args(["log", "last"]).output().unwrap();
    let log = String::from_utf8(log.stdout).unwrap();
    assert!(log.contains(message) && log.contains("failed"), "{log}");
    // Nothing of it was kept.
    project.build();
    assert_eq!(project.output(), expected());

    let missing = project.try_build(&["--worker", "/nowhere/rivet worker", "--cache-dir", "other"]);
    assert_eq!(missing.status, 1);
    assert!(missing.stderr.contains("cannot start worker `/nowhere/rivet`"), "{}", missing.stderr);
    let silent =
        project.try_build(&["--worker", "sleep 1000", "--worker-timeout", "100ms", "--cache-dir", "other"]);
    assert_eq!(silent.status, 1);
    assert!(silent.stderr.contains("worker timed out after 100ms"), "{}", silent.stderr);
    let other = project.try_build(&[
        "--worker",
        "echo hello, and nothing that a worker says",
        "--cache-dir",
        "other",
    ]);
    assert_eq!(other.status, 1);
    assert!(other.stderr.contains("worker sent an invalid message"), "{}", other.stderr);
}

/// A worker process as a library sees it, which writes a line for each that is started.
fn counted(project: &Project, environment: &str) -> (WorkerCodecs, std::path::PathBuf) {
    let started = project.path("started");
    let path = project.write(
        "worker.sh",
        format!(
            "#!/bin/sh\necho one >> '{}'\n{environment} exec '{RIVET}' worker \"$@\"\n",
            started.display()
        ),
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let command =
        WorkerCommand { program: path, arguments: vec!["--shared-memory".into()], shares_memory: true };
    let options = WorkerOptions { command, timeout: Duration::from_secs(60) };
    (WorkerCodecs::new(Arc::new(WorkerPool::new(options, Arc::default()))), started)
}

/// A driver may never work again in a process in which it has failed once.
#[test]
#[cfg(feature = "nvidia")]
fn a_worker_whose_gpu_has_failed_decodes_no_more() {
    let project = project();
    // It is no library, and so none that can be opened.
    let (codecs, started) = counted(&project, "RIVET_NVIDIA_DRIVER=\"$0\"");
    let film = project.path("clip.mp4");
    let track = Arc::new(media::scan(&film, &|| false).unwrap().video);
    for number in 1..=2 {
        let span = PacketReader::open(&film, Arc::clone(&track)).unwrap().read_span(0).unwrap();
        let options = DecodeOptions {
            threads: 1,
            at_once: true,
            gpu: Some("a GPU".to_owned()),
            ..DecodeOptions::default()
        };
        let mut decoding = codecs.open(span, &options).unwrap();
        while decoding.next_frame().unwrap().is_some() {}
        assert!(matches!(decoding.on_gpu(), Some(media::OnGpu::Failed(_))));
        assert_eq!(fs::read_to_string(&started).unwrap().lines().count(), number);
    }
}

/// A worker is handed all that it needs to decode a span, and never opens the file.
#[test]
fn a_worker_decodes_a_span_whose_file_is_gone() {
    let project = project();
    let (codecs, _) = counted(&project, "");
    let source = project.path("clip.mp4");
    let track = Arc::new(media::scan(&source, &|| false).unwrap().video);
    let spans = || {
        let mut reader = PacketReader::open(&source, Arc::clone(&track)).unwrap();
        (0..track.spans.len()).map(|span| reader.read_span(span).unwrap()).collect::<Vec<_>>()
    };
    let options = DecodeOptions { threads: 1, at_once: true, ..DecodeOptions::default() };
    let digests = |codecs: &dyn Codecs, spans: Vec<SpanPackets>| {
        let mut digests = Vec::new();
        for span in spans {
            let mut decoding = codecs.open(span, &options).unwrap();
            while let Some(frame) = decoding.next_frame().unwrap() {
                digests.push(frame.digest);
            }
        }
        digests
    };
    let (here, there) = (spans(), spans());
    fs::rename(&source, project.path("moved.mp4")).unwrap();
    let expected = digests(&CodecsHere, here);
    assert_eq!(digests(&codecs, there), expected);
    assert_eq!(expected.len() as u64, track.packets);
}

/// Workers of this project that run.
fn workers(project: &Project) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let folder = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains("worker\0")
            && folder == project.root().canonicalize().unwrap()
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn no_worker_outlives_its_build() {
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::INT] {
        let project = project();
        project.write("ladder.toml", ladder("clip.mp4", "[[rung]]\nname = \"large\"\nheight = 720\n"));
        let mut build = project.rivet().args(["build", "-q"]).spawn().unwrap();
        until("no worker has come", || !workers(&project).is_empty());
        rustix::process::kill_process(rustix::process::Pid::from_child(&build), signal).unwrap();
        let status = build.wait().unwrap();
        assert_eq!(status.code(), (signal == rustix::process::Signal::INT).then_some(130));
        until("a worker still runs", || workers(&project).is_empty());
    }
    let project = project();
    project.build();
    assert_eq!(workers(&project), [] as [&str; 0]);
}

/// Pictures in flight are open files, and shells allow few of them.
#[test]
fn open_files_do_not_run_out() {
    let project = project();
    let line = format!("ulimit -S -n 12; exec '{RIVET}' build -q --cache-dir cache");
    let told =
        std::process::Command::new("sh").args(["-c", &line]).current_dir(project.root()).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(project.output(), expected());
    // Nor do those of workers elsewhere, of which many are kept; and there may be no more than that.
    let project = self::project();
    let line =
        format!("ulimit -n 64; exec '{RIVET}' build -q --cache-dir cache --worker '{RIVET} worker' -j 1");
    let told =
        std::process::Command::new("sh").args(["-c", &line]).current_dir(project.root()).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(project.output(), expected());
}

#[test]
fn a_worker_talks_to_builds_only() {
    let project = Project::new();
    let mut worker = project.rivet();
    worker.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut worker = worker.spawn().unwrap();
    // It stays open: a worker whose build is gone ends, and that well.
    let mut noise = worker.stdin.take().unwrap();
    noise.write_all("this is no build".repeat(1000).as_bytes()).unwrap();
    let told = worker.wait_with_output().unwrap();
    drop(noise);
    let stderr = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("cannot read the build's messages") && stderr.contains("started by `rivet build`"),
        "{stderr}"
    );
}
