//! From the GPU's arrangement of samples, with the two components of chroma in turns, to FFmpeg's
//! planes. Only places change, and where a sample's bits lie in its two bytes.

use ffmpeg_next::frame;

use crate::nvidia::Samples;

/// Fills a frame of FFmpeg's, of the `yuv420p` family, with samples of so many bits.
pub(super) fn fill(video: &mut frame::Video, samples: &Samples<'_>, bit_depth: u8) {
    let width = video.width() as usize;
    let half = width.div_ceil(2);
    // P016 has the bits that matter uppermost, FFmpeg lowermost.
    let shift = 16 - u32::from(bit_depth.clamp(9, 16));
    let wide = bit_depth > 8;
    for (to, from) in rows(video, 0).zip(samples.luma.chunks_exact(samples.stride)) {
        if wide {
            shifted(&mut to[..2 * width], from, shift);
        } else {
            to[..width].copy_from_slice(&from[..width]);
        }
    }
    for (to, from) in rows(video, 1).zip(samples.chroma.chunks_exact(samples.stride)) {
        if wide {
            every_other_shifted::<0>(&mut to[..2 * half], from, shift);
        } else {
            every_other::<0>(&mut to[..half], from);
        }
    }
    for (to, from) in rows(video, 2).zip(samples.chroma.chunks_exact(samples.stride)) {
        if wide {
            every_other_shifted::<1>(&mut to[..2 * half], from, shift);
        } else {
            every_other::<1>(&mut to[..half], from);
        }
    }
}

fn rows(video: &mut frame::Video, plane: usize) -> std::slice::ChunksExactMut<'_, u8> {
    let stride = video.stride(plane).max(1);
    video.data_mut(plane).chunks_exact_mut(stride)
}

fn shifted(to: &mut [u8], from: &[u8], shift: u32) {
    for (to, &sample) in to.as_chunks_mut::<2>().0.iter_mut().zip(from.as_chunks::<2>().0) {
        *to = (u16::from_le_bytes(sample) >> shift).to_le_bytes();
    }
}

// The component is known when this is compiled, and pairs are read as one number: then many samples
// are moved at a time, ten times as fast as one by one.
fn every_other<const FIRST: u32>(to: &mut [u8], from: &[u8]) {
    for (to, &pair) in to.iter_mut().zip(from.as_chunks::<2>().0) {
        *to = (u16::from_le_bytes(pair) >> (8 * FIRST)) as u8;
    }
}

fn every_other_shifted<const FIRST: u32>(to: &mut [u8], from: &[u8], shift: u32) {
    for (to, &pair) in to.as_chunks_mut::<2>().0.iter_mut().zip(from.as_chunks::<4>().0) {
        let value = (u32::from_le_bytes(pair) >> (16 * FIRST)) as u16 >> shift;
        *to = value.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::format::Pixel;

    use super::*;
    use crate::media::Frame;

    fn plane(frame: &Frame, number: usize) -> Vec<Vec<u8>> {
        let plane = frame.plane(number).unwrap();
        (0..plane.rows()).map(|row| plane.row(row).to_vec()).collect()
    }

    #[test]
    fn eight_bits_of_an_odd_size() {
        let samples = Samples {
            luma: &[1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0],
            chroma: &[10, 20, 11, 21, 12, 22, 13, 23],
            stride: 4,
        };
        let mut video = frame::Video::new(Pixel::YUV420P, 3, 3);
        fill(&mut video, &samples, 8);
        let frame = Frame::new(video);
        assert_eq!(plane(&frame, 0), [[1, 2, 3], [4, 5, 6], [7, 8, 9]]);
        assert_eq!(plane(&frame, 1), [[10, 11], [12, 13]]);
        assert_eq!(plane(&frame, 2), [[20, 21], [22, 23]]);
    }

    #[test]
    fn ten_and_twelve_bits_come_down() {
        let bytes = |values: &[u16], shift: u32| {
            values.iter().flat_map(|v| (v << shift).to_le_bytes()).collect::<Vec<u8>>()
        };
        for (bit_depth, format) in [(10, Pixel::YUV420P10LE), (12, Pixel::YUV420P12LE)] {
            let shift = 16 - u32::from(bit_depth);
            let (luma, chroma) = (bytes(&[1023, 0, 512, 7], shift), bytes(&[1, 1022], shift));
            let mut video = frame::Video::new(format, 2, 2);
            fill(&mut video, &Samples { luma: &luma, chroma: &chroma, stride: 4 }, bit_depth);
            let frame = Frame::new(video);
            assert_eq!(plane(&frame, 0), [bytes(&[1023, 0], 0), bytes(&[512, 7], 0)]);
            assert_eq!(plane(&frame, 1), [bytes(&[1], 0)]);
            assert_eq!(plane(&frame, 2), [bytes(&[1022], 0)]);
        }
    }
}
