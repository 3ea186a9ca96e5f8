//! The format of a stream's frames, as the driver's parser reads it from the stream's headers, and which
//! formats are not supported.

use std::ffi::{c_int, c_uchar, c_uint};

use nvidia_video_codec_sdk::sys::cuviddec::cudaVideoChromaFormat;

use super::{Codec, NvidiaError};

/// Frames that are decoded ahead of the one that is being copied.
pub(super) const DISPLAY_DELAY: u32 = 4;
/// Most frames that the parser can number.
const MAX_SURFACES: u32 = 32;

/// The format that a decoder is created for. Frames are progressive, 4:2:0, and cropped at the right and the
/// bottom only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    pub codec: Codec,
    /// Bits of a sample, of luma and chroma alike.
    pub bit_depth: u8,
    /// Size in samples, as coded and as shown.
    pub coded: (u32, u32),
    pub visible: (u32, u32),
    /// Whether the stream signals full range.
    pub full_range: bool,
    /// Frames that the decoder holds.
    pub(crate) surfaces: u32,
}

/// `CUVIDEOFORMAT`, with its enumerations as numbers: a driver may know more of them.
#[repr(C)]
pub(super) struct SequenceFormat {
    codec: c_uint,
    frame_rate: [c_uint; 2],
    progressive_sequence: c_uchar,
    bit_depth_luma_minus8: c_uchar,
    bit_depth_chroma_minus8: c_uchar,
    min_num_decode_surfaces: c_uchar,
    coded_width: c_uint,
    coded_height: c_uint,
    /// Left, top, right, bottom.
    display_area: [c_int; 4],
    chroma_format: c_uint,
    bitrate: c_uint,
    display_aspect_ratio: [c_int; 2],
    /// Bit 3 is the one for the full range; then primaries, transfer, matrix.
    video_signal_description: [c_uchar; 4],
    seqhdr_data_length: c_uint,
}

const FULL_RANGE: u8 = 1 << 3;

impl SequenceFormat {
    /// The format to create a decoder of this codec for; an error tells why it is not supported.
    pub(super) fn read(&self, codec: Codec) -> Result<VideoFormat, NvidiaError> {
        let unsupported = |what: &str| Err(NvidiaError::Unsupported(what.to_owned()));
        if self.chroma_format != cudaVideoChromaFormat::cudaVideoChromaFormat_420 as c_uint {
            return unsupported("its chroma is not 4:2:0");
        }
        if self.bit_depth_luma_minus8 != self.bit_depth_chroma_minus8 || self.bit_depth_luma_minus8 > 4 {
            return unsupported("its samples' depth is unusual");
        }
        // The other codecs have no interlaced frames, and the parser need not report them as progressive.
        if self.progressive_sequence == 0 && matches!(codec, Codec::H264 | Codec::Hevc) {
            return unsupported("its frames may be interlaced");
        }
        let [left, top, right, bottom] = self.display_area;
        // libavcodec moves such edges to where it can compute well.
        if left != 0 || top != 0 {
            return unsupported("its frames are cropped at the left or at the top");
        }
        // Two samples of luma share one of chroma.
        let even = |side: c_uint| side.checked_next_multiple_of(2).unwrap_or(0);
        let coded = (even(self.coded_width), even(self.coded_height));
        let visible = (u32::try_from(right).unwrap_or(0), u32::try_from(bottom).unwrap_or(0));
        let fits = (1..=coded.0).contains(&visible.0) && (1..=coded.1).contains(&visible.1);
        if !fits {
            return unsupported("its frames' size is unusual");
        }
        let surfaces = u32::from(self.min_num_decode_surfaces) + DISPLAY_DELAY;
        Ok(VideoFormat {
            codec,
            bit_depth: 8 + self.bit_depth_luma_minus8,
            coded,
            visible,
            full_range: self.video_signal_description[0] & FULL_RANGE != 0,
            surfaces: surfaces.min(MAX_SURFACES),
        })
    }
}

impl VideoFormat {
    pub(super) fn bytes_per_sample(&self) -> usize {
        if self.bit_depth > 8 { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use nvidia_video_codec_sdk::sys::nvcuvid::CUVIDEOFORMAT;

    use super::*;

    fn full_hd() -> SequenceFormat {
        SequenceFormat {
            codec: 4,
            frame_rate: [25, 1],
            progressive_sequence: 1,
            bit_depth_luma_minus8: 0,
            bit_depth_chroma_minus8: 0,
            min_num_decode_surfaces: 5,
            coded_width: 1920,
            coded_height: 1088,
            display_area: [0, 0, 1920, 1080],
            chroma_format: 1,
            bitrate: 0,
            display_aspect_ratio: [16, 9],
            video_signal_description: [FULL_RANGE | 5, 1, 1, 1],
            seqhdr_data_length: 0,
        }
    }

    #[test]
    fn the_layout_is_the_headers() {
        assert_eq!(size_of::<SequenceFormat>(), size_of::<CUVIDEOFORMAT>());
        assert_eq!(align_of::<SequenceFormat>(), align_of::<CUVIDEOFORMAT>());
        assert_eq!(offset_of!(SequenceFormat, display_area), offset_of!(CUVIDEOFORMAT, display_area));
        assert_eq!(offset_of!(SequenceFormat, chroma_format), offset_of!(CUVIDEOFORMAT, chroma_format));
        let description = offset_of!(CUVIDEOFORMAT, video_signal_description);
        assert_eq!(offset_of!(SequenceFormat, video_signal_description), description);
    }

    #[test]
    fn a_stream_as_most_are() {
        let format = full_hd().read(Codec::H264).unwrap();
        assert_eq!((format.coded, format.visible), ((1920, 1088), (1920, 1080)));
        assert_eq!((format.bit_depth, format.full_range, format.surfaces), (8, true, 9));
        let many = SequenceFormat { min_num_decode_surfaces: 31, ..full_hd() };
        assert_eq!(many.read(Codec::H264).unwrap().surfaces, 32);
    }

    #[test]
    fn what_software_does_better() {
        let refused = [
            SequenceFormat { chroma_format: 3, ..full_hd() },
            SequenceFormat { bit_depth_luma_minus8: 2, ..full_hd() },
            SequenceFormat { progressive_sequence: 0, ..full_hd() },
            SequenceFormat { display_area: [2, 0, 1920, 1080], ..full_hd() },
            SequenceFormat { display_area: [0, 0, 1920, 1090], ..full_hd() },
            SequenceFormat { display_area: [0, 0, -1, 1080], ..full_hd() },
        ];
        for (number, format) in refused.iter().enumerate() {
            let error = format.read(Codec::H264).unwrap_err();
            assert!(matches!(error, NvidiaError::Unsupported(_)), "{number}: {error}");
        }
    }
}
