//! What every step may use when it runs, and what it is granted for the run.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::{BlobRef, Cache, Digest, EntryResult, Tiers};
use crate::executors::{Executor, Unusable};
use crate::media::{Codecs, MediaError, PacketReader, VideoTrack};
use crate::notices::Notices;
use crate::workers::WorkerPool;

use super::error::{StepError, Stop};
use super::frames::ChunkFrames;
use super::memory::Reservation;

pub(crate) struct StepContext {
    pub cache: Arc<Tiers>,
    pub executors: Vec<Arc<dyn Executor>>,
    /// Encoders that the ladder names and that cannot be used.
    pub unusable: Vec<Unusable>,
    pub codecs: Arc<dyn Codecs>,
    /// Frames decoded so far; those count twice that were decoded twice.
    pub decoded: Arc<AtomicU64>,
    /// The processes that encode and decode, if it is not this one.
    pub pool: Option<Arc<WorkerPool>>,
    /// The machine's name, for people to read.
    pub host: String,
    pub cancelled: Arc<AtomicBool>,
    /// Warnings of no one title.
    pub notices: Notices,
}

/// What a step is granted for a run: what is no value and is held by this process.
pub(crate) enum Grant {
    /// A slot.
    Slot,
    Decode {
        readers: Arc<Readers>,
        threads: usize,
        /// The GPU to decode on, by its UUID.
        gpu: Option<String>,
        /// Memory for its frames, if they are to be retained.
        keep: Option<Reservation>,
    },
    Encode {
        frames: Arc<ChunkFrames>,
        /// Which of the context's executors.
        executor: usize,
        threads: usize,
    },
}

impl StepContext {
    /// Warnings since the last call, of the caches and workers, too.
    pub fn take_notices(&self) -> Vec<String> {
        let mut notices = self.notices.take();
        notices.extend(self.cache.take_notices());
        notices.extend(self.pool.iter().flat_map(|pool| pool.take_notices()));
        notices
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The value in a blob; where it is missing or damaged, the step that made it runs again.
    pub fn load<T: DeserializeOwned>(&self, blob: &BlobRef) -> Result<T, Stop> {
        let bytes = self.cache.blob(blob)?.ok_or(Stop::Lost(*blob))?;
        postcard::from_bytes(&bytes).map_err(|_| Stop::Lost(*blob))
    }

    /// Stores a blob, and returns a result of it and of facts.
    pub fn store(&self, bytes: &[u8], facts: Vec<u8>) -> Result<EntryResult, StepError> {
        Ok(EntryResult { facts, blobs: vec![self.cache.put_blob(bytes)?] })
    }
}

/// Reads the facts of a result.
pub(crate) fn facts<T: DeserializeOwned>(result: &EntryResult) -> Result<T, StepError> {
    postcard::from_bytes(&result.facts).map_err(StepError::internal)
}

pub(crate) fn encoded(value: &impl Serialize) -> Result<Vec<u8>, StepError> {
    postcard::to_stdvec(value).map_err(StepError::internal)
}

/// The value in a result's blob; `None` where it is missing, damaged, or something else.
pub(crate) fn read<T: DeserializeOwned>(
    result: &EntryResult,
    cache: &dyn Cache,
) -> Result<Option<T>, StepError> {
    let blob = super::view::blob(result)?;
    Ok(cache.blob(&blob)?.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
}

/// Bytes of a source that are hashed at a time: few enough to stay in the processor's cache.
const HASH_BLOCK: u64 = 1 << 20;

/// The BLAKE3 of a file's bytes, by all cores, the next block being read beside it.
///
/// It is read rather than mapped: a file that is cut while it is read must be an error, not a
/// signal.
pub fn hash_file(path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Digest, StepError> {
    let unopened = |error: std::io::Error| StepError::from(MediaError::opening(path, &error));
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(unopened)?;
    let mut read = |block: &mut Vec<u8>| {
        block.clear();
        let read = (&mut file).take(HASH_BLOCK).read_to_end(block);
        read.map_err(unopened)
    };
    let (mut block, mut next) = (Vec::new(), Vec::new());
    read(&mut block)?;
    while !block.is_empty() {
        if cancelled() {
            return Err(StepError::Cancelled);
        }
        let (came, _) = rayon::join(|| read(&mut next), || hasher.update_rayon(&block).count());
        came?;
        std::mem::swap(&mut block, &mut next);
    }
    Ok(hasher.finalize().into())
}

/// Open readers of one source, so that spans in order are read in one pass.
pub(crate) struct Readers {
    path: PathBuf,
    track: Arc<VideoTrack>,
    idle: Mutex<Vec<PacketReader>>,
}

impl Readers {
    pub fn new(path: &Path, track: Arc<VideoTrack>) -> Readers {
        Readers { path: path.to_owned(), track, idle: Mutex::new(Vec::new()) }
    }

    pub fn track(&self) -> &Arc<VideoTrack> {
        &self.track
    }

    pub fn take(&self, first: u64) -> Result<PacketReader, MediaError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that has least to read until it is there.
        let best = (0..idle.len()).filter(|&at| idle[at].start() <= first).max_by_key(|&at| idle[at].start());
        match best {
            Some(at) => Ok(idle.swap_remove(at)),
            None => {
                drop(idle);
                PacketReader::open(&self.path, Arc::clone(&self.track))
            }
        }
    }

    pub fn give_back(&self, reader: PacketReader) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }
}

/// Runs a job; a panic in a codec is a failure of that step, not of the program.
pub(crate) fn guarded<T>(job: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(StepError::internal(format!("a step panicked: {text}")).into())
    })
}
