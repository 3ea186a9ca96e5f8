//! Where films are cut, by examples, and what holds for any film.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;
use crate::steps::audio_analysis::window_policy;

const POLICY: ChunkPolicy = ChunkPolicy { mode: ChunkMode::Content, target: 2000, min: 300, max: 4000 };
const FPS: u32 = 25;

fn frame(score: u32, content: u64) -> CutFrame {
    CutFrame { score, digest: FrameDigest(*blake3::hash(&content.to_le_bytes()).as_bytes()) }
}

/// Frames and when each starts, and the end.
#[derive(Clone, Debug)]
struct ChunkList {
    frames: Vec<CutFrame>,
    starts: Vec<u64>,
    timescale: u32,
}

impl ChunkList {
    fn new(frames: Vec<CutFrame>, durations: impl IntoIterator<Item = u64>, timescale: u32) -> ChunkList {
        let ends = durations.into_iter().take(frames.len()).scan(0, |end, ticks| {
            *end += ticks;
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).collect();
        ChunkList { frames, starts, timescale }
    }

    fn even(frames: Vec<CutFrame>) -> ChunkList {
        ChunkList::even_at(FPS, frames)
    }

    fn even_at(rate: u32, frames: Vec<CutFrame>) -> ChunkList {
        ChunkList::new(frames, std::iter::repeat(1), rate)
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
        let long =
            u128::from(end - start) * 1000 > u128::from(policy.target * 2 / 3) * u128::from(self.timescale);
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

fn ends(film: &ChunkList) -> Vec<u64> {
    film.chunks(&POLICY).iter().map(|chunk| chunk.end).collect()
}

#[test]
fn short_and_still_films() {
    let still = |frames: usize| ChunkList::even(vec![frame(0, 7); frames]);
    assert!(ends(&still(0)).is_empty());
    assert_eq!(ends(&still(1)), [1]);
    assert_eq!(ends(&ChunkList::even(vec![frame(0, 1), frame(9999, 2)])), [2]);
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
    let mut film = ChunkList::even((0..100).map(|n| frame(100, n)).collect());
    film.frames[40].score = 9000;
    assert!(ends(&film).contains(&40));
    film.frames[41].score = 9000;
    let calm = ChunkList::even((0..100).map(|n| frame(100, n)).collect());
    assert_eq!(ends(&film), ends(&calm));
}

#[test]
fn of_two_cuts_too_close_the_stronger_counts() {
    let mut film = ChunkList::even((0..100).map(|n| frame(100, n)).collect());
    film.frames[40].score = 9000;
    film.frames[43].score = 9001;
    let found = ends(&film);
    assert!(found.contains(&43) && !found.contains(&40), "{found:?}");
}

#[test]
fn a_slide_show_is_cut_at_its_slides() {
    let film = ChunkList::even((0..600u64).map(|n| frame(0, n / 60)).collect());
    assert_eq!(ends(&film), (1..=10).map(|slide| slide * 60).collect::<Vec<_>>());
}

#[test]
fn a_grid_starts_at_its_multiples() {
    let frames: Vec<CutFrame> = (0..130).map(|n| frame(100, n)).collect();
    let policy = ChunkPolicy { mode: ChunkMode::Fixed, ..POLICY };
    assert_eq!(ChunkList::even(frames.clone()).chunks(&policy), [0..50, 50..100, 100..130]);
    // 24000/1001: the first frame at or after each two seconds.
    let film = ChunkList::new(frames.clone(), std::iter::repeat(1001), 24_000);
    assert_eq!(film.chunks(&policy), [0..48, 48..96, 96..130]);
    let mut cutter = Cutter::new(24_000, policy);
    frames.iter().zip(&film.starts).take(49).for_each(|(frame, start)| cutter.push(*frame, *start));
    assert_eq!(cutter.next_chunk(), Some(0..48), "known at once");
    let fast = ChunkList::new(vec![frame(0, 0); 2500], std::iter::repeat(1), 1000);
    assert_eq!(fast.chunks(&policy), [0..960, 960..1920, 1920..2000, 2000..2500]);
}

#[test]
fn frames_may_be_longer_than_a_chunk_or_very_short() {
    let long = ChunkList::new((0..4).map(|n| frame(0, n)).collect(), [9000, 100, 9000, 50], 1000);
    assert!(long.chunks(&ChunkPolicy { min: 0, ..POLICY }).iter().all(|chunk| chunk.end - chunk.start <= 2));
    let short = ChunkList::new(vec![frame(0, 1); 2000], std::iter::repeat(1), 1_000_000);
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
    let sound: Vec<CutFrame> = (0..50_000u64).map(|n| frame(0, if n < 5000 { 0 } else { next() })).collect();
    let chunks = ChunkList::new(sound, std::iter::repeat(960), 48_000).chunks(&POLICY);
    assert!(chunks[..24].iter().all(|chunk| chunk.end - chunk.start == 200), "silence");
    let mean = 45_000.0 * 0.02 / (chunks.len() - 25) as f64;
    assert!((0.7..1.0).contains(&mean), "{mean} s");
}

/// A spec's `min` and `max` are of the picture.
#[test]
fn sound_is_cut_by_the_target() {
    for max in [2000, 4000, 9000] {
        let policy = window_policy(&ChunkPolicy { min: 1900, max, ..POLICY });
        let mut next = noise(3);
        let noise: Vec<CutFrame> = (0..50_000).map(|_| frame(0, next())).collect();
        let noise = ChunkList::new(noise, std::iter::repeat(960), 48_000);
        let silence = ChunkList::new(vec![frame(0, 0); 5000], std::iter::repeat(960), 48_000);
        let chunks = noise.chunks(&policy);
        let longest = max.max(4000);
        assert!(chunks.iter().all(|chunk| (25..=longest / 20).contains(&(chunk.end - chunk.start))), "{max}");
        let mean = 50_000.0 * 0.02 / chunks.len() as f64;
        assert!((1.6..1.8).contains(&mean), "{mean} s");
        assert!(silence.chunks(&policy)[..5].iter().all(|chunk| chunk.end - chunk.start == longest / 20));
    }
}

/// What edits cost at random places of footage with a hard cut every few seconds, at 30 frames a second:
/// the figures in the README and in docs/design.md.
#[test]
fn edits_cost_little_on_average() {
    const FILMS: usize = 1000;
    let mut next = noise(2);
    let mut lengths = Vec::new();
    let [mut replaced, mut inserted, mut coloured, mut cut, mut pixel] = [(); 5].map(|()| Vec::new());
    for _ in 0..FILMS {
        let mut shot = 0;
        let frames = (0..1800).map(|_| {
            let cut = shot == 0;
            shot = if cut { 40 + next() % 220 } else { shot - 1 };
            frame(if cut { 9000 } else { 100 + (next() % 900) as u32 }, next())
        });
        let old = ChunkList::even_at(30, frames.collect());
        let known = old.chunks(&POLICY);
        let known: HashSet<_> =
            known.iter().inspect(|c| lengths.push(old.ticks(c))).map(|c| old.digests(c)).collect();
        let again = |frames: Vec<CutFrame>| {
            let new = ChunkList::even_at(30, frames);
            let chunks = new.chunks(&POLICY);
            let again = chunks.iter().filter(|chunk| !known.contains(&new.digests(chunk)));
            again.fold((0, 0), |(ticks, count), chunk| (ticks + new.ticks(chunk), count + 1))
        };
        let at = 300 + (next() % 1000) as usize;
        // What is spliced in, or out, is another picture than its neighbours.
        let mut edit = |removed: usize, added: usize, score: u32| {
            let mut frames = old.frames.clone();
            let scores: Vec<u32> = frames[at..].iter().map(|frame| frame.score).collect();
            frames.splice(at..at + removed, (0..added).map(|n| frame(scores[n], next())));
            for seam in BTreeSet::from([at, at + added]) {
                frames[seam].score += score;
            }
            again(frames)
        };
        replaced.push(edit(90, 90, 5000).0);
        inserted.push(edit(0, 150, 5000).0);
        coloured.push(edit(30, 30, 300).0);
        cut.push(edit(120, 0, 5000).0);
        pixel.push(edit(1, 1, 0).1);
    }
    let mean = |ticks: &[u64]| ticks.iter().sum::<u64>() as f64 / ticks.len() as f64 / 30.0;
    assert!((0.75..0.82).contains(&mean(&lengths)), "{} s", mean(&lengths));
    for (what, ticks, usual, most) in [
        ("3 s replaced", replaced, 4.4, 6.0),
        ("5 s inserted", inserted, 6.4, 8.0),
        ("1 s coloured", coloured, 2.0, 3.5),
        ("4 s cut out", cut, 1.4, 6.0),
    ] {
        assert!((mean(&ticks) - usual).abs() < 0.05, "{what}: {} s", mean(&ticks));
        let beyond = ticks.iter().filter(|&&ticks| ticks as f64 > most * 30.0).count();
        assert!(beyond * 500 < FILMS, "{what}: {beyond} cost more than {most} s");
    }
    assert!(pixel.iter().filter(|&&chunks| chunks > 2).count() * 100 < FILMS, "{pixel:?}");
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
        let film = ChunkList::new(frames, durations.into_iter().cycle(), 1000);
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
        let film = ChunkList::new(frames, durations.into_iter().cycle(), 1000);
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
            ChunkList::new(frames, ms, 1000)
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
            ChunkList::even([&before[..], middle, &still, &after].concat())
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
