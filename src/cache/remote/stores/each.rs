//! A remote of something that keeps one thing at a time: what is asked for together is asked for side by
//! side, and what came is held against what it should be.

use bytes::Bytes;
use futures_util::future::{self, BoxFuture, FutureExt};

use super::{ActionKey, BlobRef, Remote, RemoteError, Thing, nonsense};
use crate::cache::remote::MOST_ENTRY;

/// Keeps bytes by name, one thing a call.
pub(super) trait Keeper: Send + Sync {
    /// The bytes of a thing; more than `most` are an error, and not all taken.
    fn read(
        &self,
        thing: &Thing,
        most: u64,
    ) -> impl Future<Output = Result<Option<Bytes>, RemoteError>> + Send;

    /// Whether a blob is there, as far as its length tells.
    fn has(&self, blob: &BlobRef) -> impl Future<Output = Result<bool, RemoteError>> + Send;

    /// Stores a thing in place of what may be there.
    fn put(&self, thing: &Thing, bytes: Bytes) -> impl Future<Output = Result<(), RemoteError>> + Send;

    /// Stores a blob that was not there, and leaves it if somebody else has meanwhile, where that shows.
    fn put_blob(&self, blob: &BlobRef, bytes: Bytes) -> impl Future<Output = Result<(), RemoteError>> + Send;

    /// Removes a thing, if it is there.
    fn remove(&self, thing: &Thing) -> impl Future<Output = Result<(), RemoteError>> + Send;
}

/// The remote that a keeper makes.
pub(super) struct Each<K>(pub(super) K);

impl<K: Keeper> Each<K> {
    async fn blob(&self, blob: &BlobRef) -> Result<Option<Bytes>, RemoteError> {
        let thing = Thing::blob(blob);
        match self.0.read(&thing, blob.size).await? {
            Some(bytes) if bytes.len() as u64 != blob.size => {
                let (found, wanted) = (bytes.len(), blob.size);
                Err(nonsense(format_args!("{thing} has {found} bytes instead of {wanted}")))
            }
            bytes => Ok(bytes),
        }
    }
}

impl<K: Keeper> Remote for Each<K> {
    fn entries<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Vec<Result<Option<Bytes>, RemoteError>>> {
        let reads = keys.iter().map(|key| async { self.0.read(&Thing::entry(key), MOST_ENTRY).await });
        future::join_all(reads).boxed()
    }

    fn put_entry<'a>(
        &'a self,
        key: &'a ActionKey,
        bytes: Bytes,
        _blobs: &'a [BlobRef],
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.0.put(&Thing::entry(key), bytes).await }.boxed()
    }

    fn has<'a>(&'a self, blobs: &'a [BlobRef]) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        future::join_all(blobs.iter().map(|blob| self.0.has(blob))).boxed()
    }

    fn blobs<'a>(&'a self, blobs: &'a [BlobRef]) -> BoxFuture<'a, Vec<Result<Option<Bytes>, RemoteError>>> {
        future::join_all(blobs.iter().map(|blob| self.blob(blob))).boxed()
    }

    fn forget<'a>(&'a self, blob: &'a BlobRef) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.0.remove(&Thing::blob(blob)).await }.boxed()
    }

    fn put_blobs<'a>(&'a self, blobs: &'a [(BlobRef, Bytes)]) -> BoxFuture<'a, Vec<Result<(), RemoteError>>> {
        future::join_all(blobs.iter().map(|(blob, bytes)| self.0.put_blob(blob, bytes.clone()))).boxed()
    }
}
