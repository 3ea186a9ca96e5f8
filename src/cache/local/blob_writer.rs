//! Writes a blob of any size: to a temporary file, with the digest computed on the way. It gets its name, or is
//! found to be there already, when it is finished; one that is dropped before leaves nothing.

use std::io::{self, Cursor, Seek, Write};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::blob_reader::BlobReader;
use super::blobs::Blobs;
use super::files::temporary;
use crate::cache::{BlobRef, CacheError};

/// Bytes that are kept in memory before they go to the file. What is no larger needs no file until it is known
/// not to be stored already.
const BUFFER: usize = 256 << 10;

/// A blob that is being written. It is invisible before [`finish`](BlobWriter::finish).
pub struct BlobWriter {
    /// The folder that it is written to; `None` for a scratch blob in the system's folder for temporary
    /// files.
    blobs: Option<Arc<Blobs>>,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    /// What does not fit into the buffer.
    file: Option<NamedTempFile>,
}

impl BlobWriter {
    pub(super) fn into_folder(blobs: Arc<Blobs>) -> BlobWriter {
        BlobWriter { blobs: Some(blobs), ..BlobWriter::scratch() }
    }

    /// One that is only read again by this process, where the cache may not be written to.
    pub(in crate::cache) fn scratch() -> BlobWriter {
        BlobWriter { blobs: None, hasher: blake3::Hasher::new(), buffer: Vec::new(), file: None }
    }

    /// The name and length of what was written so far.
    pub fn written(&self) -> BlobRef {
        BlobRef { digest: self.hasher.finalize().into(), size: self.hasher.count() }
    }

    /// As `write_all`, with the cache's own error.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        self.hasher.update(bytes);
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush_buffer()?;
        }
        if bytes.len() >= BUFFER {
            return self.write_to_file(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Gives the blob its name, unless it is stored already. Its bytes are on the disk then.
    pub fn finish(mut self) -> Result<BlobRef, CacheError> {
        let blob = self.written();
        let Some(blobs) = self.blobs.clone() else { return Ok(blob) };
        if blobs.is_stored(&blob) {
            return Ok(blob);
        }
        self.flush_buffer()?;
        let file = self.take_file()?;
        blobs.commit(file, &blob.digest)?;
        Ok(blob)
    }

    /// Reads what was written from its begin.
    pub(in crate::cache) fn into_reader(mut self) -> Result<BlobReader, CacheError> {
        let blob = self.written();
        if self.file.is_none() {
            let content = Cursor::new(std::mem::take(&mut self.buffer));
            return Ok(BlobReader::new(blob, Box::new(content), std::env::temp_dir()));
        }
        self.flush_buffer()?;
        let file = self.take_file()?;
        let path = file.path().to_owned();
        // The file has no name from here on, and goes when it is closed.
        let mut file = file.into_file();
        file.rewind().map_err(CacheError::io("read", &path))?;
        Ok(BlobReader::new(blob, Box::new(file), path))
    }

    fn flush_buffer(&mut self) -> Result<(), CacheError> {
        let buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            self.write_to_file(&buffer)?;
        }
        // Its memory is used again.
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write_to_file(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        let mut file = self.take_file()?;
        file.write_all(bytes).map_err(CacheError::io("write", file.path()))?;
        self.file = Some(file);
        Ok(())
    }

    fn take_file(&mut self) -> Result<NamedTempFile, CacheError> {
        if let Some(file) = self.file.take() {
            return Ok(file);
        }
        match &self.blobs {
            Some(blobs) => temporary(blobs.tmp()).map_err(CacheError::io("create a file in", blobs.tmp())),
            None => NamedTempFile::new().map_err(CacheError::io("create a file in", &std::env::temp_dir())),
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(CacheError::into_io)?;
        Ok(bytes.len())
    }

    /// Nothing: what was written is on the disk once [`finish`](BlobWriter::finish) returns.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
