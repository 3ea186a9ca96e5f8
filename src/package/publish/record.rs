//! The record of what rivet wrote into an output folder: the files it may replace or remove there,
//! and no others. Read with the distrust that a file in a shared folder deserves.
//!
//! It is a header, a list of files in order of path, a line of JSON each, and behind them what has
//! changed since, a line each, too: a publish that changes little writes little. Changes are
//! appended and synced; a kill can cut off the last of them in the middle of a line, which then
//! never was. When they become many the whole is written anew, and replaced in one rename.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::iter::Peekable;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::disk;
use super::error::PublishError;
use super::list::ListDigest;
use super::stage::Stage;
use crate::package::path::RelPath;

pub(super) const RECORD_NAME: &str = ".rivet-published.json";

/// Changes when other versions of rivet must not act on a record.
const VERSION: u32 = 3;
/// Bytes of the header with its line's end. What it says is known only when the list has been
/// written behind it, so it is filled up with spaces.
const HEADER: usize = 192;
/// No line of ours is longer.
const LONGEST_LINE: u64 = 64 * 1024;
/// Files that are looked at together, by all cores.
pub(super) const BATCH: usize = 4096;

/// What is known of a file that is rivet's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub size: u64,
    pub digest: blake3::Hash,
    /// `None` for a file that a publish was about to write: it may or may not be there.
    pub stamp: Option<Stamp>,
}

/// A file that has become rivet's, or, without an entry, that no longer is.
pub(super) type Change = (RelPath, Option<Entry>);

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

#[derive(Default, Serialize, Deserialize)]
struct Header {
    version: u32,
    /// Lines of the list, and bytes.
    files: u64,
    bytes: u64,
    /// The digest of the list, where a publish ended with it.
    list: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct FileLine<'a> {
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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChangeLine<'a> {
    #[serde(borrow)]
    Put(FileLine<'a>),
    #[serde(borrow)]
    Gone(Cow<'a, str>),
    /// A publish has ended: the digest of the list as it now is.
    List(String),
}

impl FileLine<'_> {
    fn read(self) -> Result<(RelPath, Entry), String> {
        let path = RelPath::new(self.path).map_err(|error| error.to_string())?;
        let digest = blake3::Hash::from_hex(self.blake3.as_bytes());
        let digest = digest.map_err(|error| format!("{path}: {error}"))?;
        let stamp = self.mtime_ns.zip(self.inode).map(|(mtime_ns, inode)| Stamp { mtime_ns, inode });
        Ok((path, Entry { size: self.size, digest, stamp }))
    }
}

fn file_line<'a>(path: &'a RelPath, entry: &Entry) -> FileLine<'a> {
    FileLine {
        path: path.as_str().into(),
        size: entry.size,
        blake3: entry.digest.to_hex().to_string().into(),
        mtime_ns: entry.stamp.map(|stamp| stamp.mtime_ns),
        inode: entry.stamp.map(|stamp| stamp.inode),
    }
}

/// The record of a folder; of one that has none, a record without files.
pub(super) struct Record {
    path: PathBuf,
    header: Header,
    /// What has changed since the list was written.
    changes: BTreeMap<RelPath, Option<Entry>>,
    /// Lines that say so.
    lines: u64,
    /// Where they end. What follows is a line that was cut off.
    end: u64,
    /// See [`Record::list`].
    list: Option<blake3::Hash>,
}

impl Record {
    pub(super) fn load(folder: &Path) -> Result<Record, PublishError> {
        let path = folder.join(RECORD_NAME);
        let mut record = Record {
            path,
            header: Header::default(),
            changes: BTreeMap::new(),
            lines: 0,
            end: 0,
            list: None,
        };
        let file = match File::open(&record.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(record),
            Err(error) => return Err(PublishError::io("read", &record.path)(error)),
        };
        let mut file = BufReader::new(file);
        let mut header = Vec::new();
        let read = (&mut file).take(HEADER as u64).read_to_end(&mut header);
        read.map_err(|error| record.bad(error))?;
        record.header = serde_json::from_slice(&header).map_err(|error| record.bad(error))?;
        if record.header.version != VERSION {
            let reason = format!("it has version {}, not {VERSION}", record.header.version);
            return Err(record.bad(reason));
        }
        record.list = record.header.list.as_deref().and_then(|hex| blake3::Hash::from_hex(hex).ok());
        record.end = (HEADER as u64).saturating_add(record.header.bytes);
        let length = file.get_ref().metadata().map_err(|error| record.bad(error))?.len();
        if length < record.end {
            return Err(record.bad("it is cut off"));
        }
        file.seek(SeekFrom::Start(record.end)).map_err(|error| record.bad(error))?;
        record.read_changes(file)?;
        Ok(record)
    }

    fn read_changes(&mut self, mut file: BufReader<File>) -> Result<(), PublishError> {
        let mut line = Vec::new();
        while read_line(&mut file, &mut line).map_err(|error| self.bad(error))? {
            self.end += line.len() as u64;
            self.lines += 1;
            let change = serde_json::from_slice(&line).map_err(|error| self.bad(error))?;
            let change = match change {
                ChangeLine::Put(line) => line.read().map(|(path, entry)| (path, Some(entry))),
                ChangeLine::Gone(path) => {
                    RelPath::new(path).map(|path| (path, None)).map_err(|error| error.to_string())
                }
                ChangeLine::List(hex) => {
                    self.list = blake3::Hash::from_hex(&hex).ok();
                    continue;
                }
            };
            let (path, entry) = change.map_err(|error| self.bad(error))?;
            self.changes.insert(path, entry);
            self.list = None;
        }
        Ok(())
    }

    /// The digest of the list of files as the last publish left it; `None` where that one did not
    /// come to its end.
    pub(super) fn list(&self) -> Option<blake3::Hash> {
        self.list
    }

    /// All files, in order of path.
    pub(super) fn entries(&self) -> Result<Entries<'_>, PublishError> {
        let mut lines = None;
        if self.header.bytes > 0 {
            let mut file = File::open(&self.path).map_err(PublishError::io("read", &self.path))?;
            file.seek(SeekFrom::Start(HEADER as u64)).map_err(PublishError::io("read", &self.path))?;
            lines = Some(BufReader::with_capacity(256 * 1024, file.take(self.header.bytes)));
        }
        let changes = self.changes.iter().peekable();
        Ok(Entries { record: self, lines, left: self.header.files, last: None, changes })
    }

    /// Notes durably that files will come. They have no stamps: until a file is there its entry
    /// says so.
    pub(super) fn intend(&mut self, files: Vec<Change>, stage: &Stage) -> Result<(), PublishError> {
        if files.is_empty() { Ok(()) } else { self.store(files, None, stage) }
    }

    /// Notes durably what has come and gone, and that the list now is the one of this digest.
    pub(super) fn finish(
        &mut self,
        changes: Vec<Change>,
        list: blake3::Hash,
        stage: &Stage,
    ) -> Result<(), PublishError> {
        self.store(changes, Some(list), stage)
    }

    fn store(
        &mut self,
        changes: Vec<Change>,
        list: Option<blake3::Hash>,
        stage: &Stage,
    ) -> Result<(), PublishError> {
        self.list = list;
        let lines = self.lines + changes.len() as u64 + 1;
        // Whoever copied the folder by hard links has this file, too.
        let alone = self.path.symlink_metadata().is_ok_and(|found| found.nlink() == 1);
        if lines <= self.header.files / 2 && alone {
            self.append(&changes)?;
            self.lines = lines;
            self.changes.extend(changes);
            return Ok(());
        }
        self.changes.extend(changes);
        self.rewrite(stage)
    }

    fn append(&mut self, changes: &[Change]) -> Result<(), PublishError> {
        let failed = || PublishError::io("write", &self.path);
        let mut file = disk::open_file(&self.path)?;
        // A line that was cut off would spoil the next.
        file.set_len(self.end).map_err(failed())?;
        file.seek(SeekFrom::Start(self.end)).map_err(failed())?;
        let mut out = Counting::new(file);
        for (path, entry) in changes {
            let line = match entry {
                Some(entry) => ChangeLine::Put(file_line(path, entry)),
                None => ChangeLine::Gone(path.as_str().into()),
            };
            out.line(&line).map_err(failed())?;
        }
        if let Some(list) = self.list {
            out.line(&ChangeLine::List(list.to_hex().to_string())).map_err(failed())?;
        }
        let (file, bytes) = out.finish().map_err(failed())?;
        file.sync_all().map_err(failed())?;
        self.end += bytes;
        Ok(())
    }

    /// Replaces the record by one that says the same as a list alone.
    fn rewrite(&mut self, stage: &Stage) -> Result<(), PublishError> {
        let staged = stage.scratch();
        let failed = || PublishError::io("write", &staged);
        let mut out = Counting::new(disk::create_file(&staged)?);
        out.write_all(&[b' '; HEADER]).map_err(failed())?;
        let mut entries = self.entries()?;
        let mut files = 0;
        while let Some(batch) = entries.next_batch()? {
            for (path, entry) in &batch {
                out.line(&file_line(path, entry)).map_err(failed())?;
            }
            files += batch.len() as u64;
        }
        let (mut file, end) = out.finish().map_err(failed())?;
        let header = Header {
            version: VERSION,
            files,
            bytes: end - HEADER as u64,
            list: self.list.map(|list| list.to_hex().to_string()),
        };
        let mut line = serde_json::to_vec(&header).map_err(io::Error::from).map_err(failed())?;
        line.resize(HEADER - 1, b' ');
        line.push(b'\n');
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&line)).map_err(failed())?;
        file.sync_all().map_err(failed())?;
        disk::rename(&staged, &self.path)?;
        disk::sync_folder(self.path.parent().unwrap_or(Path::new(".")))?;
        (self.header, self.end, self.lines) = (header, end, 0);
        self.changes.clear();
        Ok(())
    }

    fn bad(&self, reason: impl std::fmt::Display) -> PublishError {
        PublishError::BadRecord { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// The next line with its end, of which no more is read than a line of ours can have. `false`
/// where none is whole.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    from.take(LONGEST_LINE).read_until(b'\n', line)?;
    if line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
        return Err(io::Error::other("one of its lines is too long"));
    }
    Ok(line.last() == Some(&b'\n'))
}

/// The files of a record, a batch at a time.
pub(super) struct Entries<'a> {
    record: &'a Record,
    /// The list, as far as it has not been read.
    lines: Option<BufReader<io::Take<File>>>,
    left: u64,
    /// The last that was read of it.
    last: Option<RelPath>,
    changes: Peekable<btree_map::Iter<'a, RelPath, Option<Entry>>>,
}

impl Entries<'_> {
    /// Some more files; `None` when there are no more.
    pub(super) fn next_batch(&mut self) -> Result<Option<Vec<(RelPath, Entry)>>, PublishError> {
        loop {
            let listed = self.next_listed()?;
            let ended = self.left == 0;
            let mut batch = Vec::with_capacity(listed.len());
            for (path, entry) in listed {
                self.changes_until(Some(&path), &mut batch);
                match self.changes.next_if(|(changed, _)| **changed == path) {
                    Some((_, None)) => {}
                    Some((_, Some(changed))) => batch.push((path, changed.clone())),
                    None => batch.push((path, entry)),
                }
            }
            if ended {
                self.changes_until(None, &mut batch);
            }
            if ended || !batch.is_empty() {
                return Ok(Some(batch).filter(|batch| !batch.is_empty()));
            }
        }
    }

    /// Files that have come since the list was written and stand before `bound` in the order.
    fn changes_until(&mut self, bound: Option<&RelPath>, batch: &mut Vec<(RelPath, Entry)>) {
        let before = |path: &RelPath| bound.is_none_or(|bound| path < bound);
        while let Some((path, entry)) = self.changes.next_if(|(path, _)| before(path)) {
            batch.extend(entry.clone().map(|entry| (path.clone(), entry)));
        }
    }

    fn next_listed(&mut self) -> Result<Vec<(RelPath, Entry)>, PublishError> {
        let bad = |reason: &dyn std::fmt::Display| self.record.bad(reason);
        let Some(lines) = &mut self.lines else { return Ok(Vec::new()) };
        let mut texts = Vec::new();
        let mut text = Vec::new();
        while texts.len() < BATCH && self.left > 0 {
            if !read_line(lines, &mut text).map_err(|error| bad(&error))? {
                return Err(bad(&"it is cut off"));
            }
            texts.push(text.clone());
            self.left -= 1;
        }
        let read = |text: &Vec<u8>| {
            let line: FileLine<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
            line.read()
        };
        let files: Vec<_> = texts.par_iter().map(read).collect();
        let files: Vec<_> = files.into_iter().collect::<Result<_, _>>().map_err(|error| bad(&error))?;
        for (path, _) in &files {
            if self.last.as_ref().is_some_and(|last| last >= path) {
                return Err(bad(&format!("{path} is not in order")));
            }
            self.last = Some(path.clone());
        }
        Ok(files)
    }
}

/// The digest of the list of files that a publish to a folder last ended with, whatever became of them.
pub fn published_list(folder: &Path) -> Option<blake3::Hash> {
    Record::load(folder).ok()?.list()
}

/// Whether `folder` holds the files of a list of this digest as the last finished publish left
/// them: the record lists exactly them, and each still has the size, modification time and inode
/// it then had. Reads no content, and holds no list in memory.
pub fn is_current(folder: &Path, list: blake3::Hash) -> bool {
    let Ok(record) = Record::load(folder) else { return false };
    record.list() == Some(list) && still_is(folder, &record).is_ok_and(|found| found == Some(list))
}

/// The digest of the list, if all of its files are as the record says.
fn still_is(folder: &Path, record: &Record) -> Result<Option<blake3::Hash>, PublishError> {
    let mut digest = ListDigest::default();
    let mut entries = record.entries()?;
    while let Some(batch) = entries.next_batch()? {
        let same = |(path, entry): &(RelPath, Entry)| {
            entry.stamp.is_some() && entry.stamp == Stamp::of(&path.under(folder), entry.size)
        };
        if !batch.par_iter().all(same) {
            return Ok(None);
        }
        for (path, entry) in &batch {
            digest.add(path, entry.size, &entry.digest);
        }
    }
    Ok(Some(digest.finish()))
}

/// Writes lines of JSON, and counts their bytes.
struct Counting {
    out: BufWriter<File>,
    bytes: u64,
}

impl Counting {
    fn new(file: File) -> Counting {
        Counting { out: BufWriter::with_capacity(256 * 1024, file), bytes: 0 }
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.write_all(&text)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn finish(self) -> io::Result<(File, u64)> {
        Ok((self.out.into_inner().map_err(|error| error.into_error())?, self.bytes))
    }
}
