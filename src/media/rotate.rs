//! Rotation of frames by quarter turns, for frames that a camera stored lying on their side.

use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use super::{Rotation, ffi};

/// The frame rotated clockwise. It must be planar, with samples of one or two bytes.
pub(super) fn rotated(video: &Video, rotation: Rotation) -> Video {
    let (width, height) = match rotation.swaps_sides() {
        true => (video.height(), video.width()),
        false => (video.width(), video.height()),
    };
    let size = if ffi::bit_depth(video.format()) > 8 { 2 } else { 1 };
    let mut turned = Video::new(video.format(), width, height);
    for plane in 0..turned.planes() {
        let Some((row_bytes, rows)) = ffi::plane_shape(video.format(), video.width(), video.height(), plane)
        else {
            continue;
        };
        let from: Vec<&[u8]> = (0..rows).map(|row| ffi::row(video, plane, row, row_bytes)).collect();
        let (from, stride) = (Plane { rows: from, width: row_bytes / size }, turned.stride(plane));
        match size {
            1 => from.turn::<1>(turned.data_mut(plane), stride, rotation),
            _ => from.turn::<2>(turned.data_mut(plane), stride, rotation),
        }
    }
    turned
}

/// Rows of samples without padding.
struct Plane<'a> {
    rows: Vec<&'a [u8]>,
    /// Samples in a row.
    width: usize,
}

impl Plane<'_> {
    /// Writes the rotated plane to rows that are `stride` bytes apart. A sample has `SIZE` bytes.
    fn turn<const SIZE: usize>(&self, to: &mut [u8], stride: usize, rotation: Rotation) {
        let (width, height) = (self.width, self.rows.len());
        let (to_width, to_height) = if rotation.swaps_sides() { (height, width) } else { (width, height) };
        for (y, row) in to.chunks_mut(stride.max(1)).take(to_height).enumerate() {
            for (x, sample) in row.as_chunks_mut::<SIZE>().0.iter_mut().take(to_width).enumerate() {
                let (from_x, from_y) = match rotation {
                    Rotation::None => (x, y),
                    Rotation::Rotate90 => (y, height - 1 - x),
                    Rotation::Rotate180 => (width - 1 - x, height - 1 - y),
                    Rotation::Rotate270 => (width - 1 - y, x),
                };
                if let Some(&found) = self.rows[from_y].as_chunks::<SIZE>().0.get(from_x) {
                    *sample = found;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plane of 3 by 2 samples, rotated and written to rows with a byte of padding.
    fn turned<const SIZE: usize>(rows: [[u8; 6]; 2], rotation: Rotation) -> Vec<Vec<u8>> {
        let rows: Vec<&[u8]> = rows.iter().map(|row| &row[..3 * SIZE]).collect();
        let to_width = if rotation.swaps_sides() { 2 } else { 3 };
        let stride = to_width * SIZE + 1;
        let mut to = vec![0; stride * 3];
        Plane { rows, width: 3 }.turn::<SIZE>(&mut to, stride, rotation);
        let rows = if rotation.swaps_sides() { 3 } else { 2 };
        to.chunks(stride).take(rows).map(|row| row[..to_width * SIZE].to_vec()).collect()
    }

    #[test]
    fn quarter_turns() {
        let bytes = [[1, 2, 3, 0, 0, 0], [4, 5, 6, 0, 0, 0]];
        assert_eq!(turned::<1>(bytes, Rotation::Rotate90), [[4, 1], [5, 2], [6, 3]]);
        assert_eq!(turned::<1>(bytes, Rotation::Rotate180), [[6, 5, 4], [3, 2, 1]]);
        assert_eq!(turned::<1>(bytes, Rotation::Rotate270), [[3, 6], [2, 5], [1, 4]]);
        let pairs = [[1, 0, 2, 0, 3, 0], [4, 0, 5, 0, 6, 0]];
        assert_eq!(turned::<2>(pairs, Rotation::Rotate90), [[4, 0, 1, 0], [5, 0, 2, 0], [6, 0, 3, 0]]);
    }
}
