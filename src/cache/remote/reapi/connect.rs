//! From a URL to a channel: TLS, credentials, timeouts of connecting, and the headers of every call. Connects
//! when first used. Never sends a token unencrypted to another machine.

use std::error::Error;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2::{RequestMetadata, ToolDetails};
use prost::Message;
use tonic::metadata::{Ascii, Binary, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::{credentials, uuid};
use crate::cache::remote::secrets::{is_loopback, may_go_to};
use crate::cache::remote::{NamedBy, RemoteError, RemoteFault, RemoteUrl};

/// The interval of keep-alive pings on a connection with calls under way, so that a vanished peer is noticed
/// before TCP does. gRPC servers close connections that ping a few times in five minutes while nothing is
/// sent, so this is no less than the longest wait for an answer.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an idle connection stays silent: less than firewalls remember one.
const IDLE_PROBE: Duration = Duration::from_secs(60);

/// The header by which the protocol lets tools say who they are.
const METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

pub(super) type GrpcChannel = InterceptedService<Channel, Headers>;

/// What goes with every call.
#[derive(Clone)]
pub(super) struct Headers {
    authorization: Option<MetadataValue<Ascii>>,
    metadata: MetadataValue<Binary>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert_bin(METADATA, self.metadata.clone());
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// The channel to the server at `url`, and the instance that its path names. `connect_timeout` is the timeout
/// of connecting, and of TLS after it.
pub(super) fn connect(
    url: &RemoteUrl,
    named_by: NamedBy,
    connect_timeout: Duration,
) -> Result<(GrpcChannel, String), RemoteError> {
    let refused = |message: &str| RemoteError::new(RemoteFault::Refused, message);
    if !url.parameters().is_empty() {
        return Err(refused("no parameters are known for this kind of remote"));
    }
    let host = url.host().unwrap_or_default();
    let encrypted = url.scheme() == "grpcs";
    let secrets = if encrypted { &credentials::SECRETS[..] } else { &credentials::SECRETS[..1] };
    may_go_to(url, named_by, secrets)?;
    let authorization = credentials::authorization()?;
    if authorization.is_some() && !encrypted && !is_loopback(host) {
        return Err(refused(
            "RIVET_REMOTE_TOKEN is set, and would go unencrypted to another machine: use grpcs://, or unset it",
        ));
    }
    let scheme = if encrypted { "https" } else { "http" };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{host}{port}"))
        .map_err(|error| refused(&chain(&error)))?
        .connect_timeout(connect_timeout)
        .tcp_keepalive(Some(IDLE_PROBE))
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    if encrypted {
        let tls = credentials::tls()?.timeout(connect_timeout);
        endpoint = endpoint.tls_config(tls).map_err(|error| refused(&chain(&error)))?;
    }
    let headers = Headers { authorization, metadata: metadata()? };
    Ok((InterceptedService::new(endpoint.connect_lazy(), headers), url.path()))
}

fn metadata() -> Result<MetadataValue<Binary>, RemoteError> {
    let metadata = RequestMetadata {
        tool_details: Some(ToolDetails {
            tool_name: env!("CARGO_PKG_NAME").to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        }),
        tool_invocation_id: uuid::random()?,
        ..RequestMetadata::default()
    };
    Ok(MetadataValue::from_bytes(&metadata.encode_to_vec()))
}

/// An error and what is behind it.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !told.contains(&more) {
            told = format!("{told}: {more}");
        }
        source = error.source();
    }
    told
}
