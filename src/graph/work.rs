//! What the steps do when they run, on a worker thread: each a function of its inputs, which
//! files its result in the cache. Nothing here decides whether or when a step runs.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{ActionResult, BlobRef, Cache, Digest, FileStamp, LocalCache};
use crate::executors::{EncodeJob, EncodedChunk, Executor};
use crate::media::{
    self, AudioTrack, Index, MediaError, OpusEncoder, OpusTrack, PacketReader, Rational, Signature,
    SpanDecoder, VideoTrack, cut_score,
};
use crate::package;

use super::chunking::ChunkPolicy;
use super::error::StepError;
use super::film::{DecodedSpan, Film, FrameFacts};
use super::frames::ChunkFrames;
use super::rung::RungPlan;

/// What every step may use.
pub struct Worker {
    pub cache: Arc<LocalCache>,
    pub executor: Arc<dyn Executor>,
    pub cancelled: Arc<AtomicBool>,
}

/// A step ready to run, with its inputs.
pub type Job = Box<dyn FnOnce(&Worker) -> Result<Made, StepError> + Send>;

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
    Film(Arc<Film>),
    /// The output folder is as it should be.
    Published,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SoundFacts {
    /// BLAKE3 of the samples.
    pub pcm: Digest,
    pub samples: u64,
    /// 48 kHz samples by which the sound starts after the picture.
    pub offset: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EncodeFacts {
    pub sequence_header: Vec<u8>,
    pub frames: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AudioFacts {
    pub pre_skip: u16,
    pub samples: u64,
    pub packets: u64,
}

/// Reads facts out of a result.
pub fn facts<T: DeserializeOwned>(result: &ActionResult) -> Result<T, StepError> {
    postcard::from_bytes(&result.facts).map_err(StepError::internal)
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>, StepError> {
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

    fn store(&self, bytes: &[u8], facts: Vec<u8>) -> Result<ActionResult, StepError> {
        Ok(ActionResult { facts, blobs: vec![self.cache.put_blob(bytes)?] })
    }
}

fn plain(result: ActionResult) -> Made {
    Made { result, payload: Payload::None }
}

/// Bytes of a source that are hashed at a time.
const HASH_PIECE: usize = 32 << 20;

/// What `meta` of a source that cannot be opened says.
fn unopened(path: &Path, error: std::io::Error) -> StepError {
    MediaError::Open { path: path.to_owned(), reason: error.to_string() }.into()
}

/// The digest of a source file that was hashed before and has not been touched since.
pub fn known_source(cache: &LocalCache, path: &Path) -> Option<Digest> {
    let stamp = FileStamp::of(&std::fs::metadata(path).ok()?);
    cache.known_file(path, &stamp)
}

pub fn hash_source(worker: &Worker, path: &Path) -> Result<Made, StepError> {
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
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(|error| unopened(path, error))?;
    // Read rather than mapped: a file that is cut while it is read must be an error, not a signal.
    let mut piece = vec![0; HASH_PIECE];
    loop {
        if worker.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let mut filled = 0;
        while filled < piece.len() {
            match file.read(&mut piece[filled..]).map_err(|error| unopened(path, error))? {
                0 => break,
                read => filled += read,
            }
        }
        hasher.update_rayon(&piece[..filled]);
        if filled < piece.len() {
            break;
        }
    }
    let digest = Digest::from(hasher.finalize());
    let after = std::fs::metadata(path).map_err(|error| unopened(path, error))?;
    if FileStamp::of(&after) != before {
        return Err(MediaError::Changed { path: path.to_owned() }.into());
    }
    worker.cache.remember_file(path, &before, digest)?;
    Ok(Made {
        result: ActionResult { facts: digest.0.to_vec(), blobs: Vec::new() },
        payload: Payload::Source(digest),
    })
}

pub fn scan_source(worker: &Worker, path: &Path, digest: Digest) -> Result<Made, StepError> {
    let index = media::scan(path, &|| worker.is_cancelled())?;
    // What was indexed is filed under the digest, so it must still be the file that has it.
    if known_source(&worker.cache, path) != Some(digest) {
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

pub fn decode_span(
    worker: &Worker,
    readers: &Readers,
    span: usize,
    threads: usize,
) -> Result<Made, StepError> {
    let first = readers.track.spans.get(span).map_or(0, |span| span.first);
    let mut reader = readers.take(first)?;
    let packets = reader.read_span(span)?;
    readers.give_back(reader);
    let mut decoder = SpanDecoder::new(packets, threads)?;
    let mut decoded = DecodedSpan::default();
    let mut before: Option<Signature> = None;
    let mut first = None;
    while let Some(next) = decoder.next_frame()? {
        if worker.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let signature = Signature::of(&next.frame);
        let score = before.as_ref().map_or(0, |before| cut_score(before, &signature));
        decoded.frames.push(FrameFacts { rank: next.rank, digest: next.frame.digest(), score });
        first.get_or_insert_with(|| signature.clone());
        before = Some(signature);
    }
    decoded.ends = first.zip(before);
    Ok(plain(worker.store(&encoded(&decoded)?, Vec::new())?))
}

/// Where the sound of a rendition comes from.
#[derive(Clone)]
pub struct SoundSource {
    pub path: PathBuf,
    pub track: AudioTrack,
    /// 1 or 2.
    pub channels: u8,
    /// Start of the picture, in units of the second.
    pub origin: (i64, Rational),
}

pub fn decode_sound(worker: &Worker, sound: &SoundSource) -> Result<Made, StepError> {
    let mut hasher = blake3::Hasher::new_derive_key("rivet pcm v1");
    let mut samples = 0u64;
    let mut sink = |pcm: &[i32]| {
        for sample in pcm {
            hasher.update(&sample.to_le_bytes());
        }
        samples += pcm.len() as u64 / u64::from(sound.channels);
        Ok(())
    };
    let cancelled = || worker.is_cancelled();
    let offset =
        media::decode_audio(&sound.path, &sound.track, sound.channels, sound.origin, &cancelled, &mut sink)?;
    let facts = SoundFacts { pcm: hasher.finalize().into(), samples, offset };
    Ok(plain(ActionResult { facts: encoded(&facts)?, blobs: Vec::new() }))
}

pub fn cut_film(
    worker: &Worker,
    track: &VideoTrack,
    spans: &[BlobRef],
    policy: &ChunkPolicy,
    path: &Path,
) -> Result<Made, StepError> {
    let decoded = spans.iter().map(|blob| worker.load(blob)).collect::<Result<Vec<DecodedSpan>, _>>()?;
    let film = Film::assemble(track, &decoded, policy).ok_or_else(|| MediaError::Damaged {
        path: path.to_owned(),
        detail: "not one of its pictures could be decoded".to_owned(),
    })?;
    let result = worker.store(&encoded(&film)?, Vec::new())?;
    Ok(Made { result, payload: Payload::Film(Arc::new(film)) })
}

pub fn encode_chunk(worker: &Worker, frames: &ChunkFrames, rung: &RungPlan) -> Result<Made, StepError> {
    let cancelled = || worker.is_cancelled();
    let frames = frames.get(&cancelled)?;
    let job = EncodeJob {
        frames: &frames,
        settings: &rung.settings,
        contract: &rung.contract,
        cancelled: &cancelled,
    };
    let report = worker.executor.encode(&job);
    let chunk = report.outcome.map_err(StepError::Encode)?;
    let facts =
        EncodeFacts { sequence_header: chunk.sequence_header.clone(), frames: chunk.units.len() as u32 };
    Ok(plain(worker.store(&encoded(&chunk)?, encoded(&facts)?)?))
}

pub fn encode_audio(
    worker: &Worker,
    sound: &SoundSource,
    bitrate: u32,
    pcm: Digest,
) -> Result<Made, StepError> {
    let mut encoder = OpusEncoder::new(sound.channels, bitrate)?;
    let mut hasher = blake3::Hasher::new_derive_key("rivet pcm v1");
    let mut sink = |samples: &[i32]| {
        for sample in samples {
            hasher.update(&sample.to_le_bytes());
        }
        encoder.push(samples)
    };
    let cancelled = || worker.is_cancelled();
    media::decode_audio(&sound.path, &sound.track, sound.channels, sound.origin, &cancelled, &mut sink)?;
    if Digest::from(hasher.finalize()) != pcm {
        return Err(MediaError::Changed { path: sound.path.clone() }.into());
    }
    let track = encoder.finish()?;
    let facts =
        AudioFacts { pre_skip: track.pre_skip, samples: track.samples, packets: track.packets.len() as u64 };
    Ok(plain(worker.store(&encoded(&track)?, encoded(&facts)?)?))
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

/// Files bytes that are made without reading anything.
pub fn store_bytes(worker: &Worker, bytes: &[u8]) -> Result<Made, StepError> {
    Ok(plain(worker.store(bytes, Vec::new())?))
}

pub fn mux_video(
    worker: &Worker,
    encode: &BlobRef,
    number: u32,
    start: u64,
    durations: &[(u32, u32)],
) -> Result<Made, StepError> {
    let chunk: EncodedChunk = worker.load(encode)?;
    let ticks = durations.iter().flat_map(|&(count, ticks)| std::iter::repeat_n(ticks, count as usize));
    let samples: Vec<package::Sample<'_>> = chunk
        .units
        .iter()
        .zip(ticks)
        .enumerate()
        .map(|(place, (unit, duration))| package::Sample { data: unit, duration, sync: place == 0 })
        .collect();
    if samples.len() != chunk.units.len() {
        return Err(StepError::Lost(*encode));
    }
    let segment = package::Segment {
        sequence_number: number,
        base_decode_time: start,
        kind: package::TrackKind::Video,
        samples: &samples,
    };
    store_bytes(worker, &package::segment(&segment).map_err(StepError::internal)?)
}

/// Which packets of a rendition make a segment, and when they are decoded.
#[derive(Clone, Debug)]
pub struct AudioSlice {
    pub number: u32,
    pub packets: std::ops::Range<u64>,
    /// 48 kHz samples.
    pub start: u64,
    pub last_duration: u32,
}

pub fn mux_audio(worker: &Worker, audio: &BlobRef, slice: &AudioSlice) -> Result<Made, StepError> {
    let track: OpusTrack = worker.load(audio)?;
    let range = slice.packets.start as usize..slice.packets.end as usize;
    let packets = track.packets.get(range).ok_or(StepError::Lost(*audio))?;
    let last = packets.len().saturating_sub(1);
    let samples: Vec<package::Sample<'_>> = packets
        .iter()
        .enumerate()
        .map(|(place, data)| package::Sample {
            data,
            duration: if place == last { slice.last_duration } else { media::OPUS_FRAME as u32 },
            sync: true,
        })
        .collect();
    let segment = package::Segment {
        sequence_number: slice.number,
        base_decode_time: slice.start,
        kind: package::TrackKind::Audio,
        samples: &samples,
    };
    store_bytes(worker, &package::segment(&segment).map_err(StepError::internal)?)
}

pub fn publish(worker: &Worker, folder: &Path, files: &[package::PublishFile]) -> Result<Made, StepError> {
    let lost = Cell::new(None);
    let result = package::publish(folder, files, &|file| {
        let blob = BlobRef { digest: file.digest.into(), size: file.size };
        match worker.cache.blob(&blob) {
            Ok(Some(bytes)) => Ok(Box::new(std::io::Cursor::new(bytes))),
            Ok(None) => {
                lost.set(Some(blob));
                Err(std::io::Error::other("its content is no longer in the cache"))
            }
            Err(error) => Err(std::io::Error::other(error)),
        }
    });
    match (result, lost.get()) {
        (_, Some(blob)) => Err(StepError::Lost(blob)),
        (Err(error), None) => Err(StepError::Publish(error)),
        (Ok(_), None) => Ok(Made { result: ActionResult::default(), payload: Payload::Published }),
    }
}

/// Runs a job; a panic in a codec is a failure of that step, not of the program.
pub fn run(worker: &Worker, job: Job) -> (Result<Made, StepError>, Duration) {
    let start = Instant::now();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(worker)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(StepError::internal(format!("a step panicked: {text}")))
    });
    (outcome, start.elapsed())
}
