//! What killed builds left in the folder where files are written. Only what is called as OpenDAL calls
//! its files, is a file, and is old, goes: the folder is shared.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// Files that are older belong to no running build.
pub(super) const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes what killed builds left behind. Failing to is no reason not to go on.
pub(super) fn sweep(tmp: OwnedFd) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&tmp, c".", flags, Mode::empty());
    let Ok(files) = opened.and_then(Dir::read_from) else { return };
    for file in files.flatten() {
        if !is_temporary(file.file_name().to_bytes()) {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(&tmp, file.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        let is_old = SystemTime::now().duration_since(written).is_ok_and(|age| age > ABANDONED_AFTER);
        if is_old
            && FileType::from_raw_mode(stat.st_mode).is_file()
            && let Err(error) = rustix::fs::unlinkat(&tmp, file.file_name(), AtFlags::empty())
        {
            tracing::debug!("cannot remove {:?}: {error}", file.file_name());
        }
    }
}

/// Whether OpenDAL calls a file so while it writes it: by its name, a dot, and eight letters or digits.
fn is_temporary(name: &[u8]) -> bool {
    let Some((digest, rest)) = name.split_at_checked(64) else { return false };
    digest.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && rest.len() == 9
        && rest[0] == b'.'
        && rest[1..].iter().all(u8::is_ascii_alphanumeric)
}
