//! The remote of a store that handles one object a call: the objects of a call are requested concurrently,
//! and their lengths are checked.

use bytes::Bytes;
use futures_util::future::{self, BoxFuture, FutureExt};

use super::{BlobRef, EntryKey, ObjectKey, Remote, RemoteError};
use crate::cache::remote::delivery::{Collector, Delivery};
use crate::cache::remote::{BlobSink, BlobSource, MAX_ENTRY};

/// Stores bytes by name, one object a call.
pub(super) trait ObjectStore: Send + Sync {
    /// Reads an object in pieces, as far as `to` takes them. False where it is not there.
    fn read(
        &self,
        object: &ObjectKey,
        to: &mut Delivery<'_>,
    ) -> impl Future<Output = Result<bool, RemoteError>> + Send;

    /// Whether a blob of that name and length is there.
    fn has(&self, blob: &BlobRef) -> impl Future<Output = Result<bool, RemoteError>> + Send;

    /// Stores a small object, replacing what may be there.
    fn put(&self, object: &ObjectKey, bytes: Bytes) -> impl Future<Output = Result<(), RemoteError>> + Send;

    /// Stores a blob that was not there. One that another client has stored meanwhile stays, where the store
    /// tells.
    fn put_blob(
        &self,
        blob: &BlobRef,
        source: &dyn BlobSource,
    ) -> impl Future<Output = Result<(), RemoteError>> + Send;

    /// Removes an object, if it is there.
    fn remove(&self, object: &ObjectKey) -> impl Future<Output = Result<(), RemoteError>> + Send;
}

/// An object store as a remote.
pub(super) struct SingleObjectAdapter<K>(pub(super) K);

impl<K: ObjectStore> SingleObjectAdapter<K> {
    async fn entry(&self, key: &EntryKey) -> Result<Option<Bytes>, RemoteError> {
        let object = ObjectKey::entry(key);
        let collector = Collector::new(1);
        let mut delivery = Delivery::new(&collector, 0, object.to_string(), MAX_ENTRY);
        let is_there = self.0.read(&object, &mut delivery).await?;
        Ok(if is_there { collector.into_bytes().pop() } else { None })
    }

    async fn blob(&self, index: usize, blob: &BlobRef, sink: &dyn BlobSink) -> Result<bool, RemoteError> {
        let object = ObjectKey::blob(blob);
        let mut delivery = Delivery::new(sink, index, object.to_string(), blob.size);
        let is_there = self.0.read(&object, &mut delivery).await?;
        if is_there {
            delivery.complete()?;
        }
        Ok(is_there)
    }
}

impl<K: ObjectStore> Remote for SingleObjectAdapter<K> {
    fn entries<'a>(&'a self, keys: &'a [EntryKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>, RemoteError>>> {
        future::join_all(keys.iter().map(|key| self.entry(key))).boxed()
    }

    fn put_entry<'a>(
        &'a self,
        key: &'a EntryKey,
        bytes: Bytes,
        _blobs: &'a [BlobRef],
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.0.put(&ObjectKey::entry(key), bytes).await }.boxed()
    }

    fn has<'a>(&'a self, blobs: &'a [BlobRef]) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        future::join_all(blobs.iter().map(|blob| self.0.has(blob))).boxed()
    }

    fn read_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        sink: &'a dyn BlobSink,
    ) -> BoxFuture<'a, Vec<Result<bool, RemoteError>>> {
        let reads = blobs.iter().enumerate().map(move |(index, blob)| self.blob(index, blob, sink));
        future::join_all(reads).boxed()
    }

    fn forget<'a>(&'a self, blob: &'a BlobRef) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move { self.0.remove(&ObjectKey::blob(blob)).await }.boxed()
    }

    fn put_blobs<'a>(
        &'a self,
        blobs: &'a [BlobRef],
        source: &'a dyn BlobSource,
    ) -> BoxFuture<'a, Vec<Result<(), RemoteError>>> {
        future::join_all(blobs.iter().map(move |blob| self.0.put_blob(blob, source))).boxed()
    }
}
