//! Blobs as streams to a remote or from it, in pieces: memory use is a few pieces, whatever a blob's size.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::RemoteError;
use crate::cache::BlobRef;

/// The bytes of one blob in sequence. It ends with an error, in place of the last bytes, where the blob
/// cannot be read or is damaged.
pub type BlobStream = BoxStream<'static, Result<Bytes, RemoteError>>;

/// The source of blobs that are stored in a remote.
pub trait BlobSource: Send + Sync {
    /// The bytes of a blob from its start. It is opened again when an upload is retried. Runs within a tokio
    /// runtime.
    fn open(&self, blob: &BlobRef) -> BlobStream;
}

/// The destination of blobs that are read from a remote.
pub trait BlobSink: Send + Sync {
    /// Takes the next piece of the blob at this place in the call's list. It waits until earlier pieces are
    /// written. An error ends the reading of the blob.
    fn write(&self, index: usize, piece: Bytes) -> BoxFuture<'_, Result<(), RemoteError>>;
}
