//! AV1's constant quality on the encoders' own scales: one table, so that `crf` means the same steps of
//! quantization whatever encodes.

/// AV1's `base_q_idx` (AV1 5.9.12), 0 to 255, for a quality of 0 (best) to 63: the same steps as
/// libaom's and SVT-AV1's.
pub fn base_q_idx(crf: u8) -> u8 {
    match crf {
        63.. => 255,
        62 => 249,
        crf => crf * 4,
    }
}

/// AV1's 0 to 63 on a scale from 0 to `most`: its own, that of `base_q_idx`, or any other in proportion.
pub fn on_scale(crf: u8, most: u32) -> u32 {
    let crf = crf.min(63);
    match most {
        63 => u32::from(crf),
        255 => u32::from(base_q_idx(crf)),
        // Halves are rounded up.
        most => ((u64::from(crf) * u64::from(most) * 2 + 63) / 126).min(u64::from(most)) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crf_covers_the_whole_scale() {
        assert_eq!([0, 32, 61, 62, 63, 64].map(base_q_idx), [0, 128, 244, 249, 255, 255]);
        assert_eq!([0, 32, 63].map(|crf| on_scale(crf, 63)), [0, 32, 63]);
        assert_eq!([0, 32, 63].map(|crf| on_scale(crf, 255)), [0, 128, 255]);
        assert_eq!([0, 32, 63].map(|crf| on_scale(crf, 51)), [0, 26, 51]);
        assert_eq!(on_scale(63, u32::MAX), u32::MAX);
    }

    #[test]
    fn worse_is_never_better() {
        for most in [51, 63, 100, 255] {
            let scale: Vec<u32> = (0..=63).map(|crf| on_scale(crf, most)).collect();
            assert!(scale.is_sorted(), "{scale:?}");
        }
    }
}
