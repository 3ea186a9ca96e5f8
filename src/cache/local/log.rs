//! The log: one file for each build, written once, by rename, and never changed. Several
//! processes add to it without a lock, and a build that is killed leaves none or a whole one. What
//! a record says is the writer's business.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::files::{Found, drop_file, read, write};
use super::list;
use crate::cache::CacheError;

/// Records that are kept; the oldest go first.
const MAX_RECORDS: usize = 1000;
/// The resolution of times in names.
const TICK: Duration = Duration::from_millis(1);
/// The last second of the year 9999.
const MAX_TIME: Duration = Duration::from_secs(253_402_300_799);
/// A record is some kilobytes; anything beyond this was not written here.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Eight digits of the BLAKE3 of a record, with which its name ends.
fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..8].to_owned()
}

/// The name of the record that a file's name is of; `None` for any other file.
pub(super) fn record_of(file: &OsStr) -> Option<&str> {
    let name = file.to_str()?.strip_suffix(".json")?;
    let (_, sum) = name.rsplit_once('-')?;
    let is_sum = sum.len() == 8 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_sum && time_of(name).is_some()).then_some(name)
}

/// Whether a record is as it was written, by its name.
pub(super) fn is_whole(name: &str, bytes: &[u8]) -> bool {
    name.rsplit_once('-').is_some_and(|(_, sum)| checksum(bytes) == sum)
}

pub(super) struct Log {
    folder: PathBuf,
    tmp: PathBuf,
}

impl Log {
    pub(super) fn new(folder: PathBuf, tmp: PathBuf) -> Log {
        Log { folder, tmp }
    }

    /// Adds a record, named so that names sort by time, and returns its name.
    pub(super) fn append(&self, at: SystemTime, bytes: &[u8]) -> Result<String, CacheError> {
        let names = self.names().unwrap_or_default();
        // After a clock was set back the newest record still comes last, and is not the first to go.
        let last = names.last().and_then(|name| time_of(name));
        let at = last.filter(|last| *last >= at).and_then(|last| last.checked_add(TICK)).unwrap_or(at);
        let name = format!("{}-{}", stamp(at), checksum(bytes));
        write(&self.tmp, &self.path_of(&name), bytes)?;
        for old in names.iter().rev().skip(MAX_RECORDS - 1) {
            drop_file(&self.path_of(old));
        }
        Ok(name)
    }

    /// Where a record lies.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// The names of all records, the oldest first.
    pub(super) fn names(&self) -> Result<Vec<String>, CacheError> {
        let files = list(&self.folder)?.into_iter().map(|entry| entry.file_name());
        let mut names: Vec<String> = files.filter_map(|file| record_of(&file).map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// A record's bytes; `None` if there is none of that name.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        // A name is never a path.
        if name.contains(['/', '\\']) || name.contains("..") {
            return None;
        }
        match read(&self.path_of(name), MAX_BYTES, "read the build log") {
            Ok(Found::Bytes(bytes, _)) => Some(bytes),
            _ => None,
        }
    }
}

/// A time as spelled in names: `20250131T235959.123Z`. A clock beyond the representable years is broken, and
/// spelled as the nearest time.
fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().min(MAX_TIME);
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string().replace(['-', ':'], "")
}

/// The time in a record's name.
fn time_of(name: &str) -> Option<SystemTime> {
    let (date, rest) = name.split_once('T')?;
    let (clock, _) = rest.split_once('-')?;
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, second) = (clock.get(..2)?, clock.get(2..4)?, clock.get(4..)?);
    humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}")).ok()
}
