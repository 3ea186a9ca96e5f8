//! OpenDAL's HTTP transport, with a timeout for connecting and a limit on answers other than an object's
//! content. A refused request becomes an error that carries its status, which OpenDAL itself would only put
//! into words.

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use http::{Method, Request, Response, StatusCode};
use opendal::raw::Operation;
use opendal::raw::oio::ReadStream;
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;
use tokio::time::timeout;

/// The metadata services of clouds, which give machines their credentials. Elsewhere these hosts do not
/// answer.
const METADATA: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];
/// How long such an answer may take; it comes from the machine's own host.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes at most of an answer that is no object's content: properties of a file, tokens, errors.
const MAX_TALK: u64 = 1 << 20;

/// A refused request.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// The service's own word for it, where it has one: `SignatureDoesNotMatch`. Letters and digits.
    pub code: Option<String>,
    /// What the user should look at where credentials are not right.
    pub credentials: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, ", {code}")?;
        }
        if self.status == StatusCode::UNAUTHORIZED {
            write!(f, ": wrong or missing credentials; {}", self.credentials)?;
        }
        Ok(())
    }
}

impl Error for Refusal {}

pub(super) struct Transport {
    inner: ReqwestTransport,
    credentials: &'static str,
    /// Whether the metadata service answered the first request. Credentials are looked for by one request
    /// after the other, and not each shall run into the timeout.
    has_metadata: OnceLock<bool>,
}

impl Transport {
    /// `connect_timeout` is the timeout of connecting; `credentials` says where credentials are looked for.
    pub fn new(connect_timeout: Duration, credentials: &'static str) -> Result<Transport, reqwest::Error> {
        let agent = concat!("rivet/", env!("CARGO_PKG_VERSION"));
        let client = reqwest::Client::builder().connect_timeout(connect_timeout).user_agent(agent).build()?;
        Ok(Transport { inner: ReqwestTransport::new(client), credentials, has_metadata: OnceLock::new() })
    }

    async fn ask_metadata(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let nobody = || opendal::Error::new(ErrorKind::Unexpected, "there is no metadata service");
        if self.has_metadata.get() == Some(&false) {
            return Err(nobody());
        }
        let answer =
            timeout(METADATA_TIMEOUT, self.inner.fetch(request)).await.unwrap_or_else(|_| Err(nobody()));
        self.has_metadata.get_or_init(|| answer.is_ok());
        answer
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        // Requests for credentials carry no operation; their sender checks the status.
        let operation = request.extensions().get::<Operation>().copied();
        let method = request.method().clone();
        let is_metadata = request.uri().host().is_some_and(|host| METADATA.contains(&host));
        let answer = match operation {
            None if is_metadata => self.ask_metadata(request).await,
            _ => self.inner.fetch(request).await,
        };
        let (parts, body) = answer?.into_parts();
        // A redirection that could not be followed is a refusal, too: S3's for a bucket of another region.
        let failed = !parts.status.is_success();
        if operation == Some(Operation::Read) && !failed {
            // An object's content: its reader counts.
            return Ok(Response::from_parts(parts, body));
        }
        let mut body = bounded(body);
        if !failed || operation.is_none() {
            return Ok(Response::from_parts(parts, body));
        }
        let text = if method == Method::HEAD { Buffer::new() } else { body.read_all().await? };
        let code = parts
            .headers
            .get("x-ms-error-code")
            .and_then(|value| value.to_str().ok())
            .and_then(word)
            .or_else(|| error_code(&text.to_bytes()));
        if is_expected(parts.status, code.as_deref(), &method) {
            let length = text.len() as u64;
            let body = HttpBody::new(stream::iter([Ok(text)]), Some(length));
            return Ok(Response::from_parts(parts, body));
        }
        let refusal = Refusal { status: parts.status, code, credentials: self.credentials };
        Err(opendal::Error::new(ErrorKind::Unexpected, "the service said no").set_source(refusal))
    }
}

/// Whether OpenDAL's services make something of an answer: that nothing is there, or that something is.
fn is_expected(status: StatusCode, code: Option<&str>, method: &Method) -> bool {
    match status {
        StatusCode::NOT_FOUND => !matches!(code, Some("NoSuchBucket" | "ContainerNotFound")),
        // S3 and Azure say by its code what it is that stands against it; WebDAV that a folder is missing.
        StatusCode::CONFLICT => code.is_some(),
        StatusCode::PRECONDITION_FAILED => true,
        // WebDAV's way to say that a folder is there (RFC 4918 9.3.1).
        StatusCode::METHOD_NOT_ALLOWED => method.as_str() == "MKCOL",
        _ => false,
    }
}

fn bounded(body: HttpBody) -> HttpBody {
    let mut left = MAX_TALK;
    body.map_inner(|inner| {
        Box::new(inner.map(move |piece| {
            let piece = piece?;
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                opendal::Error::new(ErrorKind::RangeNotSatisfied, "the answer is longer than any should be")
            })?;
            Ok(piece)
        }))
    })
}

/// The content of an XML error's first `Code`, as S3, Azure and Google's XML interface have it.
fn error_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    word(rest.split_once("</Code>")?.0)
}

/// A word that is safe to show: a server's answer may repeat what it was sent.
fn word(text: &str) -> Option<String> {
    let is_word = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_single_words() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>m</Message></Error>";
        assert_eq!(error_code(body).as_deref(), Some("AccessDenied"));
        assert_eq!(error_code(b"<Error><Code>Basic YW5uOmh1bnRlcjI=</Code></Error>"), None);
        assert_eq!(error_code(b"<Error><Code></Code></Error>"), None);
        assert_eq!(error_code(b"\xff"), None);
    }
}
