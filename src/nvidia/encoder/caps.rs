//! The capabilities of a GPU's encoder.

use std::ops::RangeInclusive;
use std::sync::Arc;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::{NV_ENC_CAPS, NV_ENC_CODEC_AV1_GUID};

use super::EncodeError;
use super::session::Session;
use crate::nvidia::Context;

/// Capabilities for AV1 4:2:0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeCaps {
    /// Luma samples of a frame.
    pub widths: RangeInclusive<u32>,
    pub heights: RangeInclusive<u32>,
    /// Whether it encodes 10 bits a sample besides 8.
    pub ten_bit: bool,
    /// The maximum number of consecutive B frames; 0 where there are none.
    pub b_frames: u32,
    /// Encode engines of the GPU, which work in parallel.
    pub engines: u32,
}

impl EncodeCaps {
    /// Queries a GPU, which needs a session for a moment.
    pub fn of(context: &Arc<Context>) -> Result<EncodeCaps, EncodeError> {
        EncodeCaps::in_session(&Session::open(context)?)
    }

    pub(super) fn in_session(session: &Session) -> Result<EncodeCaps, EncodeError> {
        use NV_ENC_CAPS::*;
        if !session.codecs()?.contains(&NV_ENC_CODEC_AV1_GUID) {
            return Err(EncodeError::NoAv1);
        }
        let number = |of| session.capability(of).map(|value| u32::try_from(value).unwrap_or(0));
        Ok(EncodeCaps {
            widths: number(NV_ENC_CAPS_WIDTH_MIN)?..=number(NV_ENC_CAPS_WIDTH_MAX)?,
            heights: number(NV_ENC_CAPS_HEIGHT_MIN)?..=number(NV_ENC_CAPS_HEIGHT_MAX)?,
            ten_bit: number(NV_ENC_CAPS_SUPPORT_10BIT_ENCODE)? == 1,
            b_frames: number(NV_ENC_CAPS_NUM_MAX_BFRAMES)?,
            engines: number(NV_ENC_CAPS_NUM_ENCODER_ENGINES)?.max(1),
        })
    }
}
