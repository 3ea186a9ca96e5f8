//! The log: one file for each build, written once, by rename, and never changed. Several
//! processes add to it without a lock, and a build that is killed leaves none or a whole one. What
//! a record says is the writer's business.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use super::write;
use crate::cache::CacheError;

/// Records that are kept; the oldest go first.
const MOST_RECORDS: usize = 1000;
/// A record is some kilobytes; anything beyond this was not written here.
pub(super) const LARGEST: u64 = 64 << 20;

/// Eight digits of the BLAKE3 of a record, with which its name ends.
fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..8].to_owned()
}

/// Whether a record of this name was written here, and whether it is as it was written.
pub(super) fn is_whole(name: &str, bytes: &[u8]) -> Option<bool> {
    let (time, sum) = name.rsplit_once('-')?;
    let is_time = time.len() == "20260101T000000.000Z".len() && time.ends_with('Z');
    let is_sum = sum.len() == 8 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_time && is_sum).then(|| checksum(bytes) == sum)
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
        let time = humantime::format_rfc3339_millis(at).to_string().replace(['-', ':'], "");
        let name = format!("{time}-{}", checksum(bytes));
        write(&self.tmp, &self.path_of(&name), bytes)?;
        if let Ok(names) = self.names() {
            for old in names.iter().rev().skip(MOST_RECORDS) {
                // Another process may be doing the same.
                let _ = fs::remove_file(self.path_of(old));
            }
        }
        Ok(name)
    }

    /// Where a record lies.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// The names of all records, the oldest first.
    pub(super) fn names(&self) -> Result<Vec<String>, CacheError> {
        let failed = || CacheError::io("list the build log", &self.folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// A record's bytes; `None` if there is none of that name.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        // A name is never a path.
        if name.contains(['/', '\\']) || name.contains("..") {
            return None;
        }
        let path = self.path_of(name);
        let meta = fs::symlink_metadata(&path).ok()?;
        (meta.is_file() && meta.len() <= LARGEST).then(|| fs::read(&path).ok()).flatten()
    }
}
