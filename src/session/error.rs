//! Why a session could not be opened, or could not do what it was asked, and what a person can do about it.

use crate::build::StepError;
use crate::cache::CacheError;
use crate::cache::remote::RemoteError;
use crate::cache::trust::TrustError;

/// A failure of a [`Session`](crate::Session), before or beside the steps of a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Nobody named a cache folder, and there is no home folder to have one in.
    #[error("there is no home folder for the cache")]
    NoHome,
    /// The cache's own folder.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The user's keys.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The remote cache's URL or credentials. `place` is where it is, without anything secret.
    #[error("cannot use the remote cache {place}: {error}")]
    Remote {
        /// The URL without its parameters.
        place: String,
        /// What is wrong.
        error: RemoteError,
    },
    /// The session has no remote cache, or does not ask it.
    #[error("there is no remote cache to push to or pull from")]
    NoRemote,
    /// Nothing can be stored in the remote cache, for this reason.
    #[error("nothing can be stored in the remote cache: {0}")]
    RemoteReadOnly(String),
    /// The session was opened for looking.
    #[error("the session was opened read-only, and cannot build")]
    ReadOnly,
    /// A title was not built with this cache as the spec and its source are now.
    #[error("{title}: this cache has no build of it as it is now")]
    NotBuilt {
        /// The title's name.
        title: String,
    },
    /// The remote cache has no trusted result of a title as the spec and its source are now.
    #[error("{title}: the remote cache has no build of it as it is now")]
    NotInRemote {
        /// The title's name.
        title: String,
    },
    /// The spec, or a step.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl SessionError {
    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            SessionError::NoHome => Some("name a folder with --cache-dir".to_owned()),
            SessionError::Cache(error) => error.hint().map(str::to_owned),
            SessionError::Trust(error) => error.hint(),
            SessionError::Remote { .. } => Some("`--offline` builds without it".to_owned()),
            SessionError::NoRemote => {
                Some("name one with --remote-cache, or as `remote` in the spec's `[cache]`".to_owned())
            }
            SessionError::NotBuilt { .. } => Some("build it first: rivet build".to_owned()),
            SessionError::NotInRemote { .. } => {
                Some("it is there once somebody whose key you trust has built and uploaded it".to_owned())
            }
            SessionError::RemoteReadOnly(_) | SessionError::ReadOnly => None,
            SessionError::Step(error) => error.hint(),
        }
    }

    /// Whether somebody asked for it to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, SessionError::Step(error) if error.is_cancelled())
    }
}
