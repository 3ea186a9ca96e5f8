//! What is known of a title's pictures once they have been decoded, and how they are cut: the
//! results of the decode and chunk steps, as they lie in the cache, and the assembly of the one
//! into the other, span by span, while the source is still being decoded.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::media::{FrameDigest, FrameTimes, LumaFingerprint, Rational, VideoTrack, cut_score};

use super::chunk::{Chunk, ChunkIdentity};
use super::chunking::{ChunkPolicy, CutFrame, Cutter};

/// What the frames of one span are; never the frames themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodedSpan {
    pub frames: Vec<FrameFacts>,
    /// The first and last frame, to compare with the neighbouring spans' frames.
    pub ends: Option<(LumaFingerprint, LumaFingerprint)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameFacts {
    /// Place in presentation order among the span's packets.
    pub rank: u32,
    pub digest: FrameDigest,
    /// Difference from the frame before it; of the first frame 0.
    pub score: u32,
}

/// When a source's frames are shown, and how they lie in its spans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Ticks a second of all times of the video.
    pub timescale: u32,
    /// The constant frame rate, or the largest number of frames in any one second.
    pub frame_rate: Rational,
    /// Frames of each span.
    pub span_frames: Vec<u32>,
    /// Time stamp of the first frame, in units of the track's time base.
    pub origin: i64,
}

/// The result of the chunk step: the whole source, cut into chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkList {
    pub timing: Timing,
    pub chunks: Vec<Chunk>,
}

impl Timing {
    pub fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / f64::from(self.timescale.max(1))
    }
}

impl ChunkList {
    /// Puts the spans together and cuts them into chunks. They come in packs, each of which `load` returns by
    /// its number. `None` when there is not one frame.
    pub fn assemble<E>(
        track: &Arc<VideoTrack>,
        packs: usize,
        load: &dyn Fn(usize) -> Result<Vec<DecodedSpan>, E>,
        policy: &ChunkPolicy,
    ) -> Result<Option<ChunkList>, E> {
        if let Some(assembler) = Assembler::new(track, *policy)
            && let Some(list) = assembler.all((0..packs).map(load))?
        {
            return Ok(Some(list));
        }
        // Not the frames that the time stamps tell of: all are looked at before the first is placed.
        let packs: Vec<Vec<DecodedSpan>> = (0..packs).map(load).collect::<Result<_, E>>()?;
        let spans: Vec<DecodedSpan> = packs.into_iter().flatten().collect();
        match Assembler::of_decoded(track, &spans, *policy) {
            Some(assembler) => assembler.all([Ok(spans)]),
            None => Ok(None),
        }
    }

    /// Ticks that the video lasts.
    pub fn duration(&self) -> u64 {
        self.chunks.last().map_or(0, |chunk| chunk.start + chunk.duration())
    }
}

/// Takes the spans in order and tells each chunk as soon as it is decided.
pub struct Assembler {
    track: Arc<VideoTrack>,
    pub timing: Timing,
    /// When each frame starts, and the end of the last one.
    starts: Vec<u64>,
    /// Whether the frames that come are held against the time stamps of the index.
    by_stamps: bool,
    cutter: Cutter,
    next_span: usize,
    next_frame: u64,
    /// Frames that are in no chunk yet.
    undecided: VecDeque<FrameDigest>,
    last: Option<LumaFingerprint>,
}

impl Assembler {
    /// Where the index tells which frames will come, which is so for all but odd files.
    pub fn new(track: &Arc<VideoTrack>, policy: ChunkPolicy) -> Option<Assembler> {
        let spans: Vec<Vec<i64>> = (0..track.spans.len()).map(|span| track.shown_by(span)).collect();
        let span_frames = spans.iter().map(|stamps| stamps.len() as u32).collect();
        let stamps = spans.concat();
        (!stamps.is_empty()).then(|| Assembler::at(track, &stamps, span_frames, policy, true))
    }

    /// Where only the decoded frames tell how many there are.
    fn of_decoded(track: &Arc<VideoTrack>, spans: &[DecodedSpan], policy: ChunkPolicy) -> Option<Assembler> {
        let span_frames: Vec<u32> = spans.iter().map(|span| span.frames.len() as u32).collect();
        let frames: usize = spans.iter().map(|span| span.frames.len()).sum();
        let mut stamps: Vec<i64> = Vec::new();
        for (number, span) in spans.iter().enumerate() {
            let by_rank = track.stamps_by_rank(number);
            stamps.extend(span.frames.iter().filter_map(|facts| by_rank.get(facts.rank as usize)));
        }
        if stamps.len() != frames {
            stamps = track.sorted_stamps.clone();
        }
        if frames == 0 {
            return None;
        }
        if stamps.len() == frames {
            return Some(Assembler::at(track, &stamps, span_frames, policy, false));
        }
        // No time stamps to go by: one frame after the other at the claimed rate.
        let rate = track.claimed_rates.first().copied().unwrap_or(Rational { num: 25, den: 1 });
        let base = Rational { num: rate.den, den: rate.num };
        let times = FrameTimes::new(&(0..frames as i64).collect::<Vec<_>>(), base, &[rate], Some(1));
        let origin = track.sorted_stamps.first().copied().unwrap_or(0);
        Some(Assembler::with(track, times, origin, span_frames, policy, false))
    }

    fn at(
        track: &Arc<VideoTrack>,
        stamps: &[i64],
        span_frames: Vec<u32>,
        policy: ChunkPolicy,
        by_stamps: bool,
    ) -> Assembler {
        let times = FrameTimes::new(stamps, track.time_base, &track.claimed_rates, Some(track.last_duration));
        let origin = stamps.first().copied().unwrap_or(0);
        Assembler::with(track, times, origin, span_frames, policy, by_stamps)
    }

    fn with(
        track: &Arc<VideoTrack>,
        times: FrameTimes,
        origin: i64,
        span_frames: Vec<u32>,
        policy: ChunkPolicy,
        by_stamps: bool,
    ) -> Assembler {
        let FrameTimes { timescale, frame_rate, starts } = times;
        Assembler {
            track: Arc::clone(track),
            timing: Timing { timescale, frame_rate, span_frames, origin },
            starts,
            by_stamps,
            cutter: Cutter::new(timescale, policy),
            next_span: 0,
            next_frame: 0,
            undecided: VecDeque::new(),
            last: None,
        }
    }

    /// The span that is wanted next; the number of all spans at the end.
    pub fn expects(&self) -> usize {
        self.next_span
    }

    pub fn is_complete(&self) -> bool {
        self.next_span >= self.timing.span_frames.len()
    }

    /// Ticks that the whole video lasts.
    pub fn duration(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Takes the next span. `None` if its frames are not those that were expected: then nothing
    /// that was told so far may hold.
    pub fn add(&mut self, span: &DecodedSpan) -> Option<()> {
        let expected = self.timing.span_frames.get(self.next_span).copied()?;
        if span.frames.len() != expected as usize {
            return None;
        }
        if self.by_stamps {
            let by_rank = self.track.stamps_by_rank(self.next_span);
            let shown = self.track.shown_by(self.next_span);
            let came = span.frames.iter().map(|facts| by_rank.get(facts.rank as usize));
            if !came.eq(shown.iter().map(Some)) {
                return None;
            }
        }
        for (place, facts) in span.frames.iter().enumerate() {
            let score = match (place, &self.last, &span.ends) {
                (0, Some(before), Some((first, _))) => cut_score(before, first),
                _ => facts.score,
            };
            let start = *self.starts.get(self.next_frame as usize)?;
            self.cutter.push(CutFrame { score, digest: facts.digest }, start);
            self.undecided.push_back(facts.digest);
            self.next_frame += 1;
        }
        if let Some((_, last)) = &span.ends {
            self.last = Some(last.clone());
        }
        self.next_span += 1;
        if self.is_complete() {
            self.cutter.finish(self.duration());
        }
        Some(())
    }

    /// The next chunk that nothing which may still come can change.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        let range = self.cutter.next_chunk()?;
        let mut identity = ChunkIdentity::default();
        let mut durations: Vec<(u32, u32)> = Vec::new();
        for frame in range.clone() {
            identity.add(&self.undecided.pop_front()?);
            let (start, end) = (self.starts[frame as usize], self.starts[frame as usize + 1]);
            let ticks = u32::try_from(end - start).unwrap_or(u32::MAX);
            match durations.last_mut() {
                Some((count, same)) if *same == ticks => *count += 1,
                _ => durations.push((1, ticks)),
            }
        }
        Some(Chunk {
            first: range.start,
            frames: (range.end - range.start) as u32,
            start: self.starts[range.start as usize],
            durations,
            identity: identity.finish(),
        })
    }

    /// The chunks of these packs of spans, if they are the ones that were expected.
    fn all<E>(
        mut self,
        packs: impl IntoIterator<Item = Result<Vec<DecodedSpan>, E>>,
    ) -> Result<Option<ChunkList>, E> {
        let mut chunks = Vec::new();
        for pack in packs {
            for span in pack? {
                if self.add(&span).is_none() {
                    return Ok(None);
                }
                chunks.extend(std::iter::from_fn(|| self.next_chunk()));
            }
        }
        Ok(self.is_complete().then_some(ChunkList { timing: self.timing, chunks }))
    }
}
