//! Bit rates of a playlist as HLS defines them, measured on the segments as they are. Exact: a
//! rate is a fraction of integers until it is rounded up, once, to whole bits a second.

/// One segment as it is stored: its size, container overhead included, and its duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize {
    pub bytes: u64,
    /// Ticks of the track's timescale.
    pub duration: u64,
}

/// The peak segment bit rate in bits a second: the largest bit rate of any contiguous set of
/// segments that lasts between 0.5 and 1.5 times `target_duration` seconds (RFC 8216 4.1).
///
/// Where no set lasts so long, the whole playlist is shorter than half the target duration and
/// its average bit rate is the answer. 0 for an empty playlist.
pub fn peak_bandwidth(segments: &[SegmentSize], timescale: u32, target_duration: u64) -> u64 {
    let target = u128::from(target_duration) * u128::from(timescale);
    let mut peak = Rate { bits: 0, ticks: 1 };
    for first in 0..segments.len() {
        let mut set = Rate { bits: 0, ticks: 0 };
        for segment in &segments[first..] {
            set.add(segment);
            // Doubled, so that half a target duration is a whole number of ticks.
            if 2 * set.ticks > 3 * target {
                break;
            }
            if 2 * set.ticks >= target && set.exceeds(&peak) {
                peak = set;
            }
        }
    }
    match peak.bits {
        0 => average_bandwidth(segments, timescale),
        _ => peak.per_second(timescale),
    }
}

/// The average segment bit rate in bits a second: the size of all segments over their duration
/// (RFC 8216 4.1). 0 for a playlist that lasts no time.
pub fn average_bandwidth(segments: &[SegmentSize], timescale: u32) -> u64 {
    let mut all = Rate { bits: 0, ticks: 0 };
    for segment in segments {
        all.add(segment);
    }
    all.per_second(timescale)
}

/// Bits over ticks.
#[derive(Clone, Copy)]
struct Rate {
    bits: u128,
    ticks: u128,
}

impl Rate {
    fn add(&mut self, segment: &SegmentSize) {
        self.bits += 8 * u128::from(segment.bytes);
        self.ticks += u128::from(segment.duration);
    }

    fn exceeds(&self, other: &Rate) -> bool {
        self.bits.saturating_mul(other.ticks) > other.bits.saturating_mul(self.ticks)
    }

    /// Rounded up: a client that plans with it never has too little.
    fn per_second(&self, timescale: u32) -> u64 {
        let bits = self.bits * u128::from(timescale);
        bits.checked_div(self.ticks).map_or(0, |whole| {
            let up = u128::from(whole * self.ticks < bits);
            u64::try_from(whole + up).unwrap_or(u64::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(list: &[(u64, u64)]) -> Vec<SegmentSize> {
        list.iter().map(|&(bytes, duration)| SegmentSize { bytes, duration }).collect()
    }

    #[test]
    fn a_short_burst_is_averaged_over_half_a_target_duration() {
        // 4 s target; the 0.5 s burst is too short to count alone, only with its neighbours.
        let list = segments(&[(1000, 4000), (10_000, 500), (1000, 4000)]);
        assert_eq!(peak_bandwidth(&list, 1000, 4), (8 * 11_000_000u64).div_ceil(4500));
        // Two seconds are just long enough.
        let list = segments(&[(1000, 4000), (10_000, 2000), (1000, 4000)]);
        assert_eq!(peak_bandwidth(&list, 1000, 4), 40_000);
        // Six seconds are just not too long, and 6.001 are.
        let list = segments(&[(1, 1000), (10_000, 1000), (10_000, 1000)]);
        assert_eq!(peak_bandwidth(&list, 1000, 2), 80_000);
    }

    #[test]
    fn rates_are_rounded_up_and_never_divide_by_zero() {
        let list = segments(&[(1, 3)]);
        assert_eq!(average_bandwidth(&list, 1), 3);
        assert_eq!(peak_bandwidth(&list, 1, 3), 3);
        assert_eq!(average_bandwidth(&[], 48_000), 0);
        assert_eq!(peak_bandwidth(&[], 48_000, 2), 0);
        assert_eq!(peak_bandwidth(&segments(&[(5, 0)]), 48_000, 2), 0);
        assert_eq!(peak_bandwidth(&segments(&[(5, 0), (5, 48_000)]), 48_000, 1), 80);
    }

    #[test]
    fn a_playlist_shorter_than_half_a_target_duration_has_its_average() {
        let list = segments(&[(100, 12_000)]);
        assert_eq!(peak_bandwidth(&list, 48_000, 1), 3200);
    }

    #[test]
    fn hours_of_large_segments_do_not_overflow() {
        let list = vec![SegmentSize { bytes: u64::MAX / 4, duration: u64::MAX / 4 }; 4];
        assert_eq!(average_bandwidth(&list, 1), 8);
        assert_eq!(peak_bandwidth(&list, u32::MAX, u64::MAX), 8 * u64::from(u32::MAX));
    }

    proptest! {
        #[test]
        fn the_peak_is_the_largest_of_all_sets(
            list in proptest::collection::vec((0u64..5000, 1u64..3000), 1..12),
            target in 1u64..4,
        ) {
            let list = segments(&list);
            let mut expected = 0;
            for first in 0..list.len() {
                for last in first..list.len() {
                    let bits: u64 = list[first..=last].iter().map(|s| 8 * s.bytes).sum();
                    let ticks: u64 = list[first..=last].iter().map(|s| s.duration).sum();
                    if (target * 500..=target * 1500).contains(&ticks) {
                        expected = expected.max((bits * 1000).div_ceil(ticks));
                    }
                }
            }
            let peak = peak_bandwidth(&list, 1000, target);
            let average = average_bandwidth(&list, 1000);
            prop_assert_eq!(peak, if expected == 0 { average } else { expected });
        }
    }
}
