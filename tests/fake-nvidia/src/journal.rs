//! A file of lines that tells a test what happened here. `FAKE_NVIDIA_JOURNAL` names it; without a
//! name nothing is written.
//!
//! `breach: …` is a rule that the client broke; `+session`, `+memory`, `+pinned` and `+context` are
//! things that it got, and the same with a minus that it gave them back; `fault: …` is misbehaviour
//! that was asked for, `declined` a film that a GPU was to decode.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

static JOURNAL: LazyLock<Option<File>> = LazyLock::new(|| {
    let path = std::env::var_os("FAKE_NVIDIA_JOURNAL")?;
    Some(OpenOptions::new().create(true).append(true).open(path).expect("FAKE_NVIDIA_JOURNAL can be written"))
});

/// The path of another file of this test's.
pub fn beside(name: &str) -> PathBuf {
    let journal = std::env::var_os("FAKE_NVIDIA_JOURNAL").expect("FAKE_NVIDIA_JOURNAL names a file");
    PathBuf::from(journal).with_extension(name)
}

/// One write, so that lines of several threads do not mix.
pub fn note(line: impl Display) {
    if let Some(mut file) = JOURNAL.as_ref() {
        file.write_all(format!("{line}\n").as_bytes()).expect("the journal can be written");
    }
}

pub fn breach(rule: impl Display) {
    note(format_args!("breach: {rule}"));
}
