//! When each frame is shown. Containers round time stamps to ticks of their own (Matroska to
//! milliseconds); where the rounded stamps agree with one constant frame rate, that rate is the
//! truth, so that the same frames get the same exact durations out of every container.

use serde::{Deserialize, Serialize};

/// A positive fraction in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rational {
    pub num: u64,
    pub den: u64,
}

impl Rational {
    /// `None` when either part is zero.
    pub fn new(num: u64, den: u64) -> Option<Rational> {
        let divisor = gcd(num, den);
        (num != 0 && den != 0).then(|| Rational { num: num / divisor, den: den / divisor })
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Frame rates that equipment makes; one of these is preferred over a quotient of time stamps.
const STANDARD_RATES: [(u64, u64); 14] = [
    (24_000, 1001),
    (24, 1),
    (25, 1),
    (30_000, 1001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60_000, 1001),
    (60, 1),
    (100, 1),
    (120_000, 1001),
    (120, 1),
    (12, 1),
    (15, 1),
];

/// The start and duration of every frame of a source, in ticks of `1/timescale` seconds, the first
/// frame starting at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameTimes {
    /// Ticks a second; fits the 32 bits that an MP4 media header has.
    pub timescale: u32,
    /// The constant frame rate, or the largest number of frames in any one second.
    pub frame_rate: Rational,
    /// One more than there are frames: the last is the end of the last frame.
    pub starts: Vec<u64>,
}

impl FrameTimes {
    /// Works out the times from time stamps in presentation order, in units of `time_base`
    /// seconds. `rates` are rates that the container claims; `last` is the duration of the last
    /// frame, in the same units, where the container gives one.
    pub fn new(stamps: &[i64], time_base: Rational, rates: &[Rational], last: Option<u64>) -> FrameTimes {
        let first = stamps.first().copied().unwrap_or(0);
        let stamps: Vec<u64> =
            stamps.iter().map(|&stamp| stamp.saturating_sub(first).max(0) as u64).collect();
        // Stamps are off by at most one tick: half from rounding each, half from the first.
        for tolerance in [0, 1] {
            let standard = STANDARD_RATES.iter().filter_map(|&(num, den)| Rational::new(num, den));
            for rate in rates.iter().copied().chain(standard) {
                if let Some(times) = constant(&stamps, time_base, rate, tolerance) {
                    return times;
                }
            }
        }
        let gap = match stamps.as_slice() {
            [.., a, b] => b - a,
            _ => time_base.den / time_base.num.max(1) / 25,
        };
        let end = stamps.last().copied().unwrap_or(0) + last.filter(|&d| d > 0).unwrap_or(gap).max(1);
        let (timescale, scale) = match u32::try_from(time_base.den) {
            // Finer ticks would let an hour overflow the 32 bits of a sample's duration.
            Ok(den) if time_base.num == 1 && den <= 1_000_000 => (den, None),
            _ => (90_000, Some(())),
        };
        let rescale = |stamp: u64| match scale {
            None => stamp,
            Some(()) => {
                (u128::from(stamp) * u128::from(time_base.num) * u128::from(timescale)
                    / u128::from(time_base.den)) as u64
            }
        };
        let starts: Vec<u64> = stamps.iter().copied().chain([end]).map(rescale).collect();
        let frame_rate = Rational { num: busiest_second(&starts, timescale), den: 1 };
        FrameTimes { timescale, frame_rate, starts }
    }

    pub fn frames(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }
}

/// The largest number of frames that start within one second; at least 1.
fn busiest_second(starts: &[u64], timescale: u32) -> u64 {
    let frames = starts.len().saturating_sub(1);
    let mut first = 0;
    let mut most = 1;
    for (last, &start) in starts[..frames].iter().enumerate() {
        while start - starts[first] >= u64::from(timescale) {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most as u64
}

/// The times at `rate`, if every stamp lies within `tolerance` ticks of them.
fn constant(stamps: &[u64], time_base: Rational, rate: Rational, tolerance: u64) -> Option<FrameTimes> {
    // Beyond 1000 a second it is a container's tick, not a frame rate.
    if rate.num > rate.den.checked_mul(1000)? || rate.num > u64::from(u32::MAX) || rate.den > 1_000_000 {
        return None;
    }
    // A slow clock fits every rate: a frame must last several ticks to tell.
    if stamps.len() > 1
        && u128::from(rate.den) * u128::from(time_base.den)
            < 4 * u128::from(rate.num) * u128::from(time_base.num)
    {
        return None;
    }
    for (k, &stamp) in stamps.iter().enumerate() {
        // stamp·tb against k/rate, over the common denominator tb.den·rate.num.
        let at = i128::from(stamp) * i128::from(time_base.num) * i128::from(rate.num);
        let due = k as i128 * i128::from(rate.den) * i128::from(time_base.den);
        let tick = i128::from(time_base.num) * i128::from(rate.num);
        if (at - due).abs() > i128::from(tolerance) * tick {
            return None;
        }
    }
    // Fine enough ticks that audio and other tools' arithmetic keep their footing.
    let mut scale = 1;
    while rate.num * scale < 10_000 {
        scale *= 2;
    }
    let timescale = u32::try_from(rate.num * scale).ok()?;
    let duration = rate.den * scale;
    let starts = (0..=stamps.len() as u64).map(|k| k * duration).collect();
    Some(FrameTimes { timescale, frame_rate: rate, starts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLIS: Rational = Rational { num: 1, den: 1000 };

    #[test]
    fn ntsc_film_rate_survives_milliseconds() {
        let rate = Rational { num: 24_000, den: 1001 };
        let stamps: Vec<i64> = (0..5000).map(|k| (k * 1_001_000 + 12_000) / 24_000).collect();
        let times = FrameTimes::new(&stamps, MILLIS, &[], None);
        assert_eq!((times.timescale, times.frame_rate), (24_000, rate));
        assert_eq!(&times.starts[..3], [0, 1001, 2002]);
        assert_eq!(times.starts.len(), 5001);
    }

    #[test]
    fn stamps_without_a_constant_rate_are_kept() {
        let times = FrameTimes::new(&[100, 140, 220, 230], MILLIS, &[Rational { num: 25, den: 1 }], Some(7));
        assert_eq!(times.timescale, 1000);
        assert_eq!(times.starts, [0, 40, 120, 130, 137]);
    }

    #[test]
    fn one_frame_lasts_what_its_rate_says() {
        let times = FrameTimes::new(&[5], MILLIS, &[Rational { num: 25, den: 1 }], Some(40));
        assert_eq!(times.starts, [0, 512]);
        assert_eq!(times.timescale, 12_800);
    }

    proptest! {
        #[test]
        fn every_standard_rate_is_found_in_every_clock(
            rate in prop::sample::select(&STANDARD_RATES[..12]),
            clock in prop::sample::select(&[1000u64, 90_000, 12_800, 30_000, 1_000_000][..]),
            first in 0i64..100_000,
            // Enough for a thousandth to show.
            frames in 300usize..600,
        ) {
            let (num, den) = rate;
            let stamps: Vec<i64> = (0..frames as u64).map(|k| first + ((2 * k * den * clock + num) / (2 * num)) as i64).collect();
            let times = FrameTimes::new(&stamps, Rational { num: 1, den: clock }, &[], None);
            prop_assert_eq!(times.frame_rate, Rational { num, den });
            prop_assert_eq!(times.frames(), frames);
        }

        #[test]
        fn starts_never_go_back(mut stamps in prop::collection::vec(0i64..10_000_000, 1..50), num in 1u64..1001, den in 1u64..10_000_000_000) {
            stamps.sort();
            let times = FrameTimes::new(&stamps, Rational::new(num, den).unwrap(), &[], None);
            prop_assert!(times.starts.is_sorted());
            prop_assert_eq!(times.frames(), stamps.len());
        }
    }
}
