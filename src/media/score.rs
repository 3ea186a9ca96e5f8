//! How much a frame differs from the one before it, in exact integer arithmetic, so that every
//! machine finds the same cuts.

use serde::{Deserialize, Serialize};

use super::Frame;

/// Cells of a fingerprint.
const COLUMNS: usize = 32;
const ROWS: usize = 18;

/// A frame's mean luma in a grid of 32 by 18 cells, in 256ths of an 8-bit step, and the mean
/// of its two chroma planes. Enough to tell one frame from the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LumaFingerprint {
    #[serde(with = "as_bytes")]
    luma: Vec<u16>,
    chroma: [u16; 2],
}

/// Serializes numbers as little-endian bytes, which are read faster than one number after the other.
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

impl LumaFingerprint {
    /// Of planar YUV and grey frames the planes themselves; of others whatever their first
    /// plane holds, which tells frames apart just as well.
    pub fn of(frame: &Frame) -> LumaFingerprint {
        let luma = frame.plane(0).map(|plane| grid(&plane, COLUMNS, ROWS)).unwrap_or_default();
        let mean =
            |plane| frame.plane(plane).map_or(0, |plane| grid(&plane, 1, 1).first().copied().unwrap_or(0));
        LumaFingerprint { luma, chroma: [mean(1), mean(2)] }
    }
}

/// Means of the cells of a plane, 8-bit values times 256.
fn grid(plane: &super::frame::Plane<'_>, columns: usize, rows: usize) -> Vec<u16> {
    let (width, height) = (plane.samples_per_row(), plane.rows());
    let mut cells = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let (top, bottom) = band(height, rows, row);
        let sums = plane.column_sums(top..bottom);
        for column in 0..columns {
            let (left, right) = band(width, columns, column);
            let sum: u64 = sums[left..right].iter().sum();
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

/// The mean absolute difference of two frames, in 256ths of an 8-bit step: 0 for equal
/// frames, at most 3 × 65280.
pub fn cut_score(before: &LumaFingerprint, after: &LumaFingerprint) -> u32 {
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
    fn means_are_those_of_the_samples() {
        use ffmpeg_next::format::Pixel;
        use ffmpeg_next::frame::Video;
        // The last has more rows than are added up in one go, and samples as large as they can be.
        for (format, width, height) in [
            (Pixel::YUV420P, 333, 77),
            (Pixel::YUV422P10LE, 64, 40),
            (Pixel::YUV420P10BE, 30, 20),
            (Pixel::GRAY8, 3, 2),
            (Pixel::YUV444P16LE, 33, 1300),
            (Pixel::YUV444P, 33, 1300),
        ] {
            let mut video = Video::new(format, width, height);
            for plane in 0..video.planes() {
                for (place, byte) in video.data_mut(plane).iter_mut().enumerate() {
                    *byte = if height > 1000 { 255 } else { (place * place) as u8 };
                }
            }
            let frame = Frame::new(video);
            let plane = frame.plane(0).unwrap();
            let shift = plane.bit_depth() - 8;
            let sample = |row: usize, column: usize| match (shift, format) {
                (0, _) => u64::from(plane.row(row)[column]),
                (_, Pixel::YUV420P10BE) => {
                    u64::from(u16::from_be_bytes(plane.row(row)[2 * column..][..2].try_into().unwrap()))
                }
                _ => u64::from(u16::from_le_bytes(plane.row(row)[2 * column..][..2].try_into().unwrap())),
            };
            for (columns, rows) in [(COLUMNS, ROWS), (1, 1)] {
                let mut means = Vec::new();
                for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let (top, bottom) = band(height as usize, rows, row);
                    let (left, right) = band(width as usize, columns, column);
                    let samples: Vec<u64> =
                        (top..bottom).flat_map(|y| (left..right).map(move |x| sample(y, x))).collect();
                    let mean = samples.iter().sum::<u64>() * 256 / samples.len().max(1) as u64;
                    means.push((mean >> shift).min(0xFFFF) as u16);
                }
                assert_eq!(grid(&plane, columns, rows), means, "{format:?} {columns} x {rows}");
            }
        }
    }

    #[test]
    fn a_score_is_the_mean_difference() {
        let grey =
            |level: u16| LumaFingerprint { luma: vec![level * 256; COLUMNS * ROWS], chroma: [128 * 256; 2] };
        assert_eq!(cut_score(&grey(20), &grey(20)), 0);
        assert_eq!(cut_score(&grey(20), &grey(30)), 2560);
    }
}
