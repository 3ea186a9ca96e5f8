//! Capabilities and ContentAddressableStorage.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::google::rpc;
use prost::Message;
use tonic::codegen::BoxStream;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use api::capabilities_server::Capabilities;
use api::content_addressable_storage_server::ContentAddressableStorage;
use api::{batch_read_blobs_response, batch_update_blobs_response};

use super::{INSTANCE, Services};

/// What gRPC takes where nothing else was agreed.
const USUAL_MESSAGE: usize = 4 << 20;

type Answer<T> = Result<Response<T>, Status>;

fn status(code: Code) -> Option<rpc::Status> {
    Some(rpc::Status { code: code.into(), message: "as it was told".into(), details: Vec::new() })
}

#[async_trait]
impl Capabilities for Services {
    async fn get_capabilities(
        &self,
        request: Request<api::GetCapabilitiesRequest>,
    ) -> Result<Response<api::ServerCapabilities>, Status> {
        let mut state = self.state();
        state.begin("GetCapabilities", request.metadata())?;
        state.rule(request.get_ref().instance_name == INSTANCE, "requests name the instance")?;
        let behaviour = &state.behaviour;
        Ok(Response::new(api::ServerCapabilities {
            cache_capabilities: Some(api::CacheCapabilities {
                digest_functions: behaviour.listed.iter().map(|value| (*value).into()).collect(),
                action_cache_update_capabilities: Some(api::ActionCacheUpdateCapabilities {
                    update_enabled: behaviour.update_enabled,
                }),
                max_batch_total_size_bytes: behaviour.max_batch,
                ..api::CacheCapabilities::default()
            }),
            ..api::ServerCapabilities::default()
        }))
    }
}

#[async_trait]
impl ContentAddressableStorage for Services {
    async fn find_missing_blobs(
        &self,
        request: Request<api::FindMissingBlobsRequest>,
    ) -> Result<Response<api::FindMissingBlobsResponse>, Status> {
        let mut state = self.state();
        state.begin("FindMissingBlobs", request.metadata())?;
        let request = request.into_inner();
        state.addressed(&request.instance_name, request.digest_function)?;
        let mut missing = Vec::new();
        for digest in request.blob_digests {
            let (hash, _) = state.digest(Some(&digest))?;
            if !state.has(&hash) {
                missing.push(digest);
            }
        }
        if state.behaviour.reverse {
            missing.reverse();
        }
        Ok(Response::new(api::FindMissingBlobsResponse { missing_blob_digests: missing }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<api::BatchUpdateBlobsRequest>,
    ) -> Result<Response<api::BatchUpdateBlobsResponse>, Status> {
        let mut state = self.state();
        state.begin("BatchUpdateBlobs", request.metadata())?;
        let request = request.into_inner();
        state.addressed(&request.instance_name, request.digest_function)?;
        state.rule(request.encoded_len() <= USUAL_MESSAGE, "a message has 4 MiB at most")?;
        let total = request.requests.iter().map(|request| request.data.len() as i64).sum::<i64>();
        let most = state.behaviour.max_batch;
        state.rule(most == 0 || total <= most, "a batch keeps to the limit")?;
        let mut responses = Vec::new();
        for request in request.requests {
            let (hash, size) = state.digest(request.digest.as_ref())?;
            let is_right = state.hash(&request.data) == hash && request.data.len() as i64 == size;
            state.rule(is_right, "a blob is what its digest says")?;
            let code = state.behaviour.failing_blobs.get(&size).copied().unwrap_or(Code::Ok);
            if code == Code::Ok {
                state.blobs.insert(hash, request.data);
            }
            let status = if code == Code::Ok { None } else { status(code) };
            responses.push(batch_update_blobs_response::Response { digest: request.digest, status });
        }
        if state.behaviour.reverse {
            responses.reverse();
        }
        Ok(Response::new(api::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<api::BatchReadBlobsRequest>,
    ) -> Result<Response<api::BatchReadBlobsResponse>, Status> {
        let mut state = self.state();
        state.begin("BatchReadBlobs", request.metadata())?;
        let request = request.into_inner();
        state.addressed(&request.instance_name, request.digest_function)?;
        let total = request.digests.iter().map(|digest| digest.size_bytes).sum::<i64>();
        let most = state.behaviour.max_batch;
        state.rule(most == 0 || total <= most, "a batch keeps to the limit")?;
        let mut responses = Vec::new();
        for digest in request.digests {
            let (hash, size) = state.digest(Some(&digest))?;
            let mut code = state.behaviour.failing_blobs.get(&size).copied().unwrap_or(Code::Ok);
            let data = state.sent(&hash);
            if data.is_none() {
                code = Code::NotFound;
            }
            responses.push(batch_read_blobs_response::Response {
                digest: Some(digest),
                data: if code == Code::Ok { data.unwrap_or_default() } else { Vec::new() },
                compressor: 0,
                status: status(code),
            });
        }
        if state.behaviour.reverse {
            responses.reverse();
        }
        let answer = api::BatchReadBlobsResponse { responses };
        if state.behaviour.spoil.is_none() {
            state.rule(answer.encoded_len() <= USUAL_MESSAGE, "no more is asked for than a message holds")?;
        }
        Ok(Response::new(answer))
    }

    type GetTreeStream = BoxStream<api::GetTreeResponse>;

    async fn get_tree(&self, _: Request<api::GetTreeRequest>) -> Answer<Self::GetTreeStream> {
        nobody_needs_it()
    }

    async fn split_blob(&self, _: Request<api::SplitBlobRequest>) -> Answer<api::SplitBlobResponse> {
        nobody_needs_it()
    }

    type GetChunkMappingStream = BoxStream<api::GetChunkMappingResponse>;

    async fn get_chunk_mapping(
        &self,
        _: Request<api::GetChunkMappingRequest>,
    ) -> Answer<Self::GetChunkMappingStream> {
        nobody_needs_it()
    }

    async fn splice_blob(&self, _: Request<api::SpliceBlobRequest>) -> Answer<api::SpliceBlobResponse> {
        nobody_needs_it()
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<api::RegisterChunkMappingRequest>>,
    ) -> Answer<api::RegisterChunkMappingResponse> {
        nobody_needs_it()
    }
}

fn nobody_needs_it<T>() -> Answer<T> {
    Err(Status::unimplemented("nobody needs it"))
}
