//! Errors of NVIDIA's libraries. A missing driver is distinguished from one that fails: most machines have
//! none.

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NvidiaError {
    /// One of the driver's libraries is not installed here.
    #[error("there is no {library}, which is part of NVIDIA's driver")]
    NoDriver { library: String },
    /// A library is installed and cannot be loaded.
    #[error("cannot load {library}: {reason}")]
    Unloadable { library: String, reason: String },
    /// A library is too old, or not what its name promises.
    #[error("{library} has no {symbol}: the NVIDIA driver is too old")]
    NoSymbol { library: String, symbol: String },
    /// A call failed. `name` is the error's name in the library's header, e.g.
    /// `CUDA_ERROR_OUT_OF_MEMORY`.
    #[error("{call} failed: {name}")]
    Call { call: &'static str, name: String },
    /// The GPU does not support this.
    #[error("not on this GPU: {0}")]
    Unsupported(String),
    /// A stream, or a frame of it, cannot be decoded without errors.
    #[error("the GPU could not decode the stream without errors")]
    Damaged,
    /// The receiver of the results wants no more of them.
    #[error("stopped")]
    Stopped,
    /// A defect of this program.
    #[error("internal error: a panic while the driver was calling")]
    Panicked,
}

impl NvidiaError {
    /// Whether the machine has no driver.
    pub fn is_no_driver(&self) -> bool {
        matches!(self, NvidiaError::NoDriver { .. })
    }

    /// Whether the GPU does not support what was asked.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, NvidiaError::Unsupported(_))
    }
}
