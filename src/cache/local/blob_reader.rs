//! Reads a blob in sequence and verifies it on the way: a read to the end without an error has returned the
//! right bytes. A wrong digest is an error in place of the last bytes, never an end of file.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::blobs::Blobs;
use super::files::is_files_fault;
use crate::cache::{BlobRef, CacheError, Digest};

/// Bytes read at a time to verify a blob.
const BUFFER: usize = 256 << 10;

/// A blob that is being read. Its bytes are only known to be right once the end was reached: until then
/// nothing final may be made of them.
pub struct BlobReader {
    content: Box<dyn Read + Send>,
    /// For messages.
    path: PathBuf,
    blob: BlobRef,
    left: u64,
    hasher: blake3::Hasher,
    state: State,
    /// Where the blob is discarded when it turns out to be damaged.
    blobs: Option<Arc<Blobs>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Verified,
    Damaged,
}

/// The bytes read are not the blob's, or its file cannot be read. The blob counts as missing from now on:
/// open it again, as the cache may have it elsewhere, or make it again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("blob {} of {} bytes is damaged: {why}", blob.digest, blob.size)]
pub struct DamagedBlob {
    pub blob: BlobRef,
    pub why: String,
}

impl DamagedBlob {
    /// The damage behind an error of a [`BlobReader`]; `None` for any other error.
    pub fn of(error: &io::Error) -> Option<&DamagedBlob> {
        error.get_ref()?.downcast_ref()
    }
}

impl BlobReader {
    pub(super) fn of_file(blob: BlobRef, file: File, path: PathBuf, blobs: Arc<Blobs>) -> BlobReader {
        BlobReader { blobs: Some(blobs), ..BlobReader::new(blob, Box::new(file), path) }
    }

    /// Reads `content`; `path` is for messages.
    pub(super) fn new(blob: BlobRef, content: Box<dyn Read + Send>, path: PathBuf) -> BlobReader {
        let (left, hasher) = (blob.size, blake3::Hasher::new());
        BlobReader { content, path, blob, left, hasher, state: State::Reading, blobs: None }
    }

    /// What is read.
    pub fn blob(&self) -> &BlobRef {
        &self.blob
    }

    /// All bytes, for blobs that are known to be small; `None` if they are not the blob's.
    pub fn read_whole(mut self) -> Result<Option<Vec<u8>>, CacheError> {
        let mut bytes = Vec::new();
        let size = usize::try_from(self.left).unwrap_or(usize::MAX);
        if let Err(error) = bytes.try_reserve_exact(size) {
            return Err(CacheError::io("hold in memory", &self.path)(io::Error::other(error)));
        }
        let read = self.read_to_end(&mut bytes).map(|_| bytes);
        self.right(read)
    }

    /// Reads to the end and keeps nothing. False if the bytes are not the blob's.
    pub fn verify(mut self) -> Result<bool, CacheError> {
        let mut buffer = vec![0; BUFFER.min(usize::try_from(self.left).unwrap_or(BUFFER)).max(1)];
        let read = loop {
            match self.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break Err(error),
                Ok(_) | Err(_) => {}
            }
        };
        Ok(self.right(read)?.is_some())
    }

    fn right<T>(&self, read: io::Result<T>) -> Result<Option<T>, CacheError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if DamagedBlob::of(&error).is_some() => Ok(None),
            Err(error) => Err(CacheError::io("read the blob", &self.path)(error)),
        }
    }

    fn damaged(&mut self, why: &str) -> io::Error {
        if self.state != State::Damaged
            && let Some(blobs) = &self.blobs
        {
            blobs.discard(&self.blob, why);
        }
        self.state = State::Damaged;
        let damage = DamagedBlob { blob: self.blob, why: why.to_owned() };
        io::Error::new(io::ErrorKind::InvalidData, damage)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.state {
            State::Damaged => return Err(self.damaged("it was found to be damaged before")),
            State::Verified => return Ok(0),
            State::Reading if buffer.is_empty() => return Ok(0),
            State::Reading => {}
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..wanted];
        let read = match self.content.read(buffer) {
            Err(error) if is_files_fault(&error) => return Err(self.damaged(&error.to_string())),
            read => read?,
        };
        if read == 0 && self.left > 0 {
            return Err(self.damaged("it is shorter than it should be"));
        }
        self.hasher.update(&buffer[..read]);
        self.left -= read as u64;
        if self.left == 0 {
            if Digest::from(self.hasher.finalize()) != self.blob.digest {
                return Err(self.damaged("its bytes have another digest"));
            }
            self.state = State::Verified;
        }
        Ok(read)
    }
}
