//! Folders by name within folders that are open, so that no link is followed on the way.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// The folder of that name. A link in its place is an error ([`Errno::LOOP`] or [`Errno::NOTDIR`]).
pub(super) fn subfolder(within: impl AsFd, name: impl rustix::path::Arg) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(within, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(Some),
    }
}

/// The folder of that name, made where nothing is.
pub(super) fn made(within: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    if let Some(folder) = subfolder(&within, name)? {
        return Ok(folder);
    }
    match rustix::fs::mkdirat(&within, name, Mode::from_raw_mode(0o777)) {
        // Another process has just created it.
        Ok(()) | Err(Errno::EXIST) => subfolder(within, name)?.ok_or(Errno::NOENT),
        Err(error) => Err(error),
    }
}

/// Whether what lies at a path is this folder. Since that is open, nothing else can have its number.
pub(super) fn is_at(folder: impl AsFd, path: impl rustix::path::Arg) -> Result<bool, Errno> {
    let opened = rustix::fs::fstat(folder)?;
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(error),
    }
}
