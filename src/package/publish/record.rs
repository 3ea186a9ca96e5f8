//! The record of what rivet wrote into an output folder: the files it may replace or remove there,
//! and no others. It is replaced as a whole, and read with the distrust that a file in a shared
//! folder deserves.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::PublishError;
use super::stage::Stage;
use super::{PublishFile, disk};
use crate::package::path::RelPath;

pub(super) const RECORD_NAME: &str = ".rivet-published.json";

/// Changes when older versions of rivet must not act on a record.
const VERSION: u32 = 1;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    mtime_ns: i64,
    inode: u64,
}

impl Stamp {
    /// The stamp of the regular file at `path`; `None` if there is none, or not of `size` bytes.
    pub(super) fn of(path: &Path, size: u64) -> Option<Stamp> {
        let found = path.symlink_metadata().ok()?;
        (found.is_file() && found.len() == size).then(|| Stamp {
            mtime_ns: found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()),
            inode: found.ino(),
        })
    }
}

/// The record as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    files: Vec<StoredFile>,
}

#[derive(Serialize, Deserialize)]
struct StoredFile {
    path: RelPath,
    size: u64,
    blake3: String,
    #[serde(flatten)]
    stamp: Option<Stamp>,
}

impl Record {
    /// The record of `folder`, or `None` where there is none.
    pub(super) fn load(folder: &Path) -> Result<Option<Record>, PublishError> {
        let path = folder.join(RECORD_NAME);
        let bad = |reason: String| PublishError::BadRecord { path: path.clone(), reason };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PublishError::io("read", &path)(error)),
        };
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if stored.version != VERSION {
            return Err(bad(format!("it has version {}, not {VERSION}", stored.version)));
        }
        let mut files = BTreeMap::new();
        for StoredFile { path, size, blake3, stamp } in stored.files {
            let digest = blake3::Hash::from_hex(&blake3).map_err(|error| bad(format!("{path}: {error}")))?;
            files.insert(path, Entry { size, digest, stamp });
        }
        Ok(Some(Record { files }))
    }

    /// The record of `files` as they stand in `folder` now.
    pub(super) fn of(folder: &Path, files: &[PublishFile]) -> Record {
        let entry = |file: &PublishFile| {
            let stamp = Stamp::of(&file.path.under(folder), file.size);
            (file.path.clone(), Entry { size: file.size, digest: file.digest, stamp })
        };
        Record { files: files.iter().map(entry).collect() }
    }

    /// This record, and `files` that are about to be written. A file that is already listed keeps
    /// its entry: until it is replaced that one is true, and afterwards its stamp is wrong, which
    /// has it looked at again.
    pub(super) fn with_intent(&self, files: &[PublishFile]) -> Record {
        let mut record = self.clone();
        for file in files {
            let entry = || Entry { size: file.size, digest: file.digest, stamp: None };
            record.files.entry(file.path.clone()).or_insert_with(entry);
        }
        record
    }

    /// Replaces the record of `folder` in one step, durably.
    pub(super) fn store(&self, folder: &Path, stage: &Stage) -> Result<(), PublishError> {
        let file = |(path, entry): (&RelPath, &Entry)| StoredFile {
            path: path.clone(),
            size: entry.size,
            blake3: entry.digest.to_hex().to_string(),
            stamp: entry.stamp,
        };
        let stored = Stored { version: VERSION, files: self.files.iter().map(file).collect() };
        let path = folder.join(RECORD_NAME);
        let mut text = serde_json::to_vec_pretty(&stored)
            .map_err(|error| PublishError::io("encode", &path)(error.into()))?;
        text.push(b'\n');
        let staged = stage.scratch();
        let mut out = disk::create_file(&staged)?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(PublishError::io("write", &staged))?;
        disk::rename(&staged, &path)?;
        disk::sync_folder(folder)
    }
}
