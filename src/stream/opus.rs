//! Opus in ISO-BMFF (Encapsulation of Opus in ISO Base Media File Format 1.0.0): its description and its
//! sample entry. How much to skip at the start is in both; working it out is the encoder's business.

use mp4_atom::{Audio, Codec, Dops, Opus};

use super::{Binding, Framing, Language, Medium, Role, StreamError, SyncRule, Track};
use crate::media::{OPUS_FRAME, OPUS_LEAD, OPUS_PRE_SKIP, OPUS_RATE};

pub(super) const FRAMING: Framing = Framing {
    rate: OPUS_RATE,
    packet: OPUS_FRAME as u32,
    lead: OPUS_LEAD as u32,
    pre_skip: OPUS_PRE_SKIP as u32,
};

/// A track of packets as rivet's encoder makes them. Counts of samples are at 48 kHz, at which Opus always
/// decodes.
pub(super) fn track(medium: Medium, language: Option<Language>, role: Role) -> Track {
    Track {
        medium,
        codecs: "opus".to_owned(),
        timescale: FRAMING.rate,
        sync: SyncRule::Every,
        pre_skip: FRAMING.pre_skip,
        packet_duration: Some(FRAMING.packet),
        roll: Some(roll_distance(FRAMING.packet)),
        language,
        role,
        brand: *b"Opus",
        binding: Binding::Opus,
    }
}

/// The distance, in packets, to start decoding ahead of a seek: 80 ms, negative because it lies before
/// (Opus-in-ISOBMFF 4.3.6.2).
const fn roll_distance(packet: u32) -> i16 {
    const PRE_ROLL: u32 = OPUS_RATE / 1000 * 80;
    -(PRE_ROLL.div_ceil(packet) as i16)
}

/// `dOps` names the pre-skip only for information (Opus-in-ISOBMFF 4.3.2): the edit list is what counts.
pub(super) fn sample_entry(track: &Track) -> Result<Codec, StreamError> {
    let Medium::Audio { channels, sample_rate } = track.medium else { return Err(StreamError::NotAudio) };
    if !(1..=2).contains(&channels) {
        return Err(StreamError::Channels(channels));
    }
    let audio = Audio {
        data_reference_index: 1,
        channel_count: channels.into(),
        sample_size: 16,
        sample_rate: 48_000.into(),
    };
    let dops = Dops {
        output_channel_count: channels,
        // A number of 16 bits in Ogg, too (RFC 7845 5.1).
        pre_skip: u16::try_from(track.pre_skip).unwrap_or(u16::MAX),
        input_sample_rate: sample_rate,
        output_gain: 0,
        channel_mapping: None,
    };
    Ok(Codec::Opus(Opus { audio, dops, btrt: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eighty_milliseconds_are_decoded_ahead_of_a_seek() {
        let distances = [960, 480, 2880, 120].map(roll_distance);
        assert_eq!(distances, [-4, -8, -2, -32]);
    }

    #[test]
    fn only_mono_and_stereo_go_without_a_mapping() {
        let of = |channels| track(Medium::Audio { channels, sample_rate: 44_100 }, None, Role::Main);
        assert!(sample_entry(&of(1)).is_ok() && sample_entry(&of(2)).is_ok());
        for channels in [0, 3, 6] {
            assert_eq!(sample_entry(&of(channels)), Err(StreamError::Channels(channels)));
        }
    }
}
