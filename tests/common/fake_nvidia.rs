//! Tests with the fake driver in place of NVIDIA's: each runs in a process of its own, since a
//! process has one driver, and what the driver noted is looked at when the process has ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

/// Where the driver is told what to be, and where to write its journal.
const WORDS: &str = "FAKE_NVIDIA";
const JOURNAL: &str = "FAKE_NVIDIA_JOURNAL";

/// The fake driver, which Cargo has built beside the test.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().join("libfake_nvidia.so");
    assert!(library.exists(), "there is no {}", library.display());
    library
}

/// Has a command run with the fake driver; `words` are those of its `settings.rs`.
pub fn give(command: &mut Command, words: &str, journal: &std::path::Path) {
    command.env("RIVET_NVIDIA_DRIVER", library()).env(WORDS, words).env(JOURNAL, journal);
}

/// What a driver noted.
pub struct Journal {
    pub lines: Vec<String>,
}

impl Journal {
    pub fn read(path: &std::path::Path) -> Journal {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Journal { lines: text.lines().map(str::to_owned).collect() }
    }

    pub fn count(&self, start: &str) -> usize {
        self.lines.iter().filter(|line| line.starts_with(start)).count()
    }

    /// Nothing that was done broke a rule.
    pub fn assert_no_breach(&self) {
        assert_eq!(self.count("breach"), 0, "{:#?}", self.lines);
    }

    /// Everything that was taken was given back, too.
    pub fn assert_clean(&self) {
        self.assert_no_breach();
        let mut held: BTreeMap<&str, i64> = BTreeMap::new();
        for line in &self.lines {
            let what = |line: &'static str, rest: &str| rest.starts_with(line).then_some(line);
            let named = |rest| {
                ["session", "memory", "pinned", "context"].into_iter().find_map(|name| what(name, rest))
            };
            if let Some(name) = line.strip_prefix('+').and_then(named) {
                *held.entry(name).or_default() += 1;
            } else if let Some(name) = line.strip_prefix('-').and_then(named) {
                *held.entry(name).or_default() -= 1;
            }
        }
        assert!(held.values().all(|&held| held == 0), "{held:?} were kept");
    }
}

/// Runs a test's body with the fake driver and expects it to end well and to leave nothing behind.
/// `test` is the test's own name, by which it is found in the other process. Returns what the
/// driver noted; in the other process itself, nothing.
pub fn with_driver(test: &str, words: &str, body: impl FnOnce()) -> Option<Journal> {
    let (status, journal) = in_other_process(test, words, body)?;
    assert!(status.success(), "{test} with \"{words}\": {status}\n{:#?}", journal.lines);
    journal.assert_clean();
    Some(journal)
}

/// The same, whatever comes of it.
pub fn in_other_process(test: &str, words: &str, body: impl FnOnce()) -> Option<(ExitStatus, Journal)> {
    if std::env::var_os(JOURNAL).is_some() {
        // One test may ask for several processes: this one is for these words.
        if std::env::var(WORDS).is_ok_and(|given| given == words) {
            body();
        }
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]);
    give(&mut command, words, &path);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("running 1 test"), "there is no test {test}");
    if !output.status.success() {
        println!("{told}{}", String::from_utf8_lossy(&output.stderr));
    }
    Some((output.status, Journal::read(&path)))
}
