//! How much a picture differs from the one before it, in exact integer arithmetic, so that every
//! machine finds the same cuts.

use serde::{Deserialize, Serialize};

use super::Frame;

/// Cells of a signature.
const COLUMNS: usize = 32;
const ROWS: usize = 18;

/// A picture's mean luma in a grid of 32 by 18 cells, in 256ths of an 8-bit step, and the mean
/// of its two chroma planes. Enough to tell one picture from the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    #[serde(with = "as_bytes")]
    luma: Vec<u16>,
    chroma: [u16; 2],
}

/// Numbers as their bytes, the low ones first: read at once rather than one by one.
mod as_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(numbers: &[u16], to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        to.serialize_bytes(&bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u16>, D::Error> {
        let (pairs, rest) = <&[u8]>::deserialize(from)?.as_chunks();
        if !rest.is_empty() {
            return Err(D::Error::custom("half a number"));
        }
        Ok(pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect())
    }
}

impl Signature {
    /// Of planar YUV and grey pictures the planes themselves; of others whatever their first
    /// plane holds, which tells pictures apart just as well.
    pub fn of(frame: &Frame) -> Signature {
        let luma = frame.plane(0).map(|plane| grid(&plane, COLUMNS, ROWS)).unwrap_or_default();
        let mean =
            |plane| frame.plane(plane).map_or(0, |plane| grid(&plane, 1, 1).first().copied().unwrap_or(0));
        Signature { luma, chroma: [mean(1), mean(2)] }
    }
}

/// Means of the cells of a plane, 8-bit values times 256.
fn grid(plane: &super::frame::Plane<'_>, columns: usize, rows: usize) -> Vec<u16> {
    let (width, height) = (plane.samples_per_row(), plane.rows());
    let mut cells = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let (top, bottom) = band(height, rows, row);
        let mut sums = vec![0u64; columns];
        for y in top..bottom {
            for (column, sum) in sums.iter_mut().enumerate() {
                let (left, right) = band(width, columns, column);
                *sum += plane.sum(y, left, right);
            }
        }
        for (column, sum) in sums.iter().enumerate() {
            let (left, right) = band(width, columns, column);
            let samples = ((right - left) * (bottom - top)).max(1) as u64;
            cells.push(((sum * 256 / samples) >> (plane.bit_depth() - 8)).min(u64::from(u16::MAX)) as u16);
        }
    }
    cells
}

/// The `n`-th of `parts` bands of a length; never empty unless the length is zero.
fn band(length: usize, parts: usize, n: usize) -> (usize, usize) {
    let start = n * length / parts;
    let end = ((n + 1) * length / parts).max(start + 1).min(length);
    (start.min(end), end)
}

/// The mean absolute difference of two pictures, in 256ths of an 8-bit step: 0 for equal
/// pictures, at most 3 × 65280.
pub fn cut_score(before: &Signature, after: &Signature) -> u32 {
    if before.luma.len() != after.luma.len() || before.luma.is_empty() {
        return 3 * 255 * 256;
    }
    let luma: u64 = before.luma.iter().zip(&after.luma).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    let chroma: u64 = before.chroma.iter().zip(&after.chroma).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    (luma / before.luma.len() as u64 + chroma) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_every_sample_once() {
        for length in [1usize, 7, 18, 32, 33, 1080] {
            for parts in [1usize, 18, 32] {
                let covered: Vec<usize> = (0..parts)
                    .flat_map(|n| {
                        let (a, b) = band(length, parts, n);
                        a..b
                    })
                    .collect();
                if length >= parts {
                    assert_eq!(covered, (0..length).collect::<Vec<_>>(), "{length} in {parts}");
                } else {
                    assert!(covered.iter().all(|&sample| sample < length));
                }
            }
        }
    }

    #[test]
    fn a_score_is_the_mean_difference() {
        let grey = |level: u16| Signature { luma: vec![level * 256; COLUMNS * ROWS], chroma: [128 * 256; 2] };
        assert_eq!(cut_score(&grey(20), &grey(20)), 0);
        assert_eq!(cut_score(&grey(20), &grey(30)), 2560);
    }
}
