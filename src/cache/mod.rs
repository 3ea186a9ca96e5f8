//! The content-addressed cache: blobs named by their BLAKE3, and action entries that map the
//! key of a step to the digests of what it made. It knows nothing of video, of the graph or of
//! what a key is made of.
//!
//! What lies where in its folder `docs/design.md` lists.
//!
//! Several processes may use one folder at once: files appear whole by rename, are never
//! changed afterwards, and a reader verifies what it reads. An entry whose blob is missing or
//! wrong is a miss; the blob is dropped so that the next write repairs it.

mod checksummed;
mod digest;
mod entry;
mod error;
mod local;
mod place;
pub mod remote;
mod tiers;
pub mod trust;

use std::path::PathBuf;

pub use digest::{ActionKey, Digest};
pub use entry::{ActionEntry, ActionResult, BlobRef, Cost};
pub use error::CacheError;
pub use local::{
    AgeStats, CacheStats, Caches, Collected, Damage, FileKind, FileStamp, GcRules, GroupStats, Lease,
    LocalCache, Parts, Pin, PinnedTitle, RunningBuild, Tally, Verified,
};
pub use place::{all_apart, apart, default_folder};
pub use tiers::{Carried, Missing, RemoteOptions, RemoteReport, Tiers};

/// The version of the layout, here and in remotes: a newer one lies beside an older one.
const LAYOUT: &str = "v2";

/// What the graph needs of a cache. Backends and decorators (tiers, signing, counting)
/// implement just this.
pub trait Cache: Send + Sync {
    /// The entry filed under `key`, if it is there, whole, and its blobs are present.
    fn action(&self, key: &ActionKey) -> Result<Option<ActionEntry>, CacheError>;

    /// Files `entry` under `key`. The blobs that it names must have been put before.
    fn put_action(&self, key: &ActionKey, entry: &ActionEntry) -> Result<(), CacheError>;

    /// The bytes of a blob, verified. `None` when it is missing or its bytes are wrong.
    fn blob(&self, blob: &BlobRef) -> Result<Option<Vec<u8>>, CacheError>;

    /// Whether all blobs of an entry can be had and are right. What is damaged is not found any more after
    /// that.
    fn is_intact(&self, entry: &ActionEntry) -> bool {
        entry.result.blobs.iter().all(|blob| matches!(self.blob(blob), Ok(Some(_))))
    }

    /// Stores `bytes` and returns their name. Storing what is there already costs no write.
    fn put_blob(&self, bytes: &[u8]) -> Result<BlobRef, CacheError>;

    /// Where a blob's file is, if blobs are files here, for its content to be shared by the file
    /// system. It may not be there, nobody has verified it, and nobody may change it.
    fn blob_file(&self, _blob: &BlobRef) -> Option<PathBuf> {
        None
    }
}
