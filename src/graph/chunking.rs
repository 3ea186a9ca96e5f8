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
    /// A chunk starts with the first frame at or after each multiple of `target`; `min` and `max`
    /// say nothing.
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
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const POLICY: ChunkPolicy = ChunkPolicy { mode: ChunkMode::Content, target: 2000, min: 300, max: 4000 };
    const FPS: u32 = 25;

    fn frame(score: u32, content: u64) -> CutFrame {
        CutFrame { score, digest: FrameDigest(*blake3::hash(&content.to_le_bytes()).as_bytes()) }
    }

    /// Frames and when each starts, and the end.
    #[derive(Clone, Debug)]
    struct Film {
        frames: Vec<CutFrame>,
        starts: Vec<u64>,
        timescale: u32,
    }

    impl Film {
        fn new(frames: Vec<CutFrame>, durations: impl IntoIterator<Item = u64>, timescale: u32) -> Film {
            let ends = durations.into_iter().take(frames.len()).scan(0, |end, ticks| {
                *end += ticks;
                Some(*end)
            });
            let starts = std::iter::once(0).chain(ends).collect();
            Film { frames, starts, timescale }
        }

        fn even(frames: Vec<CutFrame>) -> Film {
            Film::new(frames, std::iter::repeat(1), FPS)
        }

        fn digests(&self, chunk: &Range<u64>) -> Vec<FrameDigest> {
            self.frames[chunk.start as usize..chunk.end as usize].iter().map(|frame| frame.digest).collect()
        }

        fn ticks(&self, chunk: &Range<u64>) -> u64 {
            self.starts[chunk.end as usize] - self.starts[chunk.start as usize]
        }

        fn closer(&self, a: usize, b: usize, ms: u64) -> bool {
            u128::from(self.starts[a].abs_diff(self.starts[b])) * 1000
                < u128::from(ms) * u128::from(self.timescale)
        }

        fn window(&self, policy: &ChunkPolicy) -> u64 {
            (policy.target * 3 / 10).max(policy.min)
        }

        fn chunks(&self, policy: &ChunkPolicy) -> Vec<Range<u64>> {
            let mut cutter = Cutter::new(self.timescale, *policy);
            for (frame, start) in self.frames.iter().zip(&self.starts) {
                cutter.push(*frame, *start);
            }
            cutter.finish(self.starts[self.frames.len()]);
            std::iter::from_fn(|| cutter.next_chunk()).collect()
        }

        /// The marks, straight from the rules.
        fn marks(&self, policy: &ChunkPolicy) -> Vec<usize> {
            let (count, min, window) = (self.frames.len(), policy.min, self.window(policy));
            let (score, digest) = (|n: usize| self.frames[n].score, |n: usize| self.frames[n].digest);
            let stands_out = |n: usize| {
                let around = n.saturating_sub(2).max(1)..(n + 3).min(count);
                let clear = |m: usize| m == n || score(n) >= score(m).saturating_mul(3);
                score(n) >= 1792 && around.into_iter().all(clear)
            };
            let cuts: Vec<usize> = (1..count).filter(|&n| stands_out(n)).collect();
            let key = |n: usize| (score(n), digest(n), std::cmp::Reverse(n));
            let counts = |&n: &usize| {
                let weaker = |&m: &usize| m == n || !self.closer(m, n, min) || key(m) < key(n);
                !self.closer(0, n, min) && !self.closer(n, count, min) && cuts.iter().all(weaker)
            };
            let mut edges: Vec<usize> = cuts.iter().copied().filter(counts).collect();
            edges.insert(0, 0);
            edges.push(count);
            let mut marks = edges.clone();
            for shot in edges.windows(2) {
                let takes_part = |&n: &usize| n == 0 || digest(n) != digest(n - 1);
                let part: Vec<usize> = (shot[0]..shot[1]).filter(takes_part).collect();
                let key = |n: usize| (digest(n), std::cmp::Reverse(n));
                marks.extend(part.iter().copied().filter(|&n| {
                    !self.closer(shot[0], n, min)
                        && !self.closer(n, shot[1], min)
                        && part.iter().all(|&m| m == n || !self.closer(m, n, window) || key(m) < key(n))
                }));
            }
            marks.sort_unstable();
            marks.dedup();
            marks
        }

        /// The chunks of a piece, straight from the rule.
        fn parts(&self, piece: Range<usize>, policy: &ChunkPolicy) -> Vec<Range<u64>> {
            let (start, end) = (self.starts[piece.start], self.starts[piece.end]);
            let apart = (policy.target / 6).max(policy.min);
            let candidates = (piece.start + 1..piece.end).filter(|&n| {
                self.frames[n].digest != self.frames[n - 1].digest
                    && !self.closer(piece.start, n, apart)
                    && !self.closer(n, piece.end, apart)
            });
            let off = |n: usize| (2 * self.starts[n]).abs_diff(start + end);
            let better = |&a: &usize, &b: &usize| {
                let key = |n: usize| (self.frames[n].digest, Reverse(off(n)), Reverse(n));
                key(a).cmp(&key(b))
            };
            let long = u128::from(end - start) * 1000
                > u128::from(policy.target * 2 / 3) * u128::from(self.timescale);
            match candidates.max_by(better).filter(|_| long) {
                Some(at) => [self.parts(piece.start..at, policy), self.parts(at..piece.end, policy)].concat(),
                None => std::iter::once(piece.start as u64..piece.end as u64).collect(),
            }
        }

        fn reference(&self, policy: &ChunkPolicy) -> Vec<Range<u64>> {
            let mut chunks = Vec::new();
            for stretch in self.marks(policy).windows(2) {
                let (mut start, end) = (stretch[0], stretch[1]);
                let fits = |a: usize, b: usize| {
                    let most = u128::from(policy.max) * u128::from(self.timescale);
                    b - a <= 960 && u128::from(self.starts[b] - self.starts[a]) * 1000 <= most
                };
                while start < end {
                    let mut full = start + 1;
                    while full < end && fits(start, full + 1) {
                        full += 1;
                    }
                    let mut cut = full;
                    if full < end && end - full <= 960 && self.closer(full, end, policy.min) {
                        let whole = self.starts[start] + self.starts[end];
                        cut = (start + 1..full).find(|&n| 2 * self.starts[n] >= whole).unwrap_or(full);
                        cut = cut.max(end.saturating_sub(960));
                    }
                    chunks.extend(self.parts(start..cut, policy));
                    start = cut;
                }
            }
            chunks
        }
    }

    fn ends(film: &Film) -> Vec<u64> {
        film.chunks(&POLICY).iter().map(|chunk| chunk.end).collect()
    }

    #[test]
    fn short_and_still_films() {
        let still = |frames: usize| Film::even(vec![frame(0, 7); frames]);
        assert!(ends(&still(0)).is_empty());
        assert_eq!(ends(&still(1)), [1]);
        assert_eq!(ends(&Film::even(vec![frame(0, 1), frame(9999, 2)])), [2]);
        assert_eq!(ends(&still(100)), [100]);
        assert_eq!(ends(&still(104)), [52, 104], "what is left over is too short");
        assert_eq!(ends(&still(113)), [100, 113]);
        assert_eq!(ends(&still(304)), [100, 200, 252, 304]);
    }

    #[test]
    fn a_still_picture_is_encoded_once_and_while_it_lasts() {
        let mut cutter = Cutter::new(FPS, POLICY);
        for start in 0..1000 {
            cutter.push(frame(0, 7), start);
        }
        let found: Vec<_> = std::iter::from_fn(|| cutter.next_chunk()).collect();
        assert!(found.len() >= 9 && found.iter().all(|chunk| chunk.end - chunk.start == 100), "{found:?}");
        assert!(cutter.frames.len() < 200);
    }

    #[test]
    fn a_hard_cut_is_a_boundary_and_a_flash_is_none() {
        let mut film = Film::even((0..100).map(|n| frame(100, n)).collect());
        film.frames[40].score = 9000;
        assert!(ends(&film).contains(&40));
        film.frames[41].score = 9000;
        let calm = Film::even((0..100).map(|n| frame(100, n)).collect());
        assert_eq!(ends(&film), ends(&calm));
    }

    #[test]
    fn of_two_cuts_too_close_the_stronger_counts() {
        let mut film = Film::even((0..100).map(|n| frame(100, n)).collect());
        film.frames[40].score = 9000;
        film.frames[43].score = 9001;
        let found = ends(&film);
        assert!(found.contains(&43) && !found.contains(&40), "{found:?}");
    }

    #[test]
    fn a_slide_show_is_cut_at_its_slides() {
        let film = Film::even((0..600u64).map(|n| frame(0, n / 60)).collect());
        assert_eq!(ends(&film), (1..=10).map(|slide| slide * 60).collect::<Vec<_>>());
    }

    #[test]
    fn a_grid_starts_at_its_multiples() {
        let frames: Vec<CutFrame> = (0..130).map(|n| frame(100, n)).collect();
        let policy = ChunkPolicy { mode: ChunkMode::Fixed, ..POLICY };
        assert_eq!(Film::even(frames.clone()).chunks(&policy), [0..50, 50..100, 100..130]);
        // 24000/1001: the first frame at or after each two seconds.
        let film = Film::new(frames.clone(), std::iter::repeat(1001), 24_000);
        assert_eq!(film.chunks(&policy), [0..48, 48..96, 96..130]);
        let mut cutter = Cutter::new(24_000, policy);
        frames.iter().zip(&film.starts).take(49).for_each(|(frame, start)| cutter.push(*frame, *start));
        assert_eq!(cutter.next_chunk(), Some(0..48), "known at once");
        let fast = Film::new(vec![frame(0, 0); 2500], std::iter::repeat(1), 1000);
        assert_eq!(fast.chunks(&policy), [0..960, 960..1920, 1920..2000, 2000..2500]);
    }

    #[test]
    fn frames_may_be_longer_than_a_chunk_or_very_short() {
        let long = Film::new((0..4).map(|n| frame(0, n)).collect(), [9000, 100, 9000, 50], 1000);
        assert!(
            long.chunks(&ChunkPolicy { min: 0, ..POLICY }).iter().all(|chunk| chunk.end - chunk.start <= 2)
        );
        let short = Film::new(vec![frame(0, 1); 2000], std::iter::repeat(1), 1_000_000);
        assert_eq!(short.chunks(&POLICY), [0..960, 960..1480, 1480..2000]);
    }

    #[test]
    fn nothing_overflows() {
        for policy in [POLICY, ChunkPolicy { target: u64::MAX, min: u64::MAX, max: u64::MAX, ..POLICY }] {
            for mode in [ChunkMode::Content, ChunkMode::Fixed] {
                for timescale in [0, 1, u32::MAX] {
                    let mut cutter = Cutter::new(timescale, ChunkPolicy { mode, ..policy });
                    let starts = [u64::MAX, 5, 5, u64::MAX - 1, 0, u64::MAX / 2];
                    starts.into_iter().for_each(|start| cutter.push(frame(u32::MAX, start), start));
                    cutter.finish(3);
                    cutter.finish(4);
                    cutter.push(frame(1, 1), 1);
                    let found: Vec<_> = std::iter::from_fn(|| cutter.next_chunk()).collect();
                    assert_eq!(found.iter().map(|chunk| chunk.end - chunk.start).sum::<u64>(), 6);
                }
            }
        }
    }

    /// A sequence of numbers that look random, the same each time.
    fn noise(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }
    }

    #[test]
    fn sound_is_cut_like_a_long_shot() {
        let mut next = noise(1);
        let sound: Vec<CutFrame> =
            (0..50_000u64).map(|n| frame(0, if n < 5000 { 0 } else { next() })).collect();
        let chunks = Film::new(sound, std::iter::repeat(960), 48_000).chunks(&POLICY);
        assert!(chunks[..24].iter().all(|chunk| chunk.end - chunk.start == 200), "silence");
        let mean = 45_000.0 * 0.02 / (chunks.len() - 25) as f64;
        assert!((0.7..1.0).contains(&mean), "{mean} s");
    }

    /// What edits cost in footage with a hard cut every few seconds, at 30 frames a second.
    #[test]
    fn edits_cost_little_on_average() {
        let mut next = noise(2);
        let (mut lengths, mut replaced, mut pixel) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..200 {
            let mut shot = 0;
            let frames = (0..1800).map(|_| {
                let cut = shot == 0;
                shot = if cut { 40 + next() % 220 } else { shot - 1 };
                frame(if cut { 9000 } else { 100 + (next() % 900) as u32 }, next())
            });
            let old = Film::new(frames.collect(), std::iter::repeat(1), 30);
            let known = old.chunks(&POLICY);
            let known: HashSet<_> =
                known.iter().inspect(|c| lengths.push(old.ticks(c))).map(|c| old.digests(c)).collect();
            let at = 300 + (next() % 1000) as usize;
            let mut again = |edited: Range<usize>, score: u32| {
                let mut new = old.clone();
                new.frames[edited.clone()].iter_mut().for_each(|f| *f = frame(f.score, next()));
                [edited.start, edited.end].into_iter().for_each(|end| new.frames[end].score += score);
                let chunks = new.chunks(&POLICY);
                let again = chunks.iter().filter(|chunk| !known.contains(&new.digests(chunk)));
                again.fold((0, 0), |(ticks, count), chunk| (ticks + new.ticks(chunk), count + 1))
            };
            replaced.push(again(at..at + 90, 5000).0);
            pixel.push(again(at..at + 1, 0).1);
        }
        let seconds = |ticks: &[u64]| ticks.iter().sum::<u64>() as f64 / ticks.len() as f64 / 30.0;
        assert!((0.7..0.9).contains(&seconds(&lengths)), "{}", seconds(&lengths));
        assert!(seconds(&replaced) < 5.0, "{}", seconds(&replaced));
        assert!(replaced.iter().filter(|&&ticks| ticks > 180).count() <= 10, "{replaced:?}");
        assert!(pixel.iter().filter(|&&chunks| chunks > 2).count() <= 2, "{pixel:?}");
    }

    /// Some seconds of one kind of footage.
    fn footage(most: usize) -> impl Strategy<Value = Vec<CutFrame>> {
        let lively = (0u32..600, any::<u64>());
        prop_oneof![
            4 => prop::collection::vec(lively.clone(), 1..most),
            1 => prop::collection::vec((prop_oneof![Just(0u32), 1500u32..20_000], 0u64..6), 1..most),
            1 => (any::<u64>(), 1..most).prop_map(|(content, count)| vec![(0, content); count]),
            // A fade, a flash, and a loop.
            1 => (any::<u64>(), 1..most).prop_map(|(n, count)| (0..count as u32).map(|k| (k * 20, n ^ u64::from(k))).collect()),
            1 => (lively, 1..most).prop_map(|(kind, count)| (0..count as u64).map(|k| (if k % 9 < 2 { 9000 } else { kind.0 }, kind.1 ^ k)).collect()),
            1 => (1u64..40, 1..most).prop_map(|(period, count)| (0..count as u64).map(|k| (50, k % period)).collect()),
        ]
        .prop_map(|frames| frames.into_iter().map(|(score, content)| frame(score, content)).collect())
    }

    fn frames(scenes: usize, most: usize) -> impl Strategy<Value = Vec<CutFrame>> {
        let scene = (footage(most), prop::option::of(1800u32..30_000));
        prop::collection::vec(scene, 0..scenes).prop_map(|scenes| {
            let cut_to = |(mut frames, cut): (Vec<CutFrame>, Option<u32>)| {
                if let (Some(first), Some(score)) = (frames.first_mut(), cut) {
                    first.score = score;
                }
                frames
            };
            scenes.into_iter().flat_map(cut_to).collect()
        })
    }

    /// Durations in milliseconds: of a constant rate, of varied ones, and with long frames.
    fn durations() -> impl Strategy<Value = Vec<u64>> {
        prop_oneof![
            3 => prop_oneof![Just(40u64), Just(33), Just(8), Just(2)].prop_map(|ms| vec![ms]),
            1 => prop::collection::vec(5u64..120, 1..50),
            1 => prop::collection::vec(prop_oneof![20 => 5u64..60, 1 => 100u64..6000], 1..80),
        ]
    }

    fn policies() -> impl Strategy<Value = ChunkPolicy> {
        let any = (1u64..4000, 1u64..4000, 1u64..4000).prop_map(|(a, b, c)| {
            let mut lengths = [a, b, c];
            lengths.sort_unstable();
            ChunkPolicy { mode: ChunkMode::Content, target: lengths[1], min: lengths[0], max: lengths[2] }
        });
        prop_oneof![2 => Just(POLICY), 1 => any]
    }

    proptest! {
        #[test]
        fn the_rules_are_followed_and_chunks_known_in_time(
            frames in frames(6, 300), durations in durations(), policy in policies(),
        ) {
            let film = Film::new(frames, durations.into_iter().cycle(), 1000);
            let (marks, expected) = (film.marks(&policy), film.reference(&policy));
            let wait = film.window(&policy) + policy.min;
            let mut cutter = Cutter::new(1000, policy);
            let mut found = Vec::new();
            for (count, frame) in film.frames.iter().enumerate() {
                cutter.push(*frame, film.starts[count]);
                found.extend(std::iter::from_fn(|| cutter.next_chunk()));
                let seen = count.checked_sub(2).map_or(0, |two_before| film.starts[two_before + 1]);
                for chunk in &expected[found.len()..] {
                    let mark = marks.iter().copied().find(|&mark| mark as u64 >= chunk.end).unwrap_or(0);
                    let full = film.starts[chunk.end as usize].max(film.starts[chunk.start as usize] + policy.max);
                    prop_assert!(film.starts[mark].min(full + policy.min) + wait > seen, "{chunk:?} is late");
                }
                let kept = film.starts[count] - film.starts[cutter.dropped as usize];
                let long = film.starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
                prop_assert!(kept <= policy.max + wait + policy.min + 6 * long, "{kept} ms are kept");
            }
            cutter.finish(film.starts[film.frames.len()]);
            found.extend(std::iter::from_fn(|| cutter.next_chunk()));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn chunks_cover_the_film_and_keep_their_bounds(
            frames in frames(6, 300), durations in durations(), policy in policies(),
        ) {
            let long = durations.iter().copied().max().unwrap_or(0);
            let film = Film::new(frames, durations.into_iter().cycle(), 1000);
            let chunks = film.chunks(&policy);
            let starts = chunks.iter().map(|chunk| chunk.start).chain([film.frames.len() as u64]);
            prop_assert!(std::iter::once(0).chain(chunks.iter().map(|chunk| chunk.end)).eq(starts));
            for chunk in &chunks {
                let (ms, count) = (film.ticks(chunk), chunk.end - chunk.start);
                prop_assert!(count > 0 && (ms <= policy.max || count == 1) && count <= 960);
                let divisible = policy.min + long <= policy.max / 2 && film.starts[1] * 960 > policy.max;
                prop_assert!(ms >= policy.min || chunks.len() == 1 || !divisible || long > 120, "{ms} ms");
            }
        }

        /// The bound at the top of this file.
        #[test]
        fn an_edit_moves_nothing_out_of_its_reach(
            before in frames(4, 300), old in frames(3, 100), new in frames(3, 100), after in frames(4, 300),
            score in any::<u16>(), durations in durations(), policy in policies(), inside in any::<bool>(),
        ) {
            let lasting = |frames: &[CutFrame], at: usize| {
                let ms: Vec<u64> = durations.iter().copied().cycle().skip(at).take(frames.len()).collect();
                frames.iter().copied().zip(ms).collect::<Vec<_>>()
            };
            let join = |middle: &[CutFrame], score: Option<u16>| {
                let mut after = after.clone();
                if let (Some(first), Some(score)) = (after.first_mut(), score) {
                    first.score = u32::from(score);
                }
                let parts = [lasting(&before, 0), lasting(middle, 7), lasting(&after, 3)].concat();
                let (frames, ms): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
                Film::new(frames, ms, 1000)
            };
            let (old, new) = if inside { (old, new) } else { (old, Vec::new()) };
            let (a, b) = (before.len(), before.len() + new.len());
            let moved = (old.len() as i64) - (new.len() as i64);
            let (old, new) = (join(&old, None), join(&new, Some(score)));
            let reach = (new.window(&policy) + policy.min) as i64;
            let at = |frame: usize| new.starts[frame.min(new.frames.len())] as i64;
            let first = a.checked_sub(2).map_or(-1, |frame| at(frame) - reach);
            let last = at(b + 2) + reach;

            let (old_marks, new_marks) = (old.marks(&policy), new.marks(&policy));
            let head = |marks: &[usize]| marks.iter().copied().filter(|&m| m < a && at(m) <= first).collect::<Vec<_>>();
            prop_assert_eq!(head(&old_marks), head(&new_marks));
            let tail = |marks: &[usize], moved: i64| {
                let now = marks.iter().map(|&mark| mark as i64 - moved);
                now.filter(|&mark| mark >= b as i64 && at(mark as usize) >= last).collect::<Vec<_>>()
            };
            prop_assert_eq!(tail(&old_marks, moved), tail(&new_marks, 0));

            let from = head(&new_marks).last().map_or(0, |&mark| at(mark));
            let to = tail(&new_marks, 0).first().map_or(at(usize::MAX), |&mark| at(mark as usize));
            let (min, max) = (policy.min as i64, policy.max as i64);
            let known: HashSet<_> = old.chunks(&policy).iter().map(|chunk| old.digests(chunk)).collect();
            let mut again = 0;
            for chunk in new.chunks(&policy).iter().filter(|chunk| !known.contains(&new.digests(chunk))) {
                let (start, end) = (at(chunk.start as usize), at(chunk.end as usize));
                prop_assert!(start >= from && end <= to, "{chunk:?} of {from}..{to}");
                prop_assert!(start > first - min - max || first < 0, "{chunk:?} starts before {first}");
                again += end - start;
            }
            prop_assert!(again <= to - from.max(first - min - max));
            let gaps = new_marks.windows(2).map(|pair| at(pair[1]) - at(pair[0])).max().unwrap_or(0);
            if gaps <= max {
                let edges = at(b + 2) - a.checked_sub(2).map_or(0, at);
                prop_assert!(again <= edges + 2 * (reach + max), "{} ms", again);
            }
        }

        /// Behind an edit a still picture costs its beginning and its end only.
        #[test]
        fn a_still_picture_is_not_encoded_again(
            before in frames(3, 200), new in frames(2, 100), still in 300usize..900, after in footage(200),
        ) {
            let join = |middle: &[CutFrame]| {
                let still = vec![frame(0, 1 << 40); still];
                Film::even([&before[..], middle, &still, &after].concat())
            };
            let (old, new_film) = (join(&[]), join(&new));
            let known: HashSet<_> = old.chunks(&POLICY).iter().map(|chunk| old.digests(chunk)).collect();
            let chunks = new_film.chunks(&POLICY);
            let begins = (before.len() + new.len()) as u64;
            let within = |chunk: &&Range<u64>| chunk.start >= begins && chunk.end <= begins + still as u64;
            let again = chunks.iter().filter(within).filter(|chunk| !known.contains(&new_film.digests(chunk)));
            prop_assert!(again.count() <= 3);
        }
    }
}
