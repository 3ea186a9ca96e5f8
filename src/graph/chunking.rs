//! Where a film is cut into chunks, by its content: two rules that each look only at what is
//! near, so that an edit moves no boundary but those around it. Pure and exact: integers in,
//! integers out, and no position in the film.
//!
//! 1. **Shots.** A frame that differs from its predecessor far more than its neighbours do from
//!    theirs is a hard cut; of two cuts closer than the shortest chunk the stronger counts.
//! 2. **Within a shot** a frame starts a chunk when its (score, digest) is the largest among the
//!    frames within half a target length before and after it, the window ending at the shot's
//!    edges. What is then still longer than the longest chunk is divided evenly.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::media::FrameDigest;

/// How long chunks may be, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkPolicy {
    pub mode: ChunkMode,
    /// The mean length, or the grid.
    pub target: u64,
    pub min: u64,
    pub max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkMode {
    Content,
    Fixed,
}

/// What the rules look at in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutFrame {
    /// How much it differs from its predecessor, in 256ths of an 8-bit step; of the first frame
    /// without meaning.
    pub score: u32,
    pub digest: FrameDigest,
}

/// A hard cut differs by at least this, about 7 of 256 levels on average over the picture…
const HARD_CUT: u32 = 7 * 256;
/// …and by this many times more than each of its neighbours within `NEIGHBOURS` frames.
const STANDS_OUT: u32 = 3;
const NEIGHBOURS: usize = 2;
/// No chunk has more frames, however short they are: all of them are in memory at once.
const MOST_FRAMES: usize = 960;

/// The numbers of the frames that start a chunk, in order; the first is 0. `starts` are the
/// frames' start times and the film's end, in ticks of `1/timescale` seconds.
pub fn cut(frames: &[CutFrame], starts: &[u64], timescale: u32, policy: &ChunkPolicy) -> Vec<usize> {
    if frames.is_empty() {
        return Vec::new();
    }
    let film = Film { frames, starts, timescale: u64::from(timescale) };
    match policy.mode {
        ChunkMode::Fixed => film.grid(policy.target),
        ChunkMode::Content => {
            let mut cuts = Vec::new();
            for shot in film.shots(policy.min) {
                for stretch in film.within_shot(shot, policy) {
                    film.divide(stretch, policy.max, &mut cuts);
                }
            }
            cuts
        }
    }
}

struct Film<'a> {
    frames: &'a [CutFrame],
    starts: &'a [u64],
    timescale: u64,
}

impl Film<'_> {
    /// Whether frames `a` and `b`, or a frame and the end of the film, are less than `ms` apart.
    fn closer(&self, a: usize, b: usize, ms: u64) -> bool {
        self.starts[b.max(a)].saturating_sub(self.starts[b.min(a)]) * 1000 < ms * self.timescale
    }

    /// Of two frames the stronger cut: the higher score, then the larger digest.
    fn strength(&self, frame: usize) -> (u32, FrameDigest) {
        (self.frames[frame].score, self.frames[frame].digest)
    }

    fn is_hard_cut(&self, frame: usize) -> bool {
        let score = self.frames[frame].score;
        // Frame 0 has no predecessor, so its score says nothing.
        let first = frame.saturating_sub(NEIGHBOURS).max(1);
        let last = (frame + NEIGHBOURS).min(self.frames.len() - 1);
        score >= HARD_CUT
            && (first..=last)
                .filter(|&n| n != frame)
                .all(|n| score >= self.frames[n].score.saturating_mul(STANDS_OUT))
    }

    /// The shots, none shorter than `min` unless it is the whole film.
    fn shots(&self, min: u64) -> Vec<Range<usize>> {
        let count = self.frames.len();
        let cuts: Vec<usize> = (1..count).filter(|&frame| self.is_hard_cut(frame)).collect();
        let stands = |&(at, &frame): &(usize, &usize)| {
            let weaker = |other: &&usize| {
                let (ours, theirs) = (self.strength(frame), self.strength(**other));
                // Of two equal ones the earlier counts.
                theirs > ours || (theirs == ours && **other < frame)
            };
            let near = |other: &&usize| self.closer(**other, frame, min);
            !self.closer(0, frame, min)
                && !self.closer(frame, count, min)
                && !cuts[..at].iter().rev().take_while(near).any(|other| weaker(&other))
                && !cuts[at + 1..].iter().take_while(near).any(|other| weaker(&other))
        };
        let kept = cuts.iter().enumerate().filter(stands).map(|(_, &frame)| frame);
        ranges(std::iter::once(0).chain(kept).collect(), count)
    }

    /// The stretches of a shot between frames that are the largest in their window.
    fn within_shot(&self, shot: Range<usize>, policy: &ChunkPolicy) -> Vec<Range<usize>> {
        let window = policy.target / 2;
        let mut starts = vec![shot.start];
        // The shot's first frame is measured against another shot, so it takes no part.
        for frame in shot.start + 1..shot.end {
            if self.closer(shot.start, frame, policy.min) || self.closer(frame, shot.end, policy.min) {
                continue;
            }
            let ours = self.strength(frame);
            let smaller = |other: usize| self.strength(other) < ours;
            let near = |other: &usize| self.closer(*other, frame, window);
            let largest = (shot.start + 1..frame).rev().take_while(near).all(smaller)
                && (frame + 1..shot.end).take_while(near).all(smaller);
            // Windows shorter than the shortest chunk would allow two starts too close.
            let last = starts.last().copied().unwrap_or(shot.start);
            if largest && !self.closer(last, frame, policy.min) {
                starts.push(frame);
            }
        }
        ranges(starts, shot.end)
    }

    /// Divides a stretch into equal parts no longer than `max`, and of no more than `MOST_FRAMES`.
    fn divide(&self, stretch: Range<usize>, max: u64, cuts: &mut Vec<usize>) {
        let (start, end) = (self.starts[stretch.start], self.starts[stretch.end]);
        let length = u128::from(end - start);
        let parts = (length * 1000).div_ceil(u128::from(max.max(1)) * u128::from(self.timescale)).max(1);
        let mut part_starts = vec![stretch.start];
        let mut part = 1;
        for frame in stretch.start + 1..stretch.end {
            // The first frame at or after each part's due time; a long frame may cover several.
            let passed = u128::from(self.starts[frame] - start) * parts / length.max(1);
            if passed >= part {
                part_starts.push(frame);
                part = passed + 1;
            }
        }
        for range in ranges(part_starts, stretch.end) {
            let pieces = range.len().div_ceil(MOST_FRAMES).max(1);
            cuts.extend((0..pieces).map(|piece| range.start + range.len() * piece / pieces));
        }
    }

    /// The first frames at or after each multiple of `grid`.
    fn grid(&self, grid: u64) -> Vec<usize> {
        let cell = |frame: usize| self.starts[frame] * 1000 / (grid.max(1) * self.timescale);
        (0..self.frames.len()).filter(|&frame| frame == 0 || cell(frame) != cell(frame - 1)).collect()
    }
}

fn ranges(starts: Vec<usize>, end: usize) -> Vec<Range<usize>> {
    let ends = starts.iter().skip(1).copied().chain([end]).collect::<Vec<_>>();
    starts.into_iter().zip(ends).map(|(start, end)| start..end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: ChunkPolicy = ChunkPolicy { mode: ChunkMode::Content, target: 2000, min: 500, max: 4000 };
    const FPS: u64 = 25;

    fn frame(score: u32, content: u64) -> CutFrame {
        CutFrame { score, digest: FrameDigest(*blake3::hash(&content.to_le_bytes()).as_bytes()) }
    }

    fn times(frames: usize) -> Vec<u64> {
        (0..=frames as u64).collect()
    }

    fn cuts(frames: &[CutFrame]) -> Vec<usize> {
        cut(frames, &times(frames.len()), FPS as u32, &POLICY)
    }

    #[test]
    fn short_and_still_films() {
        assert!(cuts(&[]).is_empty());
        assert_eq!(cuts(&[frame(0, 1)]), [0]);
        assert_eq!(cuts(&[frame(0, 1), frame(9999, 2)]), [0]);
        let still = vec![frame(0, 7); 250];
        assert_eq!(cuts(&still), [0, 84, 167], "ten seconds of one picture, evenly");
    }

    #[test]
    fn a_hard_cut_is_a_boundary_and_a_flash_is_none() {
        let mut film: Vec<CutFrame> = (0..100).map(|n| frame(100, n)).collect();
        film[40].score = 9000;
        assert!(cuts(&film).contains(&40));
        film[41].score = 9000;
        let flash = Film { frames: &film, starts: &times(100), timescale: FPS };
        assert_eq!(flash.shots(500).len(), 1);
    }

    #[test]
    fn of_two_cuts_too_close_the_stronger_counts() {
        let mut film: Vec<CutFrame> = (0..100).map(|n| frame(100, n)).collect();
        film[40].score = 9000;
        film[46].score = 9001;
        let found = cuts(&film);
        assert!(found.contains(&46) && !found.contains(&40), "{found:?}");
    }

    #[test]
    fn a_grid_starts_at_its_multiples() {
        let film: Vec<CutFrame> = (0..130).map(|n| frame(100, n)).collect();
        let policy = ChunkPolicy { mode: ChunkMode::Fixed, ..POLICY };
        assert_eq!(cut(&film, &times(130), FPS as u32, &policy), [0, 50, 100]);
        // 24000/1001: the first frame at or after each two seconds.
        let starts: Vec<u64> = (0..=130).map(|n| n * 1001).collect();
        assert_eq!(cut(&film, &starts, 24_000, &policy), [0, 48, 96]);
    }

    fn film() -> impl Strategy<Value = Vec<CutFrame>> {
        let score = prop_oneof![8 => 0u32..600, 1 => 1500u32..20_000, 1 => Just(0u32)];
        prop::collection::vec((score, 0u64..300), 1..900)
            .prop_map(|frames| frames.into_iter().map(|(score, content)| frame(score, content)).collect())
    }

    proptest! {
        #[test]
        fn chunks_cover_the_film_and_keep_their_bounds(film in film()) {
            let found = cuts(&film);
            prop_assert_eq!(found[0], 0);
            prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
            let ends = found.iter().skip(1).copied().chain([film.len()]);
            for (start, end) in found.iter().zip(ends) {
                let ms = (end - start) as u64 * 1000 / FPS;
                prop_assert!(ms <= POLICY.max + 1000 / FPS, "{ms} ms");
            }
        }

        /// Frames far from an edit do not notice it: boundaries further than the reach of both
        /// rules from the edited frames are where they were, wherever the tail has moved to.
        #[test]
        fn an_edit_moves_no_boundary_beyond_its_shot(
            before in film(), after in film(), old in film(), new in film(), level in 9000u32..20_000,
        ) {
            // The edit lies in a shot of its own: clean cuts stand around it.
            let calm = |n: u64| vec![frame(10, n); 20];
            let join = |middle: &[CutFrame]| {
                let mut whole = before.clone();
                whole.extend(calm(1));
                let first = whole.len();
                whole.push(frame(level.saturating_mul(10), 2));
                whole.extend(calm(3));
                whole.extend_from_slice(middle);
                whole.extend(calm(4));
                let last = whole.len();
                whole.push(frame(level.saturating_mul(10), 5));
                whole.extend(calm(6));
                whole.extend(after.clone());
                (cuts(&whole), first, last)
            };
            let (a, first, last_a) = join(&old);
            let (b, _, last_b) = join(&new);
            let head = |cuts: &[usize]| cuts.iter().copied().take_while(|&cut| cut <= first).collect::<Vec<_>>();
            let tail = |cuts: &[usize], last: usize| cuts.iter().copied().filter(|&cut| cut >= last).map(|cut| cut - last).collect::<Vec<_>>();
            prop_assert_eq!(head(&a), head(&b));
            prop_assert_eq!(tail(&a, last_a), tail(&b, last_b));
        }
    }
}
