//! Caches elsewhere: what is asked of each kind, and opening one by its URL. What comes from one is
//! bytes that nobody vouches for yet; whoever asks compares digests and signatures.

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

use super::{ActionKey, BlobRef};

/// Bytes of an entry at most, signature included. A reel's names the inputs of 128 segments, a title's
/// all of its reels: some ten kilobytes, and 100 for ten hours on eight rungs.
pub const MAX_ENTRY: u64 = 2 << 20;

/// Bytes of a blob at most: more than any store takes. What claims to be longer is a lie, and sums of such
/// sizes would not be counted right.
pub const MAX_BLOB: u64 = 1 << 48;

/// A cache elsewhere. It keeps entries, which are bytes to it, by action key, and blobs by BLAKE3.
///
/// Calls name several things at once, so that each kind of remote can do what is fastest there: one
/// message, or many requests side by side. Callers keep groups to a few hundred keys, and blobs of
/// some megabytes together, but for one that has more by itself. Blobs go in pieces, so that one of any size
/// takes little memory. Nothing here retries, waits for long
/// or counts: that is its callers' part. Dropping a call's future abandons it.
pub trait Remote: Send + Sync {
    /// The bytes filed under each key, in order; `None` where there are none. Never more than
    /// [`MAX_ENTRY`] of them, which is an error of that key's.
    fn entries<'a>(&'a self, keys: &'a [ActionKey])
    -> BoxFuture<'a, Vec<Result<Option<Bytes>, RemoteError>>>;

    /// Files an entry. `blobs` are those that it names, for remotes that keep what belongs together;
    /// they have been put before.
    fn put_entry<'a>(
        &'a self,
        key: &'a ActionKey,
        bytes: Bytes,
        blobs: &'a [BlobRef],
    ) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Whether each blob is there, in order, as far as that shows without reading it.
    fn has<'a>(&'a self, blobs: &'a [BlobRef]) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>>;

    /// Hands the bytes of each blob to `sink`, by its place in `blobs`, and tells, in order, whether it was
    /// there. Where that is true the blob's length has come, neither more nor less; its digest may be another.
    /// Of one that ends in an error some bytes may have come. No blob is named twice.
    fn read_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        sink: &'a dyn BlobSink,
    ) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>>;

    /// Removes a blob whose bytes turned out to be wrong, so that right ones can be put. Nothing where the
    /// remote looks after that itself.
    fn forget<'a>(&'a self, blob: &'a BlobRef) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Stores blobs that are not there: whoever calls has asked. Nothing is seen of one whose bytes `source`
    /// cannot bring to their end. What came of each, in order.
    fn put_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        source: &'a dyn BlobSource,
    ) -> BoxFuture<'a, Vec<Result<(), RemoteError>>>;
}

/// Opens the remote at `url`. What can be wrong with the URL or the credentials is told now; whether
/// anybody answers there shows when it is first asked. Who named it decides what secrets of the user's it
/// is sent. `patience` is how long connecting may take. Runs within a tokio runtime, which the remote then
/// uses.
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
