//! ByteStream: blobs that are too large for a batch, in chunks. A broken write is resumed once at the offset
//! that the server has.

use std::sync::{Arc, Mutex, PoisonError};

use bazel_remote_apis::google::bytestream as api;
use futures_util::stream::{self, Stream, StreamExt};
use tonic::{Code, Status};

use super::content::Content;
use super::digest::Name;
use super::fault::Doing;
use super::server::Server;
use super::uuid;
use crate::cache::remote::delivery::Delivery;
use crate::cache::remote::{BlobStream, RemoteError, RemoteFault};

/// The `committed_size` of a blob that was there already.
const THERE_ALREADY: i64 = -1;

/// How far a write got.
enum UploadState {
    Complete,
    At(u64),
    /// The server does not know.
    Unknown,
}

impl Server {
    /// Reads a blob in pieces. False where it is not there.
    pub(super) async fn read_stream(&self, name: &Name, mut to: Delivery<'_>) -> Result<bool, RemoteError> {
        let resource = self.capabilities.function.resource(name);
        let request = api::ReadRequest {
            resource_name: self.within_instance(&format!("blobs/{resource}")),
            read_offset: 0,
            read_limit: 0,
        };
        let mut chunks = match self.streams().read(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return absent_or(&status),
        };
        loop {
            match chunks.message().await {
                Ok(Some(chunk)) => to.write(chunk.data.into()).await?,
                Ok(None) => break,
                Err(status) if to.received() == 0 => return absent_or(&status),
                Err(status) => return Err(Doing::ReadingBlobs.failed(&status)),
            }
        }
        to.complete()?;
        Ok(true)
    }

    pub(super) async fn write_stream(&self, name: &Name, content: &Content<'_>) -> Result<(), RemoteError> {
        let resource = self.upload(name)?;
        let Err(broken) = self.write_from(&resource, 0, name.size, content).await else {
            return Ok(());
        };
        if broken.fault != RemoteFault::Transient {
            return Err(broken);
        }
        match self.upload_state(&resource, name.size).await {
            UploadState::Complete => Ok(()),
            UploadState::At(offset) => self.write_from(&resource, offset, name.size, content).await,
            // Under a name of its own: what the server has of the first one is not known.
            UploadState::Unknown => self.write_from(&self.upload(name)?, 0, name.size, content).await,
        }
    }

    /// Writes what lies behind `offset` of `size` bytes.
    async fn write_from(
        &self,
        resource: &str,
        offset: u64,
        size: u64,
        content: &Content<'_>,
    ) -> Result<(), RemoteError> {
        let unread = Unread::default();
        let messages = Messages {
            resource: resource.to_owned(),
            pieces: content.stream(),
            at: 0,
            offset,
            size,
            unread: Arc::clone(&unread),
        };
        let answer = self.streams().write(messages.stream()).await;
        let failed = || unread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let committed = match answer {
            Ok(answer) => answer.get_ref().committed_size,
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            // What could not be read here broke the call.
            Err(status) => return Err(failed().unwrap_or_else(|| Doing::StoringBlobs.failed(&status))),
        };
        // A server may answer before all was sent when it has the blob from elsewhere; and some round
        // up what they have.
        if committed == THERE_ALREADY || u64::try_from(committed).is_ok_and(|it| it >= size) {
            return Ok(());
        }
        if let Some(error) = failed() {
            return Err(error);
        }
        let status = Status::aborted(format!("{committed} of {size} bytes were taken"));
        Err(Doing::StoringBlobs.failed(&status))
    }

    async fn upload_state(&self, resource: &str, size: u64) -> UploadState {
        let request = api::QueryWriteStatusRequest { resource_name: resource.to_owned() };
        let Ok(answer) = self.streams().query_write_status(request).await else {
            return UploadState::Unknown;
        };
        let answer = answer.into_inner();
        match u64::try_from(answer.committed_size) {
            _ if answer.complete => UploadState::Complete,
            // All of it, and yet not complete: what is left to send is that it ends here.
            Ok(offset) if offset <= size => UploadState::At(offset),
            _ => UploadState::Unknown,
        }
    }

    fn upload(&self, name: &Name) -> Result<String, RemoteError> {
        let resource = self.capabilities.function.resource(name);
        Ok(self.within_instance(&format!("uploads/{}/blobs/{resource}", uuid::random()?)))
    }

    fn within_instance(&self, resource: &str) -> String {
        if self.instance.is_empty() {
            return resource.to_owned();
        }
        format!("{}/{resource}", self.instance)
    }
}

fn absent_or(status: &Status) -> Result<bool, RemoteError> {
    match status.code() {
        Code::NotFound => Ok(false),
        _ => Err(Doing::ReadingBlobs.failed(status)),
    }
}

/// Why the content of a write could not be read, if so: a stream of messages can only end.
type Unread = Arc<Mutex<Option<RemoteError>>>;

/// The messages of a write. Only the first has the resource's name, only the last is marked as the end.
struct Messages {
    /// Empty behind the first message.
    resource: String,
    pieces: BlobStream,
    /// Bytes that were read of the content.
    at: u64,
    /// Those before this are not sent.
    offset: u64,
    size: u64,
    unread: Unread,
}

impl Messages {
    fn stream(self) -> impl Stream<Item = api::WriteRequest> + Send + 'static {
        stream::unfold(Some(self), |messages| async move {
            let mut messages = messages?;
            match messages.next().await {
                Ok(message) => {
                    let rest = (!message.finish_write).then_some(messages);
                    Some((message, rest))
                }
                Err(error) => {
                    *messages.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    None
                }
            }
        })
    }

    async fn next(&mut self) -> Result<api::WriteRequest, RemoteError> {
        let mut message = api::WriteRequest {
            write_offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            finish_write: self.offset == self.size,
            ..api::WriteRequest::default()
        };
        while message.data.is_empty() && !message.finish_write {
            let Some(piece) = self.pieces.next().await else {
                let told = format!("storing blobs: one of {} bytes has {} here", self.size, self.at);
                return Err(RemoteError::new(RemoteFault::Local, told));
            };
            let piece = piece?;
            let known = self.offset.saturating_sub(self.at).min(piece.len() as u64);
            self.at += piece.len() as u64;
            message.data = piece.slice(known as usize..).to_vec();
            self.offset += message.data.len() as u64;
            message.finish_write = self.offset == self.size;
        }
        message.resource_name = std::mem::take(&mut self.resource);
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::content::CHUNK;
    use super::*;

    #[test]
    fn a_write_is_cut_into_chunks_and_ends_once() {
        let bytes = Bytes::from(vec![7; 2 * CHUNK + 5]);
        let told = |offset: usize| -> Vec<(bool, i64, bool, usize)> {
            let (pieces, unread) = (Content::Bytes(bytes.clone()).stream(), Unread::default());
            let (offset, size) = (offset as u64, bytes.len() as u64);
            let messages = Messages { resource: "name".into(), pieces, at: 0, offset, size, unread };
            let messages = messages
                .stream()
                .map(|it| (it.resource_name.is_empty(), it.write_offset, it.finish_write, it.data.len()));
            futures_util::FutureExt::now_or_never(messages.collect()).unwrap()
        };
        let chunk = CHUNK as i64;
        let all = [(false, 0, false, CHUNK), (true, chunk, false, CHUNK), (true, 2 * chunk, true, 5)];
        assert_eq!(told(0), all);
        assert_eq!(told(CHUNK + 1), [(false, chunk + 1, false, CHUNK - 1), (true, 2 * chunk, true, 5)]);
        assert_eq!(told(2 * CHUNK), [(false, 2 * chunk, true, 5)]);
        assert_eq!(told(2 * CHUNK + 5), [(false, 2 * chunk + 5, true, 0)]);
    }

    /// A server must not take what it got for all.
    #[test]
    fn a_write_whose_content_breaks_off_does_not_say_that_it_ends() {
        let bytes = Bytes::from(vec![7; 10]);
        let (pieces, unread) = (Content::Bytes(bytes).stream(), Unread::default());
        let kept = Arc::clone(&unread);
        let messages = Messages { resource: "name".into(), pieces, at: 0, offset: 0, size: 11, unread };
        let messages: Vec<_> = futures_util::FutureExt::now_or_never(messages.stream().collect()).unwrap();
        assert_eq!(messages.iter().map(|it| it.finish_write).collect::<Vec<_>>(), [false]);
        assert_eq!(kept.lock().unwrap().as_ref().unwrap().fault, RemoteFault::Local);
    }
}
