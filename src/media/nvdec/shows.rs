//! What a packet of VP9 or AV1 shows. It may hold several frames, of which all but one are only
//! referred to, and it may show a picture that an earlier packet has brought.

use crate::media::av1::{self, ObuType};
use crate::nvidia::Codec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Nothing,
    /// A picture that is in it. Those of other codecs than these always show one.
    New,
    /// A picture that was decoded before.
    Existing,
    Several,
}

impl Shows {
    pub fn of(codec: Codec, packet: &[u8]) -> Shows {
        match codec {
            Codec::H264 | Codec::Hevc => Shows::New,
            Codec::Vp9 => Shows::one_of(frames(packet).map(vp9_frame)),
            Codec::Av1 => Shows::one_of(av1_frames(packet)),
        }
    }

    fn one_of(frames: impl Iterator<Item = Shows>) -> Shows {
        let mut shown = frames.filter(|&frame| frame != Shows::Nothing);
        let first = shown.next().unwrap_or(Shows::Nothing);
        if shown.next().is_some() { Shows::Several } else { first }
    }

    fn flagged(existing: bool, shown: bool) -> Shows {
        match (existing, shown) {
            (true, _) => Shows::Existing,
            (false, true) => Shows::New,
            (false, false) => Shows::Nothing,
        }
    }
}

/// The frame headers of a temporal unit (AV1 5.9.2). One that cannot be read shows a picture, if any
/// decoder can read it.
fn av1_frames(packet: &[u8]) -> impl Iterator<Item = Shows> {
    av1::obus(packet).filter_map(|obu| match obu {
        Ok(obu) if matches!(obu.kind, ObuType::Frame | ObuType::FrameHeader) => {
            let first = obu.payload.first().copied().unwrap_or_default();
            Some(Shows::flagged(first >> 7 == 1, first >> 4 & 1 == 1))
        }
        Ok(_) => None,
        Err(_) => Some(Shows::New),
    })
}

/// A frame of VP9, by its uncompressed header (VP9 bitstream specification 6.2).
fn vp9_frame(frame: &[u8]) -> Shows {
    let Some(&first) = frame.first() else { return Shows::Nothing };
    let bit = |number: u8| first >> (7 - number) & 1;
    let profile = bit(2) | bit(3) << 1;
    // A reserved bit follows in profile 3.
    let next = if profile == 3 { 5 } else { 4 };
    Shows::flagged(bit(next) == 1, bit(next + 2) == 1)
}

/// The frames of a packet: one, or as many as the index at its end tells.
fn frames(packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    let sizes = superframe_index(packet).unwrap_or_else(|| vec![packet.len()]);
    let mut rest = packet;
    sizes.into_iter().map(move |size| {
        let (frame, behind) = rest.split_at(size.min(rest.len()));
        rest = behind;
        frame
    })
}

fn superframe_index(packet: &[u8]) -> Option<Vec<usize>> {
    let &marker = packet.last()?;
    if marker & 0b1110_0000 != 0b1100_0000 {
        return None;
    }
    let bytes = usize::from(marker >> 3 & 0b11) + 1;
    let frames = usize::from(marker & 0b111) + 1;
    let index = packet.len().checked_sub(2 + bytes * frames).and_then(|start| packet.get(start..))?;
    if index[0] != marker {
        return None;
    }
    let size = |digits: &[u8]| digits.iter().rev().fold(0, |size, &digit| size << 8 | usize::from(digit));
    Some(index[1..1 + bytes * frames].chunks_exact(bytes).map(size).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Frame marker, profile 0, no existing frame, a key frame, shown or not.
    const SHOWN: u8 = 0b1000_0010;
    const HIDDEN: u8 = 0b1000_0000;
    const EXISTING: u8 = 0b1000_1000;

    fn vp9(packet: &[u8]) -> Shows {
        Shows::of(Codec::Vp9, packet)
    }

    #[test]
    fn single_frames_of_vp9() {
        assert_eq!(vp9(&[SHOWN, 1, 2]), Shows::New);
        assert_eq!(vp9(&[HIDDEN, 1, 2]), Shows::Nothing);
        assert_eq!(vp9(&[EXISTING]), Shows::Existing);
        assert_eq!(vp9(&[0b1001_0010]), Shows::New, "profile 2");
        assert_eq!([vp9(&[0b1011_0001]), vp9(&[0b1011_0010])], [Shows::New, Shows::Nothing], "profile 3");
        assert_eq!(vp9(&[]), Shows::Nothing);
    }

    #[test]
    fn several_frames_of_vp9_in_one_packet() {
        const TWO: u8 = 0b1100_0001;
        assert_eq!(vp9(&[HIDDEN, 5, SHOWN, 6, 7, TWO, 2, 3, TWO]), Shows::New);
        assert_eq!(vp9(&[HIDDEN, 5, EXISTING, TWO, 2, 1, TWO]), Shows::Existing);
        assert_eq!(vp9(&[HIDDEN, 5, HIDDEN, 6, 7, TWO, 2, 3, TWO]), Shows::Nothing);
        assert_eq!(vp9(&[SHOWN, 5, SHOWN, 6, 7, TWO, 2, 3, TWO]), Shows::Several);
        assert_eq!(vp9(&[HIDDEN, 5, TWO]), Shows::Nothing, "too short for an index");
        assert_eq!(vp9(&[HIDDEN, 5, TWO, 200, 3, TWO]), Shows::Nothing, "sizes beyond the end");
    }

    #[test]
    fn temporal_units_of_av1() {
        let obu = |kind: u8, first: u8| [kind << 3 | 0b10, 2, first, 0];
        let (header, frame) = (3, 6);
        let av1 = |obus: &[[u8; 4]]| Shows::of(Codec::Av1, &obus.concat());
        assert_eq!(av1(&[obu(frame, 0b0001_0000)]), Shows::New);
        assert_eq!(av1(&[obu(frame, 0b0010_0000), obu(frame, 0b0011_0000)]), Shows::New);
        assert_eq!(av1(&[obu(frame, 0b0010_0000), obu(header, 0b1000_0000)]), Shows::Existing);
        assert_eq!(av1(&[obu(frame, 0b0010_0000)]), Shows::Nothing);
        assert_eq!(av1(&[[0xff; 4]]), Shows::New, "what cannot be read is for the decoder to judge");
    }
}
