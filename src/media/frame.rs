//! One decoded picture: what it holds, and its digest.

use std::sync::Arc;

use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use super::{Slab, ffi};

/// A decoded picture in the decoder's own pixel format. Cheap to send between threads; the
/// samples are shared with the decoder's pool and never changed.
pub struct Frame {
    video: Video,
    /// Where it lies in memory that other processes see, too, if it does.
    place: Option<(Arc<Slab>, usize)>,
}

/// BLAKE3 of a picture's pixel format, visible size and visible samples. Padding, strides, time
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

    /// The memory that other processes see in which it lies, if it does, and where there, in bytes.
    pub fn place(&self) -> Option<(&Arc<Slab>, usize)> {
        self.place.as_ref().map(|(slab, offset)| (slab, *offset))
    }

    pub(super) fn video(&self) -> &Video {
        &self.video
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

    pub fn digest(&self) -> FrameDigest {
        let mut hasher = blake3::Hasher::new_derive_key("rivet frame v1");
        let name = self.video.format().descriptor().map_or("unknown", |descriptor| descriptor.name());
        hasher.update(name.as_bytes()).update(&[0]);
        hasher.update(&self.video.width().to_le_bytes());
        hasher.update(&self.video.height().to_le_bytes());
        /// BLAKE3 is many times as fast on much at once as on a row.
        const AT_ONCE: usize = 64 * 1024;
        let mut rows = Vec::with_capacity(2 * AT_ONCE);
        for number in 0..4 {
            let Some(plane) = self.plane(number) else {
                continue;
            };
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

    /// The sum of the samples `left..right` of a row.
    pub(super) fn sum(&self, row: usize, left: usize, right: usize) -> u64 {
        let size = self.bytes_per_sample();
        let Some(bytes) = self.row(row).get(left * size..right * size) else {
            return 0;
        };
        if size == 1 {
            // Sums of 32 bits are added several at a time, and hold those of 2^24 samples.
            let sums = bytes.chunks(1 << 24).map(|part| part.iter().map(|&sample| u32::from(sample)).sum());
            return sums.map(|sum: u32| u64::from(sum)).sum();
        }
        let value = |pair: &[u8]| {
            let pair = [pair[0], pair[1]];
            u64::from(if self.swapped { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
        };
        bytes.chunks_exact(2).map(value).sum()
    }
}
