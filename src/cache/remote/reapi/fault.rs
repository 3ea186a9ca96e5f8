//! Classifies gRPC statuses for a cache. Retrying is decided elsewhere.

use bazel_remote_apis::google::rpc;
use tonic::{Code, Status};

use super::connect::chain;
use crate::cache::remote::{RemoteError, RemoteFault};

/// Characters of a server's text that are repeated at most.
const MAX_TOLD: usize = 300;

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    ReadingCapabilities,
    ReadingEntry,
    FilingEntry,
    FindingMissing,
    ReadingBlobs,
    StoringBlobs,
}

impl Doing {
    fn told(self) -> &'static str {
        match self {
            Doing::ReadingCapabilities => "asking what the server can",
            Doing::ReadingEntry => "reading an entry",
            Doing::FilingEntry => "filing an entry",
            Doing::FindingMissing => "asking which blobs are missing",
            Doing::ReadingBlobs => "reading blobs",
            Doing::StoringBlobs => "storing blobs",
        }
    }

    fn stores(self) -> bool {
        matches!(self, Doing::FilingEntry | Doing::StoringBlobs)
    }

    /// The answer violates the protocol, or is not what was requested.
    pub(super) fn invalid(self, told: &str) -> RemoteError {
        RemoteError::new(RemoteFault::InvalidResponse, format!("{}: {told}", self.told()))
    }

    /// The server does not accept this item.
    pub(super) fn unsupported(self, told: &str) -> RemoteError {
        RemoteError::new(RemoteFault::Unsupported, format!("{}: {told}", self.told()))
    }

    pub(super) fn denied(self, told: &str) -> RemoteError {
        RemoteError::new(RemoteFault::Denied, format!("{}: {told}", self.told()))
    }

    /// A whole call failed.
    pub(super) fn failed(self, status: &Status) -> RemoteError {
        let message = status.message();
        let behind = std::error::Error::source(status).map(chain);
        let told = match behind {
            Some(behind) if !message.contains(&behind) => format!("{message}: {behind}"),
            _ => message.to_owned(),
        };
        // Our TLS library's error for an answer that is not TLS.
        if told.contains("InvalidContentType") {
            let told = "the server does not speak TLS there: grpcs:// is with TLS, grpc:// without";
            return RemoteError::new(RemoteFault::Refused, format!("{}: {told}", self.told()));
        }
        self.error(status.code(), &told)
    }

    /// One blob of a batch failed.
    pub(super) fn failed_for_one(self, status: &rpc::Status) -> RemoteError {
        self.error(Code::from(status.code), &status.message)
    }

    fn error(self, code: Code, told: &str) -> RemoteError {
        let fault = self.fault(code);
        RemoteError::new(fault, format!("{}: {code:?}: {}", self.told(), printable(told)))
    }

    fn fault(self, code: Code) -> RemoteFault {
        match code {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unknown
            | Code::Cancelled => RemoteFault::Transient,
            Code::ResourceExhausted if self.stores() => RemoteFault::Full,
            Code::ResourceExhausted => RemoteFault::Transient,
            Code::Unauthenticated | Code::PermissionDenied => RemoteFault::Denied,
            // Our own client reports OutOfRange for a message above its limit; a server reports it for an
            // offset behind a blob's end, and none but 0 is read from.
            Code::OutOfRange | Code::DataLoss => RemoteFault::InvalidResponse,
            // An objection to one result or blob.
            Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound if self.stores() => {
                RemoteFault::Unsupported
            }
            Code::Ok
            | Code::AlreadyExists
            | Code::NotFound
            | Code::Unimplemented
            | Code::InvalidArgument
            | Code::FailedPrecondition => RemoteFault::Refused,
        }
    }
}

fn printable(told: &str) -> String {
    told.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_told_by_what_helps() {
        let fault = |doing: Doing, code| doing.failed(&Status::new(code, "x")).fault;
        for doing in [Doing::ReadingBlobs, Doing::StoringBlobs, Doing::FilingEntry] {
            assert_eq!(fault(doing, Code::Unavailable), RemoteFault::Transient);
            assert_eq!(fault(doing, Code::Internal), RemoteFault::Transient);
            assert_eq!(fault(doing, Code::PermissionDenied), RemoteFault::Denied);
            assert_eq!(fault(doing, Code::Unimplemented), RemoteFault::Refused);
            assert_eq!(fault(doing, Code::OutOfRange), RemoteFault::InvalidResponse);
        }
        assert_eq!(fault(Doing::FilingEntry, Code::FailedPrecondition), RemoteFault::Unsupported);
        assert_eq!(fault(Doing::ReadingCapabilities, Code::InvalidArgument), RemoteFault::Refused);
        assert_eq!(fault(Doing::StoringBlobs, Code::ResourceExhausted), RemoteFault::Full);
        assert_eq!(fault(Doing::ReadingBlobs, Code::ResourceExhausted), RemoteFault::Transient);
    }

    #[test]
    fn a_servers_text_is_cut_and_made_printable() {
        let long = format!("\x1b[31m{}", "x".repeat(1 << 20));
        let status = rpc::Status { code: 13, message: long, details: Vec::new() };
        let error = Doing::ReadingBlobs.failed_for_one(&status);
        assert!(error.message.len() < 400 && !error.message.contains('\x1b'), "{}", error.message);
        assert!(error.message.starts_with("reading blobs: Internal:  [31mxx"), "{}", error.message);
    }
}
