//! Where a film is cut into chunks, by its content and while it is still being decoded. Each rule
//! looks only at what is near, so that an edit moves no boundary but those around it. Pure and
//! exact: integers in, integers out, and no position in the film.
//!
//! 1. **Shots.** A frame that differs from its predecessor far more than its neighbours do from
//!    theirs is a hard cut. Of two closer than `min` the stronger counts, by score and then by
//!    digest; none closer than `min` to the film's start or end counts.
//! 2. **Within a shot** a frame is a mark when its digest is the largest among the frames less
//!    than `window` before and after it, the window ending at the shot's edges; none closer than
//!    `min` to these is one. A frame equal to its predecessor takes no part, and of equal frames
//!    the first counts. `window` is 3/10 of the target, or `min` where that is longer.
//! 3. **A stretch** between two marks (shots start with one) that is longer than `max` is divided
//!    from its start: each piece has the frames that fit in `max`, at least one and at most
//!    `MOST_FRAMES`. When what would be left is shorter than `min`, and no more than `MOST_FRAMES`,
//!    the last two pieces share evenly: the second starts with the first frame at or after the
//!    middle of both that leaves neither too long.
//! 4. **A piece** that is longer than 2/3 of the target is split at the frame with the largest digest
//!    among those that are at least 1/6 of the target, and `min`, from both its ends; and so are the
//!    parts. A frame equal to its predecessor takes no part, and of equal frames the one nearest to
//!    the middle counts, or the earlier of two.
//!
//! Digests rather than scores choose the frame within a shot because an edit's own edges have
//! high scores: they would become marks and remove those around them.
//!
//! **What an edit can move.** Let frames `a..b` of the new film be what was replaced or inserted
//! (`a == b` where frames were removed), the frames before and after being those of the old film.
//! Let `R` be `window + min`, `A` the start of frame `a - 2` less `R`, and `B` the start of frame
//! `b + 2` plus `R`. Two frames, because a hard cut is told by two neighbours on each side.
//!
//! - Marks at `A` and before, and at `B` and after, are the same in both films.
//! - So are chunks that end with a mark at `A` or before, those that start at `A - max - min` or
//!   before, and all from the first mark at or after `B` on.
//!
//! The fourth rule looks at nothing but a piece's own frames. So what must be encoded again starts
//! after `A - max - min`, and not before the last mark at or before `A`; and it ends at the first
//! mark at or after `B`. Where there is a mark in every `max`, that is at most the edit,
//! `2 × (R + max)` and four frames. A stretch behind the edit that is longer than `max` is divided
//! anew up to its end; the pieces of a still picture are equal wherever they start, save the first
//! and the last two.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::media::FrameDigest;

/// How long chunks may be, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkPolicy {
    pub mode: ChunkMode,
    /// Two and a half times the mean length of chunks; or the grid.
    pub target: u64,
    /// Only a film that is shorter as a whole has a shorter chunk, or one whose frames are so long
    /// or so many, or `max` so close to `min`, that a stretch cannot be divided otherwise.
    pub min: u64,
    /// Only a single frame that is longer makes a longer chunk.
    pub max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkMode {
    Content,
    /// A chunk starts with the first frame at or after each multiple of `target`, and after
    /// `MOST_FRAMES` frames where a cell of the grid has more; `min` and `max` say nothing.
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
const NEIGHBOURS: u64 = 2;
/// The window on each side of a mark, as a part of the target. Marks are then on average 1.8
/// windows apart, half of the target.
const WINDOW: (u128, u128) = (3, 10);
/// What is split, and how far from its ends, as parts of the target. What an edit costs beyond its
/// own length is mostly the two chunks that its ends fall into, and it falls into the longest most.
const LONG: (u128, u128) = (2, 3);
const APART: (u128, u128) = (1, 6);
/// No chunk has more frames, however short they are: all of them are in memory at once.
const MOST_FRAMES: u64 = 960;

/// Cuts a film whose frames come one by one, in order of presentation.
///
/// Let the last but one of the frames that have come start at `t`. All marks up to
/// `t - window - min` are then known, and with them the chunks that end there; and all pieces of a
/// stretch being divided that can end up to `t - window - 2 × min`. What is kept of the film is
/// the frames that are in no chunk yet, at most `max + window + 2 × min` and a few frames.
pub struct Cutter {
    mode: ChunkMode,
    // All lengths in thousandths of a tick.
    grid: u128,
    min: u128,
    max: u128,
    window: u128,
    long: u128,
    apart: u128,
    /// The frames that can still matter, the first of them being number `dropped`.
    frames: VecDeque<Known>,
    dropped: u64,
    /// Frames that have come.
    count: u64,
    /// Where the film starts and, once that is known, ends, in ticks.
    origin: u64,
    end: Option<u64>,
    /// Frames that have been asked whether they are hard cuts.
    judged: u64,
    hard_cuts: Peaks<(u32, FrameDigest)>,
    /// Hard cuts that count, and whose frames have not been placed yet.
    shots: VecDeque<u64>,
    /// Frames of which is known in what shot they are, and when the last of these shots starts.
    placed: u64,
    shot: u64,
    marks: Peaks<FrameDigest>,
    /// Frames of which is known whether they are marks.
    settled: u64,
    /// The first frame that is in no chunk yet.
    next: u64,
    chunks: VecDeque<Range<u64>>,
}

struct Known {
    score: u32,
    digest: FrameDigest,
    start: u64,
    /// Equal to the frame before it.
    repeats: bool,
}

impl Cutter {
    /// Times will be in ticks of `1/timescale` seconds.
    pub fn new(timescale: u32, policy: ChunkPolicy) -> Cutter {
        let length = |ms: u64| u128::from(ms) * u128::from(timescale);
        let min = length(policy.min);
        let part = |(part, of): (u128, u128)| u128::from(policy.target) * part / of * u128::from(timescale);
        let window = part(WINDOW).max(min);
        Cutter {
            mode: policy.mode,
            grid: length(policy.target).max(1),
            min,
            max: length(policy.max),
            window,
            long: part(LONG),
            apart: part(APART).max(min),
            frames: VecDeque::new(),
            dropped: 0,
            count: 0,
            origin: 0,
            end: None,
            judged: 0,
            hard_cuts: Peaks::new(min),
            shots: VecDeque::new(),
            placed: 0,
            shot: 0,
            marks: Peaks::new(window),
            settled: 0,
            next: 0,
            chunks: VecDeque::new(),
        }
    }

    /// The next frame, and when it starts, in ticks: later than the one before it.
    pub fn push(&mut self, frame: CutFrame, start: u64) {
        if self.end.is_some() {
            return;
        }
        let before = self.frames.back();
        let cell = |start: u64| u128::from(start) * 1000 / self.grid;
        let next_cell = before.is_some_and(|before| cell(before.start) != cell(start));
        let repeats = before.is_some_and(|before| before.digest == frame.digest);
        if self.count == 0 {
            self.origin = start;
            self.shot = start;
        }
        self.frames.push_back(Known { score: frame.score, digest: frame.digest, start, repeats });
        self.count += 1;
        match self.mode {
            ChunkMode::Content => self.judge(self.count.saturating_sub(NEIGHBOURS)),
            ChunkMode::Fixed => self.divide(self.count - 1, next_cell),
        }
        self.forget();
    }

    /// No more frames come; the film ends at `end` ticks.
    pub fn finish(&mut self, end: u64) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        if self.mode == ChunkMode::Content {
            self.judge(self.count);
            while self.placed < self.count {
                self.place();
            }
            self.end_shot(end);
        }
        self.divide(self.count, true);
        self.forget();
    }

    /// The next chunk, as frame numbers from the film's start, that nothing which may still come
    /// can change; `None` until more is pushed, or for ever after the last.
    pub fn next_chunk(&mut self) -> Option<Range<u64>> {
        self.chunks.pop_front()
    }

    fn frame(&self, number: u64) -> Option<&Known> {
        self.frames.get(usize::try_from(number.checked_sub(self.dropped)?).ok()?)
    }

    /// When a frame starts, or the film ends.
    fn start(&self, number: u64) -> u64 {
        let last = || self.end.or(self.frames.back().map(|frame| frame.start)).unwrap_or(0);
        self.frame(number).map_or_else(last, |frame| frame.start)
    }

    fn is_hard_cut(&self, number: u64) -> bool {
        // Frame 0 has no predecessor, so its score says nothing.
        let around = number.saturating_sub(NEIGHBOURS).max(1)..=number.saturating_add(NEIGHBOURS);
        let score = self.frame(number).map_or(0, |frame| frame.score);
        number > 0
            && score >= HARD_CUT
            && around
                .filter(|&other| other != number)
                .filter_map(|other| self.frame(other))
                .all(|other| score >= other.score.saturating_mul(STANDS_OUT))
    }

    /// Looks for hard cuts among the frames before `to`, whose neighbours are known.
    fn judge(&mut self, to: u64) {
        while self.judged < to {
            let start = self.start(self.judged);
            if let Some(frame) = self.frame(self.judged).filter(|_| self.is_hard_cut(self.judged)) {
                let (key, may_count) = ((frame.score, frame.digest), !closer(self.origin, start, self.min));
                self.hard_cuts.push(self.judged, start, key, may_count);
            }
            self.judged += 1;
            let now = self.start(self.judged);
            self.shots.extend(std::iter::from_fn(|| self.hard_cuts.settled(now)));
            while self.placed < self.judged && !closer(self.start(self.placed), now, self.min) {
                self.place();
            }
        }
    }

    /// Takes the next frame, of which is known whether it starts a shot, and looks for marks.
    fn place(&mut self) {
        let start = self.start(self.placed);
        if self.shots.front() == Some(&self.placed) {
            self.shots.pop_front();
            self.end_shot(start);
            self.divide(self.placed, true);
            self.shot = start;
            self.settled = self.placed;
        }
        if let Some(frame) = self.frame(self.placed).filter(|frame| !frame.repeats) {
            let (digest, may_count) = (frame.digest, !closer(self.shot, start, self.min));
            self.marks.push(self.placed, start, digest, may_count);
        }
        self.placed += 1;
        let now = self.start(self.placed);
        while let Some(mark) = self.marks.settled(now) {
            self.divide(mark, true);
        }
        while self.settled < self.placed && !closer(self.start(self.settled), now, self.window) {
            self.settled += 1;
        }
        self.divide(self.settled, false);
    }

    fn end_shot(&mut self, end: u64) {
        let min = self.min;
        let marks: Vec<u64> =
            self.marks.drain().filter(|&(_, at)| !closer(at, end, min)).map(|(mark, _)| mark).collect();
        for mark in marks {
            self.divide(mark, true);
        }
    }

    /// The stretch that starts with frame `next` ends before frame `to`, or lasts until there at
    /// least.
    fn divide(&mut self, to: u64, ends: bool) {
        while self.next < to {
            let full = self.full(to);
            let left_over = full < to
                && (to - full > MOST_FRAMES
                    || self.mode == ChunkMode::Fixed
                    || !closer(self.start(full), self.start(to), self.min));
            let end = match (left_over, ends) {
                (true, _) => full,
                (false, false) => return,
                (false, true) if full == to => to,
                (false, true) => self.share(full, to),
            };
            self.split(self.next..end);
            self.next = end;
        }
    }

    /// Makes chunks of a piece.
    fn split(&mut self, piece: Range<u64>) {
        let mut parts = vec![piece];
        while let Some(part) = parts.pop() {
            if let Some(at) = self.seam(&part) {
                parts.extend([at..part.end, part.start..at]);
            } else {
                self.chunks.push_back(part);
            }
        }
    }

    /// Where a piece is split, if it is.
    fn seam(&self, piece: &Range<u64>) -> Option<u64> {
        let (start, end) = (self.start(piece.start), self.start(piece.end));
        if self.mode == ChunkMode::Fixed || u128::from(start.abs_diff(end)) * 1000 <= self.long {
            return None;
        }
        let inner = (piece.start + 1..piece.end).filter(|&number| {
            let at = self.start(number);
            !closer(start, at, self.apart) && !closer(at, end, self.apart)
        });
        let candidates = inner.filter_map(|number| Some((number, self.frame(number)?)));
        let key = |&(number, frame): &(u64, &Known)| {
            let off_middle = frame.start.abs_diff(start).abs_diff(frame.start.abs_diff(end));
            (frame.digest, Reverse(off_middle), Reverse(number))
        };
        candidates.filter(|(_, frame)| !frame.repeats).max_by_key(key).map(|(number, _)| number)
    }

    /// The end of the longest piece from frame `next` on, at most `to`.
    fn full(&self, to: u64) -> u64 {
        let fits = |end: u64| {
            self.mode == ChunkMode::Fixed
                || u128::from(self.start(end).abs_diff(self.start(self.next))) * 1000 <= self.max
        };
        let most = to.min(self.next.saturating_add(MOST_FRAMES));
        if fits(most) { most } else { first(self.next + 2..most, |end| !fits(end)) - 1 }
    }

    /// The end of the first of two pieces that share what is before `to`; the first could reach
    /// `full`.
    fn share(&self, full: u64, to: u64) -> u64 {
        let (start, end) = (self.start(self.next), self.start(to));
        let middle = first(self.next + 1..full, |frame| {
            let at = self.start(frame);
            at.saturating_sub(start) >= end.saturating_sub(at)
        });
        middle.max(to.saturating_sub(MOST_FRAMES)).min(full)
    }

    /// Drops the frames that are in chunks, unless they are neighbours of frames still to judge.
    fn forget(&mut self) {
        let needed = match self.mode {
            ChunkMode::Content => self.next.min(self.judged.saturating_sub(NEIGHBOURS)),
            ChunkMode::Fixed => self.next.min(self.count.saturating_sub(1)),
        };
        while self.dropped < needed && self.frames.pop_front().is_some() {
            self.dropped += 1;
        }
    }
}

/// Whether two times in ticks are less than `length` thousandths of a tick apart.
fn closer(a: u64, b: u64, length: u128) -> bool {
    u128::from(a.abs_diff(b)) * 1000 < length
}

/// The first number for which `holds`, or the end; it holds for all after one for which it does.
fn first(mut range: Range<u64>, holds: impl Fn(u64) -> bool) -> u64 {
    while range.start < range.end {
        let middle = range.start + (range.end - range.start) / 2;
        if holds(middle) {
            range.end = middle;
        } else {
            range.start = middle + 1;
        }
    }
    range.start
}

/// Finds the frames whose key is the largest among those less than `reach` before and after; of
/// equal ones the first. Each frame is looked at a few times at most, however far the reach is.
struct Peaks<K> {
    reach: u128,
    /// Frames which a later one may have to be compared with: none is smaller than a later one.
    queue: VecDeque<Peak<K>>,
}

struct Peak<K> {
    frame: u64,
    start: u64,
    key: K,
    /// Nothing before it is larger, and it is where a peak may be.
    may_count: bool,
}

impl<K: Ord> Peaks<K> {
    fn new(reach: u128) -> Peaks<K> {
        Peaks { reach, queue: VecDeque::new() }
    }

    /// A frame that is the largest, and out of reach of all that start at `now` or later. To be
    /// called, until there is none, with the start of every frame before it is pushed.
    fn settled(&mut self, now: u64) -> Option<u64> {
        while self.queue.front().is_some_and(|peak| !closer(peak.start, now, self.reach)) {
            if let Some(peak) = self.queue.pop_front().filter(|peak| peak.may_count) {
                return Some(peak.frame);
            }
        }
        None
    }

    fn push(&mut self, frame: u64, start: u64, key: K, may_count: bool) {
        while self.queue.back().is_some_and(|peak| peak.key < key) {
            self.queue.pop_back();
        }
        let may_count = may_count && self.queue.is_empty();
        self.queue.push_back(Peak { frame, start, key, may_count });
    }

    /// All that are the largest, with their starts, as nothing comes after them.
    fn drain(&mut self) -> impl Iterator<Item = (u64, u64)> {
        self.queue.drain(..).filter(|peak| peak.may_count).map(|peak| (peak.frame, peak.start))
    }
}

#[cfg(test)]
mod tests;
