//! The content-addressed cache: blobs named by their BLAKE3, and cache entries that map the
//! key of a step to the digests of what it made. It knows nothing of video, of the graph or of
//! what a key is made of.
//!
//! `docs/design.md` lists the folder's layout.
//!
//! Several processes may use one folder at once: files appear whole by rename, are never
//! changed afterwards, and a reader verifies what it reads. An entry whose blob is missing or
//! wrong is a miss; the blob is dropped so that the next write repairs it.

mod base_dir;
mod checksummed;
mod digest;
mod entry;
mod error;
mod local;
pub mod remote;
mod tiers;
pub mod trust;

use std::path::PathBuf;

pub use base_dir::{default_folder, isolated_namespace, isolated_namespaces};
pub use digest::{Digest, EntryKey};
pub use entry::{BlobRef, CacheEntry, Cost, EntryResult};
pub use error::CacheError;
pub use local::{
    AgeStats, BlobReader, BlobWriter, CacheStats, Caches, Collected, Damage, DamagedBlob, FileKind,
    FileStamp, GcRules, GroupStats, Lease, LocalCache, OldLayout, Parts, Pin, PinnedTitle, RunningBuild,
    Tally, Verified,
};
pub use tiers::{Missing, RemoteOptions, RemoteReport, Tiers, TransferStats};

/// The version of the layout, here and in remotes: a newer one lies beside an older one. `rivet cache gc` removes
/// the older ones of a local folder.
const LAYOUT: &str = "v3";

/// What the graph needs of a cache. Backends and decorators (tiers, signing, counting)
/// implement just this.
///
/// Blobs are read and written as streams of any size. What takes or gives whole blobs is for small ones
/// (indexes, lists, facts) and is made of the streams.
pub trait Cache: Send + Sync {
    /// The entry filed under `key`, if it is there, whole, and its blobs are present.
    fn find_entry(&self, key: &EntryKey) -> Result<Option<CacheEntry>, CacheError>;

    /// Files `entry` under `key`. The blobs that it names must have been written before.
    fn put_entry(&self, key: &EntryKey, entry: &CacheEntry) -> Result<(), CacheError>;

    /// Opens a blob to be read in sequence; `None` when it is missing. It is verified on the way: see
    /// [`BlobReader`] and [`DamagedBlob`].
    fn open_blob(&self, blob: &BlobRef) -> Result<Option<BlobReader>, CacheError>;

    /// Begins a blob, which is stored once it is finished. Storing what is there already costs no write.
    fn blob_writer(&self) -> Result<BlobWriter, CacheError>;

    /// The bytes of a small blob, verified. `None` when it is missing or its bytes are wrong.
    fn blob(&self, blob: &BlobRef) -> Result<Option<Vec<u8>>, CacheError> {
        read_verified(self, blob, BlobReader::read_whole)
    }

    /// Stores a small blob and returns its name.
    fn put_blob(&self, bytes: &[u8]) -> Result<BlobRef, CacheError> {
        let mut writer = self.blob_writer()?;
        writer.append(bytes)?;
        writer.finish()
    }

    /// Reads a blob to its end: whether it can be had, and is right. What is damaged is not found any more
    /// after that.
    fn verify_blob(&self, blob: &BlobRef) -> Result<bool, CacheError> {
        Ok(read_verified(self, blob, |reader| Ok(reader.verify()?.then_some(())))?.is_some())
    }

    /// Whether all blobs of an entry can be had and are right. What is damaged is not found any more after
    /// that.
    fn is_intact(&self, entry: &CacheEntry) -> bool {
        entry.result.blobs.iter().all(|blob| matches!(self.verify_blob(blob), Ok(true)))
    }

    /// Where a blob's file is, if blobs are files here, for its content to be shared by the file
    /// system. It may not be there, nobody has verified it, and nobody may change it.
    fn blob_file(&self, _blob: &BlobRef) -> Option<PathBuf> {
        None
    }
}

/// Reads a blob, and once more where it was damaged: then it comes from elsewhere, or is missing.
fn read_verified<T>(
    cache: &(impl Cache + ?Sized),
    blob: &BlobRef,
    read: impl Fn(BlobReader) -> Result<Option<T>, CacheError>,
) -> Result<Option<T>, CacheError> {
    for _ in 0..2 {
        let Some(reader) = cache.open_blob(blob)? else { return Ok(None) };
        if let Some(content) = read(reader)? {
            return Ok(Some(content));
        }
    }
    Ok(None)
}
