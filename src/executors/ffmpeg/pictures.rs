//! A rung's picture as a frame of FFmpeg's, in whichever of its 4:2:0 formats an encoder takes.

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use crate::media::{Picture, PictureFormat};

/// Formats that pictures of this depth can be handed over in, those that need least work first.
pub fn formats(bit_depth: u8) -> [Pixel; 2] {
    match bit_depth {
        ..=8 => [Pixel::YUV420P, Pixel::NV12],
        _ => [Pixel::YUV420P10LE, Pixel::P010LE],
    }
}

/// Those of both depths in which devices hold pictures.
pub fn on_device(bit_depth: u8) -> Pixel {
    if bit_depth > 8 { Pixel::P010LE } else { Pixel::NV12 }
}

/// The picture as a frame of `pixel`, which is one of [`formats`].
pub fn as_frame(picture: &Picture, format: &PictureFormat, pixel: Pixel) -> Video {
    let mut frame = Video::new(pixel, format.width, format.height);
    let [y, u, v] = &picture.planes;
    match pixel {
        Pixel::NV12 => {
            fill(&mut frame, 0, y, format.plane_size(0).0);
            fill(&mut frame, 1, &interleaved(u, v, 1), 2 * format.plane_size(1).0);
        }
        Pixel::P010LE => {
            fill(&mut frame, 0, &raised(y), 2 * format.plane_size(0).0);
            fill(&mut frame, 1, &raised(&interleaved(u, v, 2)), 4 * format.plane_size(1).0);
        }
        _ => {
            for (number, samples) in picture.planes.iter().enumerate() {
                fill(&mut frame, number, samples, format.plane_size(number).0 * format.bytes_per_sample());
            }
        }
    }
    frame
}

/// Copies rows without padding into a plane.
fn fill(frame: &mut Video, plane: usize, samples: &[u8], row_bytes: usize) {
    let stride = frame.stride(plane);
    let rows = frame.data_mut(plane).chunks_mut(stride.max(1));
    for (row, samples) in rows.zip(samples.chunks(row_bytes.max(1))) {
        row[..samples.len()].copy_from_slice(samples);
    }
}

/// Samples of `size` bytes of both planes, in turn.
fn interleaved(u: &[u8], v: &[u8], size: usize) -> Vec<u8> {
    u.chunks_exact(size).zip(v.chunks_exact(size)).flat_map(|(u, v)| u.iter().chain(v)).copied().collect()
}

/// 10-bit samples in the upper bits of their 16.
fn raised(samples: &[u8]) -> Vec<u8> {
    let raise = |pair: &[u8]| (u16::from_le_bytes([pair[0], pair[1]]) << 6).to_le_bytes();
    samples.chunks_exact(2).flat_map(raise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Colour, Rotation};

    /// A picture of which every sample differs from its neighbours.
    fn picture(format: &PictureFormat) -> Picture {
        let planes = [0, 1, 2].map(|plane| {
            let (width, height) = format.plane_size(plane);
            let samples = (0..width * height).map(|at| (at * 7 + plane * 50 + 300) as u16);
            match format.bit_depth {
                8 => samples.map(|sample| sample as u8).collect(),
                _ => samples.flat_map(|sample| (sample % 1024).to_le_bytes()).collect(),
            }
        });
        Picture { planes }
    }

    /// Whatever the format, FFmpeg's own conversion reads the same picture from it.
    #[test]
    fn every_format_holds_the_same_picture() {
        for bit_depth in [8, 10] {
            let colour =
                Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 1 };
            let format = PictureFormat { width: 70, height: 38, bit_depth, rotation: Rotation::None, colour };
            let picture = picture(&format);
            let [planar, _] = formats(bit_depth);
            for pixel in formats(bit_depth) {
                let frame = as_frame(&picture, &format, pixel);
                let mut context = ffmpeg::software::scaling::Context::get(
                    pixel,
                    70,
                    38,
                    planar,
                    70,
                    38,
                    ffmpeg::software::scaling::Flags::ACCURATE_RND,
                )
                .unwrap();
                let mut converted = Video::empty();
                context.run(&frame, &mut converted).unwrap();
                for (plane, samples) in picture.planes.iter().enumerate() {
                    let row_bytes = format.plane_size(plane).0 * format.bytes_per_sample();
                    let stride = converted.stride(plane);
                    let rows = converted.data(plane).chunks(stride).map(|row| &row[..row_bytes]);
                    assert!(rows.eq(samples.chunks(row_bytes)), "{pixel:?}, plane {plane}");
                }
            }
        }
    }
}
