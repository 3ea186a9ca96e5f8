//! A server whose abilities are known: the clients of its services, with the limits that were agreed.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use api::action_cache_client::ActionCacheClient;
use api::capabilities_client::CapabilitiesClient;
use api::content_addressable_storage_client::ContentAddressableStorageClient;

use super::capabilities::Capabilities;
use super::connect::GrpcChannel;
use super::fault::Doing;
use crate::cache::remote::RemoteError;

pub(super) struct Server {
    pub instance: String,
    pub capabilities: Capabilities,
    channel: GrpcChannel,
}

impl Server {
    pub(super) fn storage(&self) -> ContentAddressableStorageClient<GrpcChannel> {
        ContentAddressableStorageClient::new(self.channel.clone())
            .max_decoding_message_size(self.capabilities.max_message())
    }

    pub(super) fn streams(&self) -> ByteStreamClient<GrpcChannel> {
        ByteStreamClient::new(self.channel.clone()).max_decoding_message_size(self.capabilities.max_message())
    }

    pub(super) fn actions(&self) -> ActionCacheClient<GrpcChannel> {
        ActionCacheClient::new(self.channel.clone())
            .max_decoding_message_size(self.capabilities.max_message())
    }
}

type Answer = Result<Arc<Server>, RemoteError>;

/// The capabilities of a server, queried when they are first needed. Concurrent callers share one query; if
/// it fails, all of them fail and the next caller queries again. A query that all callers have dropped is
/// cancelled, so that no later caller waits for one that hangs.
pub(super) struct CapabilitiesQuery {
    channel: GrpcChannel,
    instance: String,
    known: OnceLock<Arc<Server>>,
    pending: Mutex<Option<WeakShared<BoxFuture<'static, Answer>>>>,
}

impl CapabilitiesQuery {
    pub(super) fn new(channel: GrpcChannel, instance: String) -> CapabilitiesQuery {
        CapabilitiesQuery { channel, instance, known: OnceLock::new(), pending: Mutex::new(None) }
    }

    pub(super) async fn server(&self) -> Answer {
        if let Some(server) = self.known.get() {
            return Ok(server.clone());
        }
        let server = self.pending_query().await?;
        Ok(self.known.get_or_init(|| server).clone())
    }

    fn pending_query(&self) -> Shared<BoxFuture<'static, Answer>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // A finished query is not shared any more.
        let shared = pending.as_ref().and_then(WeakShared::upgrade);
        if let Some(shared) = shared.filter(|shared| shared.peek().is_none()) {
            return shared;
        }
        let shared = query(self.channel.clone(), self.instance.clone()).boxed().shared();
        *pending = shared.downgrade();
        shared
    }
}

async fn query(channel: GrpcChannel, instance: String) -> Answer {
    let request = api::GetCapabilitiesRequest { instance_name: instance.clone() };
    let answer = CapabilitiesClient::new(channel.clone())
        .get_capabilities(request)
        .await
        .map_err(|status| Doing::ReadingCapabilities.failed(&status))?;
    let capabilities = Capabilities::of(answer.get_ref())?;
    tracing::debug!(?capabilities, "capabilities of the remote");
    Ok(Arc::new(Server { instance, capabilities, channel }))
}
