//! A source's frames made into those of a rung: scaled, converted to 4:2:0 of the rung's bit depth and
//! rotated upright, with results that do not depend on the CPU. Encoders are handed what comes out of
//! here, and know nothing of it.

use std::sync::Arc;

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg::software::scaling::{Context, Flags};
use ffmpeg_next as ffmpeg;
use serde::{Deserialize, Serialize};

use super::rotate::rotated;
use super::{Colour, Frame, MediaError, Rotation, ffi};

/// What a rung's frames are like: planar 4:2:0 in square samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameFormat {
    /// Size as shown, after turning; both even.
    pub width: u32,
    pub height: u32,
    /// 8 or 10.
    pub bit_depth: u8,
    pub rotation: Rotation,
    pub colour: Colour,
}

impl FrameFormat {
    pub fn bytes_per_sample(&self) -> usize {
        if self.bit_depth > 8 { 2 } else { 1 }
    }

    /// Samples of a row and rows of plane 0 (luma), 1 or 2 (chroma).
    pub fn plane_size(&self, plane: usize) -> (usize, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        if plane == 0 { (width, height) } else { (width.div_ceil(2), height.div_ceil(2)) }
    }

    fn pixel(&self) -> Pixel {
        if self.bit_depth > 8 { Pixel::YUV420P10LE } else { Pixel::YUV420P }
    }
}

/// Makes frames of one format; keeps FFmpeg's context from frame to frame.
pub struct FrameConverter {
    format: FrameFormat,
    context: Option<Context>,
}

impl FrameConverter {
    /// The library and the way it is used, for a key.
    pub fn identity() -> String {
        format!("{} bicubic accurate_rnd bitexact", ffi::scaler_library())
    }

    pub fn new(format: FrameFormat) -> FrameConverter {
        FrameConverter { format, context: None }
    }

    /// The frame in the converter's format. One that is in that format already is returned as it is,
    /// without a copy.
    pub fn convert(&mut self, frame: Arc<Frame>) -> Result<Arc<Frame>, MediaError> {
        let rotation = self.format.rotation;
        let (mut width, mut height) = (self.format.width, self.format.height);
        if rotation.swaps_sides() {
            (width, height) = (height, width);
        }
        let (video, pixel) = (frame.video(), self.format.pixel());
        let has_pixel =
            video.format() == pixel || (video.format() == Pixel::YUVJ420P && pixel == Pixel::YUV420P);
        let fits = has_pixel && (video.width(), video.height()) == (width, height);
        if fits && rotation == Rotation::None {
            return Ok(frame);
        }
        let mut scaled = Video::empty();
        if !fits {
            let context = self.context_for(video, (pixel, width, height))?;
            context.run(video, &mut scaled).map_err(|error| MediaError::library("scaling", error))?;
        }
        let upright = match (rotation, fits) {
            (Rotation::None, _) => scaled,
            (_, true) => rotated(video, rotation),
            (_, false) => rotated(&scaled, rotation),
        };
        Ok(Arc::new(Frame::new(upright)))
    }

    /// A source may change its size or format from one frame to the next.
    fn context_for(&mut self, video: &Video, to: (Pixel, u32, u32)) -> Result<&mut Context, MediaError> {
        let from = (video.format(), video.width(), video.height());
        let fits = self.context.as_ref().is_some_and(|context| {
            let input = context.input();
            (input.format, input.width, input.height) == from
        });
        if !fits {
            self.context = None;
        }
        match &mut self.context {
            Some(context) => Ok(context),
            empty => {
                let flags = Flags::BICUBIC | Flags::ACCURATE_RND | Flags::BITEXACT;
                let context = ffi::scaling_context(from, to, &self.format.colour, flags)
                    .map_err(|error| MediaError::library("setting up the scaler", error))?;
                Ok(empty.insert(context))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOUR: Colour =
        Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 1 };

    fn converted(frame: &Arc<Frame>, rotation: Rotation, bit_depth: u8) -> Arc<Frame> {
        let format = FrameFormat { width: 64, height: 36, bit_depth, rotation, colour: COLOUR };
        FrameConverter::new(format).convert(Arc::clone(frame)).unwrap()
    }

    #[test]
    fn a_frame_that_is_as_wanted_is_not_copied() {
        let given = Arc::new(Frame::example(Pixel::YUV420P, 64, 36));
        assert!(Arc::ptr_eq(&given, &converted(&given, Rotation::None, 8)));
        let full = Arc::new(Frame::example(Pixel::YUVJ420P, 64, 36));
        assert!(Arc::ptr_eq(&full, &converted(&full, Rotation::None, 8)));
        assert!(!Arc::ptr_eq(&given, &converted(&given, Rotation::None, 10)));
    }

    #[test]
    fn every_frame_comes_out_in_the_size_and_depth_that_are_wanted() {
        for pixel in [Pixel::YUV420P, Pixel::YUV422P10LE, Pixel::RGB24, Pixel::NV12] {
            for rotation in [Rotation::None, Rotation::Rotate90, Rotation::Rotate180, Rotation::Rotate270] {
                for (bit_depth, format) in [(8, Pixel::YUV420P), (10, Pixel::YUV420P10LE)] {
                    let made = converted(&Arc::new(Frame::example(pixel, 50, 30)), rotation, bit_depth);
                    assert_eq!((made.size(), made.video().format()), ((64, 36), format));
                    assert_eq!(made.rows(1).count(), 18);
                    assert!(made.rows(1).all(|row| row.len() == 32 * usize::from(bit_depth.div_ceil(8))));
                }
            }
        }
    }
}
