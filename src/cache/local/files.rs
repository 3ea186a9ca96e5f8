//! Files of the cache folder: written completely or not at all, read up to a known length, and removed. A
//! pipe, folder or symbolic link in a file's place is never waited for, followed or written through.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::cache::CacheError;

/// What was found in a file's place.
pub(super) enum Found {
    Nothing,
    /// What is in it, and what the file system says of it.
    Bytes(Vec<u8>, Metadata),
    /// More bytes than it should have.
    TooLong,
    /// Something that cannot be read, or no such file, and why. Another can be written in its place.
    Unusable(String),
}

/// A file that is there to be read, or what is there instead.
pub(super) enum Opened {
    Nothing,
    File(File, Metadata),
    /// See [`Found::Unusable`].
    Unusable(String),
}

/// Opens a regular file to read it.
pub(super) fn open(path: &Path, operation: &'static str) -> Result<Opened, CacheError> {
    // A pipe that is opened like this does not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Opened::Nothing),
        Err(error) => return unusable(error.into(), path, operation).map(Opened::Unusable),
    };
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(Opened::File(file, meta)),
        Ok(_) => Ok(Opened::Unusable("it is not a regular file".to_owned())),
        Err(error) => unusable(error, path, operation).map(Opened::Unusable),
    }
}

/// Opens a file that is there to be locked, and makes it where nothing is.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Why a file cannot be read, if that is the one file's fault.
fn unusable(error: io::Error, path: &Path, operation: &'static str) -> Result<String, CacheError> {
    if is_files_fault(&error) { Ok(error.to_string()) } else { Err(CacheError::io(operation, path)(error)) }
}

/// Whether it is one file that cannot be read, rather than the machine or the folder that fails.
pub(super) fn is_files_fault(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(
            Errno::ACCESS
                | Errno::PERM
                | Errno::LOOP
                | Errno::NOTDIR
                | Errno::NXIO
                | Errno::NODEV
                | Errno::IO
                | Errno::STALE
        )
    )
}

/// The whole file, if it has no more than `most` bytes.
pub(super) fn read(path: &Path, most: u64, operation: &'static str) -> Result<Found, CacheError> {
    let (file, meta) = match open(path, operation)? {
        Opened::Nothing => return Ok(Found::Nothing),
        Opened::Unusable(why) => return Ok(Found::Unusable(why)),
        Opened::File(file, meta) => (file, meta),
    };
    if meta.len() > most {
        return Ok(Found::TooLong);
    }
    let mut bytes = Vec::new();
    if let Err(error) = bytes.try_reserve_exact(usize::try_from(meta.len()).unwrap_or(usize::MAX)) {
        return Ok(Found::Unusable(error.to_string()));
    }
    match file.take(most).read_to_end(&mut bytes) {
        Ok(_) => Ok(Found::Bytes(bytes, meta)),
        Err(error) => unusable(error, path, operation).map(Found::Unusable),
    }
}

/// Whether files can be made in a folder, as far as permissions tell.
pub(super) fn check_writable(folder: &Path) -> io::Result<()> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    Ok(rustix::fs::accessat(CWD, folder, access, AtFlags::EACCESS)?)
}

/// Writes `bytes` under a temporary name in `tmp`, syncs, and renames to `path`.
pub(super) fn write(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let mut file = temporary(tmp).map_err(CacheError::io("create a file in", tmp))?;
    file.write_all(bytes).map_err(CacheError::io("write", path))?;
    commit(file, path)
}

/// Syncs a temporary file and renames it to `path`.
///
/// The folder's own names are not synced. Power loss may take back what was renamed last, in any
/// order: an entry may lose its blobs, and is then a miss.
pub(super) fn commit(file: tempfile::NamedTempFile, path: &Path) -> Result<(), CacheError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(CacheError::io("write", path)(io::ErrorKind::InvalidInput.into()));
    };
    let into = make_folder(folder).map_err(CacheError::io("create the folder", folder))?;
    file.as_file().sync_data().map_err(CacheError::io("sync", path))?;
    let mut renamed = rustix::fs::renameat(CWD, file.path(), &into, name);
    if matches!(renamed, Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY)) {
        drop_file(path);
        renamed = rustix::fs::renameat(CWD, file.path(), &into, name);
    }
    renamed.map_err(|error| CacheError::io("rename to", path)(error.into()))?;
    // Its temporary name is gone already.
    let _ = file.into_temp_path().keep();
    Ok(())
}

/// A file that others who share the folder may read, as far as the user's mask allows.
pub(super) fn temporary(tmp: &Path) -> io::Result<tempfile::NamedTempFile> {
    let create = || {
        tempfile::Builder::new().prefix("rivet-").permissions(Permissions::from_mode(0o666)).tempfile_in(tmp)
    };
    match create() {
        // The folder was removed beneath a running build.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(tmp)?;
            create()
        }
        created => created,
    }
}

/// Opens a folder that files are renamed into, making it if it is not there, or if something else is
/// in its place.
fn make_folder(folder: &Path) -> io::Result<OwnedFd> {
    match open_folder(folder) {
        Err(Errno::NOENT) => fs::create_dir_all(folder)?,
        Err(Errno::NOTDIR | Errno::LOOP) => {
            tracing::info!("{} is not a folder; it is replaced by one", folder.display());
            rustix::fs::unlink(folder)?;
            fs::create_dir_all(folder)?;
        }
        opened => return Ok(opened?),
    }
    Ok(open_folder(folder)?)
}

fn open_folder(folder: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty())
}

/// Removes what is in a file's place. What cannot be removed may still be replaced.
pub(super) fn drop_file(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let removed = open_folder(folder).and_then(|folder| rustix::fs::unlinkat(folder, name, AtFlags::empty()));
    let removed = match removed {
        // This does not follow links either.
        Err(Errno::ISDIR) => fs::remove_dir_all(path),
        removed => removed.map_err(io::Error::from),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::info!("cannot remove {}: {error}", path.display());
        }
        _ => {}
    }
}
