//! Why a ladder and a source do not go together.

#[derive(Debug, thiserror::Error)]
pub enum TitleError {
    /// The spec asks for what this source does not have or allow.
    #[error("{0}")]
    Spec(String),
    /// `encoders` are their names, each with the reason.
    #[error("rung {rung}: none of its encoders can be used on this machine: {encoders}")]
    NoEncoder { rung: String, encoders: String },
    /// A fault of rivet's own.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl TitleError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            TitleError::Spec(_) => None,
            TitleError::NoEncoder { .. } => Some(
                "`rivet devices` lists what can be used here; name another `encoder`, or several in order of preference, \
                 e.g. [\"svt-av1\", \"rav1e\"]",
            ),
            TitleError::Internal(_) => {
                Some("this is a bug in rivet; please report it with the command and the spec")
            }
        }
    }
}
