//! Why a step failed, and what a person can do about it.

use crate::cache::{BlobRef, CacheError};
use crate::executors::Failure;
use crate::media::MediaError;
use crate::package::PublishError;
use crate::spec::SpecErrors;

use super::event::FailureReport;

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Media(#[from] MediaError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Publish(PublishError),
    #[error("{0}")]
    Encode(Failure),
    /// The spec asks something of an encoder that it does not know.
    #[error(transparent)]
    Invalid(#[from] SpecErrors),
    /// `encoders` are their names, each with the reason.
    #[error("rung {rung}: none of its encoders can be used on this machine: {encoders}")]
    NoEncoder { rung: String, encoders: String },
    /// The spec asks for what this source does not have or allow.
    #[error("{0}")]
    Spec(String),
    /// A step failed whose result was needed to look further.
    #[error("{0}")]
    Step(FailureReport),
    /// No step has the name that was asked for.
    #[error("{0}")]
    Selector(String),
    /// A blob that an earlier step filed is gone or damaged; that step runs again.
    #[error("a result is missing from the cache ({})", .0.digest.short())]
    Lost(BlobRef),
    /// A sound decodes to other samples than those that its windows were found in, in the same file.
    #[error("its sound does not decode to the same samples again, though the file has not changed")]
    Misheard,
    /// Another step that was to run in one go with this one has failed.
    #[error("not run, as a step beside it failed")]
    Beside,
    /// Another process that shares the cache is at the step, or has just made its result.
    #[error("not run, as another process is at it")]
    Elsewhere,
    #[error("interrupted")]
    Cancelled,
    #[error("internal error: {0}")]
    Internal(String),
}

impl StepError {
    pub fn hint(&self) -> Option<String> {
        match self {
            StepError::Media(error) => error.hint().map(str::to_owned),
            StepError::Cache(error) => error.hint().map(str::to_owned),
            StepError::Publish(error) => error.hint().map(|hint| hint.to_string()),
            StepError::Step(failure) => failure.hint.clone(),
            StepError::NoEncoder { .. } => Some(
                "`rivet devices` lists what can be used here; name another `encoder`, or several in order of preference, \
                 e.g. [\"svt-av1\", \"rav1e\"]"
                    .to_owned(),
            ),
            StepError::Internal(_) => {
                Some("this is a bug in rivet; please report it with the command and the spec".to_owned())
            }
            _ => None,
        }
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            StepError::Cancelled
                | StepError::Media(MediaError::Cancelled)
                | StepError::Encode(Failure { kind: crate::executors::FailureKind::Cancelled, .. })
        )
    }

    pub(super) fn internal(what: impl std::fmt::Display) -> StepError {
        StepError::Internal(what.to_string())
    }
}
