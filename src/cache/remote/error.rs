//! What goes wrong with a remote, told apart by what helps.

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemoteFault {
    /// Nobody answered, or not in time, or with an error that may pass: asking again may help.
    Transient,
    /// Credentials are missing, wrong, or do not allow this.
    Denied,
    /// There is no room for more.
    Full,
    /// The remote understood and will not, or cannot: asking again does not help.
    Refused,
    /// It does not take, or give, this one thing: too large, not readable. Others it may.
    Unsupported,
    /// What came is not what was asked for: too long, too short, not of the protocol.
    InvalidResponse,
    /// What was to be stored cannot be read here, or what came cannot be written. The remote did nothing wrong.
    Local,
}

/// A failure of a remote. A missing entry or blob is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    pub fault: RemoteFault,
    /// What happened, without any credential. It does not say at which remote: whoever shows it does.
    pub message: String,
}

impl RemoteError {
    pub fn new(fault: RemoteFault, message: impl Into<String>) -> RemoteError {
        RemoteError { fault, message: message.into() }
    }
}
