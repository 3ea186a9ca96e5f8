//! Failures of the cache's own folder. Missing and damaged content is no error: it is a miss.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot {operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot encode a cache entry: {0}")]
    Encode(#[from] postcard::Error),
    /// Which entries it keeps is unknown, so nothing may be removed.
    #[error("the pin {} is damaged, so it is not known what it keeps", path.display())]
    DamagedPin { path: PathBuf },
    #[error("the cache is in use: {builds} running build(s) read and write it")]
    Busy { builds: u64 },
}

impl CacheError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
        let path = path.to_owned();
        move |source| CacheError::Io { operation, path, source }
    }

    /// As an error of a stream. Its kind is that of the failed operation.
    pub(super) fn into_io(self) -> io::Error {
        let kind = match &self {
            CacheError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    /// A hint for the user, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        let source = match self {
            CacheError::Io { source, .. } => source,
            CacheError::Encode(_) => return None,
            CacheError::DamagedPin { .. } => {
                return Some(
                    "pin it again, or remove it: `rivet cache unpin NAME`, or `rivet cache verify --repair`",
                );
            }
            CacheError::Busy { .. } => return Some("wait for them to end, or stop them"),
        };
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                "the disk that holds the cache is full: free some space there, or name another folder with --cache-dir",
            ),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(
                "the cache folder must be writable: name another one with --cache-dir or RIVET_CACHE_DIR",
            ),
            io::ErrorKind::FileTooLarge => Some(
                "files may not grow so large here: raise the limit (ulimit -f), or name another folder with --cache-dir",
            ),
            io::ErrorKind::NotADirectory => Some(
                "a folder of the cache is a symbolic link or a file: remove it, or name another folder with --cache-dir; \
                 to keep a cache elsewhere, link the whole folder",
            ),
            _ => None,
        }
    }
}
