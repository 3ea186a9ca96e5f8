//! Which packets of VP9 show a picture. A packet may hold several frames, and some only to be
//! referred to.

/// Whether a frame of the packet is shown (VP9 bitstream specification 7.2 and Annex B).
pub(super) fn shows_a_picture(packet: &[u8]) -> bool {
    frames(packet).any(is_shown)
}

fn is_shown(frame: &[u8]) -> bool {
    let Some(&first) = frame.first() else { return false };
    let bit = |number: u8| first >> (7 - number) & 1;
    let profile = bit(2) | bit(3) << 1;
    // A reserved bit follows in profile 3.
    let next = if profile == 3 { 5 } else { 4 };
    let show_existing_frame = bit(next) == 1;
    show_existing_frame || bit(next + 2) == 1
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

    #[test]
    fn single_frames() {
        assert!(shows_a_picture(&[SHOWN, 1, 2]));
        assert!(!shows_a_picture(&[HIDDEN, 1, 2]));
        assert!(shows_a_picture(&[0b1000_1000]), "shows an existing frame");
        assert!(shows_a_picture(&[0b1001_0010]), "profile 2");
        assert!(shows_a_picture(&[0b1011_0001]) && !shows_a_picture(&[0b1011_0010]), "profile 3");
        assert!(!shows_a_picture(&[]));
    }

    #[test]
    fn frames_in_one_packet() {
        const TWO: u8 = 0b1100_0001;
        assert!(shows_a_picture(&[HIDDEN, 5, SHOWN, 6, 7, TWO, 2, 3, TWO]));
        assert!(!shows_a_picture(&[HIDDEN, 5, HIDDEN, 6, 7, TWO, 2, 3, TWO]));
        assert!(!shows_a_picture(&[HIDDEN, 5, TWO]), "too short for an index");
        assert!(!shows_a_picture(&[HIDDEN, 5, TWO, 200, 3, TWO]), "sizes beyond the end");
    }
}
