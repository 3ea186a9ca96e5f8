//! Content to store on a server: a blob of the caller's, or a message of our own.

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt};

use super::digest::{Function, Name};
use crate::cache::BlobRef;
use crate::cache::remote::{BlobSource, BlobStream, RemoteError};

/// Bytes of a message in a message of a write. Blobs come in pieces of their source's.
pub(super) const CHUNK: usize = 256 << 10;

/// Can be read more than once.
#[derive(Clone)]
pub(super) enum Content<'s> {
    Bytes(Bytes),
    Blob(BlobRef, &'s dyn BlobSource),
}

impl Content<'_> {
    /// In sequence, from its begin.
    pub(super) fn stream(&self) -> BlobStream {
        match self {
            Content::Bytes(bytes) => {
                let bytes = bytes.clone();
                let starts = (0..bytes.len()).step_by(CHUNK);
                let pieces = starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + CHUNK))));
                stream::iter(pieces).boxed()
            }
            Content::Blob(blob, source) => source.open(blob),
        }
    }

    /// All of it, where that goes into one message.
    pub(super) async fn whole(&self) -> Result<Bytes, RemoteError> {
        if let Content::Bytes(bytes) = self {
            return Ok(bytes.clone());
        }
        let mut pieces = self.stream();
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.freeze())
    }

    /// The server's name for it. It is read for that.
    pub(super) async fn name(&self, function: Function) -> Result<Name, RemoteError> {
        let mut hasher = function.hasher();
        let mut pieces = self.stream();
        while let Some(piece) = pieces.next().await {
            hasher.update(&piece?);
        }
        Ok(hasher.finish())
    }
}
