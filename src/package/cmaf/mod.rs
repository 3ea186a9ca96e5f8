//! CMAF tracks (ISO/IEC 23000-19): an initialization segment and media segments for one track, of whatever
//! codec its description is of. Puts encoded samples into boxes as they are; it decodes and measures nothing.
//!
//! Boxes come from `mp4-atom`. Only their order within a movie box is ours, see `init.rs`.

mod init;
mod segment;

pub use init::init_segment;
pub use segment::{Sample, Segment, segment};

use mp4_atom::FourCC;

use crate::stream::StreamError;

/// The only track of every file here.
const TRACK_ID: u32 = 1;

/// The sample group of pre-roll distances (ISO/IEC 14496-12 10.1).
const ROLL: FourCC = FourCC::new(b"roll");

/// Why a track or segment cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CmafError {
    #[error("a track needs a timescale above 0")]
    ZeroTimescale,
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("a segment needs at least one sample")]
    EmptySegment,
    #[error("the samples of a segment come to {samples} bytes where its payload has {payload}")]
    Payload { samples: u64, payload: u64 },
    #[error("a segment of {bytes} bytes is too large for one movie fragment")]
    SegmentSize { bytes: u64 },
    #[error("the boxes cannot be written: {0}")]
    Boxes(#[from] mp4_atom::Error),
}

#[cfg(test)]
mod tests;
