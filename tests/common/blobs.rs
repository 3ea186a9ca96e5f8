//! Blobs in memory, for remotes that take and give them in pieces.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use rivet::testing::cache::BlobRef;
use rivet::testing::cache::remote::{BlobSink, BlobSource, BlobStream, Remote, RemoteError};

/// Bytes of a piece, as a build sends them.
const PIECE: usize = 256 << 10;

/// Brings blobs in pieces of [`PIECE`].
struct Memory(HashMap<BlobRef, Bytes>);

impl BlobSource for Memory {
    fn open(&self, blob: &BlobRef) -> BlobStream {
        let bytes = self.0[blob].clone();
        let starts = (0..bytes.len()).step_by(PIECE);
        stream::iter(starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + PIECE))))).boxed()
    }
}

/// Keeps what comes, by its place.
struct Collected(Mutex<Vec<BytesMut>>);

impl BlobSink for Collected {
    fn write(&self, index: usize, piece: Bytes) -> BoxFuture<'_, Result<(), RemoteError>> {
        self.0.lock().unwrap()[index].extend_from_slice(&piece);
        std::future::ready(Ok(())).boxed()
    }
}

/// Stores blobs, each with its bytes.
pub async fn put_blobs(remote: &dyn Remote, blobs: &[(BlobRef, Bytes)]) -> Vec<Result<(), RemoteError>> {
    let names: Vec<BlobRef> = blobs.iter().map(|(name, _)| *name).collect();
    remote.put_blobs(&names, &Memory(blobs.iter().cloned().collect())).await
}

/// The bytes of each blob; `None` of one that is not there.
pub async fn get_blobs(remote: &dyn Remote, blobs: &[BlobRef]) -> Vec<Result<Option<Bytes>, RemoteError>> {
    let collected = Collected(Mutex::new(vec![BytesMut::new(); blobs.len()]));
    let there = remote.read_blobs(blobs, &collected).await;
    let bytes = collected.0.into_inner().unwrap();
    let found = there.into_iter().zip(bytes);
    found.map(|(is_there, bytes)| Ok(is_there?.then(|| bytes.freeze()))).collect()
}
