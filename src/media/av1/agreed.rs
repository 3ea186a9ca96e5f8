//! Writes into a sequence header what was agreed on, where an encoder cannot be told it and where it
//! stays true: a level, and what is said of colours. A stream that keeps within a level keeps within
//! all higher ones (AV1 Annex A.3), so naming a higher one is always true; and where nothing was said
//! of the colours, saying it takes nothing back. None of it changes what is decoded.

use super::header_bits::HeaderBits;
use super::obu::{ObuType, obus};
use super::sequence_header::{SequenceHeader, SequenceHeaderError};

/// H.273's "unspecified".
const UNSPECIFIED: u8 = 2;

/// The sequence header OBU `obu` with the level and tier of `wanted` for its first operating point,
/// and with its colour description and chroma position where `obu` says nothing of them. What cannot
/// be put right so stays: a level that is higher, a tier, and what is said and differs.
pub fn with_agreed(obu: &[u8], wanted: &SequenceHeader) -> Result<Vec<u8>, SequenceHeaderError> {
    let found = SequenceHeader::parse(obu)?;
    let description = |header: &SequenceHeader| {
        [header.color_primaries, header.transfer_characteristics, header.matrix_coefficients]
    };
    let mut said = description(&found);
    for (code_point, wanted) in said.iter_mut().zip(description(wanted)) {
        if *code_point == UNSPECIFIED {
            *code_point = wanted;
        }
    }
    let lower_tier = found.seq_tier && !wanted.seq_tier;
    let raise = found.seq_level_idx <= wanted.seq_level_idx
        && !lower_tier
        && (found.seq_level_idx, found.seq_tier) != (wanted.seq_level_idx, wanted.seq_tier);
    let describe = said != description(&found);
    let place = found.chroma_sample_position == 0 && wanted.chroma_sample_position != 0;
    if !(raise || describe || place) {
        return Ok(obu.to_vec());
    }
    let mut bits = HeaderBits::parse(obu)?;
    if raise {
        bits.set_level(wanted.seq_level_idx, wanted.seq_tier);
    }
    if describe {
        bits.set_description(said);
    }
    if place {
        bits.set_chroma_position(wanted.chroma_sample_position);
    }
    bits.into_obu()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
                let raised = with_agreed(header, &wanted).unwrap();
                if found.seq_level_idx > seq_level_idx {
                    assert_eq!(raised, header, "{encoder}: a level is not lowered");
                    continue;
                }
                assert_eq!(SequenceHeader::parse(&raised).unwrap(), wanted, "{encoder}");
                // There and back again, it is what it was.
                let low = SequenceHeader { seq_level_idx: 31, seq_tier: true, ..found.clone() };
                let top = with_agreed(&raised, &low).unwrap();
                let again = with_agreed(header, &low).unwrap();
                assert_eq!(top, again, "{encoder}");
                if found.seq_level_idx < seq_level_idx {
                    assert_eq!(with_agreed(&raised, &found).unwrap(), raised, "a level is not lowered");
                }
                let unit = with_header(&units[0].data, &raised).unwrap();
                assert_eq!(sequence_header_obu(&unit).unwrap(), Some(&raised[..]));
            }
            assert_eq!(with_agreed(header, &found).unwrap(), header);
        }
    }

    /// FFmpeg's own reading of headers is the judge of ours: what it decodes is what it did before.
    #[test]
    fn colours_are_described_where_nothing_was_said() {
        for encoder in test_stream::ENCODERS {
            let units = test_stream::encode(encoder, "-g 8", 10, "yuv420p");
            let header = sequence_header_obu(&units[0].data).unwrap().unwrap();
            let found = SequenceHeader::parse(header).unwrap();
            let wanted = SequenceHeader {
                seq_level_idx: found.seq_level_idx.max(13),
                color_primaries: 9,
                transfer_characteristics: 16,
                matrix_coefficients: 9,
                chroma_sample_position: 2,
                ..found.clone()
            };
            let described = with_agreed(header, &wanted).unwrap();
            let read = SequenceHeader::parse(&described).unwrap();
            let said = [found.color_primaries, found.transfer_characteristics, found.matrix_coefficients];
            assert_eq!(said, [2, 2, 2], "{encoder} says nothing");
            let chroma_sample_position = match found.chroma_sample_position {
                0 => 2,
                said => said,
            };
            assert_eq!(read, SequenceHeader { chroma_sample_position, ..wanted.clone() }, "{encoder}");
            // Nothing that is said is taken back.
            let other = SequenceHeader { color_primaries: 1, chroma_sample_position: 1, ..wanted };
            assert_eq!(with_agreed(&described, &other).unwrap(), described, "{encoder}");
            let pictures = |header: &[u8]| {
                let stream: Vec<Vec<u8>> =
                    units.iter().map(|unit| with_header(&unit.data, header).unwrap()).collect();
                test_stream::decode(&stream.concat())
            };
            assert_eq!(pictures(&described), pictures(header), "{encoder}");
        }
    }

    proptest! {
        /// What comes out of anything can be read, and says what was agreed where it said nothing.
        #[test]
        fn no_input_panics(payload in prop::collection::vec(any::<u8>(), 1..40), level in 0u8..32) {
            let obu = [&[0x0a, payload.len() as u8][..], &payload].concat();
            let Ok(found) = SequenceHeader::parse(&obu) else { return Ok(()) };
            let wanted = SequenceHeader {
                seq_level_idx: level,
                color_primaries: 9,
                chroma_sample_position: 1,
                ..found.clone()
            };
            let Ok(agreed) = with_agreed(&obu, &wanted) else { return Ok(()) };
            let read = SequenceHeader::parse(&agreed).unwrap();
            prop_assert_eq!(read.seq_level_idx, found.seq_level_idx.max(level));
            prop_assert_eq!((read.max_frame_width, read.bit_depth), (found.max_frame_width, found.bit_depth));
            if found.color_primaries == 2 {
                prop_assert_eq!(read.color_primaries, 9);
            }
        }
    }
}
