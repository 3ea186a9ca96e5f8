//! Writes another level into a sequence header, where an encoder cannot be told one. A stream that
//! keeps within a level keeps within all higher ones (AV1 Annex A.3), so naming a higher one is
//! always true.

use super::obu::{ObuType, obus};
use super::sequence_header::{SequenceHeader, SequenceHeaderError};

/// Levels above this one have a tier (AV1 5.5.1): 7 is level 3.3.
const LAST_WITHOUT_TIER: u8 = 7;

/// The sequence header OBU `obu` with the level and tier of `wanted` for its first operating point.
/// `None` where that would not be true: its own level is higher, or its tier is.
pub fn with_level(obu: &[u8], wanted: &SequenceHeader) -> Result<Option<Vec<u8>>, SequenceHeaderError> {
    let found = SequenceHeader::parse(obu)?;
    let garbled = || SequenceHeaderError::Garbled { reason: "it ends too early".to_owned() };
    let lower_tier = found.seq_tier && !wanted.seq_tier;
    if found.seq_level_idx > wanted.seq_level_idx || lower_tier {
        return Ok(None);
    }
    if found.seq_level_idx == wanted.seq_level_idx && found.seq_tier == wanted.seq_tier {
        return Ok(Some(obu.to_vec()));
    }
    let unit = obus(obu).next().ok_or_else(garbled)??;
    let bits: Vec<bool> =
        unit.payload.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let level = level_position(&bits).ok_or_else(garbled)?;
    let rest = level + if found.seq_level_idx > LAST_WITHOUT_TIER { 6 } else { 5 };
    // A one and zeros end the payload (AV1 5.3.4).
    let end = bits.iter().rposition(|&bit| bit).ok_or_else(garbled)?;
    let mut written = bits.get(..level).ok_or_else(garbled)?.to_vec();
    written.extend((0..5).rev().map(|bit| wanted.seq_level_idx >> bit & 1 == 1));
    if wanted.seq_level_idx > LAST_WITHOUT_TIER {
        written.push(wanted.seq_tier);
    }
    written.extend(bits.get(rest..=end).ok_or_else(garbled)?);
    let payload = written.chunks(8).map(|byte| {
        byte.iter().enumerate().fold(0, |value, (place, &bit)| value | u8::from(bit) << (7 - place))
    });
    let payload: Vec<u8> = payload.collect();
    // A header without extension, with a size field of one byte: no sequence header needs more.
    let size = u8::try_from(payload.len()).ok().filter(|&size| size < 128).ok_or_else(garbled)?;
    let header = [u8::from(ObuType::SequenceHeader) << 3 | 0b10, size];
    Ok(Some([&header[..], &payload].concat()))
}

/// `unit` with every sequence header in it replaced by `header`.
pub fn with_header(unit: &[u8], header: &[u8]) -> Result<Vec<u8>, SequenceHeaderError> {
    let mut replaced = Vec::with_capacity(unit.len() + header.len());
    for obu in obus(unit) {
        let obu = obu?;
        let is_header = obu.kind == ObuType::SequenceHeader;
        replaced.extend_from_slice(if is_header { header } else { obu.bytes });
    }
    Ok(replaced)
}

/// Where `seq_level_idx` of the first operating point begins (AV1 5.5.1 to 5.5.4), in bits. `None`
/// where the header is cut short, or is that of a still picture.
fn level_position(bits: &[bool]) -> Option<usize> {
    let bit = |at: usize| bits.get(at).copied();
    // seq_profile f(3), still_picture f(1), reduced_still_picture_header f(1).
    if bit(4)? {
        return None;
    }
    let mut at = 5;
    let timing_info_present = bit(at)?;
    at += 1;
    if timing_info_present {
        // num_units_in_display_tick f(32), time_scale f(32), equal_picture_interval f(1).
        at += 64;
        let equal_picture_interval = bit(at)?;
        at += 1;
        if equal_picture_interval {
            // num_ticks_per_picture_minus_1 uvlc(): as many zeros, a one, as many bits (4.10.3).
            let zeros = bits.get(at..)?.iter().position(|&bit| bit)?;
            at += 2 * zeros + 1;
        }
        let decoder_model_info_present = bit(at)?;
        at += 1;
        if decoder_model_info_present {
            // f(5), num_units_in_decoding_tick f(32), f(5), f(5).
            at += 47;
        }
    }
    // initial_display_delay_present_flag f(1), operating_points_cnt_minus_1 f(5),
    // operating_point_idc[0] f(12).
    at += 18;
    bits.get(at..at + 5).map(|_| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::av1::{sequence_header_obu, test_stream};

    /// What real encoders write comes out with another level, and else as it was; also across the
    /// level from which on there is a tier.
    #[test]
    fn a_level_is_raised_and_nothing_else() {
        for encoder in test_stream::ENCODERS {
            let units = test_stream::encode(encoder, "-g 8", 10, "yuv420p10le");
            let header = sequence_header_obu(&units[0].data).unwrap().unwrap();
            let found = SequenceHeader::parse(header).unwrap();
            for (seq_level_idx, seq_tier) in [(7, false), (8, false), (13, true), (19, false)] {
                let wanted = SequenceHeader { seq_level_idx, seq_tier, ..found.clone() };
                let Some(raised) = with_level(header, &wanted).unwrap() else {
                    assert!(found.seq_level_idx > seq_level_idx, "{encoder}");
                    continue;
                };
                assert_eq!(SequenceHeader::parse(&raised).unwrap(), wanted, "{encoder}");
                // There and back again, it is what it was.
                let low = SequenceHeader { seq_level_idx: 31, seq_tier: true, ..found.clone() };
                let top = with_level(&raised, &low).unwrap().unwrap();
                let again = with_level(header, &low).unwrap().unwrap();
                assert_eq!(top, again, "{encoder}");
                if found.seq_level_idx < seq_level_idx {
                    assert_eq!(with_level(&raised, &found).unwrap(), None, "a level is not lowered");
                }
                let unit = with_header(&units[0].data, &raised).unwrap();
                assert_eq!(sequence_header_obu(&unit).unwrap(), Some(&raised[..]));
            }
            assert_eq!(with_level(header, &found).unwrap().as_deref(), Some(header));
        }
    }

    #[test]
    fn timing_and_a_decoder_model_are_passed_over() {
        let level = |bits: &str| {
            let bits: Vec<bool> =
                bits.bytes().filter(|byte| *byte != b' ').map(|byte| byte == b'1').collect();
            level_position(&bits)
        };
        let (point, rest) = ("0 00000 000000000000", "01000 1111");
        let ticks = "0".repeat(64);
        assert_eq!(level(&format!("000 0 0 0 {point} {rest}")), Some(24));
        assert_eq!(level(&format!("000 0 0 1 {ticks} 0 0 {point} {rest}")), Some(90));
        assert_eq!(level(&format!("000 0 0 1 {ticks} 1 00101 0 {point} {rest}")), Some(95));
        let model = "0".repeat(47);
        assert_eq!(level(&format!("000 0 0 1 {ticks} 0 1 {model} {point} {rest}")), Some(137));
        assert_eq!(level("000 1 1 01000"), None, "the header of a still picture");
        assert_eq!(level("000 0 0 0 0 00000 0000"), None, "cut short");
    }
}
