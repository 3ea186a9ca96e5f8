//! What all segments of a rung must agree in, because they share one `av1C` (AV1-in-ISOBMFF
//! 2.3.1 and 2.5). It is computed from the spec and the source before anything is encoded, so
//! that it does not depend on the order of execution.

use serde::{Deserialize, Serialize};

use crate::media::av1::{SequenceHeader, SequenceHeaderError, level_for};
use crate::media::{FrameFormat, Rational};

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
