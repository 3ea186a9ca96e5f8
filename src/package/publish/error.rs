//! Failures of publishing. Each names the path and what was tried; where a person can do
//! something about it, the hint says what.

use std::io;
use std::path::{Path, PathBuf};

use crate::package::composition::{ComposeError, ContentId};
use crate::package::path::RelPath;

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("cannot {operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("nothing can be written to the output folder {}: in {}: {source}", folder.display(), place.display())]
    NotWritable {
        folder: PathBuf,
        /// The folder itself or, where that is not there, the one in which it would be made.
        place: PathBuf,
        source: io::Error,
    },
    #[error("the output folder {} holds files that rivet did not write", folder.display())]
    ForeignFolder { folder: PathBuf },
    #[error("{} is in the way and was not written by rivet", path.display())]
    ForeignFile { path: PathBuf },
    #[error("{} is a symbolic link, which rivet does not follow in an output folder", path.display())]
    SymbolicLink { path: PathBuf },
    #[error("{} cannot be read: {reason}", path.display())]
    BadRecord { path: PathBuf, reason: String },
    #[error("{path} cannot be published: {reason}")]
    BadList { path: RelPath, reason: &'static str },
    #[error("the content of {path} cannot be read: {source}")]
    Content { path: RelPath, source: io::Error },
    #[error("{path} cannot be put together: {source}")]
    Part { path: RelPath, source: ComposeError },
    #[error(
        "the content of {path} is not what was to be published: \
         expected {} bytes with digest {}, found {} with {}",
        expected.size, expected.digest, found.size, found.digest
    )]
    WrongContent { path: RelPath, expected: ContentId, found: ContentId },
    #[error("{} has {available} bytes free where {needed} are needed", folder.display())]
    NoSpace { folder: PathBuf, needed: u64, available: u64 },
}

impl PublishError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PublishError {
        let path = path.to_owned();
        move |source| PublishError::Io { operation, path, source }
    }

    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        use io::ErrorKind;
        const FULL: &str = "free some space there, or choose an `output` on another disk; what \
                            was published before is still there";
        Some(match self {
            PublishError::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FULL,
                ErrorKind::PermissionDenied => {
                    "make the output folder and what is in it writable, or choose another `output`"
                }
                ErrorKind::ReadOnlyFilesystem => {
                    "the output folder is on a read-only file system: choose another `output`"
                }
                ErrorKind::Unsupported => {
                    "this file system lacks what safe publishing needs: publish to a local disk \
                     and copy from there"
                }
                ErrorKind::CrossesDevices => {
                    "another file system is mounted inside the output folder: mount the whole \
                     folder instead"
                }
                _ => return None,
            },
            PublishError::NotWritable { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FULL,
                ErrorKind::ReadOnlyFilesystem => {
                    "the output folder is on a read-only file system: choose another `output`"
                }
                _ => "make it writable, or choose another `output`; nothing of this title was built",
            },
            PublishError::NoSpace { .. } => FULL,
            PublishError::ForeignFolder { .. } => {
                "rivet never overwrites or deletes such files: choose an empty or new folder as \
                 `output`, or empty this one"
            }
            PublishError::ForeignFile { .. } => {
                "move it away, or choose another `output`; nothing was changed"
            }
            PublishError::SymbolicLink { .. } => {
                "replace the link by a real file or folder; the output folder itself may be a link"
            }
            PublishError::BadRecord { .. } => {
                "it lists what rivet may replace here: delete the whole output folder and build \
                 again, which takes all from the cache"
            }
            PublishError::WrongContent { .. } | PublishError::Part { .. } => {
                "what it was read from is damaged; what was published before is still there"
            }
            PublishError::BadList { .. } | PublishError::Content { .. } => return None,
        })
    }
}
