//! Puts a package's files into its output folder, so that a web server of that folder never shows
//! a broken stream, and a kill or a power cut at any instant loses nothing that was good.
//!
//! [`publish`] holds a lock and goes through these steps. An error in the first three leaves the
//! folder as it was; a kill in any of them is made good by the next call.
//!
//! 1. **Look.** Refuse what rivet must not touch: a folder or file that it did not write, unless it has
//!    the very content that it would write, and a symbolic link on the way. Decide which files are there
//!    already, and whether the others fit.
//! 2. **Stage.** Write every missing file, playlists too, into `.rivet-tmp/`, verify its BLAKE3
//!    digest and sync it. Nothing of it can be seen yet.
//! 3. **Intend.** Add the new files to the record, `.rivet-published.json`, so that whatever
//!    happens from here on, the next call knows every file that is ours.
//! 4. **Show.** Rename the staged files into place: media, then media playlists, then the entry
//!    (the multivariant playlist, or what else names playlists). A playlist is never there before
//!    what it names. Renames take milliseconds; the copying is over.
//! 5. **Clean.** Remove files that only the old package had, and note in the record what came and went.
//!
//! [`check_folder`] tells before a build whether a folder can be published to at all.
//!
//! A file is replaced in one rename, but two files are not replaced together. So media whose
//! content may change from build to build should have a name that changes with it; under a fixed
//! name, a viewer who holds the old playlist can meet the new content.

mod difference;
mod disk;
mod error;
mod list;
mod probe;
mod record;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub use difference::{FolderDifference, compare};
pub use error::PublishError;
use list::folders_of;
pub use list::{FileList, PublishFile, Role};
pub use probe::check_folder;
use record::{BATCH, Change, Entry, RECORD_NAME, Record, Stamp};
pub use record::{is_current, published_list};
use stage::{STAGE_NAME, Stage};

use super::composition::{Blobs, Composition};
use super::path::RelPath;

/// Held while a publish runs; never removed, since that would let two hold it.
const LOCK_NAME: &str = ".rivet.lock";

/// What rivet's own files in an output folder begin with, and a package's may not.
const OWN_PREFIX: &str = ".rivet";

/// Files that are announced together before they are asked for.
const AHEAD: usize = 512;

/// Tells what files are made of that are to be written.
pub trait Contents: Blobs {
    /// Files that will be asked for next, so that what they need can be fetched in one go.
    fn announce(&mut self, files: &[&PublishFile]) -> io::Result<()>;

    /// What a file is made of. It and all that it names is verified when it is written.
    fn composition(&mut self, file: &PublishFile) -> io::Result<Composition>;
}

/// What a publish did, in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishReport {
    pub written: usize,
    /// There already, and left untouched.
    pub kept: usize,
    /// Of an earlier package, and no longer part of it.
    pub removed: usize,
}

/// Makes `folder` hold exactly `files`, besides files that rivet never wrote, which stay as they
/// are. Waits while another process publishes there.
///
/// `contents` is asked for files that are missing, in order of path. What it returns is verified against size
/// and digest.
pub fn publish(
    folder: &Path,
    files: &FileList,
    contents: &mut dyn Contents,
) -> Result<PublishReport, PublishError> {
    disk::create_folder(folder)?;
    // Before the lock, which is a file that would already be a change.
    refuse_foreign_folder(folder, files)?;
    let _lock = lock(folder)?;
    let mut record = Record::load(folder)?;
    let Look { unsure, stale } = look(folder, files, &record)?;

    // A file whose record still fits is taken as it is; another is read, since a copied or restored
    // folder has the content but other time stamps.
    let is_there = |found: &Unsure<'_>| {
        found.stamp.is_some() && stage::has_digest(&found.file.path.under(folder), found.file.digest)
    };
    let (present, lacking): (Vec<Unsure<'_>>, Vec<Unsure<'_>>) = unsure.into_iter().partition(is_there);
    let missing: Vec<&PublishFile> = lacking.iter().map(|found| found.file).collect();
    let kept = files.files().len() - missing.len();
    let mut report = PublishReport { written: missing.len(), kept, removed: 0 };
    if present.is_empty() && missing.is_empty() && stale.is_empty() && record.list() == Some(files.digest()) {
        Stage::of(folder).clear()?;
        return Ok(report);
    }
    // A file that is already recorded keeps its entry: until it is replaced that one is true, and
    // afterwards its stamp is wrong, which has it looked at again.
    let new = lacking.iter().filter(|found| !found.recorded);
    let intent: Vec<Change> = new.map(|found| found.file.change(None)).collect();
    let stage = Stage::open(folder, &missing)?;
    let result = fill(&stage, folder, &missing, contents)
        .and_then(|()| record.intend(intent, &stage))
        .and_then(|()| show(&stage, folder, &missing))
        .and_then(|()| remove_stale(folder, &stale))
        .and_then(|removed| {
            report.removed = removed;
            let looked_at = |file: &PublishFile| Stamp::of(&file.path.under(folder), file.size);
            let written = missing.iter().map(|file| file.change(looked_at(file)));
            let found = present.iter().map(|found| found.file.change(found.stamp));
            let gone = stale.into_iter().map(|path| (path, None));
            record.finish(written.chain(found).chain(gone).collect(), files.digest(), &stage)
        });
    // Also after an error, since what is staged takes up disk that may be just what is lacking;
    // that error is then the one to tell.
    let cleared = stage.clear();
    result.and(cleared).map(|()| report)
}

impl PublishFile {
    fn change(&self, stamp: Option<Stamp>) -> Change {
        (self.path.clone(), Some(Entry { size: self.size, digest: self.digest, stamp }))
    }
}

/// Refuses a folder that holds files, but no record that rivet wrote them; unless each is a file of the
/// package, with its content: then only the record was lost.
fn refuse_foreign_folder(folder: &Path, files: &FileList) -> Result<(), PublishError> {
    if is_foreign(folder)? && !is_part_of(folder, files)? {
        return Err(PublishError::ForeignFolder { folder: folder.to_owned() });
    }
    Ok(())
}

/// Whether a folder holds files, but no record that rivet wrote them.
fn is_foreign(folder: &Path) -> Result<bool, PublishError> {
    let list = || PublishError::io("list", folder);
    let mut foreign = false;
    for entry in fs::read_dir(folder).map_err(list())? {
        let name = entry.map_err(list())?.file_name();
        foreign |= !name.to_string_lossy().starts_with(OWN_PREFIX);
    }
    // Looked for last: another process that publishes here writes its record before its files.
    Ok(foreign && folder.join(RECORD_NAME).symlink_metadata().is_err())
}

/// Whether a folder holds nothing but files of a package, rivet's own aside.
fn is_part_of(folder: &Path, files: &FileList) -> Result<bool, PublishError> {
    let files: BTreeMap<PathBuf, &PublishFile> =
        files.files().iter().map(|file| (file.path.under(folder), file)).collect();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let list = || PublishError::io("list", &next);
        for entry in fs::read_dir(&next).map_err(list())? {
            let entry = entry.map_err(list())?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(list())?);
            if next == folder && entry.file_name().to_string_lossy().starts_with(OWN_PREFIX) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if !kind.is_file()
                || !files.get(&path).is_some_and(|file| stage::has_digest(&path, file.digest))
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Waits for the output folder's lock. It is released when the file is closed, also by a kill.
fn lock(folder: &Path) -> Result<File, PublishError> {
    let path = folder.join(LOCK_NAME);
    refuse_link(&path)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(PublishError::io("open", &path))?;
    file.lock().map_err(PublishError::io("lock", &path))?;
    Ok(file)
}

fn refuse_link(path: &Path) -> Result<(), PublishError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => Err(PublishError::SymbolicLink { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// What is in a folder that is not as the record says, or not of the package.
struct Look<'a> {
    unsure: Vec<Unsure<'a>>,
    /// What the record has besides, in order.
    stale: Vec<RelPath>,
}

/// A file of the package that is not known to be there.
struct Unsure<'a> {
    file: &'a PublishFile,
    /// `None` where there is none, or one of another size.
    stamp: Option<Stamp>,
    /// Whether it is rivet's, with whatever content.
    recorded: bool,
}

/// Looks at each path of the new and the old package once. Refuses to go on where one leads
/// through a symbolic link, or where something that rivet did not write stands in the way of a
/// new file.
fn look<'a>(folder: &Path, files: &'a FileList, old: &Record) -> Result<Look<'a>, PublishError> {
    for name in [RECORD_NAME, STAGE_NAME] {
        refuse_link(&folder.join(name))?;
    }
    for name in folders_of(files.files().iter().map(|file| &file.path)) {
        let path = folder.join(name);
        refuse_link(&path)?;
        if path.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            return Err(PublishError::ForeignFile { path });
        }
    }
    let mut look = Look { unsure: Vec::new(), stale: Vec::new() };
    let mut take = |pairs: Vec<Pair<'a>>| {
        let found: Vec<_> = pairs.into_par_iter().map(|pair| look_at(folder, pair)).collect();
        for found in found {
            match found? {
                Found::Current => {}
                Found::Unsure(file) => look.unsure.push(file),
                Found::Stale(path) => look.stale.push(path),
            }
        }
        Ok(())
    };
    let mut entries = old.entries()?;
    let mut rest = files.files();
    while let Some(batch) = entries.next_batch()? {
        let last = batch.last().map(|(path, _)| path.clone());
        let (now, later) = rest.split_at(rest.partition_point(|file| Some(&file.path) <= last.as_ref()));
        rest = later;
        take(pairs(now, batch))?;
    }
    for now in rest.chunks(BATCH) {
        take(pairs(now, Vec::new()))?;
    }
    for name in folders_of(look.stale.iter()) {
        refuse_link(&folder.join(name))?;
    }
    Ok(look)
}

/// A path of the new package, of the old one, or of both.
enum Pair<'a> {
    New(&'a PublishFile),
    Old(RelPath),
    Both(&'a PublishFile, Entry),
}

/// Both in order of path.
fn pairs(files: &[PublishFile], entries: Vec<(RelPath, Entry)>) -> Vec<Pair<'_>> {
    let mut pairs = Vec::with_capacity(files.len().max(entries.len()));
    let mut files = files.iter().peekable();
    for (path, entry) in entries {
        while let Some(file) = files.next_if(|file| file.path < path) {
            pairs.push(Pair::New(file));
        }
        pairs.push(match files.next_if(|file| file.path == path) {
            Some(file) => Pair::Both(file, entry),
            None => Pair::Old(path),
        });
    }
    pairs.extend(files.map(Pair::New));
    pairs
}

enum Found<'a> {
    Current,
    Unsure(Unsure<'a>),
    Stale(RelPath),
}

fn look_at<'a>(folder: &Path, pair: Pair<'a>) -> Result<Found<'a>, PublishError> {
    let (file, entry) = match pair {
        Pair::New(file) => (file, None),
        Pair::Both(file, entry) => (file, Some(entry)),
        Pair::Old(path) => return refuse_link(&path.under(folder)).map(|()| Found::Stale(path)),
    };
    let path = file.path.under(folder);
    let stamp = match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => return Err(PublishError::SymbolicLink { path }),
        Ok(found) if !found.is_file() => return Err(PublishError::ForeignFile { path }),
        Ok(_) if entry.is_none() && !stage::has_digest(&path, file.digest) => {
            return Err(PublishError::ForeignFile { path });
        }
        Ok(found) => Stamp::in_metadata(&found, file.size),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(PublishError::io("look at", &path)(error)),
    };
    let fits = |entry: &Entry| stamp.is_some() && entry.stamp == stamp && entry.digest == file.digest;
    Ok(if entry.as_ref().is_some_and(fits) {
        Found::Current
    } else {
        Found::Unsure(Unsure { file, stamp, recorded: entry.is_some() })
    })
}

/// Stages what is missing, after a look at the free space.
fn fill(
    stage: &Stage,
    folder: &Path,
    missing: &[&PublishFile],
    contents: &mut dyn Contents,
) -> Result<(), PublishError> {
    let to_write: Vec<_> = missing.iter().copied().filter(|file| !stage.holds(file)).collect();
    disk::check_space(folder, to_write.iter().map(|file| file.size))?;
    for files in to_write.chunks(AHEAD) {
        let first = |source| PublishError::Content { path: files[0].path.clone(), source };
        contents.announce(files).map_err(first)?;
        stage.write(files, contents)?;
    }
    Ok(())
}

/// Renames the staged files into place, role after role. All of a role is on the disk before the
/// next begins, so that after a power cut too no playlist is there without what it names.
fn show(stage: &Stage, folder: &Path, missing: &[&PublishFile]) -> Result<(), PublishError> {
    let mut by_role: BTreeMap<Role, Vec<&PublishFile>> = BTreeMap::new();
    for file in missing {
        by_role.entry(file.role).or_default().push(file);
    }
    for files in by_role.values() {
        for file in files {
            let path = file.path.under(folder);
            if let Some(parent) = path.parent() {
                disk::create_folder(parent)?;
            }
            disk::rename(&stage.place(file), &path)?;
        }
        sync_folders(folder, files.iter().map(|file| &file.path))?;
    }
    Ok(())
}

/// Removes files that only the old package had, and the folders that this leaves empty. Returns
/// how many files it removed.
fn remove_stale(folder: &Path, stale: &[RelPath]) -> Result<usize, PublishError> {
    let mut removed = 0;
    for path in stale.iter().map(|path| path.under(folder)) {
        // Something else may have taken the name of a file that is long gone.
        if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            disk::remove_file(&path)?;
            removed += 1;
        }
    }
    let emptied: BTreeSet<&str> = stale.iter().flat_map(|path| path.folders()).collect();
    // Inner folders sort behind those that they are in.
    for path in emptied.into_iter().rev() {
        disk::remove_empty_folder(&folder.join(path))?;
    }
    if !stale.is_empty() {
        sync_folders(folder, stale.iter())?;
    }
    Ok(removed)
}

/// Makes the names of `paths` durable: syncs every folder on their way that is there.
fn sync_folders<'a>(folder: &Path, paths: impl Iterator<Item = &'a RelPath>) -> Result<(), PublishError> {
    for path in folders_of(paths).into_iter().rev() {
        disk::sync_folder(&folder.join(path))?;
    }
    disk::sync_folder(folder)
}

#[cfg(test)]
mod tests;
