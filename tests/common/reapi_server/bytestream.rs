//! ByteStream, with writes that can be cut and taken up again.

use bazel_remote_apis::google::bytestream as api;
use futures_util::{StreamExt, stream};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use api::byte_stream_server::ByteStream;

use super::state::{QueryStatus, State};
use super::{Function, INSTANCE, Services};

/// Bytes in a message of a read.
const CHUNK: usize = 64 << 10;

/// What a resource name says.
struct Resource {
    uuid: Option<String>,
    hash: String,
    size: usize,
}

/// `team/rivet/[uploads/UUID/]blobs/[blake3/]HASH/SIZE`, and nothing else.
fn resource(state: &mut State, name: &str, uploads: bool) -> Result<Resource, Status> {
    let parsed = parse(state.behaviour.function, name);
    let is_right = parsed.as_ref().is_some_and(|resource| resource.uuid.is_some() == uploads);
    state.rule(is_right, &format!("`{name}` is a resource's name"))?;
    parsed.ok_or_else(|| Status::internal("a rule let it through"))
}

fn parse(function: Function, name: &str) -> Option<Resource> {
    let mut rest = name.strip_prefix(INSTANCE)?.strip_prefix('/')?;
    let mut uuid = None;
    if let Some(upload) = rest.strip_prefix("uploads/") {
        let (id, after) = upload.split_once('/')?;
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        if lengths != [8, 4, 4, 4, 12] || id.as_bytes()[14] != b'4' {
            return None;
        }
        (uuid, rest) = (Some(id.to_owned()), after);
    }
    rest = rest.strip_prefix("blobs/")?;
    if function == Function::Blake3 {
        rest = rest.strip_prefix("blake3/")?;
    }
    let (hash, size) = rest.split_once('/')?;
    (hash.len() == 64).then_some(())?;
    Some(Resource { uuid, hash: hash.to_owned(), size: size.parse().ok()? })
}

#[async_trait]
impl ByteStream for Services {
    type ReadStream = BoxStream<api::ReadResponse>;

    async fn read(&self, request: Request<api::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let mut state = self.state();
        state.begin("Read", request.metadata())?;
        let resource = resource(&mut state, &request.get_ref().resource_name, false)?;
        let bytes = state.sent(&resource.hash).ok_or_else(|| Status::not_found("no such blob"))?;
        let times = if state.behaviour.endless { usize::MAX } else { 1 };
        let mut chunks: Vec<Vec<u8>> = bytes.chunks(CHUNK).map(<[u8]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        let endless = (0..times).flat_map(move |_| chunks.clone());
        Ok(Response::new(stream::iter(endless.map(|data| Ok(api::ReadResponse { data }))).boxed()))
    }

    async fn write(
        &self,
        request: Request<Streaming<api::WriteRequest>>,
    ) -> Result<Response<api::WriteResponse>, Status> {
        self.state().begin("Write", request.metadata())?;
        let mut messages = request.into_inner();
        let mut name = None;
        let mut finished = false;
        while let Some(message) = messages.message().await? {
            let mut state = self.state();
            state.rule(!finished, "nothing comes behind finish_write")?;
            let first = name.is_none();
            let name = name.get_or_insert_with(|| message.resource_name.clone());
            let is_same = message.resource_name.is_empty() || message.resource_name == *name;
            state.rule(is_same, "a write has one resource")?;
            let resource = resource(&mut state, name, true)?;
            if first {
                state.write_offsets.push(message.write_offset);
                state.uploads.extend(resource.uuid.clone());
            }
            state.written += message.data.len();
            if let Some(committed_size) = state.behaviour.early_answer {
                return Ok(Response::new(api::WriteResponse { committed_size }));
            }
            finished = message.finish_write;
            take(&mut state, name, &resource, message)?;
        }
        let mut state = self.state();
        state.rule(finished, "a write ends with finish_write")?;
        let name = name.unwrap_or_default();
        let resource = resource(&mut state, &name, true)?;
        let bytes = state.partial.remove(&name).unwrap_or_default().bytes;
        let is_right = bytes.len() == resource.size && state.hash(&bytes) == resource.hash;
        state.rule(is_right, "what was written is what its name says")?;
        let committed_size = bytes.len() as i64;
        state.blobs.insert(resource.hash, bytes);
        Ok(Response::new(api::WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        request: Request<api::QueryWriteStatusRequest>,
    ) -> Result<Response<api::QueryWriteStatusResponse>, Status> {
        let mut state = self.state();
        state.begin("QueryWriteStatus", request.metadata())?;
        let name = request.into_inner().resource_name;
        resource(&mut state, &name, true)?;
        let committed = state.partial.get(&name).map_or(0, |write| write.bytes.len() as i64);
        let (committed_size, complete) = match state.behaviour.query_status {
            QueryStatus::Tells => (committed, false),
            QueryStatus::Completes => (committed, true),
            QueryStatus::TooMuch => (i64::MAX, false),
            QueryStatus::Unimplemented => return Err(Status::unimplemented("not here")),
        };
        Ok(Response::new(api::QueryWriteStatusResponse { committed_size, complete }))
    }
}

/// Keeps what a message brings, up to where the write is to be cut.
fn take(
    state: &mut State,
    name: &str,
    resource: &Resource,
    message: api::WriteRequest,
) -> Result<(), Status> {
    let write = state.partial.entry(name.to_owned()).or_default();
    let follows = message.write_offset == write.bytes.len() as i64;
    write.bytes.extend(message.data);
    let length = write.bytes.len();
    if let Some(most) = state.behaviour.cut_write_after.filter(|most| length >= *most) {
        if let Some(write) = state.partial.get_mut(name) {
            write.bytes.truncate(most);
        }
        state.behaviour.cut_write_after = None;
        return Err(Status::unavailable("cut"));
    }
    state.rule(follows, "a message goes on where the last one ended")?;
    state.rule(length <= resource.size, "no more comes than the name says")?;
    state.rule(!message.finish_write || length == resource.size, "finish_write comes at the end")
}
