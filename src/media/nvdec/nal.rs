//! Whether a stream can be entered at a packet of H.264 or HEVC, so that every picture shown from
//! there on is whole at once. libavcodec holds others back; a GPU does not.

/// H.264 (ITU-T H.264 7.4.1.2.4 and D.2.8): an IDR picture, or a recovery point that needs no
/// picture to recover. `packet` is of the byte stream (Annex B).
pub(super) fn h264_enters_at_once(packet: &[u8]) -> bool {
    const IDR_SLICE: u8 = 5;
    const SEI: u8 = 6;
    units(packet).any(|unit| match unit.first().map(|header| header & 0x1f) {
        Some(IDR_SLICE) => true,
        Some(SEI) => recovery_frame_count_is_zero(&unit[1..]),
        _ => false,
    })
}

/// HEVC (ITU-T H.265 7.4.2.2): an intra random access point. `packet` is of the byte stream.
pub(super) fn hevc_enters_at_once(packet: &[u8]) -> bool {
    const FIRST_NOT_OF_PICTURES: u8 = 32;
    let kinds = units(packet).filter_map(|unit| unit.first().map(|header| header >> 1 & 0x3f));
    let mut pictures = kinds.filter(|&kind| kind < FIRST_NOT_OF_PICTURES).peekable();
    pictures.peek().is_some() && pictures.all(|kind| (16..=23).contains(&kind))
}

/// The NAL units of a piece of the byte stream, without start codes.
fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let start = start_code(rest)? + 3;
        let behind = &rest[start..];
        let end = start_code(behind).unwrap_or(behind.len());
        rest = &behind[end..];
        Some(&behind[..end])
    })
}

fn start_code(stream: &[u8]) -> Option<usize> {
    stream.windows(3).position(|bytes| bytes == [0, 0, 1])
}

/// Whether one of the messages (D.1.1) is a recovery point whose count is 0, which is a single bit.
/// Bytes that keep start codes from arising would only come behind it, or in other messages; where
/// those are thereby misread the answer is no.
fn recovery_frame_count_is_zero(mut messages: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;
    loop {
        let (Some(kind), Some(size)) = (number(&mut messages), number(&mut messages)) else { return false };
        if kind == RECOVERY_POINT {
            return messages.first().is_some_and(|first| first & 0x80 != 0);
        }
        let Some(behind) = messages.get(size..) else { return false };
        messages = behind;
    }
}

/// A number in as many bytes as it takes, each but the last being 255.
fn number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    loop {
        let (&first, rest) = bytes.split_first()?;
        *bytes = rest;
        number += usize::from(first);
        if first != 255 {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h264() {
        let idr = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 0x88];
        assert!(h264_enters_at_once(&idr));
        let recovered = [0, 0, 1, 6, 6, 1, 0xc4, 0x80, 0, 0, 1, 0x41, 0x9a];
        assert!(h264_enters_at_once(&recovered));
        let behind_another_message = [0, 0, 1, 6, 5, 2, 7, 7, 6, 1, 0xc4, 0x80, 0, 0, 1, 0x41, 0x9a];
        assert!(h264_enters_at_once(&behind_another_message));
        let builds_up = [0, 0, 1, 6, 6, 2, 0x08, 0x48, 0x80, 0, 0, 1, 0x41, 0x9a];
        assert!(!h264_enters_at_once(&builds_up));
        assert!(!h264_enters_at_once(&[0, 0, 1, 0x41, 0x9a]), "says nothing of recovery");
        assert!(!h264_enters_at_once(&[0, 0, 1, 6, 255, 255]) && !h264_enters_at_once(&[]));
    }

    #[test]
    fn hevc() {
        let header = |kind: u8| kind << 1;
        let cra = [0, 0, 1, header(32), 1, 7, 0, 0, 1, header(21), 1, 7, 0, 0, 1, header(21), 1, 7];
        assert!(hevc_enters_at_once(&cra));
        assert!(!hevc_enters_at_once(&[0, 0, 1, header(1), 1, 7]));
        assert!(!hevc_enters_at_once(&[0, 0, 1, header(39), 1, 7]), "no picture");
    }
}
