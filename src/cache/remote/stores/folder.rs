//! A folder that several machines see. It is opened when it is first asked: a share that is not mounted
//! is a remote that does not answer, and must not be made on the disk below it. Whoever can write to the
//! share is nobody's friend: no link is followed to where files are written or removed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use opendal::Operator;
use opendal::services::Fs;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::OnceCell;

use super::fault::{of_io, remote_error};
use super::parameters::Parameters;
use super::{RemoteError, RemoteFault, RemoteUrl, refused};
use crate::cache::LAYOUT;

/// Files in `tmp` that are older than this belong to no running build.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Where files are written before they are renamed to their names: within one file system.
const TMP: &str = "tmp";

pub(super) struct Folder {
    url: RemoteUrl,
    /// The one that holds the layout's.
    path: PathBuf,
    reader: OnceCell<Operator>,
    writer: OnceCell<Operator>,
}

impl Folder {
    pub fn at(url: &RemoteUrl) -> Result<Folder, RemoteError> {
        Parameters::of(url, &[])?;
        let mut path = Path::new("/").join(super::root(url)?);
        path.pop();
        Ok(Folder { url: url.clone(), path, reader: OnceCell::new(), writer: OnceCell::new() })
    }

    /// The operator to look with. `None` where nothing was stored yet: looking makes no folders.
    pub async fn reader(&self) -> Result<Option<&Operator>, RemoteError> {
        if let Some(operator) = self.reader.get() {
            return Ok(Some(operator));
        }
        match self.blocking(open_to_read).await? {
            Some(operator) => Ok(Some(self.reader.get_or_init(|| async { operator }).await)),
            None => Ok(None),
        }
    }

    /// The operator to store with, on the folder, which is made where it is not there but the one above it is.
    pub async fn writer(&self) -> Result<&Operator, RemoteError> {
        self.writer.get_or_try_init(|| self.blocking(open_to_write)).await
    }

    /// A share that hangs blocks who looks at it.
    async fn blocking<T: Send + 'static>(
        &self,
        open: fn(&RemoteUrl, &Path) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let (url, path) = (self.url.clone(), self.path.clone());
        tokio::task::spawn_blocking(move || open(&url, &path)).await.unwrap_or_else(|failed| {
            Err(RemoteError::new(RemoteFault::Passing, format!("{}: {failed}", self.url)))
        })
    }
}

fn open_to_read(url: &RemoteUrl, path: &Path) -> Result<Option<Operator>, RemoteError> {
    let failed = |error| failed(url, "opening the folder", error);
    let Some(folder) = subfolder(CWD, path).map_err(failed)? else {
        return if is_above_there(path) { Ok(None) } else { Err(not_there(url, path)) };
    };
    let Some(layout) = subfolder(&folder, LAYOUT).map_err(failed)? else { return Ok(None) };
    for part in ["entries", "blobs"] {
        subfolder(&layout, part).map_err(failed)?;
    }
    let service = Fs::default().root(&path.join(LAYOUT).to_string_lossy());
    Operator::new(service).map(Some).map_err(|error| remote_error(url, "opening the folder", &error))
}

fn open_to_write(url: &RemoteUrl, path: &Path) -> Result<Operator, RemoteError> {
    let failed = |error| failed(url, "making the folder", error);
    if !is_above_there(path) {
        return Err(not_there(url, path));
    }
    let folder = made(CWD, path).map_err(failed)?;
    let layout = made(&folder, LAYOUT).map_err(failed)?;
    for part in ["entries", "blobs"] {
        subfolder(&layout, part).map_err(failed)?;
    }
    sweep(made(&layout, TMP).map_err(failed)?);
    let root = path.join(LAYOUT);
    let service =
        Fs::default().root(&root.to_string_lossy()).atomic_write_dir(&root.join(TMP).to_string_lossy());
    Operator::new(service).map_err(|error| remote_error(url, "opening the folder", &error))
}

fn is_above_there(path: &Path) -> bool {
    path.parent().is_some_and(Path::is_dir)
}

fn not_there(url: &RemoteUrl, path: &Path) -> RemoteError {
    let told = format!("{url}: there is no folder {}", path.parent().unwrap_or(path).display());
    RemoteError::new(RemoteFault::Passing, told)
}

fn failed(url: &RemoteUrl, doing: &str, error: Errno) -> RemoteError {
    match error {
        Errno::LOOP | Errno::NOTDIR => refused(
            url,
            format_args!(
                "it, and `{LAYOUT}`, `{TMP}`, `entries` and `blobs` in it, must be folders and no links"
            ),
        ),
        error => {
            let error = io::Error::from(error);
            RemoteError::new(of_io(&error), format!("{url}: {doing}: {error}"))
        }
    }
}

/// The folder of that name. A link in its place is an error ([`Errno::LOOP`] or [`Errno::NOTDIR`]).
fn subfolder(within: impl AsFd, name: impl rustix::path::Arg) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(within, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(Some),
    }
}

/// The folder of that name, made where nothing is.
fn made(within: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    if let Some(folder) = subfolder(&within, name)? {
        return Ok(folder);
    }
    match rustix::fs::mkdirat(&within, name, Mode::from_raw_mode(0o777)) {
        // Somebody else was faster.
        Ok(()) | Err(Errno::EXIST) => subfolder(within, name)?.ok_or(Errno::NOENT),
        Err(error) => Err(error),
    }
}

/// Removes what killed builds left behind. Failing to is no reason not to go on.
fn sweep(tmp: OwnedFd) {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder(path: &Path) -> Folder {
        Folder::at(&format!("fs://{}", path.display()).parse().unwrap()).unwrap()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn read(path: &Path) -> Result<bool, RemoteError> {
        run(async { folder(path).reader().await.map(|operator| operator.is_some()) })
    }

    fn write(path: &Path) -> Result<(), RemoteError> {
        run(async { folder(path).writer().await.map(drop) })
    }

    /// What OpenDAL itself calls a file while it writes it.
    fn temporary(name: &str) -> String {
        opendal::raw::build_tmp_path_of(&format!("blobs/ab/{}", blake3::hash(name.as_bytes())))
    }

    fn old_file(path: &Path) {
        let file = fs::File::create(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * ABANDONED_AFTER).unwrap();
    }

    #[test]
    fn a_share_that_is_not_mounted_is_not_made() {
        let place = tempfile::tempdir().unwrap();
        let share = place.path().join("mnt/team");
        for error in [read(&share).unwrap_err(), write(&share).unwrap_err()] {
            assert_eq!(error.fault, RemoteFault::Passing);
            assert!(error.message.contains("there is no folder"), "{error}");
        }
        assert!(!place.path().join("mnt").exists());
        write(&place.path().join("team")).unwrap();
        assert!(place.path().join("team/v2/tmp").is_dir());
    }

    #[test]
    fn looking_makes_nothing_and_removes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let team = place.path().join("team");
        assert!(!read(&team).unwrap());
        assert!(!team.exists());
        fs::create_dir_all(team.join("v2/blobs")).unwrap();
        let read_only = fs::Permissions::from_mode(0o555);
        fs::set_permissions(team.join("v2"), read_only).unwrap();
        assert!(read(&team).unwrap());
        assert!(!team.join("v2/tmp").exists());
        fs::set_permissions(team.join("v2"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(team.join("v2/tmp")).unwrap();
        let old = team.join("v2/tmp").join(temporary("old"));
        old_file(&old);
        assert!(read(&team).unwrap() && old.exists());
    }

    #[test]
    fn what_was_left_long_ago_is_swept() {
        let place = tempfile::tempdir().unwrap();
        write(place.path()).unwrap();
        let tmp = place.path().join("v2/tmp");
        let (old, new) = (tmp.join(temporary("old")), tmp.join(temporary("new")));
        fs::write(&new, "").unwrap();
        old_file(&old);
        // Nobody else's files.
        let others = ["thesis.tex", &temporary("x")[..64]].map(|name| tmp.join(name));
        others.iter().for_each(|other| old_file(other));
        let link = tmp.join(temporary("link"));
        symlink("/nowhere", &link).unwrap();
        write(place.path()).unwrap();
        assert!(new.exists() && !old.exists());
        assert!(others.iter().all(|other| other.exists()) && link.is_symlink());
    }

    #[test]
    fn a_link_in_a_folders_place_is_refused() {
        for part in ["", "v2", "v2/tmp", "v2/entries", "v2/blobs"] {
            let place = tempfile::tempdir().unwrap();
            let (team, elsewhere) = (place.path().join("team"), place.path().join("elsewhere"));
            for folder in ["", "v2/tmp", "tmp"] {
                fs::create_dir_all(elsewhere.join(folder)).unwrap();
            }
            // Wherever `tmp` would lead.
            let swept = ["", "tmp", "v2/tmp"].map(|at| elsewhere.join(at).join(temporary("old")));
            swept.iter().for_each(|file| old_file(file));
            let link = team.join(part);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(&elsewhere, if part.is_empty() { &team } else { &link }).unwrap();
            let told = write(&team).unwrap_err();
            assert_eq!(told.fault, RemoteFault::Refused, "{part}");
            assert!(told.message.contains("no links"), "{part}: {told}");
            if part != "v2/tmp" {
                assert_eq!(read(&team).unwrap_err().fault, RemoteFault::Refused, "{part}");
            }
            assert!(swept.iter().all(|file| file.exists()), "{part}");
        }
    }
}
