//! A track's sound: decoded once to find its windows, and again, as far as need be, to encode
//! those that are missing. A window is cut like a chunk of the film, with a packet for a frame.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::cache::Digest;
use crate::media::{Blocks, FrameDigest, SoundSource, SoundWindow};
use crate::stream::Framing;

use super::chunking::{ChunkMode, ChunkPolicy, CutFrame, Cutter};
use super::error::StepError;
use super::film::Piece;
use super::work::{Made, Payload, SoundFacts, Steps, Worker, encoded, plain, store_samples};

fn digest_of(block: &[i32]) -> FrameDigest {
    let mut hasher = blake3::Hasher::new_derive_key("rivet pcm v1");
    for sample in block {
        hasher.update(&sample.to_le_bytes());
    }
    FrameDigest(*hasher.finalize().as_bytes())
}

/// What a window is encoded from: its own blocks, and those before it that lead up to it.
fn identity(blocks: &[FrameDigest], own: usize) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("rivet window v1");
    hasher.update(&(own as u64).to_le_bytes());
    for block in blocks {
        hasher.update(&block.0);
    }
    hasher.finalize().into()
}

/// Where the audio starts that a window's encoder is fed, in packets of the track.
fn lead_of(first: u64, framing: Framing) -> u64 {
    first.saturating_sub(u64::from(framing.lead))
}

/// How sound is cut: windows are about as long as the target. Each begins with packets that do
/// without prediction, and short ones are not worth that.
pub fn policy(film: &ChunkPolicy) -> ChunkPolicy {
    match film.mode {
        ChunkMode::Fixed => *film,
        ChunkMode::Content => ChunkPolicy {
            mode: ChunkMode::Content,
            target: film.target.saturating_mul(2),
            min: film.target / 4,
            max: film.max.max(film.target.saturating_mul(2)),
        },
    }
}

/// Finds the windows of a track's sound.
pub fn decode_sound(
    worker: &Worker,
    sound: &SoundSource,
    policy: &ChunkPolicy,
    framing: Framing,
) -> Result<Made, StepError> {
    let packet = u64::from(framing.packet);
    let mut blocks = Blocks::new(sound.channels);
    let mut digests: Vec<FrameDigest> = Vec::new();
    let mut cutter = Cutter::new(framing.rate, *policy);
    let mut take = |block: &[i32]| {
        let digest = digest_of(block);
        cutter.push(CutFrame { score: 0, digest }, digests.len() as u64 * packet);
        digests.push(digest);
        Ok(())
    };
    let cancelled = || worker.is_cancelled();
    let offset = worker.codecs.sound(sound, &cancelled, &mut |samples| blocks.push(samples, &mut take))?;
    let samples = blocks.finish(&mut take)?;
    let heard = samples + u64::from(framing.pre_skip);
    let count = digests.len() as u64;
    cutter.finish(count * packet);
    let windows = std::iter::from_fn(|| cutter.next_chunk()).map(|range| {
        let frames = (range.end - range.start) as u32;
        // Of the last packet only a part may be sound.
        let last = heard.saturating_sub((range.end - 1) * packet).clamp(1, packet) as u32;
        let durations = if last == framing.packet || range.end < count {
            vec![(frames, framing.packet)]
        } else {
            [(frames - 1, framing.packet), (1, last)].into_iter().filter(|&(count, _)| count > 0).collect()
        };
        let blocks = &digests[lead_of(range.start, framing) as usize..range.end as usize];
        Piece {
            first: range.start,
            frames,
            start: range.start * packet,
            durations,
            identity: identity(blocks, frames as usize),
        }
    });
    let windows: Vec<Piece> = windows.collect();
    let facts = SoundFacts { samples, offset };
    let result = worker.store(&encoded(&windows)?, encoded(&facts)?)?;
    Ok(Made { result, payload: Payload::Sound(facts, windows) })
}

/// A window to encode, and at which bit rate.
#[derive(Clone)]
pub struct WindowJob {
    pub window: Piece,
    pub bitrate: u32,
}

/// Encodes windows of one sound in one pass, those that come first in the film first. `jobs` are
/// in that order.
pub fn encode_windows(
    worker: &Worker,
    sound: &SoundSource,
    framing: Framing,
    jobs: &[WindowJob],
    steps: &mut dyn Steps,
) -> Result<(), StepError> {
    let mut blocks = Blocks::new(sound.channels);
    // The latest blocks, of which the last is number `count - 1`.
    let mut recent: VecDeque<(FrameDigest, Vec<i32>)> = VecDeque::new();
    let mut count = 0u64;
    // What others are at, or have made meanwhile, is passed over before anything is decoded for it.
    let begin = |next: &mut usize, steps: &mut dyn Steps| {
        while *next < jobs.len() && !steps.begin(*next) {
            *next += 1;
        }
    };
    let mut next = 0;
    begin(&mut next, steps);
    if next == jobs.len() {
        return Ok(());
    }
    let complete = Cell::new(false);
    let mut failure: Option<StepError> = None;
    // Whether the windows are of other samples. All of the sound is read then: it may be another file.
    let misheard = Cell::new(false);
    let mut take = |block: &[i32]| {
        if misheard.get() {
            return Ok(());
        }
        recent.push_back((digest_of(block), block.to_vec()));
        count += 1;
        while let Some(job) =
            jobs.get(next).filter(|job| job.window.first + u64::from(job.window.frames) <= count)
        {
            let from = count - recent.len() as u64;
            let skip = lead_of(job.window.first, framing).saturating_sub(from) as usize;
            let own = (job.window.first - lead_of(job.window.first, framing)) as usize;
            let all = recent.iter().skip(skip).take(own + job.window.frames as usize);
            let (digests, pcm): (Vec<FrameDigest>, Vec<&[i32]>) =
                all.map(|(digest, block)| (*digest, block.as_slice())).unzip();
            if identity(&digests, job.window.frames as usize) != job.window.identity {
                misheard.set(true);
                return Ok(());
            }
            let (before, within) = pcm.split_at(own);
            let packets = worker.codecs.encode_sound(SoundWindow {
                channels: sound.channels,
                bitrate: job.bitrate,
                lead: before.concat(),
                own: within.concat(),
            })?;
            match store_samples(worker, Vec::new(), &packets) {
                Ok(result) => steps.done(next, plain(result)),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
            next += 1;
            begin(&mut next, steps);
        }
        // What no window wants any more is dropped.
        let wanted = lead_of(jobs.get(next).map_or(count, |job| job.window.first), framing);
        while count - (recent.len() as u64) < wanted && recent.pop_front().is_some() {}
        complete.set(next == jobs.len() || failure.is_some());
        Ok(())
    };
    let cancelled = || complete.get() || worker.is_cancelled();
    let decoded = worker.codecs.sound(sound, &cancelled, &mut |samples| blocks.push(samples, &mut take));
    let decoded = decoded.and_then(|_| blocks.finish(&mut take));
    match (failure, decoded) {
        (Some(error), _) => Err(error),
        (None, Err(error)) if !complete.get() => Err(error.into()),
        (None, _) if next < jobs.len() => Err(StepError::Misheard),
        (None, _) => Ok(()),
    }
}
