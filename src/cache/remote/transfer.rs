//! Blobs on their way to a remote or from it, in pieces: memory is taken for a few pieces, whatever a blob's
//! size and whatever somebody promised.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::RemoteError;
use crate::cache::BlobRef;

/// The bytes of one blob in sequence. It ends with an error where they cannot be read or are not the blob's;
/// the last bytes do not come then.
pub type BlobStream = BoxStream<'static, Result<Bytes, RemoteError>>;

/// Where blobs come from that are stored in a remote.
pub trait BlobSource: Send + Sync {
    /// The bytes of a blob from its begin. An upload that begins anew opens it again. Runs within a tokio
    /// runtime.
    fn open(&self, blob: &BlobRef) -> BlobStream;
}

/// Where blobs go that are read from a remote.
pub trait BlobSink: Send + Sync {
    /// Takes what comes next of the blob that has this place in the call's list. It waits while what came
    /// before is written. An error ends the reading of the blob.
    fn write(&self, index: usize, piece: Bytes) -> BoxFuture<'_, Result<(), RemoteError>>;
}
