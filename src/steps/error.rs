//! Why a step failed and what a person can do about it, and how else a run of a step can end.

use crate::cache::{BlobRef, CacheError};
use crate::executors::{Failure, FailureKind};
use crate::media::MediaError;
use crate::package::PublishError;
use crate::spec::SpecErrors;
use crate::title::error::TitleError;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// The spec and the source do not go together.
    #[error(transparent)]
    Title(#[from] TitleError),
    /// The spec asks for what cannot be made.
    #[error("{0}")]
    Spec(String),
    /// A step failed whose result was needed to look further; `report` names it.
    #[error("{report}")]
    Step { report: String, hint: Option<String> },
    /// No step has the name that was asked for.
    #[error("{0}")]
    Selector(String),
    /// A blob that an earlier step stored is missing or damaged, again and again.
    #[error("a result is missing from the cache ({})", .0.digest.short())]
    Lost(BlobRef),
    /// An audio track decodes to other samples each time, though the file has not changed.
    #[error("its sound does not decode to the same samples again, though the file has not changed")]
    AudioMismatch,
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
            StepError::Title(error) => error.hint().map(str::to_owned),
            StepError::Step { hint, .. } => hint.clone(),
            StepError::Internal(_) => {
                Some("this is a bug in rivet; please report it with the command and the spec".to_owned())
            }
            StepError::Encode(_)
            | StepError::Invalid(_)
            | StepError::Spec(_)
            | StepError::Selector(_)
            | StepError::Lost(_)
            | StepError::AudioMismatch
            | StepError::Cancelled => None,
        }
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            StepError::Cancelled
                | StepError::Media(MediaError::Cancelled)
                | StepError::Encode(Failure { kind: FailureKind::Cancelled, .. })
        )
    }

    pub(crate) fn internal(what: impl std::fmt::Display) -> StepError {
        StepError::Internal(what.to_string())
    }

    /// A step was asked for something before its inputs were done.
    pub(crate) fn early() -> StepError {
        StepError::internal("a step came before its inputs")
    }
}

/// How a run of a step ended without a result. All but `Failed` are for the engine to act on, and never
/// reach a person.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed(StepError),
    /// A blob that an earlier step stored is missing or damaged: that step runs again.
    Lost(BlobRef),
    /// An audio track decodes to other samples than those that its windows were found in: it is analyzed again.
    AudioMismatch,
    /// Another step that was to run together with this one failed.
    SiblingFailed,
    /// Another process that shares the cache runs this step, or has just stored its result.
    LeasedElsewhere,
}

impl<E: Into<StepError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}
