//! Planar pictures made into those that the encoder reads: luma, then chroma with U and V by turns
//! (NV12), and of 10 bits the upper ones of 16 (P010).

use super::{EncodeError, EncoderConfig};

/// Writes a picture's planes into `to`, rows without padding.
pub fn fill(to: &mut [u8], planes: [&[u8]; 3], config: &EncoderConfig) -> Result<(), EncodeError> {
    let [luma, u, v] = planes;
    let size = config.bytes_per_sample();
    let luma_bytes = config.row_bytes() * config.height as usize;
    let chroma_bytes = (config.width as usize / 2) * (config.height as usize).div_ceil(2) * size;
    let is_whole = luma.len() == luma_bytes && u.len() == chroma_bytes && v.len() == chroma_bytes;
    if !is_whole || to.len() != luma_bytes + 2 * chroma_bytes {
        return Err(EncodeError::Unsupported("it takes no pictures that are not whole".to_owned()));
    }
    let (to_luma, to_chroma) = to.split_at_mut(luma_bytes);
    let pairs = to_chroma.chunks_exact_mut(2 * size).zip(u.chunks_exact(size).zip(v.chunks_exact(size)));
    if size == 1 {
        to_luma.copy_from_slice(luma);
        for (pair, (u, v)) in pairs {
            pair.copy_from_slice(&[u[0], v[0]]);
        }
        return Ok(());
    }
    for (to, from) in to_luma.chunks_exact_mut(size).zip(luma.chunks_exact(size)) {
        to.copy_from_slice(&raised(from));
    }
    for (pair, (u, v)) in pairs {
        pair[..size].copy_from_slice(&raised(u));
        pair[size..].copy_from_slice(&raised(v));
    }
    Ok(())
}

/// A sample of 10 bits as the upper ones of 16.
fn raised(sample: &[u8]) -> [u8; 2] {
    let value = u16::from_le_bytes([sample[0], sample[1]]);
    (value << 6).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::Codes;

    fn config(bit_depth: u8) -> EncoderConfig {
        let codes = Codes { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 0 };
        EncoderConfig {
            width: 4,
            height: 2,
            bit_depth,
            preset: 1,
            quantizer: 0,
            level_idx: 0,
            high_tier: false,
            codes,
            pictures: 1,
        }
    }

    #[test]
    fn chroma_takes_turns() {
        let mut picture = [0; 12];
        fill(&mut picture, [&[1, 2, 3, 4, 5, 6, 7, 8], &[10, 11], &[20, 21]], &config(8)).unwrap();
        assert_eq!(picture, [1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 11, 21]);
        assert!(fill(&mut picture, [&[1; 8], &[1; 2], &[1; 1]], &config(8)).is_err());
        assert!(fill(&mut picture[..11], [&[1; 8], &[1; 2], &[1; 2]], &config(8)).is_err());
    }

    #[test]
    fn ten_bits_are_the_upper_ones() {
        let samples =
            |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let mut picture = [0; 24];
        let (y, u, v) = (samples(&[1, 2, 3, 4, 5, 6, 7, 1023]), samples(&[512, 513]), samples(&[0, 1]));
        fill(&mut picture, [&y, &u, &v], &config(10)).unwrap();
        let expected = [1, 2, 3, 4, 5, 6, 7, 1023, 512, 0, 513, 1].map(|value: u16| value << 6);
        assert_eq!(picture[..], samples(&expected));
    }
}
