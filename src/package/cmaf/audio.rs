//! The initialization segment of an Opus track (Encapsulation of Opus in ISO Base Media File
//! Format 1.0.0). It says how much of the sound to skip and how far ahead of a seek to decode;
//! working out either is for whoever encoded it.

use mp4_atom::{
    AnySampleGroupEntry, Audio, Codec, Dops, Elst, ElstEntry, FourCC, Opus, Sgpd, SgpdEntry, Smhd, Tkhd,
};

use super::CmafError;
use super::init::{Track, init_segment};
use crate::package::language::Language;

/// Ticks a second of every Opus track: Opus always decodes at 48 kHz.
pub const OPUS_TIMESCALE: u32 = 48_000;

/// The `codecs` parameter of an Opus track, as players ask for it.
pub const OPUS_CODECS: &str = "opus";

/// The sample group of pre-roll distances (ISO/IEC 14496-12 10.1).
pub(super) const ROLL: FourCC = FourCC::new(b"roll");

/// An Opus track of one or two channels. Counts of samples are at 48 kHz.
#[derive(Clone, Copy, Debug)]
pub struct AudioTrack<'a> {
    pub channels: u8,
    /// Samples that the decoder puts out before the sound starts (RFC 7845 4.2).
    pub pre_skip: u16,
    /// Hertz before encoding; informative.
    pub input_sample_rate: u32,
    /// Samples that are decoded but not played: the pre-skip, and what else precedes time 0.
    pub media_time: u64,
    /// Samples of each packet but the last: 960 for 20 ms.
    pub packet_duration: u32,
    pub language: Option<&'a Language>,
}

/// `ftyp` and `moov` of an Opus track.
///
/// The edit list starts the presentation after `media_time` samples and lasts, with a duration of
/// 0, as long as the samples do (Opus-in-ISOBMFF 4.4). `dOps` names the pre-skip too, but only for
/// information (4.3.2).
pub fn audio_init(track: &AudioTrack<'_>) -> Result<Vec<u8>, CmafError> {
    if !(1..=2).contains(&track.channels) {
        return Err(CmafError::Channels(track.channels));
    }
    let sample_entry = Opus {
        audio: Audio {
            data_reference_index: 1,
            channel_count: track.channels.into(),
            sample_size: 16,
            sample_rate: 48_000.into(),
        },
        dops: Dops {
            output_channel_count: track.channels,
            pre_skip: track.pre_skip,
            input_sample_rate: track.input_sample_rate,
            output_gain: 0,
            channel_mapping: None,
        },
        btrt: None,
    };
    let edit = ElstEntry { segment_duration: 0, media_time: Some(track.media_time), media_rate: 1.into() };
    init_segment(Track {
        brand: b"Opus",
        timescale: OPUS_TIMESCALE,
        language: track.language,
        tkhd: Tkhd { volume: 1.into(), ..Tkhd::default() },
        edits: Some(Elst { entries: vec![edit] }),
        handler: b"soun",
        handler_name: "Audio",
        media_header: Smhd::default(),
        sample_entry: Codec::Opus(sample_entry),
        sample_group: Some(roll_group(track.packet_duration)?),
    })
}

/// The distance, in packets, to start decoding ahead of a seek: 80 ms, negative because it lies
/// before (Opus-in-ISOBMFF 4.3.6.2).
fn roll_group(packet_duration: u32) -> Result<Sgpd, CmafError> {
    const PRE_ROLL: u32 = OPUS_TIMESCALE / 1000 * 80;
    const SHORTEST: u32 = OPUS_TIMESCALE / 400;
    const LONGEST: u32 = OPUS_TIMESCALE / 1000 * 120;
    if !(SHORTEST..=LONGEST).contains(&packet_duration) {
        return Err(CmafError::PacketDuration(packet_duration));
    }
    let packets = i16::try_from(PRE_ROLL.div_ceil(packet_duration))
        .map_err(|_| CmafError::PacketDuration(packet_duration))?;
    let distance = (-packets).to_be_bytes().to_vec();
    Ok(Sgpd {
        grouping_type: ROLL,
        default_length: Some(2),
        default_group_description_index: None,
        static_group_description: false,
        static_mapping: false,
        essential: false,
        entries: vec![SgpdEntry {
            description_length: Some(2),
            entry: AnySampleGroupEntry::UnknownGroupingType(ROLL, distance),
        }],
    })
}
