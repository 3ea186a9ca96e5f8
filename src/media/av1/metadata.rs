//! Metadata OBUs (AV1 5.8): what a display needs to know of a film in high dynamic range. Written
//! here for every encoder alike, after the sequence header of each chunk.

use super::obu::{ObuType, obus};
use super::sequence_header::SequenceHeaderError;
use crate::media::HdrMetadata;

/// metadata_type (AV1 6.7.1).
const HDR_CLL: u8 = 1;
const HDR_MDCV: u8 = 2;

/// The OBUs that say it.
fn metadata_obus(hdr: &HdrMetadata) -> Vec<u8> {
    let mut obus = Vec::new();
    let mut add = |kind: u8, payload: &[u8]| {
        // With a size field; behind the payload a one and zeros (AV1 5.3.4). The type and the size
        // are numbers of one byte.
        let header = u8::from(ObuType::Metadata) << 3 | 0b10;
        obus.extend([header, payload.len() as u8 + 2, kind]);
        obus.extend_from_slice(payload);
        obus.push(0x80);
    };
    if let Some(light) = &hdr.content_light {
        add(HDR_CLL, &[light.max_cll.to_be_bytes(), light.max_fall.to_be_bytes()].concat());
    }
    if let Some(display) = &hdr.mastering {
        let points = display.primaries.iter().chain([&display.white_point]).flatten();
        let mut payload: Vec<u8> = points.flat_map(|value| value.to_be_bytes()).collect();
        payload.extend(display.max_luminance.to_be_bytes());
        payload.extend(display.min_luminance.to_be_bytes());
        add(HDR_MDCV, &payload);
    }
    obus
}

/// `unit` with the metadata behind its first sequence header.
pub fn with_hdr(unit: &[u8], hdr: &HdrMetadata) -> Result<Vec<u8>, SequenceHeaderError> {
    let metadata = metadata_obus(hdr);
    let mut made = Vec::with_capacity(unit.len() + metadata.len());
    let mut rest = metadata.as_slice();
    for obu in obus(unit) {
        let obu = obu?;
        made.extend_from_slice(obu.bytes);
        if obu.kind == ObuType::SequenceHeader {
            made.extend_from_slice(std::mem::take(&mut rest));
        }
    }
    Ok(made)
}
