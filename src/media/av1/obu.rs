//! Walks the open bitstream units of a temporal unit, in the low-overhead format (AV1 5.2), and
//! makes of it a sample as the AV1 binding to ISO-BMFF wants it. Trusts no length it reads, and
//! looks into no payload but the first bits of a frame header.

use scuffle_av1::ObuHeader;
pub use scuffle_av1::ObuType;

/// One open bitstream unit: a view into the temporal unit it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obu<'a> {
    pub kind: ObuType,
    /// Whether the unit carries its own size; only the last of a temporal unit may lack it.
    pub has_size: bool,
    /// The whole unit: header, size field and payload.
    pub bytes: &'a [u8],
    pub payload: &'a [u8],
}

/// A temporal unit that is not a sequence of OBUs. Offsets count bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObuError {
    #[error("the OBU at byte {offset} is cut short")]
    Truncated { offset: usize },
    #[error("byte {offset} is not the start of an OBU: its forbidden bit is set")]
    ForbiddenBit { offset: usize },
    #[error("the size field of the OBU at byte {offset} is not a valid leb128 number")]
    BadSize { offset: usize },
    #[error("the OBU at byte {offset} claims {claimed} bytes of payload where {available} are left")]
    PastEnd { offset: usize, claimed: u64, available: usize },
    #[error("the sequence header at byte {offset} has no size field")]
    UnsizedSequenceHeader { offset: usize },
    #[error("the OBU at byte {offset} is a tile list, which ISO-BMFF cannot carry")]
    TileList { offset: usize },
}

/// The OBUs of `temporal_unit`, in order. After an error the walk ends.
pub fn obus(temporal_unit: &[u8]) -> Obus<'_> {
    Obus { data: temporal_unit, offset: 0 }
}

/// The iterator that [`obus`] returns.
#[derive(Clone, Debug)]
pub struct Obus<'a> {
    data: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Obus<'a> {
    type Item = Result<Obu<'a>, ObuError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.data.get(self.offset..).filter(|rest| !rest.is_empty())?;
        match first_obu(rest, self.offset) {
            Ok(obu) => {
                self.offset += obu.bytes.len();
                Some(Ok(obu))
            }
            Err(error) => {
                self.offset = self.data.len();
                Some(Err(error))
            }
        }
    }
}

/// Takes the first OBU off `data`, which begins `offset` bytes into its temporal unit.
fn first_obu(data: &[u8], offset: usize) -> Result<Obu<'_>, ObuError> {
    const FORBIDDEN_BIT: u8 = 0x80;
    if data[0] & FORBIDDEN_BIT != 0 {
        return Err(ObuError::ForbiddenBit { offset });
    }
    let mut rest = data;
    let header = ObuHeader::parse(&mut rest).map_err(|_| ObuError::Truncated { offset })?;
    let header_len = data.len() - rest.len();
    let payload_len = match header.size {
        // Without a size field the unit fills what is left (AV1 5.3.1).
        None => rest.len(),
        Some(claimed) => {
            // leb128() ends within 8 bytes and fits 32 bits (AV1 4.10.5).
            if data[header_len - 1] & 0x80 != 0 || claimed > u64::from(u32::MAX) {
                return Err(ObuError::BadSize { offset });
            }
            usize::try_from(claimed).ok().filter(|&len| len <= rest.len()).ok_or(ObuError::PastEnd {
                offset,
                claimed,
                available: rest.len(),
            })?
        }
    };
    Ok(Obu {
        kind: header.obu_type,
        has_size: header.size.is_some(),
        bytes: &data[..header_len + payload_len],
        payload: &rest[..payload_len],
    })
}

/// The sample that stands for a temporal unit in ISO-BMFF: the same OBUs without those that the
/// binding says should not be there, temporal delimiters, padding and redundant frame headers
/// (AV1-in-ISOBMFF 2.4). A tile list, which shall not be there, is an error.
pub fn to_sample(temporal_unit: &[u8]) -> Result<Vec<u8>, ObuError> {
    let mut sample = Vec::with_capacity(temporal_unit.len());
    let mut offset = 0;
    for obu in obus(temporal_unit) {
        let obu = obu?;
        match obu.kind {
            ObuType::TemporalDelimiter | ObuType::Padding | ObuType::RedundantFrameHeader => {}
            ObuType::TileList => return Err(ObuError::TileList { offset }),
            _ => sample.extend_from_slice(obu.bytes),
        }
        offset += obu.bytes.len();
    }
    Ok(sample)
}

/// The first sequence header OBU, whole, as `configOBUs` of `av1C` takes it (AV1-in-ISOBMFF
/// 2.3.4, which asks for a size field). `None` where the temporal unit has none.
pub fn sequence_header_obu(temporal_unit: &[u8]) -> Result<Option<&[u8]>, ObuError> {
    let mut offset = 0;
    for obu in obus(temporal_unit) {
        let obu = obu?;
        if obu.kind == ObuType::SequenceHeader {
            return match obu.has_size {
                true => Ok(Some(obu.bytes)),
                false => Err(ObuError::UnsizedSequenceHeader { offset }),
            };
        }
        offset += obu.bytes.len();
    }
    Ok(None)
}

/// Whether decoding can start here, so that the sample may be marked sync: a sequence header
/// stands before the first frame header, and that frame is a key frame which is shown
/// (AV1-in-ISOBMFF 2.4).
pub fn is_random_access_point(temporal_unit: &[u8]) -> Result<bool, ObuError> {
    let mut reduced_still_picture_header = None;
    let mut offset = 0;
    for obu in obus(temporal_unit) {
        let obu = obu?;
        match obu.kind {
            ObuType::SequenceHeader => {
                // seq_profile f(3), still_picture f(1), reduced_still_picture_header f(1).
                let first = obu.payload.first().ok_or(ObuError::Truncated { offset })?;
                reduced_still_picture_header = Some(first & 0b0000_1000 != 0);
            }
            ObuType::Frame | ObuType::FrameHeader => {
                let Some(reduced) = reduced_still_picture_header else {
                    return Ok(false);
                };
                // show_existing_frame f(1), frame_type f(2), show_frame f(1) (AV1 5.9.2); a
                // reduced header has none of them and stands for a key frame that is shown.
                let first = obu.payload.first().ok_or(ObuError::Truncated { offset })?;
                return Ok(reduced || first >> 4 == 0b0001);
            }
            _ => {}
        }
        offset += obu.bytes.len();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::av1::test_stream;

    const DELIMITER: [u8; 2] = [0x12, 0x00];

    /// An OBU of `kind` with a size field.
    fn obu(kind: u8, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() < 128);
        [&[kind << 3 | 0b10, payload.len() as u8], payload].concat()
    }

    #[test]
    fn a_sample_lacks_what_the_binding_leaves_out() {
        let kept = [obu(1, &[1, 2]), obu(5, &[3]), obu(6, &[4, 5, 6]), obu(9, &[7])].concat();
        let unit = [
            DELIMITER.to_vec(),
            obu(1, &[1, 2]),
            obu(5, &[3]),
            obu(6, &[4, 5, 6]),
            obu(7, &[0]),
            obu(9, &[7]),
            obu(15, &[0; 20]),
        ]
        .concat();
        assert_eq!(to_sample(&unit), Ok(kept));
        let tile_list = [DELIMITER.to_vec(), obu(8, &[0])].concat();
        assert_eq!(to_sample(&tile_list), Err(ObuError::TileList { offset: 2 }));
        assert_eq!(to_sample(&[]), Ok(Vec::new()));
    }

    #[test]
    fn the_last_obu_may_lack_its_size() {
        let unit = [&DELIMITER[..], &[6 << 3, 9, 9, 9]].concat();
        let found: Vec<_> = obus(&unit).collect::<Result<_, _>>().unwrap();
        assert_eq!(found[1].payload, [9, 9, 9]);
        assert!(!found[1].has_size);
        let unsized_header = [&DELIMITER[..], &[1 << 3, 9]].concat();
        assert_eq!(sequence_header_obu(&unsized_header), Err(ObuError::UnsizedSequenceHeader { offset: 2 }));
    }

    #[test]
    fn extension_headers_and_long_sizes_are_read() {
        // A size may be padded with continuation bytes (AV1 4.10.5).
        let unit = [0b0011_0110, 0b0010_0000, 0x82, 0x80, 0x00, 0xaa, 0xbb];
        let found: Vec<_> = obus(&unit).collect::<Result<_, _>>().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, ObuType::Frame);
        assert_eq!(found[0].payload, [0xaa, 0xbb]);
    }

    #[test]
    fn garbled_units_are_errors() {
        let error = |data: &[u8]| obus(data).find_map(Result::err);
        assert_eq!(error(&[0x80]), Some(ObuError::ForbiddenBit { offset: 0 }));
        assert_eq!(error(&[0x32]), Some(ObuError::Truncated { offset: 0 }));
        assert_eq!(error(&[0x12, 0, 0x36]), Some(ObuError::Truncated { offset: 2 }));
        assert_eq!(error(&[0x32, 5, 1, 2]), Some(ObuError::PastEnd { offset: 0, claimed: 5, available: 2 }));
        let endless = [&[0x32][..], &[0x80; 8], &[0; 8]].concat();
        assert_eq!(error(&endless), Some(ObuError::BadSize { offset: 0 }));
        let huge = [0x32, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
        assert_eq!(error(&huge), Some(ObuError::BadSize { offset: 0 }));
        // The walk ends at an error rather than resuming in the middle of a unit.
        assert_eq!(obus(&[0x80, 0x12, 0x00]).count(), 1);
    }

    #[test]
    fn encoders_streams_are_understood() {
        for encoder in test_stream::ENCODERS {
            for unit in test_stream::encode(encoder, "-g 8", 20, "yuv420p") {
                assert_eq!(is_random_access_point(&unit.data), Ok(unit.key), "{encoder}");
                let header = sequence_header_obu(&unit.data).unwrap();
                assert!(header.is_some() || !unit.key);
                let sample = to_sample(&unit.data).unwrap();
                assert!(obus(&sample).all(|obu| obu.unwrap().kind != ObuType::TemporalDelimiter));
                assert_eq!(sequence_header_obu(&sample).unwrap(), header);
                assert_eq!(is_random_access_point(&sample), Ok(unit.key));
            }
        }
    }

    proptest! {
        #[test]
        fn no_input_panics_and_obus_tile_it(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut covered = 0;
            let mut failed = false;
            for obu in obus(&data) {
                match obu {
                    Ok(obu) => covered += obu.bytes.len(),
                    Err(_) => failed = true,
                }
            }
            prop_assert!(failed || covered == data.len());
            let tile_list = obus(&data).flatten().any(|obu| obu.kind == ObuType::TileList);
            prop_assert_eq!(to_sample(&data).is_err(), failed || tile_list);
            let _ = sequence_header_obu(&data);
            let _ = is_random_access_point(&data);
        }
    }
}
