//! What a stream is made of: a track described once, whatever its codec, so that whoever packages, lists or
//! schedules it names no codec. A codec is a file here, which makes descriptions and sample entries, and an
//! executor. Nothing here encodes or reads media, and nothing knows keys, caches or steps.
//!
//! A video track's description comes of its rung's [`Contract`], an audio track's of its [`AudioCodec`].
//! Both are there before anything is encoded; only [`Track::sample_entry`] asks for what the encoder made.

mod av1;
mod language;
mod opus;

use serde::{Deserialize, Serialize};

pub use av1::{BitRateLimit, Contract, ContractError};
pub use language::Language;

use crate::media::av1::SequenceHeaderError;
use crate::media::{Colour, Rational};
use crate::spec;

/// One track of a stream: a rung or an audio rendition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    pub medium: Medium,
    /// The `codecs` parameter (RFC 6381), as players ask for it.
    pub codecs: String,
    /// Ticks a second, in which all durations and decode times of the track are.
    pub timescale: u32,
    pub sync: SyncRule,
    /// Ticks that the decoder puts out before the presentation starts.
    pub pre_skip: u32,
    /// Ticks of every sample but the last, where the codec fixes them.
    pub packet_duration: Option<u32>,
    /// How many samples ahead of a seek decoding has to start: the distance of the `roll` sample group
    /// (ISO/IEC 14496-12 10.1), which is negative. `None` where a sync sample is all that it takes.
    pub roll: Option<i16>,
    pub language: Option<Language>,
    pub role: Role,
    /// The brand of the codec's binding to ISO-BMFF, for `ftyp`.
    pub brand: [u8; 4],
    binding: Binding,
}

/// What a track is to its viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Medium {
    Video {
        /// Pixels, square ones.
        width: u32,
        height: u32,
        colour: Colour,
        /// The largest frame rate.
        frame_rate: Rational,
    },
    Audio {
        channels: u8,
        /// Hertz before encoding; informative.
        sample_rate: u32,
    },
}

/// Which samples decoding can start at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncRule {
    /// The first of each chunk, which is a closed sequence, and no other.
    FirstOfChunk,
    Every,
}

impl SyncRule {
    /// Whether sample `number` of its chunk, counted from 0, is a sync sample.
    pub fn is_sync(self, number: usize) -> bool {
        match self {
            SyncRule::FirstOfChunk => number == 0,
            SyncRule::Every => true,
        }
    }
}

/// Whether a player takes a track unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Main,
    Alternate,
}

/// How the samples of a track are bound to ISO-BMFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Binding {
    Av1,
    Opus,
}

impl Track {
    /// The sample entry, for `stsd`. `config` is what the track's encodes have in common of what the decoder
    /// needs first (for AV1 their sequence header OBU); empty where the codec has nothing of the kind.
    pub fn sample_entry(&self, config: &[u8]) -> Result<mp4_atom::Codec, StreamError> {
        match self.binding {
            Binding::Av1 => av1::sample_entry(config),
            Binding::Opus => opus::sample_entry(self),
        }
    }
}

/// A codec of audio renditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AudioCodec {
    Opus,
}

impl From<spec::AudioCodec> for AudioCodec {
    fn from(codec: spec::AudioCodec) -> AudioCodec {
        match codec {
            spec::AudioCodec::Opus => AudioCodec::Opus,
        }
    }
}

/// In which portions a codec takes audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framing {
    /// Samples a second of each channel, as they are encoded: the ticks of its track.
    pub rate: u32,
    /// Samples of each channel in one packet.
    pub packet: u32,
    /// Packets of audio before a window that its encoder is fed first, none of which is kept.
    pub lead: u32,
    /// Samples that a decoder puts out before the first.
    pub pre_skip: u32,
}

impl AudioCodec {
    pub fn framing(self) -> Framing {
        match self {
            AudioCodec::Opus => opus::FRAMING,
        }
    }

    /// A track of this codec. `sample_rate` is the source's, in hertz.
    pub fn track(self, channels: u8, sample_rate: u32, language: Option<Language>, role: Role) -> Track {
        let medium = Medium::Audio { channels, sample_rate };
        match self {
            AudioCodec::Opus => opus::track(medium, language, role),
        }
    }
}

/// A track that ISO-BMFF has no sample entry for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    SequenceHeader(#[from] SequenceHeaderError),
    #[error("a frame of {width}x{height} is too large for an MP4 sample entry")]
    FrameSize { width: u32, height: u32 },
    #[error("Opus with {0} channels needs a channel mapping; only 1 and 2 go without")]
    Channels(u8),
    #[error("an audio codec was asked for a track without channels")]
    NotAudio,
}
