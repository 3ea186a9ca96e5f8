//! ByteStream: blobs that are too large for a batch, by chunks. A write that breaks goes on once
//! where the server says that it stands.

use bazel_remote_apis::google::bytestream as api;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tonic::{Code, Status};

use super::digest::Name;
use super::fault::Doing;
use super::server::Server;
use super::uuid;
use crate::cache::remote::{RemoteError, RemoteFault};

/// Bytes in a message of a write.
const CHUNK: usize = 256 << 10;

/// What `committed_size` says of a blob that was there already.
const THERE_ALREADY: i64 = -1;

/// How far a write came.
enum Stands {
    Complete,
    At(u64),
    /// The server cannot tell, or knows nothing of it.
    Unknown,
}

impl Server {
    /// The bytes of a blob, of its length. They are kept as they come: what somebody promised takes no
    /// memory.
    pub(super) async fn read_stream(&self, name: &Name) -> Result<Option<Bytes>, RemoteError> {
        let resource = self.abilities.function.resource(name);
        let request = api::ReadRequest {
            resource_name: self.within_instance(&format!("blobs/{resource}")),
            read_offset: 0,
            read_limit: 0,
        };
        let mut chunks = match self.streams().read(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return absent_or(&status),
        };
        let mut bytes = BytesMut::new();
        loop {
            match chunks.message().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.data),
                Ok(None) => break,
                Err(status) if bytes.is_empty() => return absent_or(&status),
                Err(status) => return Err(Doing::ReadingBlobs.failed(&status)),
            }
            if bytes.len() as u64 > name.size {
                let told = format!("a blob of {} bytes has more", name.size);
                return Err(Doing::ReadingBlobs.nonsense(&told));
            }
        }
        if bytes.len() as u64 != name.size {
            let told = format!("a blob of {} bytes has {}", name.size, bytes.len());
            return Err(Doing::ReadingBlobs.nonsense(&told));
        }
        Ok(Some(bytes.freeze()))
    }

    pub(super) async fn write_stream(&self, name: &Name, bytes: Bytes) -> Result<(), RemoteError> {
        let resource = self.upload(name)?;
        let Err(broken) = self.write_from(&resource, 0, &bytes).await else {
            return Ok(());
        };
        if broken.fault != RemoteFault::Passing {
            return Err(broken);
        }
        match self.stands(&resource, bytes.len() as u64).await {
            Stands::Complete => Ok(()),
            Stands::At(offset) => self.write_from(&resource, offset, &bytes).await,
            // Under a name of its own: what the server has of the first one is not known.
            Stands::Unknown => self.write_from(&self.upload(name)?, 0, &bytes).await,
        }
    }

    /// Writes what lies behind `offset`.
    async fn write_from(&self, resource: &str, offset: u64, bytes: &Bytes) -> Result<(), RemoteError> {
        let size = bytes.len() as u64;
        let chunks = stream::iter(chunks(resource.to_owned(), offset, bytes.clone()));
        let committed = match self.streams().write(chunks).await {
            Ok(answer) => answer.get_ref().committed_size,
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            Err(status) => return Err(Doing::StoringBlobs.failed(&status)),
        };
        // A server may answer before all was sent when it has the blob from elsewhere; and some round
        // up what they have.
        if committed == THERE_ALREADY || u64::try_from(committed).is_ok_and(|it| it >= size) {
            return Ok(());
        }
        let status = Status::aborted(format!("{committed} of {size} bytes were taken"));
        Err(Doing::StoringBlobs.failed(&status))
    }

    async fn stands(&self, resource: &str, size: u64) -> Stands {
        let request = api::QueryWriteStatusRequest { resource_name: resource.to_owned() };
        let Ok(answer) = self.streams().query_write_status(request).await else {
            return Stands::Unknown;
        };
        let answer = answer.into_inner();
        match u64::try_from(answer.committed_size) {
            _ if answer.complete => Stands::Complete,
            // All of it, and yet not complete: what is left to send is that it ends here.
            Ok(offset) if offset <= size => Stands::At(offset),
            _ => Stands::Unknown,
        }
    }

    fn upload(&self, name: &Name) -> Result<String, RemoteError> {
        let resource = self.abilities.function.resource(name);
        Ok(self.within_instance(&format!("uploads/{}/blobs/{resource}", uuid::random()?)))
    }

    fn within_instance(&self, resource: &str) -> String {
        if self.instance.is_empty() {
            return resource.to_owned();
        }
        format!("{}/{resource}", self.instance)
    }
}

fn absent_or(status: &Status) -> Result<Option<Bytes>, RemoteError> {
    match status.code() {
        Code::NotFound => Ok(None),
        _ => Err(Doing::ReadingBlobs.failed(status)),
    }
}

/// The messages of a write. Only the first has the resource's name, only the last says that it is.
fn chunks(resource: String, offset: u64, bytes: Bytes) -> impl Iterator<Item = api::WriteRequest> {
    let mut next = Some(offset as usize);
    let mut resource = Some(resource);
    std::iter::from_fn(move || {
        let start = next?;
        let end = bytes.len().min(start + CHUNK);
        let finish_write = end == bytes.len();
        next = (!finish_write).then_some(end);
        Some(api::WriteRequest {
            resource_name: resource.take().unwrap_or_default(),
            write_offset: start as i64,
            finish_write,
            data: bytes.slice(start..end).to_vec(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_cut_into_chunks_and_ends_once() {
        let bytes = Bytes::from(vec![7; 2 * CHUNK + 5]);
        let told = |offset: usize| -> Vec<(bool, i64, bool, usize)> {
            chunks("name".into(), offset as u64, bytes.clone())
                .map(|it| (it.resource_name.is_empty(), it.write_offset, it.finish_write, it.data.len()))
                .collect()
        };
        let chunk = CHUNK as i64;
        let all = [(false, 0, false, CHUNK), (true, chunk, false, CHUNK), (true, 2 * chunk, true, 5)];
        assert_eq!(told(0), all);
        assert_eq!(told(2 * CHUNK), [(false, 2 * chunk, true, 5)]);
        assert_eq!(told(2 * CHUNK + 5), [(false, 2 * chunk + 5, true, 0)]);
    }
}
