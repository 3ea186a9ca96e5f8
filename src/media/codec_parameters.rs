//! What a decoder of a video track is opened with, as plain data. It goes with a span's packets, so that
//! a process that is handed them needs nothing of the file, and decodes to the same frames.

use ffmpeg_next::codec;
use serde::{Deserialize, Serialize};

use super::ffi;

/// The fields of FFmpeg's `AVCodecParameters` that count for video. Enumerations are FFmpeg's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecParameters {
    /// FFmpeg's name of the codec, e.g. `h264`.
    pub codec: String,
    /// The container's four-character code for it.
    pub codec_tag: u32,
    /// Headers of the whole stream, as the container stores them.
    #[serde(with = "serde_bytes")]
    pub extradata: Vec<u8>,
    /// The number of the pixel format; -1 for none.
    pub format: i32,
    /// Coded size in samples.
    pub width: i32,
    pub height: i32,
    pub profile: i32,
    pub level: i32,
    pub bit_rate: i64,
    pub bits_per_coded_sample: i32,
    pub bits_per_raw_sample: i32,
    /// Numerator and denominator of a sample's width over its height.
    pub sample_aspect_ratio: (i32, i32),
    pub field_order: i32,
    pub color_range: i32,
    pub color_primaries: i32,
    pub color_trc: i32,
    pub color_space: i32,
    pub chroma_location: i32,
    /// Frames by which the decoder's output is delayed for reordering.
    pub video_delay: i32,
}

impl CodecParameters {
    pub(super) fn codec_id(&self) -> codec::Id {
        ffi::codec_named(&self.codec).unwrap_or(codec::Id::None)
    }

    #[cfg(feature = "nvidia")]
    pub(super) fn pixel_format(&self) -> ffmpeg_next::format::Pixel {
        ffi::pixel_format(self.format)
    }
}
