//! AV1 in ISO-BMFF (AV1 Codec ISO Media File Format Binding 1.3.0): what all segments of a rung must agree
//! in, because they share one `av1C` (2.3.1 and 2.5), the description that follows from it, and the sample
//! entry. The contract is worked out from the spec and the source before anything is encoded, so that no
//! order of execution decides it.

use mp4_atom::{Av01, Av1c, Codec, Colr, Pasp, Visual};
use serde::{Deserialize, Serialize};

use super::{Binding, Medium, Role, StreamError, SyncRule, Track};
use crate::media::av1::{LEVELS, SequenceHeader, SequenceHeaderError, level_for};
use crate::media::{Colour, FrameFormat, Rational};

/// The sequence header that every segment must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract(SequenceHeader);

#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    #[error("no AV1 level allows frames of {width}x{height} at {rate} frames a second", rate = f64_of(rate))]
    NoLevel { width: u32, height: u32, rate: Rational },
    #[error("{0}")]
    Unreadable(#[from] SequenceHeaderError),
    #[error("sequence header check failed: {0}")]
    Broken(String),
}

/// What a level allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitRateLimit {
    /// The level, as people write it: "AV1 level 3.1".
    pub level: String,
    /// Bits a second.
    pub bits: u64,
}

fn f64_of(rate: &Rational) -> String {
    format!("{:.3}", rate.num as f64 / rate.den as f64)
}

impl Contract {
    /// One that says just this.
    #[cfg(test)]
    pub(crate) fn example(header: SequenceHeader) -> Contract {
        Contract(header)
    }

    /// The contract of a rung whose frames have this format, shown `rate` times a second.
    pub fn new(format: &FrameFormat, rate: Rational) -> Result<Contract, ContractError> {
        let (width, height) = (format.width, format.height);
        let level =
            level_for(width, height, rate, None).ok_or(ContractError::NoLevel { width, height, rate })?;
        Ok(Contract(SequenceHeader {
            seq_profile: 0,
            still_picture: false,
            seq_level_idx: level.idx,
            seq_tier: false,
            initial_display_delay: None,
            bit_depth: format.bit_depth,
            mono_chrome: false,
            subsampling_x: true,
            subsampling_y: true,
            color_primaries: format.colour.primaries,
            transfer_characteristics: format.colour.transfer,
            matrix_coefficients: format.colour.matrix,
            color_range: format.colour.full_range,
            chroma_sample_position: format.colour.chroma_position,
            max_frame_width: width,
            max_frame_height: height,
        }))
    }

    /// AV1's `seq_level_idx`.
    pub fn level_idx(&self) -> u8 {
        self.0.seq_level_idx
    }

    /// The contract that the stream of a sequence header OBU keeps.
    #[cfg(test)]
    pub(crate) fn of(sequence_header: &[u8]) -> Result<Contract, SequenceHeaderError> {
        SequenceHeader::parse(sequence_header).map(Contract)
    }

    /// What bit rate the rung's level allows, if it is a level that allows any.
    pub fn bit_rate_limit(&self) -> Option<BitRateLimit> {
        let level = LEVELS.iter().find(|level| level.idx == self.0.seq_level_idx)?;
        Some(BitRateLimit { level: format!("AV1 level {}", level.name), bits: level.max_bitrate })
    }

    /// The track of a rung that keeps the contract. `frame_rate` is the largest.
    pub fn track(&self, timescale: u32, frame_rate: Rational) -> Track {
        let header = &self.0;
        Track {
            medium: Medium::Video {
                width: header.max_frame_width,
                height: header.max_frame_height,
                colour: Colour {
                    primaries: header.color_primaries,
                    transfer: header.transfer_characteristics,
                    matrix: header.matrix_coefficients,
                    full_range: header.color_range,
                    chroma_position: header.chroma_sample_position,
                },
                frame_rate,
            },
            codecs: header.codecs(),
            timescale,
            sync: SyncRule::FirstOfChunk,
            pre_skip: 0,
            packet_duration: None,
            roll: None,
            language: None,
            role: Role::Main,
            brand: *b"av01",
            binding: Binding::Av1,
        }
    }

    /// The sequence header that is expected.
    pub fn header(&self) -> &SequenceHeader {
        &self.0
    }

    /// Checks a sequence header OBU against the contract; the error names each field that differs.
    pub fn check(&self, sequence_header: &[u8]) -> Result<(), ContractError> {
        let found = SequenceHeader::parse(sequence_header)?;
        let differences = self.0.differences(&found);
        if differences.is_empty() {
            return Ok(());
        }
        let fields: Vec<String> = differences
            .iter()
            .map(|d| format!("{} is {}, expected {}", d.field, d.found, d.expected))
            .collect();
        Err(ContractError::Broken(fields.join(", ")))
    }
}

/// The sample entry of a track with this sequence header OBU (header and size field included).
///
/// A `colr` box of type `nclx` is always written, as the binding asks for (2.3.4), also where the
/// header leaves colour unspecified: without it the `codecs` string would have to claim BT.709.
/// `initial_presentation_delay` is left out: it counts samples, and is known only after a run of
/// the decoder model over all of them.
pub(super) fn sample_entry(sequence_header: &[u8]) -> Result<Codec, StreamError> {
    let header = SequenceHeader::parse(sequence_header)?;
    let (width, height) = (header.max_frame_width, header.max_frame_height);
    let too_large = |_| StreamError::FrameSize { width, height };
    let visual = Visual {
        data_reference_index: 1,
        width: u16::try_from(width).map_err(too_large)?,
        height: u16::try_from(height).map_err(too_large)?,
        // The name that the binding recommends (2.2.4).
        compressor: "AOM Coding".into(),
        ..Visual::default()
    };
    let av1c = Av1c {
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
        config_obus: sequence_header.to_vec(),
    };
    let colr = Colr::Nclx {
        colour_primaries: header.color_primaries.into(),
        transfer_characteristics: header.transfer_characteristics.into(),
        matrix_coefficients: header.matrix_coefficients.into(),
        full_range_flag: header.color_range,
    };
    Ok(Codec::Av01(Av01 {
        visual,
        av1c,
        btrt: None,
        ccst: None,
        colr: Some(colr),
        pasp: Some(Pasp { h_spacing: 1, v_spacing: 1 }),
        taic: None,
        spatial: None,
    }))
}
