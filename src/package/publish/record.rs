//! The record of what rivet wrote into an output folder: the files it may replace or remove there,
//! and no others. It is replaced as a whole, and read with the distrust that a file in a shared
//! folder deserves.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::PublishError;
use super::stage::Stage;
use super::{PublishFile, disk};
use crate::package::path::RelPath;

pub(super) const RECORD_NAME: &str = ".rivet-published.json";

/// Changes when older versions of rivet must not act on a record.
const VERSION: u32 = 2;

/// The files that are rivet's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub files: BTreeMap<RelPath, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub size: u64,
    pub digest: blake3::Hash,
    /// `None` for a file that a publish was about to write: it may or may not be there.
    pub stamp: Option<Stamp>,
}

/// What tells a file from another under its name, without reading it. The inode tells even files
/// of one size apart that were written within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    mtime_ns: i64,
    inode: u64,
}

impl Stamp {
    /// The stamp of the regular file at `path`; `None` if there is none, or not of `size` bytes.
    pub(super) fn of(path: &Path, size: u64) -> Option<Stamp> {
        Stamp::in_metadata(&path.symlink_metadata().ok()?, size)
    }

    pub(super) fn in_metadata(found: &Metadata, size: u64) -> Option<Stamp> {
        (found.is_file() && found.len() == size).then(|| Stamp {
            mtime_ns: found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()),
            inode: found.ino(),
        })
    }
}

/// The first line of the record: what the others are, one line of JSON a file, in order of path.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    files: usize,
    /// The digest of the list, see [`list_digest`].
    list: String,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    size: u64,
    #[serde(borrow)]
    blake3: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
}

/// No line of ours is longer.
const LONGEST_LINE: u64 = 64 * 1024;

/// BLAKE3 of what a package holds: of each file, in order of path, its path, size and digest. In
/// whatever order they are given, the same files have the same digest.
pub fn list_digest(files: &[PublishFile]) -> blake3::Hash {
    let mut sorted: Vec<&PublishFile> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut list = List::default();
    for file in sorted {
        list.add(file.path.as_str(), file.size, &file.digest);
    }
    list.0.finalize()
}

struct List(blake3::Hasher);

impl Default for List {
    fn default() -> List {
        List(blake3::Hasher::new_derive_key("rivet published list v1"))
    }
}

impl List {
    fn add(&mut self, path: &str, size: u64, digest: &blake3::Hash) {
        self.0.update(&(path.len() as u64).to_le_bytes());
        self.0.update(path.as_bytes()).update(&size.to_le_bytes()).update(digest.as_bytes());
    }
}

/// A record that is being read, a file at a time.
struct Reading {
    path: PathBuf,
    lines: io::Take<BufReader<File>>,
    header: Header,
}

impl Reading {
    fn open(folder: &Path) -> Result<Option<Reading>, PublishError> {
        let path = folder.join(RECORD_NAME);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PublishError::io("read", &path)(error)),
        };
        let bad = |reason: String| PublishError::BadRecord { path: path.clone(), reason };
        let mut lines = BufReader::with_capacity(256 * 1024, file).take(LONGEST_LINE);
        let mut line = String::new();
        lines.read_line(&mut line).map_err(|error| bad(error.to_string()))?;
        let header: Header = serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
        if header.version != VERSION {
            return Err(bad(format!("it has version {}, not {VERSION}", header.version)));
        }
        Ok(Some(Reading { path, lines, header }))
    }

    fn bad(&self, reason: impl std::fmt::Display) -> PublishError {
        PublishError::BadRecord { path: self.path.clone(), reason: reason.to_string() }
    }

    /// Hands over every file, until `take` says that it has seen enough. Tells whether it has not.
    fn each(mut self, take: &mut dyn FnMut(RelPath, Entry) -> bool) -> Result<bool, PublishError> {
        let mut line = String::new();
        for _ in 0..self.header.files {
            line.clear();
            self.lines.set_limit(LONGEST_LINE);
            self.lines.read_line(&mut line).map_err(|error| self.bad(error))?;
            let Line { path, size, blake3, mtime_ns, inode } =
                serde_json::from_str(&line).map_err(|error| self.bad(error))?;
            let path = RelPath::new(path).map_err(|error| self.bad(error))?;
            let digest = blake3::Hash::from_hex(blake3.as_bytes())
                .map_err(|error| self.bad(format!("{path}: {error}")))?;
            let stamp = mtime_ns.zip(inode).map(|(mtime_ns, inode)| Stamp { mtime_ns, inode });
            if !take(path, Entry { size, digest, stamp }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether `folder` holds the files of this [`list_digest`] as the last finished publish left them:
/// the record lists exactly them, and each still has the size, modification time and inode it then
/// had. Reads no content, and holds no list in memory.
pub fn is_current(folder: &Path, list: blake3::Hash) -> bool {
    let Ok(Some(reading)) = Reading::open(folder) else {
        return false;
    };
    if reading.header.list != list.to_hex().as_str() {
        return false;
    }
    let mut found = List::default();
    let all = reading.each(&mut |path, entry| {
        found.add(path.as_str(), entry.size, &entry.digest);
        entry.stamp.is_some() && entry.stamp == Stamp::of(&path.under(folder), entry.size)
    });
    matches!(all, Ok(true)) && found.0.finalize() == list
}

impl Record {
    /// The record of `folder`, or `None` where there is none.
    pub(super) fn load(folder: &Path) -> Result<Option<Record>, PublishError> {
        let Some(reading) = Reading::open(folder)? else { return Ok(None) };
        let mut files = Vec::new();
        reading.each(&mut |path, entry| {
            files.push((path, entry));
            true
        })?;
        // They are in order, so that this takes no searching.
        Ok(Some(Record { files: files.into_iter().collect() }))
    }

    /// Replaces the record of `folder` in one step, durably, by this one and `files` that are about
    /// to be written. A file that is already listed keeps its entry: until it is replaced that one
    /// is true, and afterwards its stamp is wrong, which has it looked at again.
    pub(super) fn store_with_intent(
        &self,
        files: &[&PublishFile],
        folder: &Path,
        stage: &Stage,
    ) -> Result<(), PublishError> {
        let new = files.iter().filter(|file| !self.files.contains_key(&file.path));
        let new: Vec<(&RelPath, Entry)> = new
            .map(|file| (&file.path, Entry { size: file.size, digest: file.digest, stamp: None }))
            .collect();
        let all = self.files.iter().chain(new.iter().map(|(path, entry)| (*path, entry)));
        write(all, self.files.len() + new.len(), folder, stage)
    }

    /// Replaces the record of `folder` in one step, durably.
    pub(super) fn store(&self, folder: &Path, stage: &Stage) -> Result<(), PublishError> {
        write(self.files.iter(), self.files.len(), folder, stage)
    }
}

fn write<'a>(
    files: impl Iterator<Item = (&'a RelPath, &'a Entry)> + Clone,
    count: usize,
    folder: &Path,
    stage: &Stage,
) -> Result<(), PublishError> {
    let mut list = List::default();
    for (path, entry) in files.clone() {
        list.add(path.as_str(), entry.size, &entry.digest);
    }
    let header = Header { version: VERSION, files: count, list: list.0.finalize().to_hex().to_string() };
    let staged = stage.scratch();
    let failed = || PublishError::io("write", &staged);
    let mut out = BufWriter::with_capacity(256 * 1024, disk::create_file(&staged)?);
    let put = |out: &mut BufWriter<File>, line: serde_json::Result<()>| {
        line.map_err(io::Error::from).and_then(|()| out.write_all(b"\n"))
    };
    let line = serde_json::to_writer(&mut out, &header);
    put(&mut out, line).map_err(failed())?;
    for (path, entry) in files {
        let blake3 = entry.digest.to_hex();
        let line = Line {
            path: path.as_str().into(),
            size: entry.size,
            blake3: blake3.as_str().into(),
            mtime_ns: entry.stamp.map(|stamp| stamp.mtime_ns),
            inode: entry.stamp.map(|stamp| stamp.inode),
        };
        let line = serde_json::to_writer(&mut out, &line);
        put(&mut out, line).map_err(failed())?;
    }
    let file = out.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.sync_all().map_err(failed())?;
    let path = folder.join(RECORD_NAME);
    disk::rename(&staged, &path)?;
    disk::sync_folder(folder)
}
