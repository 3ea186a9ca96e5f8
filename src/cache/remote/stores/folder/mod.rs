//! A folder shared by several machines. It is opened at the first call. A person creates it: a share that is
//! not mounted, or that is unmounted during a build, is a remote that does not answer, and must not be
//! created on the disk below. The share may be written to by attackers: no symbolic link is followed to where
//! files are read, written or removed.
//!
//! OpenDAL works on whole paths, creates missing folders, and follows links. So all folders of a path are
//! checked right before each of its calls; a change between the check and the call is not noticed.

mod dir;
mod sweep;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use opendal::Operator;
use opendal::services::Fs;
use rustix::fs::CWD;
use rustix::io::Errno;
use tokio::sync::OnceCell;

use super::fault::{of_io, remote_error};
use super::parameters::Parameters;
use super::{ObjectKey, RemoteError, RemoteFault, RemoteUrl, refused};
use crate::cache::LAYOUT;
use dir::{is_at, made, subfolder};
use sweep::sweep;

/// Where files are written before they are renamed to their names: within one file system.
const TMP: &str = "tmp";

pub(super) struct Folder {
    at: At,
    reader: OnceCell<Opened>,
    writer: OnceCell<Opened>,
}

/// The folder that the URL names, and that holds the layout's.
#[derive(Clone)]
struct At {
    path: PathBuf,
}

struct Opened {
    operator: Operator,
    /// The layout's folder.
    layout: Arc<OwnedFd>,
}

impl Folder {
    pub fn at(url: &RemoteUrl) -> Result<Folder, RemoteError> {
        Parameters::of(url, &[])?;
        let mut path = Path::new("/").join(super::root(url)?);
        path.pop();
        Ok(Folder { at: At { path }, reader: OnceCell::new(), writer: OnceCell::new() })
    }

    /// The operator to read an object with. `None` where nothing is stored yet in its folder: reading creates
    /// no folders.
    pub async fn reader(&self, object: &ObjectKey) -> Result<Option<&Operator>, RemoteError> {
        let opened = match self.reader.get() {
            Some(opened) => opened,
            None => match self.blocking(|at| at.open_to_read()).await? {
                Some(opened) => self.reader.get_or_init(|| async { opened }).await,
                None => return Ok(None),
            },
        };
        let (layout, part, shard) = (Arc::clone(&opened.layout), object.part, object.shard());
        let is_there = self.blocking(move |at| at.has_shard(&layout, part, &shard)).await?;
        Ok(is_there.then_some(&opened.operator))
    }

    /// The operator to store or remove an object with, whose folder exists then.
    pub async fn writer(&self, object: &ObjectKey) -> Result<&Operator, RemoteError> {
        let opened = self.writer.get_or_try_init(|| self.blocking(|at| at.open_to_write())).await?;
        let (layout, part, shard) = (Arc::clone(&opened.layout), object.part, object.shard());
        self.blocking(move |at| at.make_shard(&layout, part, &shard)).await?;
        Ok(&opened.operator)
    }

    /// A share that hangs blocks the thread.
    async fn blocking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&At) -> Result<T, RemoteError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let at = self.at.clone();
        tokio::task::spawn_blocking(move || look(&at))
            .await
            .unwrap_or_else(|failed| Err(RemoteError::new(RemoteFault::Transient, failed.to_string())))
    }
}

impl At {
    fn open_to_read(&self) -> Result<Option<Opened>, RemoteError> {
        let failed = |error| self.failed("opening the folder", error);
        let folder = subfolder(CWD, &self.path).map_err(failed)?.ok_or_else(|| self.not_there())?;
        let Some(layout) = subfolder(&folder, LAYOUT).map_err(failed)? else { return Ok(None) };
        for part in ["entries", "blobs"] {
            subfolder(&layout, part).map_err(failed)?;
        }
        let service = Fs::default().root(&self.layout().to_string_lossy());
        self.opened(service, layout).map(Some)
    }

    fn open_to_write(&self) -> Result<Opened, RemoteError> {
        let failed = |error| self.failed("making its folders", error);
        let folder = subfolder(CWD, &self.path).map_err(failed)?.ok_or_else(|| self.not_there())?;
        let layout = made(&folder, LAYOUT).map_err(failed)?;
        for part in ["entries", "blobs"] {
            subfolder(&layout, part).map_err(failed)?;
        }
        sweep(made(&layout, TMP).map_err(failed)?);
        let root = self.layout();
        let service =
            Fs::default().root(&root.to_string_lossy()).atomic_write_dir(&root.join(TMP).to_string_lossy());
        self.opened(service, layout)
    }

    fn opened(&self, service: Fs, layout: OwnedFd) -> Result<Opened, RemoteError> {
        let operator = Operator::new(service);
        let operator = operator.map_err(|error| remote_error("opening the folder", &error))?;
        Ok(Opened { operator, layout: Arc::new(layout) })
    }

    fn has_shard(&self, layout: &OwnedFd, part: &str, shard: &str) -> Result<bool, RemoteError> {
        let failed = |error| self.failed("looking into its folders", error);
        self.see_that_it_is_there(layout)?;
        let Some(part) = subfolder(layout, part).map_err(failed)? else { return Ok(false) };
        Ok(subfolder(&part, shard).map_err(|error| self.shard_failed(shard, error))?.is_some())
    }

    fn make_shard(&self, layout: &OwnedFd, part: &str, shard: &str) -> Result<(), RemoteError> {
        let failed = |error| self.failed("making its folders", error);
        self.see_that_it_is_there(layout)?;
        made(layout, TMP).map_err(failed)?;
        let part = made(layout, part).map_err(failed)?;
        made(&part, shard).map_err(|error| self.shard_failed(shard, error))?;
        Ok(())
    }

    /// An unmounted share leaves an empty folder, or the disk below it, in its place.
    fn see_that_it_is_there(&self, layout: &OwnedFd) -> Result<(), RemoteError> {
        let path = self.layout();
        if is_at(layout, &path).map_err(|error| self.failed("looking at the folder", error))? {
            return Ok(());
        }
        let told = format!("the folder {} is gone", path.display());
        Err(RemoteError::new(RemoteFault::Transient, told))
    }

    fn layout(&self) -> PathBuf {
        self.path.join(LAYOUT)
    }

    fn not_there(&self) -> RemoteError {
        let told = format!(
            "there is no folder {}: mount the share, and where this is to be a new cache, make the folder",
            self.path.display()
        );
        RemoteError::new(RemoteFault::Transient, told)
    }

    fn failed(&self, doing: &str, error: Errno) -> RemoteError {
        match error {
            Errno::LOOP | Errno::NOTDIR => refused(format_args!(
                "it, and `{LAYOUT}`, `{TMP}`, `entries` and `blobs` in it, must be folders and no links"
            )),
            error => {
                let error = io::Error::from(error);
                RemoteError::new(of_io(&error), format!("{doing}: {error}"))
            }
        }
    }

    /// One of 256 shards is unusable.
    fn shard_failed(&self, shard: &str, error: Errno) -> RemoteError {
        match error {
            Errno::LOOP | Errno::NOTDIR => RemoteError::new(
                RemoteFault::Unsupported,
                format!("`{shard}` in it must be a folder and no link"),
            ),
            error => self.failed("looking into its folders", error),
        }
    }
}
