//! Blobs that come from a remote: pieces go from the remote's threads to one that may block, which hashes and
//! writes them. What is under way is a few pieces of each call.

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cache::local::BlobWriter;
use crate::cache::remote::{BlobSink, RemoteError, RemoteFault};
use crate::cache::{CacheError, LocalCache};

/// Pieces that wait to be written.
const PIECES_AHEAD: usize = 4;

/// Where a call's pieces go in.
pub(super) struct Inlet(mpsc::Sender<(usize, Bytes)>);

impl BlobSink for Inlet {
    fn write(&self, index: usize, piece: Bytes) -> BoxFuture<'_, Result<(), RemoteError>> {
        async move {
            let sent = self.0.send((index, piece)).await;
            sent.map_err(|_| RemoteError::new(RemoteFault::Local, "the download cannot be written"))
        }
        .boxed()
    }
}

/// Begins to receive `count` blobs. Once the inlet is dropped, there is a writer for each that holds what came
/// of it; the first error of writing ends all.
pub(super) fn receive(
    count: usize,
    local: &LocalCache,
) -> (Inlet, JoinHandle<Result<Vec<BlobWriter>, CacheError>>) {
    let mut writers: Vec<BlobWriter> = (0..count).map(|_| local.download_writer()).collect();
    let (sender, mut receiver) = mpsc::channel::<(usize, Bytes)>(PIECES_AHEAD);
    let receiving = tokio::task::spawn_blocking(move || {
        while let Some((index, piece)) = receiver.blocking_recv() {
            if let Some(writer) = writers.get_mut(index) {
                writer.append(&piece)?;
            }
        }
        Ok(writers)
    });
    (Inlet(sender), receiving)
}
