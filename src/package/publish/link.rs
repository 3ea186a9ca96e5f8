//! Sharing content with a file instead of copying it, where the file system can. A shared extent
//! (reflink) is copied by the file system when either file is written to. A second name (hard link) is
//! the same file: it is given only to what nobody writes to without meaning to.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, fchmod, ioctl_ficlone};

/// Lets `to`, which is empty, have the content of `from`; `false` where the file system cannot.
pub(super) fn share_content(from: &File, to: &File) -> bool {
    ioctl_ficlone(to, from).is_ok()
}

/// Makes a file read-only for everybody, if that is enough to keep it as it is: root writes to
/// read-only files without noticing, and another user's file is not ours to change.
pub(super) fn make_read_only(file: &File) -> io::Result<bool> {
    let user = rustix::process::geteuid();
    if user.is_root() || file.metadata()?.uid() != user.as_raw() {
        return Ok(false);
    }
    fchmod(file, Mode::RUSR | Mode::RGRP | Mode::ROTH)?;
    Ok(true)
}

/// Gives the file at `path` another name, if it still is `file`. `false` where that cannot be: on
/// another file system, on one without hard links, or with too many names.
pub(super) fn add_name(file: &File, path: &Path, name: &Path) -> io::Result<bool> {
    if fs::hard_link(path, name).is_err() {
        return Ok(false);
    }
    let (wanted, found) = (file.metadata()?, name.symlink_metadata()?);
    let is_same = (wanted.dev(), wanted.ino()) == (found.dev(), found.ino());
    if !is_same {
        fs::remove_file(name)?;
    }
    Ok(is_same)
}
