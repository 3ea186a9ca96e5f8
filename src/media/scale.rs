//! A source's picture made into a rung's: scaled, converted to 4:2:0 of the wanted depth, and
//! turned upright, with results that do not depend on the CPU.

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg::software::scaling::{Context, Flags};
use ffmpeg_next as ffmpeg;
use serde::{Deserialize, Serialize};

use super::rotate::rotated;
use super::{Colour, Frame, MediaError, Rotation, ffi};

/// What a rung's pictures are like: planar 4:2:0 in square samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PictureFormat {
    /// Size as shown, after turning; both even.
    pub width: u32,
    pub height: u32,
    /// 8 or 10.
    pub bit_depth: u8,
    pub rotation: Rotation,
    pub colour: Colour,
}

impl PictureFormat {
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

/// A picture in a rung's format: the planes Y, U and V, rows without padding, samples of 8 bits
/// in a byte and of 10 bits in two bytes, least significant first.
pub struct Picture {
    pub planes: [Vec<u8>; 3],
}

/// Makes pictures of one format; keeps FFmpeg's context from frame to frame.
pub struct Scaler {
    format: PictureFormat,
    context: Option<Context>,
}

impl Scaler {
    /// The library and the way it is used, for a key.
    pub fn identity() -> String {
        format!("{} bicubic accurate_rnd bitexact", ffi::scaler_library())
    }

    pub fn new(format: PictureFormat) -> Scaler {
        Scaler { format, context: None }
    }

    pub fn picture(&mut self, frame: &Frame) -> Result<Picture, MediaError> {
        let video = frame.video();
        let turned = self.format.rotation.swaps_sides();
        let (width, height) = if turned {
            (self.format.height, self.format.width)
        } else {
            (self.format.width, self.format.height)
        };
        let pixel = self.format.pixel();
        let same_format =
            video.format() == pixel || (video.format() == Pixel::YUVJ420P && pixel == Pixel::YUV420P);
        let planes = if same_format && (video.width(), video.height()) == (width, height) {
            self.planes(video, width, height)
        } else {
            let mut scaled = Video::empty();
            let context = self.context_for(video, (pixel, width, height))?;
            context.run(video, &mut scaled).map_err(|error| MediaError::library("scaling", error))?;
            self.planes(&scaled, width, height)
        };
        let size = self.format.bytes_per_sample();
        let [y, u, v] = planes;
        let chroma = (width.div_ceil(2) as usize, height.div_ceil(2) as usize);
        let turn = |plane, (width, height)| rotated(plane, width, height, size, self.format.rotation);
        Ok(Picture { planes: [turn(y, (width as usize, height as usize)), turn(u, chroma), turn(v, chroma)] })
    }

    /// A source may change its size or format in the middle of the film.
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

    fn planes(&self, video: &Video, width: u32, height: u32) -> [Vec<u8>; 3] {
        let size = self.format.bytes_per_sample();
        [0, 1, 2].map(|number| {
            let half = |length: u32| if number == 0 { length } else { length.div_ceil(2) } as usize;
            let (row_bytes, rows) = (half(width) * size, half(height));
            let mut plane = Vec::with_capacity(row_bytes * rows);
            for row in 0..rows {
                plane.extend_from_slice(ffi::row(video, number, row, row_bytes));
            }
            plane.resize(row_bytes * rows, 0);
            plane
        })
    }
}
