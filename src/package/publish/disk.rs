//! Changes to an output folder, a function for each kind, so that every error names operation and
//! path and tests can stop before any single change.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::error::PublishError;

/// Creates `folder` and those that it is in, where they are not there.
pub(super) fn create_folder(folder: &Path) -> Result<(), PublishError> {
    if folder.is_dir() {
        return Ok(());
    }
    crash_point();
    fs::create_dir_all(folder).map_err(PublishError::io("create", folder))
}

pub(super) fn create_file(path: &Path) -> Result<File, PublishError> {
    crash_point();
    File::create(path).map_err(PublishError::io("create", path))
}

/// Opens a file that is there, to change it in place.
pub(super) fn open_file(path: &Path) -> Result<File, PublishError> {
    crash_point();
    File::options().write(true).open(path).map_err(PublishError::io("open", path))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), PublishError> {
    crash_point();
    fs::rename(from, to).map_err(PublishError::io("move a file to", to))
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), PublishError> {
    crash_point();
    match fs::remove_file(path) {
        Err(error) if is_gone(&error) => Ok(()),
        result => result.map_err(PublishError::io("remove", path)),
    }
}

/// Removes a folder, if it is there and empty.
pub(super) fn remove_empty_folder(path: &Path) -> Result<(), PublishError> {
    crash_point();
    match fs::remove_dir(path) {
        Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => result.map_err(PublishError::io("remove", path)),
    }
}

/// Removes a folder and all in it, if it is there. Follows no symbolic link.
pub(super) fn remove_folder(path: &Path) -> Result<(), PublishError> {
    crash_point();
    match fs::remove_dir_all(path) {
        Err(error) if is_gone(&error) => Ok(()),
        result => result.map_err(PublishError::io("remove", path)),
    }
}

/// Makes the names in a folder durable, if it is there.
pub(super) fn sync_folder(path: &Path) -> Result<(), PublishError> {
    crash_point();
    match File::open(path).and_then(|folder| folder.sync_all()) {
        Err(error) if is_gone(&error) => Ok(()),
        result => result.map_err(PublishError::io("sync", path)),
    }
}

/// Whether a path is not there, or leads through a file.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Refuses to begin when files of `sizes` bytes cannot fit into the file system of `folder`. It
/// may fill up meanwhile, so this spares only the wait.
pub(super) fn check_space(folder: &Path, sizes: impl Iterator<Item = u64>) -> Result<(), PublishError> {
    // Some network file systems do not tell; then writing will show.
    let Ok(system) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    if system.f_blocks == 0 {
        return Ok(());
    }
    let block = system.f_frsize.max(1);
    let needed = sizes
        .fold(0u64, |sum, size| sum.saturating_add(size.checked_next_multiple_of(block).unwrap_or(u64::MAX)));
    let available = system.f_bavail.saturating_mul(block);
    if needed > available {
        return Err(PublishError::NoSpace { folder: folder.to_owned(), needed, available });
    }
    Ok(())
}

#[cfg(not(test))]
fn crash_point() {}

#[cfg(test)]
fn crash_point() {
    super::tests::crash_point();
}
