//! A sequence header as the bits that it is written in, with the places of what may be put right
//! there (AV1 5.5). It walks past everything else without a look at what it means.

use std::ops::Range;

use super::obu::{ObuType, obus};
use super::sequence_header::SequenceHeaderError;

/// Levels above this one have a tier (AV1 5.5.1): 7 is level 3.3.
const LAST_WITHOUT_TIER: u8 = 7;

/// The payload of a sequence header OBU, most significant bit first, without what ends it. The header
/// of a still picture is none.
pub(super) struct HeaderBits {
    bits: Vec<bool>,
    /// `seq_level_idx` of the first operating point, and `seq_tier` where there is one.
    level: Range<usize>,
    /// From `color_description_present_flag` through `matrix_coefficients`, if that are there.
    description: Range<usize>,
    /// `chroma_sample_position`; empty where the format has none.
    chroma_position: Range<usize>,
}

impl HeaderBits {
    pub(super) fn parse(obu: &[u8]) -> Result<HeaderBits, SequenceHeaderError> {
        let unit = obus(obu).next().ok_or_else(garbled)??;
        let mut bits: Vec<bool> =
            unit.payload.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
        let (level, description, chroma_position) = places(&bits).ok_or_else(garbled)?;
        // A one and zeros end the payload (AV1 5.3.4).
        bits.truncate(bits.iter().rposition(|&bit| bit).ok_or_else(garbled)?);
        if chroma_position.end > bits.len() {
            return Err(garbled());
        }
        Ok(HeaderBits { bits, level, description, chroma_position })
    }

    /// Sets level and tier of the first operating point.
    pub(super) fn set_level(&mut self, seq_level_idx: u8, seq_tier: bool) {
        let mut level = bits_of(seq_level_idx, 5);
        if seq_level_idx > LAST_WITHOUT_TIER {
            level.push(seq_tier);
        }
        let moved =
            |range: &Range<usize>, from: usize, to: usize| range.start - from + to..range.end - from + to;
        let (before, after) = (self.level.end, self.level.start + level.len());
        self.description = moved(&self.description, before, after);
        self.chroma_position = moved(&self.chroma_position, before, after);
        self.bits.splice(self.level.clone(), level);
        self.level.end = after;
    }

    /// Describes the colours by these code points of ITU-T H.273: primaries, transfer, matrix.
    pub(super) fn set_description(&mut self, code_points: [u8; 3]) {
        let mut description = vec![true];
        description.extend(code_points.into_iter().flat_map(|point| bits_of(point, 8)));
        let (before, after) = (self.description.end, self.description.start + description.len());
        let chroma = &self.chroma_position;
        self.chroma_position = chroma.start - before + after..chroma.end - before + after;
        self.bits.splice(self.description.clone(), description);
        self.description.end = after;
    }

    /// Sets `chroma_sample_position`, where the format has one.
    pub(super) fn set_chroma_position(&mut self, position: u8) {
        if !self.chroma_position.is_empty() {
            self.bits.splice(self.chroma_position.clone(), bits_of(position, 2));
        }
    }

    /// The OBU again, with its header and size.
    pub(super) fn into_obu(mut self) -> Result<Vec<u8>, SequenceHeaderError> {
        self.bits.push(true);
        let payload = self.bits.chunks(8).map(|byte| {
            byte.iter().enumerate().fold(0, |value, (place, &bit)| value | u8::from(bit) << (7 - place))
        });
        let payload: Vec<u8> = payload.collect();
        // A header without extension, with a size field of one byte: no sequence header needs more.
        let size = u8::try_from(payload.len()).ok().filter(|&size| size < 128).ok_or_else(garbled)?;
        let header = [u8::from(ObuType::SequenceHeader) << 3 | 0b10, size];
        Ok([&header[..], &payload].concat())
    }
}

fn garbled() -> SequenceHeaderError {
    SequenceHeaderError::Garbled { reason: "it ends too early, or is that of a still picture".to_owned() }
}

/// The last `count` bits of a value.
fn bits_of(value: u8, count: u32) -> Vec<bool> {
    (0..count).rev().map(|bit| value >> bit & 1 == 1).collect()
}

/// Reads bits one after the other.
struct Walk<'b> {
    bits: &'b [bool],
    at: usize,
}

impl Walk<'_> {
    fn flag(&mut self) -> Option<bool> {
        self.number(1).map(|bit| bit == 1)
    }

    /// f(n)
    fn number(&mut self, count: usize) -> Option<usize> {
        let bits = self.bits.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bits.iter().fold(0, |value, &bit| value << 1 | usize::from(bit)))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|&at| at <= self.bits.len())?;
        Some(())
    }
}

/// Where level, colour description and chroma position lie (AV1 5.5.1 to 5.5.2). `None` where the
/// header is cut short, or is that of a still picture.
fn places(bits: &[bool]) -> Option<(Range<usize>, Range<usize>, Range<usize>)> {
    let mut walk = Walk { bits, at: 0 };
    let seq_profile = walk.number(3)?;
    // still_picture
    walk.skip(1)?;
    let reduced_still_picture_header = walk.flag()?;
    if reduced_still_picture_header {
        return None;
    }
    let timing_info_present = walk.flag()?;
    let mut buffer_delay_length = None;
    if timing_info_present {
        // num_units_in_display_tick f(32), time_scale f(32).
        walk.skip(64)?;
        let equal_picture_interval = walk.flag()?;
        if equal_picture_interval {
            // num_ticks_per_picture_minus_1 uvlc(): as many zeros, a one, as many bits (4.10.3).
            let zeros = bits.get(walk.at..)?.iter().position(|&bit| bit)?;
            walk.skip(2 * zeros + 1)?;
        }
        let decoder_model_info_present = walk.flag()?;
        if decoder_model_info_present {
            buffer_delay_length = Some(walk.number(5)? + 1);
            // num_units_in_decoding_tick f(32), buffer_removal_time_length_minus_1 f(5),
            // frame_presentation_time_length_minus_1 f(5).
            walk.skip(42)?;
        }
    }
    let initial_display_delay_present = walk.flag()?;
    let operating_points = walk.number(5)? + 1;
    let mut level = None;
    for _ in 0..operating_points {
        // operating_point_idc
        walk.skip(12)?;
        let start = walk.at;
        let seq_level_idx = walk.number(5)?;
        if seq_level_idx > usize::from(LAST_WITHOUT_TIER) {
            walk.skip(1)?;
        }
        level.get_or_insert(start..walk.at);
        if let Some(length) = buffer_delay_length {
            let decoder_model_present_for_this_op = walk.flag()?;
            if decoder_model_present_for_this_op {
                // decoder_buffer_delay f(n), encoder_buffer_delay f(n), low_delay_mode_flag f(1).
                walk.skip(2 * length + 1)?;
            }
        }
        if initial_display_delay_present && walk.flag()? {
            walk.skip(4)?;
        }
    }
    let frame_width_bits = walk.number(4)? + 1;
    let frame_height_bits = walk.number(4)? + 1;
    walk.skip(frame_width_bits + frame_height_bits)?;
    let frame_id_numbers_present = walk.flag()?;
    if frame_id_numbers_present {
        // delta_frame_id_length_minus_2 f(4), additional_frame_id_length_minus_1 f(3).
        walk.skip(7)?;
    }
    // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter,
    // enable_interintra_compound, enable_masked_compound, enable_warped_motion, enable_dual_filter.
    walk.skip(7)?;
    let enable_order_hint = walk.flag()?;
    if enable_order_hint {
        // enable_jnt_comp, enable_ref_frame_mvs.
        walk.skip(2)?;
    }
    let seq_choose_screen_content_tools = walk.flag()?;
    let seq_force_screen_content_tools = seq_choose_screen_content_tools || walk.flag()?;
    if seq_force_screen_content_tools {
        let seq_choose_integer_mv = walk.flag()?;
        if !seq_choose_integer_mv {
            walk.skip(1)?;
        }
    }
    if enable_order_hint {
        // order_hint_bits_minus_1
        walk.skip(3)?;
    }
    // enable_superres, enable_cdef, enable_restoration.
    walk.skip(3)?;
    let (description, chroma_position) = color_config(&mut walk, seq_profile)?;
    Some((level?, description, chroma_position))
}

/// Where the description and the chroma position lie in a colour configuration (AV1 5.5.2).
fn color_config(walk: &mut Walk<'_>, seq_profile: usize) -> Option<(Range<usize>, Range<usize>)> {
    let high_bitdepth = walk.flag()?;
    let twelve_bit = seq_profile == 2 && high_bitdepth && walk.flag()?;
    let mono_chrome = seq_profile != 1 && walk.flag()?;
    let start = walk.at;
    let color_description_present = walk.flag()?;
    let code_points = match color_description_present {
        true => [walk.number(8)?, walk.number(8)?, walk.number(8)?],
        false => [2; 3],
    };
    let description = start..walk.at;
    let none = |at: usize| Some((description.clone(), at..at));
    // sRGB: 4:4:4 of full range.
    if code_points == [1, 13, 0] {
        return none(walk.at);
    }
    // color_range
    walk.skip(1)?;
    if mono_chrome {
        return none(walk.at);
    }
    let (subsampling_x, subsampling_y) = match seq_profile {
        0 => (true, true),
        1 => (false, false),
        _ if twelve_bit => {
            let subsampling_x = walk.flag()?;
            (subsampling_x, subsampling_x && walk.flag()?)
        }
        _ => (true, false),
    };
    if !(subsampling_x && subsampling_y) {
        return none(walk.at);
    }
    let start = walk.at;
    walk.skip(2)?;
    Some((description, start..walk.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(text: &str) -> Option<usize> {
        let bits: Vec<bool> = text.bytes().filter(|byte| *byte != b' ').map(|byte| byte == b'1').collect();
        places(&bits).map(|(level, ..)| level.start)
    }

    #[test]
    fn timing_and_a_decoder_model_are_passed_over() {
        let point = "000000000000 01000 0";
        // A picture of 2x2; no tools; 8 bits, nothing said of colours; then the end.
        let rest = "0000 0000 1 1 0 0000000 0 0 0 000 0 0 0 0 00 0 0 1";
        let ticks = "0".repeat(64);
        assert_eq!(level(&format!("000 0 0 0 0 00000 {point} {rest}")), Some(24));
        assert_eq!(level(&format!("000 0 0 1 {ticks} 0 0 0 00000 {point} {rest}")), Some(90));
        assert_eq!(level(&format!("000 0 0 1 {ticks} 1 00101 0 0 00000 {point} {rest}")), Some(95));
        let model = format!("00001 {}", "0".repeat(42));
        let with_model = format!("{point} 1 11 11 0");
        assert_eq!(level(&format!("000 0 0 1 {ticks} 0 1 {model} 0 00000 {with_model} {rest}")), Some(137));
        // Two operating points, with delays.
        assert_eq!(level(&format!("000 0 0 0 1 00001 {point} 1 0011 {point} 0 {rest}")), Some(24));
        assert_eq!(level("000 1 1 01000"), None, "the header of a still picture");
        assert_eq!(level("000 0 0 0 0 00000 0000"), None, "cut short");
    }
}
