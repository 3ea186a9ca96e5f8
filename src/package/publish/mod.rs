//! Puts a package's files into its output folder, so that a web server of that folder never shows
//! a broken stream, and a kill or a power cut at any instant loses nothing that was good.
//!
//! [`publish`] holds a lock and goes through these steps. An error in the first three leaves the
//! folder as it was; a kill in any of them is made good by the next call.
//!
//! 1. **Look.** Refuse what rivet must not touch: a folder or file that it did not write, a
//!    symbolic link on the way. Decide which files are there already, and whether the others fit.
//! 2. **Stage.** Write every missing file, playlists too, into `.rivet-tmp/`, verify its BLAKE3
//!    digest and sync it. Nothing of it can be seen yet.
//! 3. **Intend.** Add the new files to the record, `.rivet-published.json`, so that whatever
//!    happens from here on, the next call knows every file that is ours.
//! 4. **Show.** Rename the staged files into place: media, then media playlists, then the entry
//!    (the multivariant playlist, or what else names playlists). A playlist is never there before
//!    what it names. Renames take milliseconds; the copying is over.
//! 5. **Clean.** Remove files that only the old package had, and write the final record.
//!
//! A file is replaced in one rename, but two files are not replaced together. So media whose
//! content may change from build to build should have a name that changes with it; under a fixed
//! name, a viewer who holds the old playlist can meet the new content.

mod disk;
mod error;
mod record;
mod stage;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use error::PublishError;
use record::{Entry, RECORD_NAME, Record, Stamp};
pub use record::{is_current, list_digest};
use stage::{STAGE_NAME, Stage};

use super::path::RelPath;

/// Held while a publish runs; never removed, since that would let two hold it.
const LOCK_NAME: &str = ".rivet.lock";

/// What rivet's own files in an output folder begin with, and a package's may not.
const OWN_PREFIX: &str = ".rivet";

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishFile {
    /// Where it goes, within the output folder.
    pub path: RelPath,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of its content.
    pub digest: blake3::Hash,
    pub role: Role,
}

/// When a file may be seen: after all of the roles before its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Initialization and media segments, whole MP4 files: they name no other file.
    Media,
    /// A media playlist: names media.
    Playlist,
    /// A multivariant playlist or a DASH manifest: names anything.
    Entry,
}

/// Opens the content of a file that is to be written.
pub type Open<'a> = dyn Fn(&PublishFile) -> io::Result<Box<dyn Read + 'a>> + 'a;

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
/// `open` is asked for the content of files that are missing, in no promised order. What it
/// returns is verified against size and digest.
pub fn publish(folder: &Path, files: &[PublishFile], open: &Open<'_>) -> Result<PublishReport, PublishError> {
    check_list(files)?;
    disk::create_folder(folder)?;
    // Before the lock, which is a file that would already be a change.
    refuse_foreign_folder(folder)?;
    let _lock = lock(folder)?;
    let old = Record::load(folder)?.unwrap_or_default();
    let stamps = check_places(folder, files, &old)?;

    // A file whose record still fits is taken as it is; another is read, since a copied or restored
    // folder has the content but other time stamps.
    let trusted = |file: &PublishFile, stamp: &Option<Stamp>| {
        let entry = old.files.get(&file.path);
        stamp.is_some() && entry.is_some_and(|entry| entry.digest == file.digest && entry.stamp == *stamp)
    };
    let mut missing = Vec::new();
    let mut current = old.files.len() == files.len();
    for (file, stamp) in files.iter().zip(&stamps) {
        if trusted(file, stamp) {
            continue;
        }
        current = false;
        if stamp.is_none() || !stage::has_digest(&file.path.under(folder), file.digest) {
            missing.push(file);
        }
    }
    let mut report = PublishReport { written: missing.len(), kept: files.len() - missing.len(), removed: 0 };
    if current {
        Stage::of(folder).clear()?;
        return Ok(report);
    }
    let stage = Stage::open(folder, &missing)?;
    let result = fill(&stage, folder, &missing, open)
        .and_then(|()| old.store_with_intent(&missing, folder, &stage))
        .and_then(|()| show(&stage, folder, &missing))
        .and_then(|()| remove_stale(folder, files, &old))
        .and_then(|removed| {
            report.removed = removed;
            let written: HashSet<&str> = missing.iter().map(|file| file.path.as_str()).collect();
            let entries = files.iter().zip(&stamps).map(|(file, &stamp)| {
                let looked_at = || Stamp::of(&file.path.under(folder), file.size);
                let stamp = if written.contains(file.path.as_str()) { looked_at() } else { stamp };
                (file.path.clone(), Entry { size: file.size, digest: file.digest, stamp })
            });
            Record { files: entries.collect() }.store(folder, &stage)
        });
    // Also after an error, since what is staged takes up disk that may be just what is lacking;
    // that error is then the one to tell.
    let cleared = stage.clear();
    result.and(cleared).map(|()| report)
}

/// Refuses a list that cannot be a folder's content.
fn check_list(files: &[PublishFile]) -> Result<(), PublishError> {
    let refuse = |path: &RelPath, reason| Err(PublishError::BadList { path: path.clone(), reason });
    let mut paths: HashSet<&str> = HashSet::with_capacity(files.len());
    for PublishFile { path, .. } in files {
        if path.as_str().starts_with(OWN_PREFIX) {
            return refuse(path, "names that begin with `.rivet` are for rivet's own files");
        }
        if !paths.insert(path.as_str()) {
            return refuse(path, "two files have this path");
        }
    }
    let folders = folders_of(files.iter().map(|file| &file.path));
    let is_in = |file: &&PublishFile, folder: &str| file.path.folders().any(|other| other == folder);
    if let Some(folder) = folders.iter().find(|folder| paths.contains(*folder))
        && let Some(file) = files.iter().find(|file| is_in(file, folder))
    {
        return refuse(&file.path, "a folder on its way is also a file of the package");
    }
    Ok(())
}

/// The folders on the way to paths. Paths of one folder mostly follow one another.
fn folders_of<'a>(paths: impl Iterator<Item = &'a RelPath>) -> BTreeSet<&'a str> {
    let mut folders = BTreeSet::new();
    let mut last = None;
    for path in paths {
        let parent = path.as_str().rsplit_once('/').map(|(parent, _)| parent);
        if parent != last {
            folders.extend(path.folders());
            last = parent;
        }
    }
    folders
}

/// Refuses a folder that holds files, but no record that rivet wrote them.
fn refuse_foreign_folder(folder: &Path) -> Result<(), PublishError> {
    let list = || PublishError::io("list", folder);
    let mut foreign = false;
    for entry in fs::read_dir(folder).map_err(list())? {
        let name = entry.map_err(list())?.file_name();
        foreign |= !name.to_string_lossy().starts_with(OWN_PREFIX);
    }
    // Looked for last: another process that publishes here writes its record before its files.
    if foreign && folder.join(RECORD_NAME).symlink_metadata().is_err() {
        return Err(PublishError::ForeignFolder { folder: folder.to_owned() });
    }
    Ok(())
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

/// Refuses to go on where a path of the new or the old package leads through a symbolic link, or
/// where something that rivet did not write stands in the way of a new file. Looks at each path
/// once, and returns the stamps of `files` as they are: `None` for one that is not there, or has
/// another size.
fn check_places(
    folder: &Path,
    files: &[PublishFile],
    old: &Record,
) -> Result<Vec<Option<Stamp>>, PublishError> {
    for name in [RECORD_NAME, STAGE_NAME] {
        refuse_link(&folder.join(name))?;
    }
    let in_the_way = |path: PathBuf| Err(PublishError::ForeignFile { path });
    let new: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let stale = || old.files.keys().filter(|path| !new.contains(path.as_str()));
    let needed = folders_of(files.iter().map(|file| &file.path));
    let left = folders_of(stale());
    for name in needed.union(&left) {
        let path = folder.join(name);
        refuse_link(&path)?;
        if needed.contains(name) && path.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()) {
            return in_the_way(path);
        }
    }
    for path in stale() {
        refuse_link(&path.under(folder))?;
    }
    let mut stamps = Vec::with_capacity(files.len());
    for file in files {
        let path = file.path.under(folder);
        stamps.push(match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => return Err(PublishError::SymbolicLink { path }),
            Ok(found) if !found.is_file() || !old.files.contains_key(&file.path) => return in_the_way(path),
            Ok(found) => Stamp::in_metadata(&found, file.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(PublishError::io("look at", &path)(error)),
        });
    }
    Ok(stamps)
}

/// Stages what is missing, after a look at the free space.
fn fill(stage: &Stage, folder: &Path, missing: &[&PublishFile], open: &Open<'_>) -> Result<(), PublishError> {
    let to_write: Vec<_> = missing.iter().copied().filter(|file| !stage.holds(file)).collect();
    disk::check_space(folder, to_write.iter().map(|file| file.size))?;
    to_write.into_iter().try_for_each(|file| stage.write(file, open))
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
fn remove_stale(folder: &Path, files: &[PublishFile], old: &Record) -> Result<usize, PublishError> {
    let current: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let stale: Vec<&RelPath> = old.files.keys().filter(|path| !current.contains(path.as_str())).collect();
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
        sync_folders(folder, stale.into_iter())?;
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
