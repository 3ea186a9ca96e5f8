//! The folder of blobs: opening them to read, and putting finished temporary files in their places. Nothing
//! gets a blob's name here before its digest is known to be that name.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::blob_reader::BlobReader;
use super::blob_writer::BlobWriter;
use super::files::{self, Opened, drop_file, open};
use super::losses::Losses;
use super::used::{self, Used};
use crate::cache::{BlobRef, CacheError, Digest};

pub(super) struct Blobs {
    folder: PathBuf,
    /// Where files are while they are being written.
    tmp: PathBuf,
    is_writable: bool,
    used: Arc<Used>,
    losses: Arc<Losses>,
    /// Damaged blobs that cannot be removed, as the cache was opened to be read only. They count as missing.
    damaged: Mutex<HashSet<Digest>>,
}

impl Blobs {
    pub(super) fn new(
        folder: PathBuf,
        tmp: PathBuf,
        is_writable: bool,
        used: Arc<Used>,
        losses: Arc<Losses>,
    ) -> Arc<Blobs> {
        Arc::new(Blobs { folder, tmp, is_writable, used, losses, damaged: Mutex::default() })
    }

    pub(super) fn path_of(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    pub(super) fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// Whether there is a blob of that name and length. Its bytes are verified when they are read.
    pub(super) fn has(&self, blob: &BlobRef) -> Result<bool, CacheError> {
        let path = self.path_of(&blob.digest);
        match fs::symlink_metadata(&path) {
            Ok(meta) => Ok(meta.is_file() && meta.len() == blob.size && !self.is_damaged(&blob.digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(CacheError::io("look at the blob", &path)(error)),
        }
    }

    /// Opens a blob. One of another length is a miss and stays: it may be what its name says, and the
    /// reference be wrong.
    pub(super) fn open(self: &Arc<Self>, blob: &BlobRef) -> Result<Option<BlobReader>, CacheError> {
        if self.is_damaged(&blob.digest) {
            return Ok(None);
        }
        let path = self.path_of(&blob.digest);
        match open(&path, "read the blob")? {
            Opened::Nothing => Ok(None),
            Opened::File(file, meta) if meta.len() == blob.size => {
                Ok(Some(BlobReader::of_file(*blob, file, path, Arc::clone(self))))
            }
            Opened::File(..) => Ok(None),
            Opened::Unusable(why) => {
                self.discard(blob, &why);
                Ok(None)
            }
        }
    }

    /// Removes a blob that is damaged or cannot be read, so that the next write repairs it.
    pub(super) fn discard(&self, blob: &BlobRef, why: &str) {
        let path = self.path_of(&blob.digest);
        self.losses.tell("blob", &path, why);
        if self.is_writable {
            drop_file(&path);
        } else {
            self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest);
        }
    }

    fn is_damaged(&self, digest: &Digest) -> bool {
        !self.is_writable && self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    pub(super) fn writer(self: &Arc<Self>) -> BlobWriter {
        BlobWriter::into_folder(Arc::clone(self))
    }

    /// Whether a blob is there already, so that it need not be written. Only the right bytes are as good as a
    /// write: a damaged file is replaced.
    pub(super) fn is_stored(&self, blob: &BlobRef) -> bool {
        let path = self.path_of(&blob.digest);
        let Ok(Opened::File(file, meta)) = open(&path, "read the blob") else { return false };
        if !is_right(blob, file, &meta) {
            return false;
        }
        if !self.used.wants_note(&meta) {
            return true;
        }
        // That it is wanted again must show, or it might be cleaned away before its new entry is there;
        // but a published file's time is not to change.
        let may_touch = meta.nlink() == 1;
        if may_touch {
            used::touch(&path);
        }
        may_touch
    }

    /// Gives a temporary file, whose digest is known, its name.
    pub(super) fn commit(&self, file: tempfile::NamedTempFile, digest: &Digest) -> Result<(), CacheError> {
        files::commit(file, &self.path_of(digest))
    }
}

fn is_right(blob: &BlobRef, file: File, meta: &Metadata) -> bool {
    let mut hasher = blake3::Hasher::new();
    meta.len() == blob.size
        && hasher.update_reader(file).is_ok()
        && (hasher.count(), Digest::from(hasher.finalize())) == (blob.size, blob.digest)
}
