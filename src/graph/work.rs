//! What the steps do when they run, on a worker thread: each a function of its inputs, which
//! files its result in the cache. Nothing here decides whether or when a step runs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{ActionResult, BlobRef, Cache, Digest, FileStamp, LocalCache, Tiers};
use crate::executors::{EncodeJob, Executor, Unusable};
use crate::media::{
    Codecs, Counted, DecodeOptions, Decoding, Index, MediaError, OnGpu, PacketReader, Signature, VideoTrack,
    cut_score,
};
use crate::package::{self, Composition, ContentId, PublishError, Sample};
use crate::stream::Track;
use crate::workers::WorkerPool;

use super::chunking::ChunkPolicy;
use super::composed::{CacheBlobs, Composed, composed, composition, content_of, not_composed};
use super::cutting::Frames;
use super::error::StepError;
use super::film::{DecodedSpan, Film, FrameFacts, Piece};
use super::frames::{ChunkFrames, Kept};
use super::memory::Room;
use super::rung::RungPlan;
use super::track::ReelFacts;

/// What every step may use.
pub struct Worker {
    pub cache: Arc<Tiers>,
    pub executors: Vec<Arc<dyn Executor>>,
    /// Encoders that the ladder names and that cannot be used.
    pub unusable: Vec<Unusable>,
    pub codecs: Arc<dyn Codecs>,
    /// Pictures decoded so far; those count twice that were decoded twice.
    pub decoded: Arc<AtomicU64>,
    /// The processes that encode and decode, if it is not this one.
    pub pool: Option<Arc<WorkerPool>>,
    /// The machine's name, for people to read.
    pub host: String,
    pub cancelled: Arc<AtomicBool>,
}

/// A step ready to run, with its inputs.
pub type Job = Box<dyn FnOnce(&Worker) -> Result<Made, StepError> + Send + Sync>;

/// Several steps in one go, by their numbers.
pub type Batch = Box<dyn FnOnce(&Worker, &mut dyn Steps) -> Result<(), StepError> + Send>;

/// Who has several steps done in one go.
pub trait Steps {
    /// Told before a step is begun. False where it is to be passed over, as others are at it.
    fn begin(&mut self, number: usize) -> bool;
    /// Takes a step's result.
    fn done(&mut self, number: usize, made: Made);
}

/// What a step made.
pub struct Made {
    pub result: ActionResult,
    pub payload: Payload,
}

/// Results that the graph grows by, handed over so that they need not be read again.
pub enum Payload {
    None,
    Source(Digest),
    Index(Arc<Index>),
    /// A span, with its frames if they were to be kept, and what became of it on a GPU.
    Span(Box<DecodedSpan>, Frames, Option<OnGpu>),
    Film(Arc<Film>),
    Sound(SoundFacts, Vec<Piece>),
    Reel(Arc<Vec<ContentId>>),
    /// A chunk, by this executor.
    Encoded(String),
    /// The output folder is as it should be.
    Published,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SoundFacts {
    pub samples: u64,
    /// 48 kHz samples by which the sound starts after the picture.
    pub offset: i64,
}

/// What is known of a chunk that was encoded, or of a window: its one blob is all samples, one after another,
/// as `mdat` holds them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EncodeFacts {
    /// What the sample entry takes of it: for AV1 the sequence header OBU. Empty for audio.
    pub header: Vec<u8>,
    /// Bytes of each sample.
    pub sizes: Vec<u32>,
}

impl EncodeFacts {
    /// Of a result whose blob holds so many samples, and no bytes besides; `None` where it does not.
    pub fn of(result: &ActionResult, samples: u32) -> Option<EncodeFacts> {
        let facts: EncodeFacts = facts(result).ok()?;
        let bytes = facts.sizes.iter().map(|&size| u64::from(size)).sum::<u64>();
        let is_whole = matches!(&result.blobs[..], [blob] if blob.size == bytes);
        (is_whole && facts.sizes.len() == samples as usize).then_some(facts)
    }
}

/// Reads facts out of a result.
pub fn facts<T: DeserializeOwned>(result: &ActionResult) -> Result<T, StepError> {
    postcard::from_bytes(&result.facts).map_err(StepError::internal)
}

pub fn encoded(value: &impl Serialize) -> Result<Vec<u8>, StepError> {
    postcard::to_stdvec(value).map_err(StepError::internal)
}

impl Worker {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// A blob's content; where it is gone or damaged, the step that made it runs again.
    pub fn load<T: DeserializeOwned>(&self, blob: &BlobRef) -> Result<T, StepError> {
        let bytes = self.cache.blob(blob)?.ok_or(StepError::Lost(*blob))?;
        postcard::from_bytes(&bytes).map_err(|_| StepError::Lost(*blob))
    }

    pub fn store(&self, bytes: &[u8], facts: Vec<u8>) -> Result<ActionResult, StepError> {
        Ok(ActionResult { facts, blobs: vec![self.cache.put_blob(bytes)?] })
    }
}

pub fn plain(result: ActionResult) -> Made {
    Made { result, payload: Payload::None }
}

/// Bytes of a source that are hashed at a time: few enough to stay in the processor's cache.
const HASH_PIECE: u64 = 1 << 20;

/// What `meta` of a source that cannot be opened says.
fn unopened(path: &Path, error: std::io::Error) -> StepError {
    MediaError::opening(path, &error).into()
}

/// The digest of a source file that was hashed before and has not been touched since.
pub fn known_source(cache: &LocalCache, path: &Path) -> Option<Digest> {
    let stamp = FileStamp::of(&std::fs::metadata(path).ok()?);
    cache.known_file(path, &stamp)
}

/// The digest of a source file, remembered for as long as it is not touched.
pub fn hash_source(worker: &Worker, path: &Path) -> Result<Digest, StepError> {
    let meta = std::fs::metadata(path).map_err(|error| unopened(path, error))?;
    if !meta.is_file() {
        let reason = "it is not a regular file".to_owned();
        return Err(MediaError::Open { path: path.to_owned(), reason }.into());
    }
    let mut before = FileStamp::of(&meta);
    let wait = before.settles_in(SystemTime::now());
    if !wait.is_zero() {
        std::thread::sleep(wait);
        before = FileStamp::of(&std::fs::metadata(path).map_err(|error| unopened(path, error))?);
    }
    let digest = hash_file(path, &|| worker.is_cancelled())?;
    let after = std::fs::metadata(path).map_err(|error| unopened(path, error))?;
    if FileStamp::of(&after) != before {
        return Err(MediaError::Changed { path: path.to_owned() }.into());
    }
    worker.cache.local().remember_file(path, &before, digest)?;
    Ok(digest)
}

/// What a source comes to.
pub fn source(digest: Digest) -> Made {
    let result = ActionResult { facts: digest.0.to_vec(), blobs: Vec::new() };
    Made { result, payload: Payload::Source(digest) }
}

/// The BLAKE3 of a file's bytes, by all cores, the next piece being read beside it.
///
/// It is read rather than mapped: a file that is cut while it is read must be an error, not a
/// signal.
pub fn hash_file(path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Digest, StepError> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(|error| unopened(path, error))?;
    let mut read = |piece: &mut Vec<u8>| {
        piece.clear();
        let read = (&mut file).take(HASH_PIECE).read_to_end(piece);
        read.map_err(|error| unopened(path, error))
    };
    let (mut piece, mut next) = (Vec::new(), Vec::new());
    read(&mut piece)?;
    while !piece.is_empty() {
        if cancelled() {
            return Err(StepError::Cancelled);
        }
        let (came, _) = rayon::join(|| read(&mut next), || hasher.update_rayon(&piece).count());
        came?;
        std::mem::swap(&mut piece, &mut next);
    }
    Ok(hasher.finalize().into())
}

pub fn scan_source(worker: &Worker, path: &Path, digest: Digest) -> Result<Made, StepError> {
    let index = worker.codecs.scan(path, &|| worker.is_cancelled())?;
    // What was indexed is filed under the digest, so it must still be the file that has it.
    if known_source(worker.cache.local(), path) != Some(digest) {
        return Err(MediaError::Changed { path: path.to_owned() }.into());
    }
    let result = store_index(worker, &index)?;
    Ok(Made { result, payload: Payload::Index(Arc::new(index)) })
}

pub fn store_index(worker: &Worker, index: &Index) -> Result<ActionResult, StepError> {
    worker.store(&encoded(index)?, Vec::new())
}

/// Open readers of one source, so that spans in order are read in one pass.
pub struct Readers {
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

    fn take(&self, first: u64) -> Result<PacketReader, MediaError> {
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

    fn give_back(&self, reader: PacketReader) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }
}

/// Decodes a span, on a GPU or with so many threads; its frames are handed over, too, where there is
/// room to keep them.
pub fn decode_span(
    worker: &Worker,
    readers: &Readers,
    span: usize,
    (threads, gpu): (usize, Option<String>),
    keep: Option<Room>,
) -> Result<Made, StepError> {
    let first = readers.track.spans.get(span).map_or(0, |span| span.first);
    let mut reader = readers.take(first)?;
    let packets = reader.read_span(span)?;
    readers.give_back(reader);
    let options = DecodeOptions { threads, frames: keep.is_some(), at_once: true, gpu };
    let mut decoding = Counted::new(worker.codecs.open(packets, &options)?, &worker.decoded);
    let mut decoded = DecodedSpan::default();
    let mut before: Option<Signature> = None;
    let mut first = None;
    let mut frames = keep.is_some().then(Vec::new);
    while let Some(next) = decoding.next_picture()? {
        if worker.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let score = before.as_ref().map_or(0, |before| cut_score(before, &next.signature));
        decoded.frames.push(FrameFacts { rank: next.rank, digest: next.digest, score });
        first.get_or_insert_with(|| next.signature.clone());
        before = Some(next.signature);
        if let Some(frames) = &mut frames {
            frames.extend(next.frame.map(Arc::new));
        }
    }
    decoded.ends = first.zip(before);
    // One that hands over no frames was not asked for them, or cannot: they are decoded again later.
    let frames = frames.filter(|frames| frames.len() == decoded.frames.len()).zip(keep);
    let frames = frames.map(|(frames, mut room)| {
        let bytes = readers.track.frame_bytes();
        frames.into_iter().map(|frame| Kept { frame, room: room.split(bytes) }).collect()
    });
    let result = worker.store(&encoded(&decoded)?, Vec::new())?;
    Ok(Made { result, payload: Payload::Span(Box::new(decoded), frames, decoding.on_gpu()) })
}

/// Files what a row of spans decodes to as one.
pub fn wind_spans(worker: &Worker, spans: &[BlobRef]) -> Result<Made, StepError> {
    let decoded = spans.iter().map(|blob| worker.load(blob)).collect::<Result<Vec<DecodedSpan>, _>>()?;
    Ok(plain(worker.store(&encoded(&decoded)?, Vec::new())?))
}

pub fn cut_film(
    worker: &Worker,
    track: &Arc<VideoTrack>,
    reels: &[BlobRef],
    policy: &ChunkPolicy,
    path: &Path,
) -> Result<Made, StepError> {
    let film = Film::assemble(track, reels.len(), &|reel| worker.load(&reels[reel]), policy)?;
    let film = film.ok_or_else(|| MediaError::Damaged {
        path: path.to_owned(),
        detail: "not one of its pictures could be decoded".to_owned(),
    })?;
    store_film(worker, film)
}

pub fn store_film(worker: &Worker, film: Film) -> Result<Made, StepError> {
    let result = worker.store(&encoded(&film)?, Vec::new())?;
    Ok(Made { result, payload: Payload::Film(Arc::new(film)) })
}

/// Encodes a chunk in one of the ways that its rung allows, by one of the executors, on so many cores.
pub fn encode_chunk(
    worker: &Worker,
    frames: &ChunkFrames,
    rung: &RungPlan,
    (choice, executor): (usize, usize),
    threads: usize,
) -> Result<Made, StepError> {
    let missing = || StepError::internal("an encoder that is not here");
    let settings = &rung.choices.get(choice).ok_or_else(missing)?.settings;
    let executor = worker.executors.get(executor).ok_or_else(missing)?;
    let cancelled = || worker.is_cancelled();
    let chunk = frames.with(&cancelled, |pictures| {
        let job = EncodeJob { pictures, settings, contract: &rung.contract, threads, cancelled: &cancelled };
        executor.encode(&job).outcome.map_err(StepError::Encode)
    })?;
    let result = store_samples(worker, chunk.sequence_header, &chunk.units)?;
    Ok(Made { result, payload: Payload::Encoded(executor.name().to_owned()) })
}

/// Holds every distinct sequence header of a rung against its contract. The result is the one
/// that the initialisation segment carries.
pub fn check_contract(rung: &RungPlan, headers: &[Vec<u8>]) -> Result<Made, StepError> {
    for header in headers {
        rung.contract
            .check(header)
            .map_err(|error| StepError::Spec(format!("rung {}: {error}", rung.name)))?;
    }
    let first = headers.first().ok_or_else(|| StepError::internal("a rung without segments"))?;
    Ok(plain(ActionResult { facts: first.clone(), blobs: Vec::new() }))
}

/// Files encoded samples.
pub fn store_samples(
    worker: &Worker,
    header: Vec<u8>,
    samples: &[Vec<u8>],
) -> Result<ActionResult, StepError> {
    let sizes = samples.iter().map(|sample| u32::try_from(sample.len()));
    let sizes = sizes.collect::<Result<_, _>>().map_err(StepError::internal)?;
    worker.store(&samples.concat(), encoded(&EncodeFacts { header, sizes })?)
}

/// Where a segment stands among its track's, and how long its samples last.
#[derive(Clone, Debug)]
pub struct Place {
    pub number: u32,
    /// Ticks.
    pub start: u64,
    pub durations: Vec<(u32, u32)>,
}

/// Describes a segment of the samples that are in `payload`, which is read for the segment's digest.
pub fn mux(
    worker: &Worker,
    track: &Track,
    (payload, sizes): (&BlobRef, &[u32]),
    place: &Place,
) -> Result<Made, StepError> {
    let ticks = place.durations.iter();
    let ticks = ticks.flat_map(|&(count, ticks)| std::iter::repeat_n(ticks, count as usize));
    let samples = sizes.iter().zip(ticks).enumerate().map(|(number, (&size, duration))| Sample {
        size,
        duration,
        sync: track.sync.is_sync(number),
    });
    let samples: Vec<Sample> = samples.collect();
    if samples.len() != sizes.len() {
        return Err(StepError::Lost(*payload));
    }
    let segment = package::Segment {
        sequence_number: place.number,
        base_decode_time: place.start,
        rolls: track.roll.is_some(),
        samples: &samples,
    };
    let parts = package::segment(&segment, content_of(payload)).map_err(StepError::internal)?;
    let segment = Composition::of(parts, &mut CacheBlobs(&worker.cache)).map_err(not_composed)?;
    Ok(plain(composed(&segment)?))
}

/// Files the list of a reel's segments, and beside it what they are made of, which only publishing reads.
pub fn wind(
    worker: &Worker,
    segments: &[Arc<ActionResult>],
    headers: Vec<Vec<u8>>,
) -> Result<Made, StepError> {
    let made = segments.iter().map(|segment| composition(segment));
    let made = made.collect::<Result<Vec<Composition>, _>>()?;
    let segments: Vec<ContentId> = made.iter().map(|segment| segment.content).collect();
    let facts = encoded(&ReelFacts { headers })?;
    let list = worker.cache.put_blob(&encoded(&segments)?)?;
    let result = ActionResult { facts, blobs: vec![list, worker.cache.put_blob(&encoded(&made)?)?] };
    Ok(Made { result, payload: Payload::Reel(Arc::new(segments)) })
}

/// Writes what is missing in an output folder.
pub fn publish(
    worker: &Worker,
    folder: &Path,
    files: &package::FileList,
    composed: &Composed,
) -> Result<Made, StepError> {
    let mut mended = BTreeSet::new();
    loop {
        let mut contents = composed.contents(&worker.cache);
        let error = match package::publish(folder, files, &mut contents) {
            Ok(_) => return Ok(Made { result: ActionResult::default(), payload: Payload::Published }),
            Err(error) => error,
        };
        let Some(blob) = contents.to_blame(&error) else { return Err(StepError::Publish(error)) };
        // What is right, and yet not what it should be, is made again, too.
        let is_nonsense = matches!(error, PublishError::WrongContent { .. });
        // A damaged blob goes when it is looked at, and may be had from elsewhere; but not for ever.
        if is_nonsense || worker.cache.blob(&blob)?.is_none() {
            return Err(StepError::Lost(blob));
        }
        if !mended.insert(blob.digest) || worker.is_cancelled() {
            return Err(StepError::Publish(error));
        }
    }
}

/// Runs a job; a panic in a codec is a failure of that step, not of the program.
pub fn guarded<T>(job: impl FnOnce() -> Result<T, StepError>) -> Result<T, StepError> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(StepError::internal(format!("a step panicked: {text}")))
    })
}
