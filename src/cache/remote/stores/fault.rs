//! Classifies OpenDAL's errors by status or cause, and words them. OpenDAL's own text is never repeated: it
//! holds URLs, headers and answers, and so perhaps a credential.

use std::error::Error;
use std::fmt::Display;
use std::io;

use http::StatusCode;
use opendal::ErrorKind;

use super::transport::Refusal;
use super::{RemoteError, RemoteFault};

/// Where credentials are documented.
pub(super) const SEE: &str = "docs/cache.md tells where they are looked for";

/// The error where `doing` failed: "reading the entry ab12".
pub(super) fn remote_error(doing: impl Display, error: &opendal::Error) -> RemoteError {
    let (fault, why) = judge(error);
    RemoteError::new(fault, format!("{doing}: {why}"))
}

/// Whether the service does not implement the request.
pub(super) fn is_unimplemented(error: &opendal::Error) -> bool {
    refusal(error).is_some_and(|refusal| refusal.status == StatusCode::NOT_IMPLEMENTED)
}

fn refusal(error: &opendal::Error) -> Option<&Refusal> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn causes(error: &opendal::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

fn judge(error: &opendal::Error) -> (RemoteFault, String) {
    let causes = || causes(error);
    if let Some(refusal) = refusal(error) {
        return (of_status(refusal), refusal.to_string());
    }
    if matches!(error.message(), "signing http request" | "failed to sign S3 Express request") {
        let cause = causes().find_map(|cause| cause.downcast_ref::<opendal::Error>());
        return match cause {
            Some(cause) if cause.is_temporary() => {
                (RemoteFault::Transient, "the credentials provider does not answer".to_owned())
            }
            _ => (RemoteFault::Denied, format!("there are no credentials that fit; {SEE}")),
        };
    }
    if let Some(cause) = causes().find_map(|cause| cause.downcast_ref::<io::Error>()) {
        let cause = innermost(cause);
        return (of_io(cause), cause.to_string());
    }
    let kind = error.kind();
    let fault = match kind {
        ErrorKind::PermissionDenied => RemoteFault::Denied,
        ErrorKind::RateLimited | ErrorKind::Conflict => RemoteFault::Transient,
        ErrorKind::RangeNotSatisfied | ErrorKind::IsADirectory | ErrorKind::NotADirectory => {
            RemoteFault::InvalidResponse
        }
        ErrorKind::Unexpected if error.is_temporary() => RemoteFault::Transient,
        // An answer that could be read, and is invalid.
        ErrorKind::Unexpected => RemoteFault::InvalidResponse,
        _ => RemoteFault::Refused,
    };
    // The last cause is the system's or the protocol's: "Connection refused (os error 111)".
    let why = match causes().last() {
        Some(cause) if cause.is::<opendal::Error>() || kind != ErrorKind::Unexpected => told(kind).to_owned(),
        Some(cause) => cause.to_string(),
        None => told(kind).to_owned(),
    };
    (fault, why)
}

fn of_status(refusal: &Refusal) -> RemoteFault {
    let code = refusal.code.as_deref().unwrap_or_default();
    if code.contains("Quota") || code.contains("StorageFull") {
        return RemoteFault::Full;
    }
    match refusal.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            RemoteFault::Denied
        }
        StatusCode::BAD_REQUEST
            if matches!(code, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") =>
        {
            RemoteFault::Denied
        }
        StatusCode::BAD_REQUEST if code == "RequestTimeout" => RemoteFault::Transient,
        StatusCode::INSUFFICIENT_STORAGE => RemoteFault::Full,
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => RemoteFault::Refused,
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::LOCKED
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => RemoteFault::Transient,
        // Cloudflare R2 says 499 where a connection broke.
        status if status.is_server_error() || status.as_u16() == 499 => RemoteFault::Transient,
        StatusCode::PAYLOAD_TOO_LARGE => RemoteFault::Unsupported,
        _ => RemoteFault::Refused,
    }
}

/// TLS wraps its errors in such of the system, and HTTP those once more.
fn innermost(error: &io::Error) -> &io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>());
    inner.map_or(error, innermost)
}

/// What a file system's error means, or a connection's.
pub(super) fn of_io(error: &io::Error) -> RemoteFault {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => RemoteFault::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RemoteFault::Full,
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename
        // An untrusted certificate.
        | io::ErrorKind::InvalidData
            => RemoteFault::Refused,
        io::ErrorKind::FileTooLarge => RemoteFault::Unsupported,
        _ => RemoteFault::Transient,
    }
}

fn told(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "there is no such place",
        ErrorKind::PermissionDenied => "this is not allowed",
        ErrorKind::RateLimited => "too many requests",
        ErrorKind::Conflict => "another client is writing it",
        ErrorKind::RangeNotSatisfied => "the answer has not the length that it should have",
        ErrorKind::IsADirectory | ErrorKind::NotADirectory => "it is not a file",
        ErrorKind::ConfigInvalid => "the service does not take these settings",
        ErrorKind::Unsupported => "the service cannot do this",
        _ => "the answer makes no sense",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of(error: opendal::Error) -> (RemoteFault, String) {
        let error = remote_error("reading", &error);
        (error.fault, error.message)
    }

    fn fault_of(status: u16, code: &str) -> RemoteFault {
        let code = Some(code.to_owned()).filter(|code| !code.is_empty());
        let refusal = Refusal { status: StatusCode::from_u16(status).unwrap(), code, credentials: SEE };
        told_of(opendal::Error::new(ErrorKind::Unexpected, "no").set_source(refusal)).0
    }

    #[test]
    fn a_status_tells_the_fault() {
        for (status, code, fault) in [
            (401, "", RemoteFault::Denied),
            (403, "SignatureDoesNotMatch", RemoteFault::Denied),
            (403, "QuotaExceeded", RemoteFault::Full),
            (400, "ExpiredToken", RemoteFault::Denied),
            (400, "", RemoteFault::Refused),
            (404, "NoSuchBucket", RemoteFault::Refused),
            (413, "", RemoteFault::Unsupported),
            (429, "", RemoteFault::Transient),
            (500, "", RemoteFault::Transient),
            (501, "", RemoteFault::Refused),
            (503, "SlowDown", RemoteFault::Transient),
            (507, "", RemoteFault::Full),
        ] {
            assert_eq!(fault_of(status, code), fault, "{status} {code}");
        }
    }

    #[test]
    fn a_file_systems_error_tells_the_fault() {
        for (kind, fault) in [
            (io::ErrorKind::StorageFull, RemoteFault::Full),
            (io::ErrorKind::ReadOnlyFilesystem, RemoteFault::Denied),
            (io::ErrorKind::StaleNetworkFileHandle, RemoteFault::Transient),
        ] {
            let error = opendal::Error::new(ErrorKind::Unexpected, "").set_source(io::Error::from(kind));
            assert_eq!(told_of(error).0, fault);
        }
    }

    #[test]
    fn what_opendal_wrote_is_not_repeated() {
        let error = opendal::Error::new(ErrorKind::PermissionDenied, "hunter2 is wrong")
            .with_context("uri", "http://host/?sig=hunter2");
        let (fault, message) = told_of(error);
        assert_eq!(fault, RemoteFault::Denied);
        assert_eq!(message, "reading: this is not allowed");
    }
}
