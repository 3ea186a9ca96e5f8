//! When an entry was last used: its file's time of modification, which a hit sets anew. Blobs have
//! no such time, as theirs may be published files' times, too: they are used when their entries are.

use std::fs::Metadata;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

/// Outside of builds a use that is so little later than the one before is not noted.
const GRAIN: Duration = Duration::from_secs(60 * 60);

/// Notes uses. What a build uses is noted once a build, so that all of it is known to have been used
/// since the build began; what else looks at the cache leaves fresh times alone.
#[derive(Default)]
pub(super) struct Used {
    /// When the build began that this process runs.
    build: OnceLock<SystemTime>,
}

impl Used {
    /// A build begins, at a time of the file system's clock.
    pub(super) fn build_begins(&self, at: SystemTime) {
        // Another one of this process that began before notes more than it need for this one.
        let _ = self.build.set(at);
    }

    /// A file was used, of which its file system said `meta` then. That this cannot be noted, in a folder
    /// that is only read, is no failure: what is not noted is at worst made again.
    pub(super) fn note(&self, path: &Path, meta: &Metadata) {
        if self.wants_note(meta) {
            touch(path);
        }
    }

    /// Whether what a file's time says of its last use is not enough.
    pub(super) fn wants_note(&self, meta: &Metadata) -> bool {
        meta.modified().is_ok_and(|modified| self.is_stale(modified, SystemTime::now()))
    }

    fn is_stale(&self, modified: SystemTime, now: SystemTime) -> bool {
        match now.duration_since(modified) {
            Ok(age) => age > GRAIN || self.build.get().is_some_and(|&began| modified < began),
            // A clock that went back: a time to come would have it kept for ever.
            Err(ahead) => ahead.duration() > GRAIN,
        }
    }
}

/// Sets a file's time to the file system's now: on a network that is the server's clock, the same
/// for all machines.
pub(super) fn touch(path: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    if let Err(error) = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        tracing::debug!("the use of {} is not noted: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_noted() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let ago = |seconds| now - Duration::from_secs(seconds);
        let used = Used::default();
        assert!(!used.is_stale(ago(3000), now), "a look soon after another");
        assert!(used.is_stale(ago(4000), now));
        assert!(!used.is_stale(now + Duration::from_secs(10), now), "clocks differ a little");
        assert!(used.is_stale(now + Duration::from_secs(100_000), now), "a clock went back");
        used.build_begins(ago(100));
        assert!(used.is_stale(ago(101), now), "the first use of this build");
        assert!(!used.is_stale(ago(100), now), "written or used by it already");
    }

    #[test]
    fn a_touch_is_of_now_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entry");
        let old = SystemTime::now() - Duration::from_secs(100_000);
        fs::write(&path, "x").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        touch(&link);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), old);
        Used::default().note(&path, &fs::metadata(&path).unwrap());
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > old + Duration::from_secs(90_000));
        touch(&dir.path().join("none"));
    }
}
