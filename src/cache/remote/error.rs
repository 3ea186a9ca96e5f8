//! Failures of a remote, classified by what helps.

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemoteFault {
    /// No answer, a timeout, or a temporary error: retrying may help.
    Transient,
    /// Credentials are missing, wrong, or do not allow this.
    Denied,
    /// The remote is full.
    Full,
    /// The remote rejected the request: retrying does not help.
    Refused,
    /// The remote cannot store, or return, this one item: too large, or not readable.
    Unsupported,
    /// The answer violates the protocol, or has another length than requested.
    InvalidResponse,
    /// A blob cannot be read, or written, locally. The remote did nothing wrong.
    Local,
}

/// A failure of a remote. A missing entry or blob is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    pub fault: RemoteFault,
    /// What happened, without any credential. It does not name the remote: whoever shows it does.
    pub message: String,
}

impl RemoteError {
    pub fn new(fault: RemoteFault, message: impl Into<String>) -> RemoteError {
        RemoteError { fault, message: message.into() }
    }
}
