//! Builds that run announce themselves, so that a cleaning takes nothing from under them. An
//! announcement is a file that its build holds locked: however the build ends, the lock goes with it.

use std::fs::{self, DirEntry, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::list;
use crate::cache::CacheError;

/// The prefix of announcements; other files are not the cache's to remove.
const PREFIX: &str = "build-";

/// A build that goes on as long as this is there.
#[derive(Debug)]
pub struct RunningBuild {
    path: PathBuf,
    /// Held for its lock.
    _file: File,
}

impl Drop for RunningBuild {
    fn drop(&mut self) {
        // One that stays is not locked any more, and the next cleaning removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Builds that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Running {
    pub builds: u64,
    /// When the first of them began, by the file system's clock.
    pub since: Option<SystemTime>,
}

/// Announces a build, and returns when it began by the file system's clock.
pub(super) fn announce(folder: &Path, tmp: &Path) -> Result<(RunningBuild, SystemTime), CacheError> {
    let failed = || CacheError::io("announce the build in", folder);
    // It is renamed once it is locked: an unlocked announcement is a leftover.
    let file = tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(tmp)
        .map_err(failed())?;
    if let Err(error) = file.as_file().lock() {
        // On a file system without locks all announcements count as of running builds.
        tracing::debug!("{} cannot be locked: {error}", file.path().display());
    }
    let path = folder.join(file.path().file_name().unwrap_or_default());
    let file = file.persist_noclobber(&path).map_err(|error| failed()(error.error))?;
    let build = RunningBuild { path, _file: file };
    let began = build._file.metadata().and_then(|meta| meta.modified()).map_err(failed())?;
    Ok((build, began))
}

/// The builds that run, of any process on any machine; what others left behind is removed.
pub(super) fn running(folder: &Path) -> Result<Running, CacheError> {
    let mut running = Running::default();
    let is_one = |entry: &DirEntry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
    for path in list(folder)?.into_iter().filter(is_one).map(|entry| entry.path()) {
        // It may have just ended.
        let Ok(meta) = path.symlink_metadata() else { continue };
        let (true, Ok(began)) = (meta.is_file(), meta.modified()) else { continue };
        // A network file system locks only what may be written to. What cannot be opened or locked
        // may be a running build's.
        let has_ended = File::options().read(true).write(true).open(&path).is_ok_and(|file| {
            let ended = file.try_lock().is_ok();
            if ended {
                let _ = fs::remove_file(&path);
            }
            ended
        });
        if !has_ended && path.symlink_metadata().is_ok() {
            running.builds += 1;
            running.since = Some(running.since.map_or(began, |since| since.min(began)));
        }
    }
    Ok(running)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_seen_as_long_as_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, tmp) = (dir.path().join("builds"), dir.path().join("tmp"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&tmp).unwrap();
        assert_eq!(running(&folder).unwrap(), Running::default());
        let (one, began) = announce(&folder, &tmp).unwrap();
        let (two, _) = announce(&folder, &tmp).unwrap();
        assert_eq!(running(&folder).unwrap(), Running { builds: 2, since: Some(began) });
        drop(one);
        assert_eq!(running(&folder).unwrap().builds, 1);
        // Killed: its file stays, its lock does not.
        let path = two.path.clone();
        drop(two);
        fs::write(&path, "").unwrap();
        // A foreign file, locked or not.
        let foreign = ["notes.txt", "lock"].map(|name| folder.join(name));
        foreign.iter().for_each(|path| fs::write(path, "").unwrap());
        let lock = File::open(&foreign[1]).unwrap();
        lock.lock().unwrap();
        std::os::unix::fs::symlink(&foreign[0], folder.join("build-link")).unwrap();
        assert_eq!(running(&folder).unwrap(), Running::default());
        assert!(!path.exists() && foreign.iter().all(|path| path.exists()));
    }
}
