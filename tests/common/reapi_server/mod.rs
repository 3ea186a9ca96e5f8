//! A server of the Remote Execution API in the tests' own process. It holds whoever asks to the
//! protocol's rules, writes down what breaks them, and misbehaves as it is told.

mod actions;
mod bytestream;
mod state;
mod storage;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::google::bytestream::byte_stream_server::ByteStreamServer;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};

use api::action_cache_server::ActionCacheServer;
use api::capabilities_server::CapabilitiesServer;
use api::content_addressable_storage_server::ContentAddressableStorageServer;

pub use api::digest_function::Value as Function;
pub use state::{Behaviour, QueryStatus, State};

/// An instance of two segments, which resource names must repeat as it is.
pub const INSTANCE: &str = "team/rivet";

/// What the services share.
#[derive(Clone)]
pub struct Services {
    state: Arc<Mutex<State>>,
}

impl Services {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

pub struct ReapiServer {
    services: Services,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl ReapiServer {
    pub fn start(behaviour: Behaviour) -> ReapiServer {
        ReapiServer::start_with(behaviour, Server::builder())
    }

    pub fn start_tls(behaviour: Behaviour, tls: ServerTlsConfig) -> ReapiServer {
        ReapiServer::start_with(behaviour, Server::builder().tls_config(tls).unwrap())
    }

    fn start_with(behaviour: Behaviour, mut server: Server) -> ReapiServer {
        let runtime = Runtime::new().unwrap();
        let services = Services { state: Arc::new(Mutex::new(State::new(behaviour))) };
        let router = server
            .add_service(CapabilitiesServer::new(services.clone()))
            .add_service(ContentAddressableStorageServer::new(services.clone()))
            .add_service(ByteStreamServer::new(services.clone()))
            .add_service(ActionCacheServer::new(services.clone()));
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let address = incoming.local_addr().unwrap();
        runtime.spawn(router.serve_with_incoming(incoming));
        ReapiServer { services, address, runtime: Some(runtime) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("grpc://{}/{INSTANCE}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.services.state()
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> usize {
        self.state().calls.get(method).copied().unwrap_or(0)
    }
}

impl Drop for ReapiServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let complaints = match self.services.state.lock() {
            Ok(state) => state.complaints.clone(),
            Err(_) => return,
        };
        if !std::thread::panicking() {
            assert!(complaints.is_empty(), "rules were broken: {complaints:#?}");
        }
    }
}
