//! Remote caches: the interface of each kind, and opening one by its URL. What a remote returns is untrusted;
//! callers verify digests and signatures.

#[cfg(any(feature = "reapi", feature = "stores"))]
mod delivery;
mod error;
#[cfg(feature = "reapi")]
mod reapi;
#[cfg(any(feature = "reapi", feature = "stores"))]
mod secrets;
#[cfg(feature = "stores")]
mod stores;
mod transfer;
mod url;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use error::{RemoteError, RemoteFault};
pub use transfer::{BlobSink, BlobSource, BlobStream};
pub(crate) use url::is_secret;
pub use url::{NamedBy, RemoteUrl, UrlError};

use super::{BlobRef, EntryKey};

/// Bytes of an entry at most, signature included. A pack's entry names the inputs of 128 segments, a title's
/// all of its packs: some ten kilobytes, and 100 for ten hours on eight rungs.
pub const MAX_ENTRY: u64 = 2 << 20;

/// Bytes of a blob at most: more than any store takes, and small enough that sums of sizes do not overflow.
pub const MAX_BLOB: u64 = 1 << 48;

/// A remote cache. It stores entries, which are opaque bytes, by entry key, and blobs by BLAKE3.
///
/// Calls name several items, so that each kind of remote can do what is fastest there: one message, or
/// concurrent requests. Callers keep groups to a few hundred keys, and to some megabytes of blobs unless one
/// alone has more. Blobs are streamed, so that one of any size takes little memory. Nothing here retries,
/// times out or counts: that is the caller's part. Dropping a call's future cancels it.
pub trait Remote: Send + Sync {
    /// The bytes stored under each key, in order; `None` where there are none. More than [`MAX_ENTRY`] of
    /// them are an error of that key's.
    fn entries<'a>(&'a self, keys: &'a [EntryKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>, RemoteError>>>;

    /// Stores an entry. `blobs` are those that it names, for remotes that keep what belongs together; they
    /// have been stored before.
    fn put_entry<'a>(
        &'a self,
        key: &'a EntryKey,
        bytes: Bytes,
        blobs: &'a [BlobRef],
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Whether each blob is there, in order, by name and length.
    fn has<'a>(&'a self, blobs: &'a [BlobRef]) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>>;

    /// Hands the bytes of each blob to `sink`, by its place in `blobs`, and tells, in order, whether it was
    /// there. Where that is true the blob's length has come, neither more nor less; its digest may be another.
    /// Of one that ends in an error some bytes may have come. No blob is named twice.
    fn read_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        sink: &'a dyn BlobSink,
    ) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>>;

    /// Removes a corrupt blob, so that it can be stored again. Does nothing where the remote checks its blobs
    /// itself.
    fn forget<'a>(&'a self, blob: &'a BlobRef) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Stores blobs that the caller has found missing. A blob whose bytes `source` cannot read to the end is
    /// not stored. The outcome of each, in order.
    fn put_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        source: &'a dyn BlobSource,
    ) -> BoxFuture<'a, Vec<Result<(), RemoteError>>>;
}

/// Opens the remote at `url`. Errors in the URL or the credentials are reported now; whether the remote
/// answers shows at the first call. `named_by` decides which of the user's secrets it is sent.
/// `connect_timeout` is the timeout of connecting. Runs within a tokio runtime, which the remote then uses.
pub fn open(
    url: &RemoteUrl,
    named_by: NamedBy,
    connect_timeout: Duration,
) -> Result<Arc<dyn Remote>, RemoteError> {
    match url.scheme() {
        #[cfg(feature = "reapi")]
        "grpc" | "grpcs" => reapi::open(url, named_by, connect_timeout),
        #[cfg(feature = "stores")]
        "s3" | "gs" | "azblob" | "webdav" | "webdavs" | "redis" | "rediss" | "fs" => {
            stores::open(url, named_by, connect_timeout)
        }
        scheme => {
            let _ = (named_by, connect_timeout);
            let told = format!("this rivet was built without remotes of the kind {scheme}");
            Err(RemoteError::new(RemoteFault::Refused, told))
        }
    }
}
