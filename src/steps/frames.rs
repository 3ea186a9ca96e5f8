//! The frames of chunks, shared by all rungs: those that a decode step has just made and kept, or
//! else decoded when an encode needs them. Frames are never stored: a chunk's frames live from
//! its first encode to its last.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::cache::Digest;
use crate::executors::{Failure, FailureKind, FrameSupply};
use crate::media::{
    Codecs, Counted, DecodeOptions, DecodedFrame, Decoding, Frame, FrameDigest, MediaError, PacketReader,
    VideoTrack,
};

use super::error::StepError;
use super::memory::Reservation;
use crate::title::chunk::{Chunk, ChunkIdentity};

/// Decodes the frames of a title's chunks. Chunks asked for in film order cost one pass.
pub struct FrameSource {
    path: PathBuf,
    track: Arc<VideoTrack>,
    codecs: Arc<dyn Codecs>,
    /// Pictures decoded so far, here and elsewhere.
    decoded: Arc<AtomicU64>,
    /// The first frame of each span.
    span_starts: Vec<u64>,
    threads: usize,
    turns: Mutex<Turns>,
    next_turn: Condvar,
}

/// Who decodes: one at a time, of those who wait the one whose chunk comes first in the film.
#[derive(Default)]
struct Turns {
    cursor: Option<Cursor>,
    decoding: bool,
    waiting: BTreeSet<u64>,
}

/// An open decoder in the middle of the film.
struct Cursor {
    reader: PacketReader,
    decoding: Option<Counted>,
    span: usize,
    /// The film's frame that comes next.
    next: u64,
}

/// Frames that a decoder holds besides those that it has handed out: references, and those that
/// wait for their turn to be shown.
const DECODER_FRAMES: u64 = 20;

/// Threads of a decoder that decodes chunks again, at most.
pub const MAX_THREADS: usize = 8;

/// Bytes that a decoder with so many threads takes.
pub fn decoder_bytes(track: &VideoTrack, threads: usize) -> u64 {
    track.frame_bytes().saturating_mul(DECODER_FRAMES + threads as u64)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FrameSource {
    /// `threads` decode at a time; they change no frame. `span_frames` are the frames of each span.
    pub fn new(
        path: &Path,
        track: Arc<VideoTrack>,
        (codecs, decoded): (Arc<dyn Codecs>, Arc<AtomicU64>),
        span_frames: &[u32],
        threads: usize,
    ) -> FrameSource {
        let span_starts = span_frames
            .iter()
            .scan(0u64, |next, &frames| {
                let start = *next;
                *next += u64::from(frames);
                Some(start)
            })
            .collect();
        FrameSource {
            path: path.to_owned(),
            track,
            codecs,
            decoded,
            span_starts,
            threads,
            turns: Mutex::default(),
            next_turn: Condvar::new(),
        }
    }

    /// The frames of a chunk, made sure to be those that its identity names.
    fn load(&self, chunk: &Chunk, cancelled: &dyn Fn() -> bool) -> Result<Vec<Arc<Frame>>, StepError> {
        let mut turns = lock(&self.turns);
        turns.waiting.insert(chunk.first);
        while turns.decoding || turns.waiting.first() != Some(&chunk.first) {
            turns = self.next_turn.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        turns.waiting.remove(&chunk.first);
        turns.decoding = true;
        let cursor = turns.cursor.take();
        drop(turns);
        let decoded = self.decode(chunk, cursor, cancelled);
        let mut turns = lock(&self.turns);
        turns.decoding = false;
        self.next_turn.notify_all();
        // A cursor that failed is not used again.
        let (frames, cursor) = decoded?;
        turns.cursor = Some(cursor);
        Ok(frames)
    }

    fn decode(
        &self,
        chunk: &Chunk,
        cursor: Option<Cursor>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Vec<Arc<Frame>>, Cursor), StepError> {
        let cursor = match cursor.filter(|cursor| self.is_near(cursor, chunk.first)) {
            Some(cursor) => cursor,
            None => self.open(chunk.first)?,
        };
        let mut pass = Pass { source: self, chunk, cursor, identity: ChunkIdentity::default(), cancelled };
        let mut frames = Vec::with_capacity(chunk.frames as usize);
        while let Some(frame) = pass.next()? {
            frames.push(frame);
        }
        Ok((frames, pass.cursor))
    }

    /// Whether going on from the cursor costs no more than opening a span anew.
    fn is_near(&self, cursor: &Cursor, frame: u64) -> bool {
        cursor.next <= frame && (cursor.next == frame || self.span_of(frame) <= cursor.span + 1)
    }

    fn span_of(&self, frame: u64) -> usize {
        self.span_starts.partition_point(|&start| start <= frame).saturating_sub(1)
    }

    fn open(&self, frame: u64) -> Result<Cursor, StepError> {
        let span = self.span_of(frame);
        let reader = PacketReader::open(&self.path, Arc::clone(&self.track))?;
        Ok(Cursor { reader, decoding: None, span, next: self.span_starts.get(span).copied().unwrap_or(0) })
    }

    fn next_frame(&self, cursor: &mut Cursor) -> Result<(FrameDigest, Frame), StepError> {
        loop {
            if cursor.decoding.is_none() {
                let packets = cursor.reader.read_span(cursor.span)?;
                let options =
                    DecodeOptions { threads: self.threads, frames: true, ..DecodeOptions::default() };
                let decoding = self.codecs.open(packets, &options)?;
                cursor.decoding = Some(Counted::new(decoding, &self.decoded));
            }
            let decoded = match &mut cursor.decoding {
                Some(decoding) => decoding.next_frame()?,
                None => None,
            };
            match decoded {
                Some(DecodedFrame { digest, frame: Some(frame), .. }) => {
                    cursor.next += 1;
                    return Ok((digest, frame));
                }
                Some(_) => return Err(StepError::internal("a picture that was asked for did not come")),
                None => {
                    cursor.decoding = None;
                    cursor.span += 1;
                    if cursor.span >= self.span_starts.len() {
                        return Err(MediaError::Changed { path: self.path.clone() }.into());
                    }
                }
            }
        }
    }
}

/// One way through a chunk. After its last frame it makes sure that they were the right ones.
struct Pass<'a> {
    source: &'a FrameSource,
    chunk: &'a Chunk,
    cursor: Cursor,
    identity: ChunkIdentity,
    cancelled: &'a dyn Fn() -> bool,
}

impl Pass<'_> {
    fn next(&mut self) -> Result<Option<Arc<Frame>>, StepError> {
        let end = self.chunk.first + u64::from(self.chunk.frames);
        loop {
            if (self.cancelled)() {
                return Err(StepError::Cancelled);
            }
            if self.cursor.next >= end {
                return Ok(None);
            }
            let at = self.cursor.next;
            let (digest, frame) = self.source.next_frame(&mut self.cursor)?;
            if at < self.chunk.first {
                continue;
            }
            self.identity.add(&digest);
            if at + 1 == end && self.identity.finish() != self.chunk.identity {
                let detail = "a picture did not decode to the same samples twice".to_owned();
                return Err(MediaError::Damaged { path: self.source.path.clone(), detail }.into());
            }
            return Ok(Some(Arc::new(frame)));
        }
    }
}

/// A frame that a decode step has kept.
pub struct RetainedFrame {
    pub frame: Arc<Frame>,
    pub memory: Reservation,
}

/// The frames of one chunk, for all the encodes that want them.
pub struct ChunkFrames {
    source: Arc<FrameSource>,
    chunk: Chunk,
    frames: Mutex<Option<Arc<Vec<Arc<Frame>>>>>,
    /// Too many to hold: every encode decodes them for itself, one after the other.
    too_many: bool,
    _memory: Option<Reservation>,
}

impl ChunkFrames {
    /// Frames that the first encode decodes for all others.
    pub fn deferred(
        source: Arc<FrameSource>,
        chunk: Chunk,
        too_many: bool,
        memory: Reservation,
    ) -> ChunkFrames {
        ChunkFrames { source, chunk, frames: Mutex::new(None), too_many, _memory: Some(memory) }
    }

    /// Frames that are here already.
    pub fn eager(source: Arc<FrameSource>, chunk: Chunk, frames: Vec<RetainedFrame>) -> ChunkFrames {
        let (frames, memory): (Vec<_>, Vec<_>) =
            frames.into_iter().map(|kept| (kept.frame, kept.memory)).unzip();
        let _memory = memory.into_iter().reduce(Reservation::join);
        ChunkFrames { source, chunk, frames: Mutex::new(Some(Arc::new(frames))), too_many: false, _memory }
    }

    /// The identity of their chunk.
    pub fn identity(&self) -> Digest {
        self.chunk.identity
    }

    /// Runs `encode` with the chunk's pictures. An error that ended the pictures comes before what
    /// `encode` made of it.
    pub fn with<T>(
        &self,
        cancelled: &(dyn Fn() -> bool + Sync),
        encode: impl FnOnce(&dyn FrameSupply) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let here = if self.too_many { None } else { Some(self.get(cancelled)?) };
        let supply = Supply { frames: self, here, cancelled, error: Mutex::new(None) };
        let made = encode(&supply);
        match lock(&supply.error).take() {
            Some(error) => Err(error),
            None => made,
        }
    }

    fn get(&self, cancelled: &dyn Fn() -> bool) -> Result<Arc<Vec<Arc<Frame>>>, StepError> {
        let mut slot = lock(&self.frames);
        if let Some(frames) = &*slot {
            return Ok(Arc::clone(frames));
        }
        let frames = Arc::new(self.source.load(&self.chunk, cancelled)?);
        *slot = Some(Arc::clone(&frames));
        Ok(frames)
    }
}

struct Supply<'a> {
    frames: &'a ChunkFrames,
    here: Option<Arc<Vec<Arc<Frame>>>>,
    cancelled: &'a (dyn Fn() -> bool + Sync),
    error: Mutex<Option<StepError>>,
}

impl Supply<'_> {
    fn failed(&self, error: StepError) -> Failure {
        let kind = if error.is_cancelled() { FailureKind::Cancelled } else { FailureKind::Source };
        let failure = Failure { kind, message: error.to_string() };
        *lock(&self.error) = Some(error);
        failure
    }
}

impl FrameSupply for Supply<'_> {
    fn count(&self) -> usize {
        self.frames.chunk.frames as usize
    }

    fn is_retained(&self) -> bool {
        self.here.is_some()
    }

    fn open(&self) -> Box<dyn Iterator<Item = Result<Arc<Frame>, Failure>> + '_> {
        if let Some(here) = &self.here {
            return Box::new(here.iter().map(|frame| Ok(Arc::clone(frame))));
        }
        let (source, chunk) = (&self.frames.source, &self.frames.chunk);
        let cancelled: &dyn Fn() -> bool = self.cancelled;
        let mut pass = source.open(chunk.first).map(|cursor| Pass {
            source,
            chunk,
            cursor,
            identity: ChunkIdentity::default(),
            cancelled,
        });
        let mut ended = false;
        Box::new(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let next = match &mut pass {
                Ok(pass) => pass.next(),
                Err(error) => Err(std::mem::replace(error, StepError::Cancelled)),
            };
            ended = !matches!(next, Ok(Some(_)));
            next.map_err(|error| self.failed(error)).transpose()
        }))
    }
}
