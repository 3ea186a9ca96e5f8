//! A rung's frame as one that an encoder of FFmpeg's takes, in whichever of its 4:2:0 formats.

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use crate::media::{Frame, semi_planar};

/// Formats that frames of this depth can be handed over in, those that need least work first.
pub fn formats(bit_depth: u8) -> [Pixel; 2] {
    match bit_depth {
        ..=8 => [Pixel::YUV420P, Pixel::NV12],
        _ => [Pixel::YUV420P10LE, Pixel::P010LE],
    }
}

/// Those of both depths in which devices hold frames.
pub fn on_device(bit_depth: u8) -> Pixel {
    if bit_depth > 8 { Pixel::P010LE } else { Pixel::NV12 }
}

/// A planar frame of a rung as one of `pixel`, which is one of [`formats`] of its depth. All that a decoder
/// has noted beside the samples is left behind: encoders would go by it.
pub fn in_format(frame: &Frame, pixel: Pixel) -> Video {
    let (width, height) = frame.size();
    let mut made = Video::new(pixel, width, height);
    match pixel {
        Pixel::NV12 | Pixel::P010LE => {
            let [luma, chroma] = [made.stride(0), made.stride(1)];
            semi_planar::write_luma(frame, made.data_mut(0), luma);
            semi_planar::write_chroma(frame, made.data_mut(1), chroma);
        }
        _ => (0..3).for_each(|number| fill(&mut made, number, frame.rows(number))),
    }
    made
}

/// Copies rows without padding into a plane.
fn fill<'a>(frame: &mut Video, plane: usize, rows: impl Iterator<Item = &'a [u8]>) {
    let stride = frame.stride(plane);
    for (to, from) in frame.data_mut(plane).chunks_mut(stride.max(1)).zip(rows) {
        to[..from.len()].copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the format, FFmpeg's own conversion reads the same samples from it.
    #[test]
    fn every_format_holds_the_same_samples() {
        for bit_depth in [8, 10] {
            let [planar, _] = formats(bit_depth);
            let frame = Frame::example(planar, 70, 38);
            for pixel in formats(bit_depth) {
                let made = in_format(&frame, pixel);
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
                context.run(&made, &mut converted).unwrap();
                for plane in 0..3 {
                    let rows = converted.data(plane).chunks(converted.stride(plane));
                    let rows = rows.zip(frame.rows(plane)).map(|(row, expected)| &row[..expected.len()]);
                    assert!(rows.eq(frame.rows(plane)), "{pixel:?}, plane {plane}");
                }
            }
        }
    }
}
