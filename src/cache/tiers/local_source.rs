//! Blobs of the local folder on their way to a remote: a thread that may block reads and verifies them, a few
//! pieces ahead of the network.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;

use crate::cache::remote::{BlobSource, BlobStream, RemoteError, RemoteFault};
use crate::cache::{BlobRef, Cache, LocalCache};

/// Bytes of a piece, which is one message of a ByteStream write.
const PIECE: usize = 256 << 10;
/// Pieces that wait to be sent.
const PIECES_AHEAD: usize = 4;

pub(super) struct LocalSource(pub(super) Arc<LocalCache>);

impl BlobSource for LocalSource {
    fn open(&self, blob: &BlobRef) -> BlobStream {
        let (local, blob) = (Arc::clone(&self.0), *blob);
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        tokio::task::spawn_blocking(move || {
            let send = |piece| sender.blocking_send(piece).is_ok();
            if let Err(why) = read(&local, &blob, &mut |piece| send(Ok(piece))) {
                let told = format!("cannot read the blob {}: {why}", blob.digest.short());
                send(Err(RemoteError::new(RemoteFault::Local, told)));
            }
        });
        let receive =
            |mut receiver: mpsc::Receiver<_>| async move { Some((receiver.recv().await?, receiver)) };
        stream::unfold(receiver, receive).boxed()
    }
}

/// Hands on the pieces of a blob until `send` takes no more. The last one comes only if all are right.
fn read(local: &LocalCache, blob: &BlobRef, send: &mut dyn FnMut(Bytes) -> bool) -> Result<(), String> {
    let mut reader = match local.open_blob(blob) {
        Ok(Some(reader)) => reader,
        Ok(None) => return Err("it is not in the cache any more".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let mut left = blob.size;
    while left > 0 {
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        reader.read_exact(&mut piece).map_err(|error: io::Error| error.to_string())?;
        left -= piece.len() as u64;
        if !send(piece.into()) {
            break;
        }
    }
    Ok(())
}
