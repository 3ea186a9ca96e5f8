//! A rung's picture as a frame of FFmpeg's, in whichever of its 4:2:0 formats an encoder takes.

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use crate::media::Frame;

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

/// A planar frame of a rung as one of `pixel`, which is one of [`formats`] of its depth. All that a decoder
/// has noted beside the samples is left behind: encoders would go by it.
pub fn in_format(frame: &Frame, pixel: Pixel) -> Video {
    let (width, height) = frame.size();
    let mut made = Video::new(pixel, width, height);
    let plane = |number| frame.rows(number).collect::<Vec<_>>().concat();
    let width = width as usize;
    match pixel {
        Pixel::NV12 => {
            fill(&mut made, 0, frame.rows(0));
            fill(&mut made, 1, interleaved(&plane(1), &plane(2), 1).chunks(2 * width.div_ceil(2)));
        }
        Pixel::P010LE => {
            fill(&mut made, 0, raised(&plane(0)).chunks(2 * width));
            fill(&mut made, 1, raised(&interleaved(&plane(1), &plane(2), 2)).chunks(4 * width.div_ceil(2)));
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
