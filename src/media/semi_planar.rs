//! NV12 and P010: 4:2:0 with a plane of luma and one in which the samples of Cb and Cr take turns. With more
//! than 8 bits a sample lies in the upper bits of 16, least significant byte first (P010, P012, P016). GPUs
//! decode to these formats and encode from them; frames here are planar, with samples in the lower bits.
//! Only places change.

use super::{Frame, ffi};

/// The bits by which samples of this depth are shifted to be msb-aligned.
fn shift_of(bit_depth: u8) -> u32 {
    16 - u32::from(bit_depth.clamp(9, 16))
}

/// Writes the luma of a planar 4:2:0 frame to rows that begin `stride` bytes apart.
pub fn write_luma(frame: &Frame, to: &mut [u8], stride: usize) {
    let bit_depth = ffi::bit_depth(frame.video().format());
    let shift = shift_of(bit_depth);
    for (to, from) in to.chunks_mut(stride.max(1)).zip(frame.rows(0)) {
        if bit_depth > 8 {
            for (to, &sample) in to.as_chunks_mut::<2>().0.iter_mut().zip(from.as_chunks::<2>().0) {
                *to = (u16::from_le_bytes(sample) << shift).to_le_bytes();
            }
        } else {
            to.iter_mut().zip(from).for_each(|(to, &sample)| *to = sample);
        }
    }
}

/// Writes the chroma of a planar 4:2:0 frame to rows that begin `stride` bytes apart, with room for as many
/// pairs as the frame has samples in a row of chroma.
pub fn write_chroma(frame: &Frame, to: &mut [u8], stride: usize) {
    let bit_depth = ffi::bit_depth(frame.video().format());
    let shift = shift_of(bit_depth);
    let rows = frame.rows(1).zip(frame.rows(2));
    for (to, (cb, cr)) in to.chunks_mut(stride.max(1)).zip(rows) {
        if bit_depth > 8 {
            let samples = cb.as_chunks::<2>().0.iter().zip(cr.as_chunks::<2>().0);
            for (pair, (&cb, &cr)) in to.as_chunks_mut::<4>().0.iter_mut().zip(samples) {
                let [cb, cr] = [cb, cr].map(|sample| u32::from(u16::from_le_bytes(sample) << shift));
                *pair = (cb | cr << 16).to_le_bytes();
            }
        } else {
            for (pair, (&cb, &cr)) in to.as_chunks_mut::<2>().0.iter_mut().zip(cb.iter().zip(cr)) {
                *pair = [cb, cr];
            }
        }
    }
}

/// Fills a planar 4:2:0 frame, whose samples have so many bits, from planes of luma and chroma with rows that
/// begin `stride` bytes apart.
#[cfg(any(test, feature = "nvidia"))]
pub(super) fn read(
    video: &mut ffmpeg_next::frame::Video,
    (luma, chroma): (&[u8], &[u8]),
    stride: usize,
    bit_depth: u8,
) {
    let width = video.width() as usize;
    let half = width.div_ceil(2);
    let shift = shift_of(bit_depth);
    let size = if bit_depth > 8 { 2 } else { 1 };
    for (plane, from, samples) in [(0, luma, width), (1, chroma, half), (2, chroma, half)] {
        let row_stride = video.stride(plane).max(1);
        let to = video.data_mut(plane).chunks_exact_mut(row_stride);
        for (to, from) in to.zip(from.chunks_exact(stride.max(1))) {
            let to = &mut to[..samples * size];
            match (plane, size) {
                (0, 1) => to.copy_from_slice(&from[..samples]),
                (0, _) => lsb_aligned(to, from, shift),
                (1, 1) => every_other::<0>(to, from),
                (1, _) => every_other_lsb_aligned::<0>(to, from, shift),
                (_, 1) => every_other::<1>(to, from),
                (_, _) => every_other_lsb_aligned::<1>(to, from, shift),
            }
        }
    }
}

#[cfg(any(test, feature = "nvidia"))]
fn lsb_aligned(to: &mut [u8], from: &[u8], shift: u32) {
    for (to, &sample) in to.as_chunks_mut::<2>().0.iter_mut().zip(from.as_chunks::<2>().0) {
        *to = (u16::from_le_bytes(sample) >> shift).to_le_bytes();
    }
}

// The component is a constant and a pair is read as one number: the compiler then moves many samples at a
// time, ten times as fast as one by one.
#[cfg(any(test, feature = "nvidia"))]
fn every_other<const COMPONENT: u32>(to: &mut [u8], from: &[u8]) {
    for (to, &pair) in to.iter_mut().zip(from.as_chunks::<2>().0) {
        *to = (u16::from_le_bytes(pair) >> (8 * COMPONENT)) as u8;
    }
}

#[cfg(any(test, feature = "nvidia"))]
fn every_other_lsb_aligned<const COMPONENT: u32>(to: &mut [u8], from: &[u8], shift: u32) {
    for (to, &pair) in to.as_chunks_mut::<2>().0.iter_mut().zip(from.as_chunks::<4>().0) {
        let value = (u32::from_le_bytes(pair) >> (16 * COMPONENT)) as u16 >> shift;
        *to = value.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::format::Pixel;
    use ffmpeg_next::frame::Video;

    use super::*;

    #[test]
    fn a_frame_of_any_size_and_stride_comes_back_as_it_was() {
        let formats = [(8, Pixel::YUV420P), (10, Pixel::YUV420P10LE), (12, Pixel::YUV420P12LE)];
        for (bit_depth, format) in formats {
            for (width, height) in [(1, 1), (5, 3), (6, 4), (33, 17), (64, 36)] {
                let frame = Frame::example(format, width, height);
                let needed = width.next_multiple_of(2) as usize * if bit_depth > 8 { 2 } else { 1 };
                for stride in [needed, needed + 2, needed + 61] {
                    let mut luma = vec![0xee; stride * height as usize];
                    let mut chroma = vec![0xee; stride * height.div_ceil(2) as usize];
                    write_luma(&frame, &mut luma, stride);
                    write_chroma(&frame, &mut chroma, stride);
                    let mut video = Video::new(format, width, height);
                    read(&mut video, (&luma, &chroma), stride, bit_depth);
                    assert_eq!(Frame::new(video).digest(), frame.digest(), "{format:?} {width}x{height}");
                    let padding = chroma.chunks(stride).flat_map(|row| &row[needed..]);
                    assert!(
                        padding.chain(luma.chunks(stride).flat_map(|row| &row[needed..])).all(|&b| b == 0xee)
                    );
                }
            }
        }
    }

    fn bytes(values: &[u16]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// The layouts are those of NVIDIA's and FFmpeg's headers.
    #[test]
    fn samples_lie_where_nv12_and_p010_have_them() {
        let mut video = Video::new(Pixel::YUV420P, 3, 3);
        read(&mut video, (&[1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0], &[10, 20, 11, 21, 12, 22, 13, 23]), 4, 8);
        let frame = Frame::new(video);
        assert!(frame.rows(0).eq([[1, 2, 3], [4, 5, 6], [7, 8, 9]]));
        assert!(frame.rows(1).eq([[10, 11], [12, 13]]));
        assert!(frame.rows(2).eq([[20, 21], [22, 23]]));

        let aligned = |values: &[u16]| bytes(&values.iter().map(|value| value << 6).collect::<Vec<_>>());
        let (luma, chroma) = (aligned(&[1023, 0, 512, 7]), aligned(&[1, 1022]));
        let mut video = Video::new(Pixel::YUV420P10LE, 2, 2);
        read(&mut video, (&luma, &chroma), 4, 10);
        let frame = Frame::new(video);
        assert!(frame.rows(0).eq([bytes(&[1023, 0]), bytes(&[512, 7])]));
        assert!(frame.rows(1).eq([bytes(&[1])]) && frame.rows(2).eq([bytes(&[1022])]));
        let (mut again, mut pairs) = (vec![0; 8], vec![0; 4]);
        write_luma(&frame, &mut again, 4);
        write_chroma(&frame, &mut pairs, 4);
        assert_eq!((again, pairs), (luma, chroma));
    }
}
