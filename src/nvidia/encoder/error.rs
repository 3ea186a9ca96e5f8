//! Errors of an encoder, by whether a retry may succeed.

use std::fmt;

use crate::nvidia::NvidiaError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// An error of the library, the context or memory.
    #[error(transparent)]
    Nvidia(#[from] NvidiaError),
    /// Versions of the encode API, major and minor.
    #[error("the NVIDIA driver is too old: it speaks version {}.{} of the encode API, and {}.{} is needed", found.0, found.1, needed.0, needed.1)]
    TooOld { found: (u32, u32), needed: (u32, u32) },
    #[error("the GPU has no encoder")]
    NoEncoder,
    #[error("the GPU's encoder makes no AV1")]
    NoAv1,
    /// The encoder does not support this.
    #[error("{0}")]
    Unsupported(String),
    /// All sessions, or all memory for them, are in use.
    #[error("no encode session is available: {0}")]
    NoRoom(String),
    #[error(transparent)]
    Call(#[from] RefusedCall),
    /// The driver returned what its own header rules out.
    #[error("the driver broke its own rules: {0}")]
    Broken(String),
}

/// A call of the encode API that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RefusedCall {
    /// The function's name in the header.
    pub call: &'static str,
    /// The status's name in the header, e.g. `NV_ENC_ERR_INVALID_PARAM`.
    pub status: String,
    /// The driver's text for it; empty where it has none.
    pub detail: String,
}

impl fmt::Display for RefusedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.call, self.status)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

impl EncodeError {
    /// The same, where it is how a sequence was to be that was refused: another sequence may be taken.
    pub(super) fn while_configuring(self) -> EncodeError {
        let is_unsupported = |refused: &RefusedCall| {
            matches!(&*refused.status, "NV_ENC_ERR_INVALID_PARAM" | "NV_ENC_ERR_UNSUPPORTED_PARAM")
        };
        match self {
            EncodeError::Call(refused) if is_unsupported(&refused) => {
                EncodeError::Unsupported(refused.to_string())
            }
            other => other.while_opening(),
        }
    }

    /// The same, where what was refused is needed for a session to begin: that there is no memory
    /// then means that others hold it.
    pub(super) fn while_opening(self) -> EncodeError {
        let out_of_memory = match &self {
            EncodeError::Call(refused) => refused.status == "NV_ENC_ERR_OUT_OF_MEMORY",
            EncodeError::Nvidia(NvidiaError::Call { name, .. }) => name == "CUDA_ERROR_OUT_OF_MEMORY",
            _ => false,
        };
        if out_of_memory { EncodeError::NoRoom(self.to_string()) } else { self }
    }
}
