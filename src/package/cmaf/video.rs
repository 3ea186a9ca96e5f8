//! The initialization segment of an AV1 track (AV1 Codec ISO Media File Format Binding 1.3.0).
//! All that it says of the pictures comes from one sequence header; what the segments hold must
//! agree with that one, which is for the caller to check.

use mp4_atom::{Av01, Av1c, Codec, Colr, Pasp, Tkhd, Visual, Vmhd};

use super::CmafError;
use super::init::{Track, init_segment};
use crate::media::av1::SequenceHeader;

/// An AV1 track. Its size is that of the sequence header, with square samples.
#[derive(Clone, Copy, Debug)]
pub struct VideoTrack<'a> {
    /// Ticks a second.
    pub timescale: u32,
    /// A whole sequence header OBU, with its size field.
    pub sequence_header_obu: &'a [u8],
}

/// `ftyp` and `moov` of an AV1 track.
///
/// A `colr` box of type `nclx` is always written, as the binding asks for (2.3.4), also where the
/// header leaves colour unspecified: without it the `codecs` string would have to claim BT.709.
/// `initial_presentation_delay` is left out: it counts samples, and is known only after a run of
/// the decoder model over all of them.
pub fn video_init(track: &VideoTrack<'_>) -> Result<Vec<u8>, CmafError> {
    let header = SequenceHeader::parse(track.sequence_header_obu)?;
    let (width, height) = (header.max_frame_width, header.max_frame_height);
    let too_large = |_| CmafError::PictureSize { width, height };
    let visual_width = u16::try_from(width).map_err(too_large)?;
    let visual_height = u16::try_from(height).map_err(too_large)?;
    let sample_entry = Av01 {
        visual: Visual {
            data_reference_index: 1,
            width: visual_width,
            height: visual_height,
            // The name that the binding recommends (2.2.4).
            compressor: "AOM Coding".into(),
            ..Visual::default()
        },
        av1c: Av1c {
            seq_profile: header.seq_profile,
            seq_level_idx_0: header.seq_level_idx,
            seq_tier_0: header.seq_tier,
            high_bitdepth: header.bit_depth > 8,
            twelve_bit: header.bit_depth == 12,
            monochrome: header.mono_chrome,
            chroma_subsampling_x: header.subsampling_x,
            chroma_subsampling_y: header.subsampling_y,
            chroma_sample_position: header.chroma_sample_position,
            initial_presentation_delay: None,
            config_obus: track.sequence_header_obu.to_vec(),
        },
        btrt: None,
        ccst: None,
        colr: Some(Colr::Nclx {
            colour_primaries: header.color_primaries.into(),
            transfer_characteristics: header.transfer_characteristics.into(),
            matrix_coefficients: header.matrix_coefficients.into(),
            full_range_flag: header.color_range,
        }),
        pasp: Some(Pasp { h_spacing: 1, v_spacing: 1 }),
        taic: None,
        spatial: None,
    };
    init_segment(Track {
        brand: b"av01",
        timescale: track.timescale,
        language: None,
        tkhd: Tkhd { width: visual_width.into(), height: visual_height.into(), ..Tkhd::default() },
        edits: None,
        handler: b"vide",
        handler_name: "Video",
        media_header: Vmhd::default(),
        sample_entry: Codec::Av01(sample_entry),
        sample_group: None,
    })
}
