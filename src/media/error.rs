//! What can go wrong with a source. Every message says what was expected and found; the caller
//! adds which title it is.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum MediaError {
    #[error("cannot open {}: {reason}", path.display())]
    Open { path: PathBuf, reason: String },
    #[error("cannot open {}: {reason}", path.display())]
    Denied { path: PathBuf, reason: String },
    #[error("{} is not a media file that FFmpeg's libraries can read: {reason}", path.display())]
    NotMedia { path: PathBuf, reason: String },
    #[error("{} has no video track", path.display())]
    NoVideo { path: PathBuf },
    #[error("{}: there is no decoder for {codec}", path.display())]
    NoDecoder { path: PathBuf, codec: String },
    #[error("{} is damaged or cut short: {detail}", path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("{} is damaged: {missing} of {all} frames could not be decoded", path.display())]
    Incomplete { path: PathBuf, missing: usize, all: usize },
    #[error("{} changed while it was being read", path.display())]
    Changed { path: PathBuf },
    #[error("{}: {detail}", path.display())]
    Unsupported { path: PathBuf, detail: String },
    #[error("{operation} failed: {reason}")]
    Library { operation: Cow<'static, str>, reason: String },
    #[error("{gpu} does not decode: {reason}")]
    Gpu { gpu: String, reason: String },
    #[error("interrupted")]
    Cancelled,
}

impl MediaError {
    /// Why a source cannot be opened or looked at.
    pub fn opening(path: &Path, error: &io::Error) -> MediaError {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied => MediaError::Denied { path, reason },
            _ => MediaError::Open { path, reason },
        }
    }

    pub(super) fn library(operation: &'static str, error: ffmpeg_next::Error) -> MediaError {
        MediaError::Library { operation: operation.into(), reason: error.to_string() }
    }

    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            MediaError::Open { .. } => {
                "check the title's `source` in the spec: it is relative to the spec's folder"
            }
            MediaError::Denied { .. } => "let this user read the file, and enter the folders that it lies in",
            MediaError::NotMedia { .. } => {
                "check that the file is complete and holds video; `ffprobe FILE` tells what it is"
            }
            MediaError::NoVideo { .. } => "a ladder needs a video track: name a source that has one",
            MediaError::Damaged { .. } | MediaError::Incomplete { .. } => {
                "copy the file again, or repair it (for example: ffmpeg -i FILE -c copy NEW); nothing was published"
            }
            MediaError::Changed { .. } => "run the build again once the file is complete",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_not_be_read_is_told_from_one_that_is_not_there() {
        let hint = |kind: io::ErrorKind| {
            let error = MediaError::opening(Path::new("a.mp4"), &kind.into());
            assert!(error.to_string().starts_with("cannot open a.mp4: "));
            error.hint().unwrap()
        };
        assert!(hint(io::ErrorKind::PermissionDenied).contains("let this user read the file"));
        assert!(hint(io::ErrorKind::NotFound).contains("the title's `source`"));
    }
}
