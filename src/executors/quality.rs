//! One scale of quality for all encoders that are told a quantizer.

/// AV1's `base_q_idx` (AV1 5.9.12), 0 to 255, for a quality of 0 (best) to 63: the same steps as
/// libaom's and SVT-AV1's.
pub fn base_q_idx(crf: u8) -> u8 {
    match crf {
        63.. => 255,
        62 => 249,
        crf => crf * 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crf_covers_the_whole_scale() {
        assert_eq!([0, 32, 61, 62, 63, 64].map(base_q_idx), [0, 128, 244, 249, 255, 255]);
    }
}
