//! One decoded frame, and its digest.

use std::ops::{AddAssign, Range};
use std::sync::Arc;

use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use super::{Slab, ffi};

/// A decoded frame in the decoder's own pixel format. Cheap to send between threads; its samples lie in
/// pooled or shared memory, and do not change while the frame lives.
pub struct Frame {
    video: Video,
    /// The slab of shared memory in which it lies, and its offset there.
    place: Option<(Arc<Slab>, usize)>,
}

/// BLAKE3 of a frame's pixel format, visible size and visible samples. Padding, strides, time
/// stamps and colour description are no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct FrameDigest(pub [u8; 32]);

/// The visible samples of one plane.
pub(super) struct Plane<'a> {
    video: &'a Video,
    number: usize,
    row_bytes: usize,
    rows: usize,
    bit_depth: u8,
    swapped: bool,
}

impl Frame {
    pub(super) fn new(video: Video) -> Frame {
        Frame { video, place: None }
    }

    pub(super) fn in_slab(video: Video, slab: Arc<Slab>, offset: usize) -> Frame {
        Frame { video, place: Some((slab, offset)) }
    }

    /// The slab of shared memory in which it lies, if it does, and its offset there in bytes.
    pub fn place(&self) -> Option<(&Arc<Slab>, usize)> {
        self.place.as_ref().map(|(slab, offset)| (slab, *offset))
    }

    pub(super) fn video(&self) -> &Video {
        &self.video
    }

    /// For writing, before the frame is passed on.
    #[cfg(feature = "nvidia")]
    pub(super) fn video_mut(&mut self) -> &mut Video {
        &mut self.video
    }

    /// A frame for tests, of which neighbouring samples differ, none larger than its depth allows.
    #[cfg(test)]
    pub fn example(format: ffmpeg::format::Pixel, width: u32, height: u32) -> Frame {
        let mut video = Video::new(format, width, height);
        let wide = ffi::bit_depth(format) > 8;
        let largest = (1u32 << ffi::bit_depth(format)) - 1;
        for plane in 0..video.planes() {
            for (place, byte) in video.data_mut(plane).iter_mut().enumerate() {
                let (at, part) = if wide { (place / 2, place % 2) } else { (place, 0) };
                *byte = ((at * 7 + plane * 31) as u32 & largest).to_le_bytes()[part];
            }
        }
        Frame::new(video)
    }

    /// Visible size in samples.
    pub fn size(&self) -> (u32, u32) {
        (self.video.width(), self.video.height())
    }

    /// Bytes that the visible samples take.
    pub fn bytes(&self) -> usize {
        (0..4).filter_map(|plane| self.plane_shape(plane)).map(|(bytes, rows)| bytes * rows).sum()
    }

    fn plane_shape(&self, number: usize) -> Option<(usize, usize)> {
        ffi::plane_shape(self.video.format(), self.video.width(), self.video.height(), number)
    }

    pub(super) fn plane(&self, number: usize) -> Option<Plane<'_>> {
        let (row_bytes, rows) = self.plane_shape(number)?;
        let format = self.video.format();
        Some(Plane {
            video: &self.video,
            number,
            row_bytes,
            rows,
            bit_depth: ffi::bit_depth(format).clamp(8, 16),
            swapped: ffi::is_big_endian(format),
        })
    }

    /// The visible rows of a plane, from the top; none for a plane that the format does not have.
    pub fn rows(&self, plane: usize) -> impl Iterator<Item = &[u8]> {
        let (row_bytes, rows) = self.plane_shape(plane).unwrap_or((0, 0));
        (0..rows).map(move |row| ffi::row(&self.video, plane, row, row_bytes))
    }

    pub fn digest(&self) -> FrameDigest {
        let mut hasher = blake3::Hasher::new_derive_key("rivet frame v1");
        let name = self.video.format().descriptor().map_or("unknown", |descriptor| descriptor.name());
        hasher.update(name.as_bytes()).update(&[0]);
        hasher.update(&self.video.width().to_le_bytes());
        hasher.update(&self.video.height().to_le_bytes());
        /// BLAKE3 is many times as fast on large inputs as on single rows, and faster still without a copy.
        const AT_ONCE: usize = 64 * 1024;
        let mut rows = Vec::with_capacity(2 * AT_ONCE);
        for number in 0..4 {
            let Some(plane) = self.plane(number) else {
                continue;
            };
            if let Some(all) = ffi::rows(&self.video, number) {
                hasher.update(&rows);
                rows.clear();
                hasher.update(all);
                continue;
            }
            for row in 0..plane.rows {
                rows.extend_from_slice(plane.row(row));
                if rows.len() >= AT_ONCE {
                    hasher.update(&rows);
                    rows.clear();
                }
            }
        }
        hasher.update(&rows);
        if let Some(palette) = ffi::palette(&self.video) {
            hasher.update(&palette);
        }
        FrameDigest(*hasher.finalize().as_bytes())
    }
}

impl Plane<'_> {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bit_depth(&self) -> u8 {
        self.bit_depth
    }

    fn bytes_per_sample(&self) -> usize {
        if self.bit_depth > 8 { 2 } else { 1 }
    }

    pub(super) fn samples_per_row(&self) -> usize {
        self.row_bytes / self.bytes_per_sample()
    }

    /// The visible bytes of a row; empty if the frame is shorter than it says.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        ffi::row(self.video, self.number, row, self.row_bytes)
    }

    /// The sums of the samples of some rows, column by column.
    pub(super) fn column_sums(&self, rows: Range<usize>) -> Vec<u64> {
        /// Rows whose column sums fit in twice the bits of a sample: narrow sums are vectorized.
        const STRIP: usize = 256;
        let columns = self.samples_per_row();
        let mut sums = vec![0; columns];
        for first in rows.clone().step_by(STRIP) {
            let strip = first..rows.end.min(first + STRIP);
            if self.bytes_per_sample() == 1 {
                let mut of_strip = vec![0u16; columns];
                for row in strip {
                    add(&mut of_strip, self.row(row).iter().map(|&sample| u16::from(sample)));
                }
                add(&mut sums, of_strip.iter().map(|&sum| u64::from(sum)));
            } else {
                let mut of_strip = vec![0u32; columns];
                for row in strip {
                    let pairs = self.row(row).as_chunks().0.iter();
                    if self.swapped {
                        add(&mut of_strip, pairs.map(|&pair| u32::from(u16::from_be_bytes(pair))));
                    } else {
                        add(&mut of_strip, pairs.map(|&pair| u32::from(u16::from_le_bytes(pair))));
                    }
                }
                add(&mut sums, of_strip.iter().map(|&sum| u64::from(sum)));
            }
        }
        sums
    }
}

fn add<T: AddAssign>(sums: &mut [T], samples: impl Iterator<Item = T>) {
    sums.iter_mut().zip(samples).for_each(|(sum, sample)| *sum += sample);
}

#[cfg(test)]
mod tests {
    use ffmpeg::format::Pixel;

    use super::*;

    /// Whether or not a row begins where the one before it ends.
    #[test]
    fn a_digest_is_that_of_the_visible_samples() {
        for (width, is_one) in [(320, true), (333, false)] {
            let mut video = Video::new(Pixel::GRAY8, width, 400);
            assert_eq!(video.stride(0) == width as usize, is_one);
            for (place, byte) in video.data_mut(0).iter_mut().enumerate() {
                *byte = (place * 7 / 3) as u8;
            }
            let mut expected = blake3::Hasher::new_derive_key("rivet frame v1");
            expected.update(b"gray\0").update(&width.to_le_bytes()).update(&400u32.to_le_bytes());
            for row in video.data(0).chunks(video.stride(0)) {
                expected.update(&row[..width as usize]);
            }
            assert_eq!(Frame::new(video).digest().0, *expected.finalize().as_bytes());
        }
    }
}
