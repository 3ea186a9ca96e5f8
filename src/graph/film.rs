//! What is known of a title's pictures once they have been decoded, and how they are cut: the
//! results of the decode and chunk steps, as they lie in the cache.

use serde::{Deserialize, Serialize};

use crate::cache::Digest;
use crate::media::{FrameDigest, FrameTimes, Rational, Signature, VideoTrack, cut_score};

use super::chunking::{ChunkPolicy, CutFrame, cut};

/// What the frames of one span are; never the frames themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodedSpan {
    pub frames: Vec<FrameFacts>,
    /// The first and last frame, to compare with the neighbouring spans' frames.
    pub ends: Option<(Signature, Signature)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameFacts {
    /// Place in presentation order among the span's packets.
    pub rank: u32,
    pub digest: FrameDigest,
    /// Difference from the frame before it; of the first frame 0.
    pub score: u32,
}

/// The whole film, cut into chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Film {
    /// Ticks a second of all times below.
    pub timescale: u32,
    /// The constant frame rate, or the largest number of frames in any one second.
    pub frame_rate: Rational,
    /// Frames of each span.
    pub span_frames: Vec<u32>,
    /// Time stamp of the first frame, in units of the track's time base.
    pub origin: i64,
    pub chunks: Vec<Chunk>,
}

/// Consecutive frames that become one closed sequence and one media segment on every rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The chunk's first frame, counted from the start of the film.
    pub first: u64,
    pub frames: u32,
    /// Ticks from the start of the film.
    pub start: u64,
    /// Durations in ticks, as runs: so many frames of so many ticks.
    pub durations: Vec<(u32, u32)>,
    /// Digest of the frames' digests. When and how long they are shown is no part of it: an
    /// encoder at constant quality does not see that.
    pub identity: Digest,
}

impl Chunk {
    /// Ticks that the chunk lasts.
    pub fn duration(&self) -> u64 {
        self.durations.iter().map(|&(count, ticks)| u64::from(count) * u64::from(ticks)).sum()
    }
}

/// Adds up frame digests to a chunk's identity.
pub struct ChunkIdentity(blake3::Hasher);

impl Default for ChunkIdentity {
    fn default() -> ChunkIdentity {
        ChunkIdentity(blake3::Hasher::new_derive_key("rivet chunk v1"))
    }
}

impl ChunkIdentity {
    pub fn add(&mut self, frame: &FrameDigest) {
        self.0.update(&frame.0);
    }

    pub fn finish(&self) -> Digest {
        self.0.finalize().into()
    }
}

impl Film {
    /// Puts the spans together and cuts the film. `None` when there is not one frame.
    pub fn assemble(track: &VideoTrack, spans: &[DecodedSpan], policy: &ChunkPolicy) -> Option<Film> {
        let mut frames: Vec<CutFrame> = Vec::new();
        let mut stamps: Vec<i64> = Vec::new();
        let mut last: Option<&Signature> = None;
        for (number, span) in spans.iter().enumerate() {
            let by_rank = track.stamps_by_rank(number);
            for (place, facts) in span.frames.iter().enumerate() {
                let score = match (place, last, &span.ends) {
                    (0, Some(before), Some((first, _))) => cut_score(before, first),
                    _ => facts.score,
                };
                frames.push(CutFrame { score, digest: facts.digest });
                stamps.extend(by_rank.get(facts.rank as usize));
            }
            last = span.ends.as_ref().map(|(_, last)| last).or(last);
        }
        if frames.is_empty() {
            return None;
        }
        let times = if stamps.len() == frames.len() {
            FrameTimes::new(&stamps, track.time_base, &track.claimed_rates, Some(track.last_duration))
        } else if track.sorted_stamps.len() == frames.len() {
            stamps = track.sorted_stamps.clone();
            FrameTimes::new(&stamps, track.time_base, &track.claimed_rates, Some(track.last_duration))
        } else {
            stamps = track.sorted_stamps.first().copied().into_iter().collect();
            // No time stamps to go by: one frame after the other at the claimed rate.
            let rate = track.claimed_rates.first().copied().unwrap_or(Rational { num: 25, den: 1 });
            let count = frames.len() as i64;
            let base = Rational { num: rate.den, den: rate.num };
            FrameTimes::new(&(0..count).collect::<Vec<_>>(), base, &[rate], Some(1))
        };
        let starts = cut(&frames, &times.starts, times.timescale, policy);
        let ends = starts.iter().skip(1).copied().chain([frames.len()]);
        let chunks =
            starts.iter().zip(ends).map(|(&first, end)| chunk(&frames, &times.starts, first..end)).collect();
        Some(Film {
            timescale: times.timescale,
            frame_rate: times.frame_rate,
            span_frames: spans.iter().map(|span| span.frames.len() as u32).collect(),
            origin: stamps.first().copied().unwrap_or(0),
            chunks,
        })
    }

    /// Ticks that the film lasts.
    pub fn duration(&self) -> u64 {
        self.chunks.last().map_or(0, |chunk| chunk.start + chunk.duration())
    }

    pub fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / f64::from(self.timescale.max(1))
    }
}

fn chunk(frames: &[CutFrame], starts: &[u64], range: std::ops::Range<usize>) -> Chunk {
    let mut identity = ChunkIdentity::default();
    let mut durations: Vec<(u32, u32)> = Vec::new();
    for frame in range.clone() {
        identity.add(&frames[frame].digest);
        let ticks = u32::try_from(starts[frame + 1] - starts[frame]).unwrap_or(u32::MAX);
        match durations.last_mut() {
            Some((count, same)) if *same == ticks => *count += 1,
            _ => durations.push((1, ticks)),
        }
    }
    Chunk {
        first: range.start as u64,
        frames: range.len() as u32,
        start: starts[range.start],
        durations,
        identity: identity.finish(),
    }
}
