//! A folder that several machines see. It is opened when it is first asked: a share that is not mounted
//! is a remote that does not answer, and must not be made on the disk below it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use opendal::Operator;
use opendal::services::Fs;
use tokio::sync::OnceCell;

use super::fault::{of_io, remote_error};
use super::parameters::Parameters;
use super::{RemoteError, RemoteFault, RemoteUrl};

/// Files in `tmp` that are older than this belong to no running build.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct Folder {
    url: RemoteUrl,
    path: PathBuf,
    operator: OnceCell<Operator>,
}

impl Folder {
    pub fn at(url: &RemoteUrl) -> Result<Folder, RemoteError> {
        Parameters::of(url, &[])?;
        let path = Path::new("/").join(super::root(url)?);
        Ok(Folder { url: url.clone(), path, operator: OnceCell::new() })
    }

    /// The operator on the folder, which is made where it is not there but the one above it is.
    pub async fn operator(&self) -> Result<&Operator, RemoteError> {
        self.operator
            .get_or_try_init(|| async {
                let (url, path) = (self.url.clone(), self.path.clone());
                // A share that hangs blocks who looks at it.
                tokio::task::spawn_blocking(move || open(&url, &path)).await.unwrap_or_else(|failed| {
                    Err(RemoteError::new(RemoteFault::Passing, format!("{}: {failed}", self.url)))
                })
            })
            .await
    }
}

/// `path` is that of the layout.
fn open(url: &RemoteUrl, path: &Path) -> Result<Operator, RemoteError> {
    if let Some(folder) = path.parent() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists || folder.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let told =
                    format!("{url}: there is no folder {}", folder.parent().unwrap_or(folder).display());
                return Err(RemoteError::new(RemoteFault::Passing, told));
            }
            Err(error) => {
                return Err(RemoteError::new(of_io(&error), format!("{url}: making the folder: {error}")));
            }
            Ok(()) => {}
        }
    }
    // Beside the files, so that renaming is within one file system.
    let tmp = path.join("tmp");
    let service = Fs::default().root(&path.to_string_lossy()).atomic_write_dir(&tmp.to_string_lossy());
    let operator = Operator::new(service).map_err(|error| remote_error(url, "opening the folder", &error))?;
    sweep(&tmp);
    Ok(operator)
}

/// Removes what killed builds left behind. Failing to is no reason not to go on.
fn sweep(tmp: &Path) {
    let Ok(files) = fs::read_dir(tmp) else {
        return;
    };
    for file in files.flatten() {
        let old = file.metadata().and_then(|meta| meta.modified()).is_ok_and(|modified| {
            SystemTime::now().duration_since(modified).is_ok_and(|age| age > ABANDONED_AFTER)
        });
        if old && let Err(error) = fs::remove_file(file.path()) {
            tracing::debug!("cannot remove {}: {error}", file.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &Path) -> Folder {
        Folder::at(&format!("fs://{}", path.display()).parse().unwrap()).unwrap()
    }

    fn operator(path: &Path) -> Result<(), RemoteError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { folder(path).operator().await.map(drop) })
    }

    #[test]
    fn a_share_that_is_not_mounted_is_not_made() {
        let place = tempfile::tempdir().unwrap();
        let error = operator(&place.path().join("mnt/team")).unwrap_err();
        assert_eq!(error.fault, RemoteFault::Passing);
        assert!(error.message.contains("there is no folder"), "{error}");
        assert!(!place.path().join("mnt").exists());
        operator(&place.path().join("team")).unwrap();
        assert!(place.path().join("team/v2/tmp").is_dir());
    }

    #[test]
    fn what_was_left_long_ago_is_swept() {
        let place = tempfile::tempdir().unwrap();
        operator(place.path()).unwrap();
        let (old, new) = (place.path().join("v2/tmp/old"), place.path().join("v2/tmp/new"));
        fs::write(&new, "").unwrap();
        let file = fs::File::create(&old).unwrap();
        file.set_modified(SystemTime::now() - 2 * ABANDONED_AFTER).unwrap();
        operator(place.path()).unwrap();
        assert!(new.exists() && !old.exists());
    }
}
