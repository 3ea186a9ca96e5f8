//! The frames of chunks, decoded when an encode needs them and shared by all rungs. Frames are
//! never stored: a chunk's frames live from its first encode to its last.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::media::{Frame, MediaError, PacketReader, SpanDecoder, VideoTrack};

use super::error::StepError;
use super::film::{Chunk, ChunkIdentity, Film};

/// Decodes the frames of a title's chunks. Chunks asked for in film order cost one pass.
pub struct FrameSource {
    path: PathBuf,
    track: Arc<VideoTrack>,
    film: Arc<Film>,
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
    waiting: BTreeSet<usize>,
}

/// An open decoder in the middle of the film.
struct Cursor {
    reader: PacketReader,
    decoder: Option<SpanDecoder>,
    span: usize,
    /// The film's frame that comes next.
    next: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FrameSource {
    /// `threads` decode at a time; they change no frame.
    pub fn new(path: &Path, track: Arc<VideoTrack>, film: Arc<Film>, threads: usize) -> FrameSource {
        let span_starts = film
            .span_frames
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
            film,
            span_starts,
            threads,
            turns: Mutex::default(),
            next_turn: Condvar::new(),
        }
    }

    /// Bytes that a chunk's frames take in memory, about.
    pub fn chunk_bytes(&self, chunk: usize) -> u64 {
        let sample = if self.track.bit_depth > 8 { 2 } else { 1 };
        // 4:4:4 at worst; decoders pad a little on top.
        let frame = u64::from(self.track.width) * u64::from(self.track.height) * sample * 3;
        self.film.chunks.get(chunk).map_or(0, |chunk| u64::from(chunk.frames) * frame)
    }

    /// The frames of a chunk, made sure to be those that its identity names.
    fn load(&self, number: usize, cancelled: &dyn Fn() -> bool) -> Result<Vec<Frame>, StepError> {
        let Some(chunk) = self.film.chunks.get(number) else {
            return Err(StepError::internal("no such chunk"));
        };
        let mut turns = lock(&self.turns);
        turns.waiting.insert(number);
        while turns.decoding || turns.waiting.first() != Some(&number) {
            turns = self.next_turn.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        turns.waiting.remove(&number);
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
    ) -> Result<(Vec<Frame>, Cursor), StepError> {
        let mut cursor = match cursor.filter(|cursor| self.is_near(cursor, chunk.first)) {
            Some(cursor) => cursor,
            None => self.open(chunk.first)?,
        };
        let mut frames = Vec::with_capacity(chunk.frames as usize);
        let mut identity = ChunkIdentity::default();
        while frames.len() < chunk.frames as usize {
            if cancelled() {
                return Err(StepError::Cancelled);
            }
            let at = cursor.next;
            let frame = self.next_frame(&mut cursor)?;
            if at >= chunk.first {
                identity.add(&frame.digest());
                frames.push(frame);
            }
        }
        if identity.finish() != chunk.identity {
            let detail = "a picture did not decode to the same samples twice".to_owned();
            return Err(MediaError::Damaged { path: self.path.clone(), detail }.into());
        }
        Ok((frames, cursor))
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
        Ok(Cursor { reader, decoder: None, span, next: self.span_starts.get(span).copied().unwrap_or(0) })
    }

    fn next_frame(&self, cursor: &mut Cursor) -> Result<Frame, StepError> {
        loop {
            if cursor.decoder.is_none() {
                let packets = cursor.reader.read_span(cursor.span)?;
                cursor.decoder = Some(SpanDecoder::new(packets, self.threads)?);
            }
            let decoded = match &mut cursor.decoder {
                Some(decoder) => decoder.next_frame()?,
                None => None,
            };
            match decoded {
                Some(decoded) => {
                    cursor.next += 1;
                    return Ok(decoded.frame);
                }
                None => {
                    cursor.decoder = None;
                    cursor.span += 1;
                    if cursor.span >= self.span_starts.len() {
                        return Err(MediaError::Changed { path: self.path.clone() }.into());
                    }
                }
            }
        }
    }
}

/// The frames of one chunk, for all the encodes that want them: the first to ask decodes.
pub struct ChunkFrames {
    source: Arc<FrameSource>,
    chunk: usize,
    frames: Mutex<Option<Arc<Vec<Frame>>>>,
}

impl ChunkFrames {
    pub fn new(source: Arc<FrameSource>, chunk: usize) -> ChunkFrames {
        ChunkFrames { source, chunk, frames: Mutex::new(None) }
    }

    pub fn get(&self, cancelled: &dyn Fn() -> bool) -> Result<Arc<Vec<Frame>>, StepError> {
        let mut slot = lock(&self.frames);
        if let Some(frames) = &*slot {
            return Ok(Arc::clone(frames));
        }
        let frames = Arc::new(self.source.load(self.chunk, cancelled)?);
        *slot = Some(Arc::clone(&frames));
        Ok(frames)
    }
}
