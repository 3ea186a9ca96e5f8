//! Reading from a remote: counting the bytes of an object, and collecting small ones in memory.

use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt};

use super::{BlobSink, RemoteError, RemoteFault};

/// A blob, or an entry, that is being read: hands its pieces on and counts them.
pub(super) struct Delivery<'s> {
    sink: &'s dyn BlobSink,
    index: usize,
    /// What is read, for messages: "the blob 17762fddd969".
    what: String,
    received: u64,
    max: u64,
}

impl<'s> Delivery<'s> {
    /// More than `max` bytes are an error, and are not handed on.
    pub(super) fn new(sink: &'s dyn BlobSink, index: usize, what: String, max: u64) -> Delivery<'s> {
        Delivery { sink, index, what, received: 0, max }
    }

    /// Bytes that may still come.
    pub(super) fn left(&self) -> u64 {
        self.max - self.received
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), RemoteError> {
        if piece.len() as u64 > self.left() {
            return Err(self.overrun());
        }
        self.received += piece.len() as u64;
        self.sink.write(self.index, piece).await
    }

    /// The error of what has more than it should.
    pub(super) fn overrun(&self) -> RemoteError {
        self.invalid(format_args!("has more than {} bytes", self.max))
    }

    /// An error where less has come than there should.
    pub(super) fn complete(self) -> Result<(), RemoteError> {
        if self.received == self.max {
            return Ok(());
        }
        Err(self.invalid(format_args!("has {} bytes instead of {}", self.received, self.max)))
    }

    fn invalid(&self, told: std::fmt::Arguments<'_>) -> RemoteError {
        RemoteError::new(RemoteFault::InvalidResponse, format!("{} {told}", self.what))
    }
}

/// Collects what is read in memory: for entries, which are small.
#[derive(Default)]
pub(super) struct Collector(Mutex<Vec<BytesMut>>);

impl Collector {
    pub(super) fn new(count: usize) -> Collector {
        Collector(Mutex::new(vec![BytesMut::new(); count]))
    }

    /// What was read, by its place.
    pub(super) fn into_bytes(self) -> Vec<Bytes> {
        let pieces = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        pieces.into_iter().map(BytesMut::freeze).collect()
    }
}

impl BlobSink for Collector {
    fn write(&self, index: usize, piece: Bytes) -> BoxFuture<'_, Result<(), RemoteError>> {
        if let Some(bytes) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            bytes.extend_from_slice(&piece);
        }
        std::future::ready(Ok(())).boxed()
    }
}
