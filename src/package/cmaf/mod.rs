//! CMAF tracks (ISO/IEC 23000-19): an initialization segment and media segments for one track,
//! AV1 or Opus. Puts encoded samples into boxes as they are; it decodes and measures nothing.
//!
//! Boxes come from `mp4-atom`. Only their order within a movie box is ours, see `init.rs`.

mod audio;
mod init;
mod segment;
mod video;

pub use audio::{AudioTrack, OPUS_CODECS, OPUS_TIMESCALE, audio_init};
pub use segment::{Sample, Segment, TrackKind, segment};
pub use video::{VideoTrack, video_init};

use crate::media::av1::SequenceHeaderError;

/// The only track of every file here.
const TRACK_ID: u32 = 1;

/// Why a track or segment cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CmafError {
    #[error("a track needs a timescale above 0")]
    ZeroTimescale,
    #[error(transparent)]
    SequenceHeader(#[from] SequenceHeaderError),
    #[error("a picture of {width}x{height} is too large for an MP4 sample entry")]
    PictureSize { width: u32, height: u32 },
    #[error("Opus with {0} channels needs a channel mapping; only 1 and 2 go without")]
    Channels(u8),
    #[error("an Opus packet cannot last {0} samples at 48 kHz; it lasts 2.5 to 120 ms")]
    PacketDuration(u32),
    #[error("a segment needs at least one sample")]
    EmptySegment,
    #[error("a segment of {bytes} bytes is too large for one movie fragment")]
    SegmentSize { bytes: u64 },
    #[error("the boxes cannot be written: {0}")]
    Boxes(#[from] mp4_atom::Error),
}

#[cfg(test)]
mod tests;
