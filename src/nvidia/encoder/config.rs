//! The configuration of a closed sequence, and the driver's structures for it; what is not set here is the
//! preset's.

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::session::Session;
use super::{EncodeCaps, EncodeError};
use crate::colour::Colour;

/// A closed sequence of AV1: 4:2:0, constant QP, no key frame but the first, tiles as few as the
/// frame's size allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Luma samples; both even.
    pub width: u32,
    pub height: u32,
    /// 8 or 10.
    pub bit_depth: u8,
    /// NVIDIA's P1 (fastest) to P7 (best).
    pub preset: u8,
    /// AV1's `base_q_idx` of every frame, 0 to 255.
    pub quantizer: u8,
    /// AV1's `seq_level_idx` and `seq_tier`.
    pub level_idx: u8,
    pub high_tier: bool,
    pub colour: Colour,
    /// How many frames there will be.
    pub frames: u32,
}

const PRESETS: [GUID; 7] = [
    NV_ENC_PRESET_P1_GUID,
    NV_ENC_PRESET_P2_GUID,
    NV_ENC_PRESET_P3_GUID,
    NV_ENC_PRESET_P4_GUID,
    NV_ENC_PRESET_P5_GUID,
    NV_ENC_PRESET_P6_GUID,
    NV_ENC_PRESET_P7_GUID,
];

/// Checks size and bit depth against the encoder's capabilities.
pub fn check(config: &EncoderConfig, caps: &EncodeCaps) -> Result<(), EncodeError> {
    let EncoderConfig { width, height, bit_depth, .. } = *config;
    if !caps.widths.contains(&width) || !caps.heights.contains(&height) {
        let (narrow, low) = (caps.widths.start(), caps.heights.start());
        let (wide, high) = (caps.widths.end(), caps.heights.end());
        let limits = format!("from {narrow}x{low} to {wide}x{high}");
        return Err(EncodeError::Unsupported(format!(
            "it takes no frames of {width}x{height}, but {limits}"
        )));
    }
    if width % 2 != 0 || height % 2 != 0 {
        let why = format!("it takes no frames of {width}x{height}: with 4:2:0 both sides are even");
        return Err(EncodeError::Unsupported(why));
    }
    if bit_depth != 8 && !(bit_depth == 10 && caps.ten_bit) {
        return Err(EncodeError::Unsupported(format!("it takes no frames of {bit_depth} bits a sample")));
    }
    Ok(())
}

/// The parameters of a session's initialization. The caller makes the first structure point to the second.
pub struct Parameters {
    pub initialize: NV_ENC_INITIALIZE_PARAMS,
    pub config: NV_ENC_CONFIG,
}

/// The frame rate that the encoder is given. At constant QP it has no effect, and so low a rate is within
/// every level.
const RATE: u32 = 1;

pub fn parameters(
    session: &Session,
    caps: &EncodeCaps,
    wanted: &EncoderConfig,
) -> Result<Parameters, EncodeError> {
    let preset = usize::from(wanted.preset).checked_sub(1).and_then(|number| PRESETS.get(number));
    let no_preset = || EncodeError::Unsupported(format!("it has no preset {}", wanted.preset));
    let preset = *preset.ok_or_else(no_preset)?;
    let mut config = session.preset(preset)?;
    sequence(&mut config, caps, wanted);
    rate_control(&mut config.rcParams, wanted.quantizer);
    // SAFETY: the preset is AV1's, and so is the part of the union that was filled in.
    let av1 = unsafe { &mut config.encodeCodecConfig.av1Config };
    av1_config(av1, wanted)?;
    av1.idrPeriod = config.gopLength;
    if config.frameIntervalP == 1 {
        // The preset was made for a GPU with B frames.
        av1.useBFramesAsRef = NV_ENC_BFRAME_REF_MODE::NV_ENC_BFRAME_REF_MODE_DISABLED;
    }
    let mut initialize = NV_ENC_INITIALIZE_PARAMS {
        version: NV_ENC_INITIALIZE_PARAMS_VER,
        encodeGUID: NV_ENC_CODEC_AV1_GUID,
        presetGUID: preset,
        encodeWidth: wanted.width,
        encodeHeight: wanted.height,
        // For AV1 these are the render size.
        darWidth: wanted.width,
        darHeight: wanted.height,
        frameRateNum: RATE,
        frameRateDen: 1,
        enablePTD: 1,
        tuningInfo: NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_HIGH_QUALITY,
        ..Default::default()
    };
    // Large frames could otherwise be split between as many engines as the GPU has: the bytes would depend on
    // their number, and several chunks at a time keep the engines as busy.
    initialize.set_splitEncodeMode(NV_ENC_SPLIT_ENCODE_MODE::NV_ENC_SPLIT_DISABLE_MODE as u32);
    Ok(Parameters { initialize, config })
}

/// One group of pictures, as long as the sequence. Where its length is infinite there can be no B
/// frames.
fn sequence(config: &mut NV_ENC_CONFIG, caps: &EncodeCaps, wanted: &EncoderConfig) {
    config.version = NV_ENC_CONFIG_VER;
    config.profileGUID = NV_ENC_AV1_PROFILE_MAIN_GUID;
    let most = i32::try_from(caps.b_frames).unwrap_or(i32::MAX - 1).saturating_add(1);
    config.frameIntervalP = config.frameIntervalP.clamp(1, most);
    config.gopLength = wanted.frames.max(config.frameIntervalP.unsigned_abs());
    config.frameFieldMode = NV_ENC_PARAMS_FRAME_FIELD_MODE::NV_ENC_PARAMS_FRAME_FIELD_MODE_FRAME;
    config.monoChromeEncoding = 0;
}

/// Constant QP, without anything that would vary it.
fn rate_control(rate: &mut NV_ENC_RC_PARAMS, quantizer: u8) {
    let qp = u32::from(quantizer);
    rate.version = NV_ENC_RC_PARAMS_VER;
    rate.rateControlMode = NV_ENC_PARAMS_RC_MODE::NV_ENC_PARAMS_RC_CONSTQP;
    rate.constQP = NV_ENC_QP { qpInterP: qp, qpInterB: qp, qpIntra: qp };
    rate.averageBitRate = 0;
    rate.maxBitRate = 0;
    rate.vbvBufferSize = 0;
    rate.vbvInitialDelay = 0;
    rate.set_enableMinQP(0);
    rate.set_enableMaxQP(0);
    rate.set_enableInitialRCQP(0);
    rate.set_enableAQ(0);
    rate.set_enableTemporalAQ(0);
    // Lookahead serves rate control, and would insert key frames at scene cuts.
    rate.set_enableLookahead(0);
    rate.set_disableIadapt(1);
    rate.lookaheadDepth = 0;
    rate.multiPass = NV_ENC_MULTI_PASS::NV_ENC_MULTI_PASS_DISABLED;
    rate.qpMapMode = NV_ENC_QP_MAP_MODE::NV_ENC_QP_MAP_DISABLED;
}

fn av1_config(av1: &mut NV_ENC_CONFIG_AV1, wanted: &EncoderConfig) -> Result<(), EncodeError> {
    av1.level = u32::from(wanted.level_idx);
    av1.tier = u32::from(wanted.high_tier);
    av1.set_outputAnnexBFormat(0);
    av1.set_enableTimingInfo(0);
    av1.set_enableDecoderModelInfo(0);
    av1.set_enableFrameIdNumbers(0);
    av1.set_disableSeqHdr(0);
    av1.set_repeatSeqHdr(1);
    av1.set_enableIntraRefresh(0);
    av1.set_chromaFormatIDC(1);
    av1.set_enableBitstreamPadding(0);
    av1.set_enableCustomTileConfig(0);
    av1.set_enableFilmGrainParams(0);
    let above_eight = u32::from(wanted.bit_depth.saturating_sub(8));
    av1.set_inputPixelBitDepthMinus8(above_eight);
    av1.set_pixelBitDepthMinus8(above_eight);
    av1.numTileColumns = 0;
    av1.numTileRows = 0;
    av1.maxTemporalLayersMinus1 = 0;
    let Colour { primaries, transfer, matrix, full_range, chroma_position } = wanted.colour;
    let unknown = |what: &str, code: u8| {
        EncodeError::Unsupported(format!("it knows no {what} with the code {code} (ITU-T H.273)"))
    };
    av1.colorPrimaries = find(&PRIMARIES, |one| one as u32 == u32::from(primaries))
        .ok_or_else(|| unknown("colour primaries", primaries))?;
    av1.transferCharacteristics = find(&TRANSFERS, |one| one as u32 == u32::from(transfer))
        .ok_or_else(|| unknown("transfer characteristics", transfer))?;
    av1.matrixCoefficients = find(&MATRICES, |one| one as u32 == u32::from(matrix))
        .ok_or_else(|| unknown("matrix coefficients", matrix))?;
    av1.colorRange = u32::from(full_range);
    av1.chromaSamplePosition = u32::from(chroma_position);
    Ok(())
}

fn find<T: Copy>(all: &[T], is_it: impl Fn(T) -> bool) -> Option<T> {
    all.iter().copied().find(|&one| is_it(one))
}

const PRIMARIES: [NV_ENC_VUI_COLOR_PRIMARIES; 12] = {
    use NV_ENC_VUI_COLOR_PRIMARIES::*;
    [
        NV_ENC_VUI_COLOR_PRIMARIES_BT709,
        NV_ENC_VUI_COLOR_PRIMARIES_UNSPECIFIED,
        NV_ENC_VUI_COLOR_PRIMARIES_BT470M,
        NV_ENC_VUI_COLOR_PRIMARIES_BT470BG,
        NV_ENC_VUI_COLOR_PRIMARIES_SMPTE170M,
        NV_ENC_VUI_COLOR_PRIMARIES_SMPTE240M,
        NV_ENC_VUI_COLOR_PRIMARIES_FILM,
        NV_ENC_VUI_COLOR_PRIMARIES_BT2020,
        NV_ENC_VUI_COLOR_PRIMARIES_SMPTE428,
        NV_ENC_VUI_COLOR_PRIMARIES_SMPTE431,
        NV_ENC_VUI_COLOR_PRIMARIES_SMPTE432,
        NV_ENC_VUI_COLOR_PRIMARIES_JEDEC_P22,
    ]
};

const TRANSFERS: [NV_ENC_VUI_TRANSFER_CHARACTERISTIC; 17] = {
    use NV_ENC_VUI_TRANSFER_CHARACTERISTIC::*;
    [
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT709,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_UNSPECIFIED,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT470M,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT470BG,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_SMPTE170M,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_SMPTE240M,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_LINEAR,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_LOG,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_LOG_SQRT,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_IEC61966_2_4,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT1361_ECG,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_SRGB,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT2020_10,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT2020_12,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_SMPTE2084,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_SMPTE428,
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC_ARIB_STD_B67,
    ]
};

/// But for RGB's, which goes with 4:4:4 alone.
const MATRICES: [NV_ENC_VUI_MATRIX_COEFFS; 10] = {
    use NV_ENC_VUI_MATRIX_COEFFS::*;
    [
        NV_ENC_VUI_MATRIX_COEFFS_BT709,
        NV_ENC_VUI_MATRIX_COEFFS_UNSPECIFIED,
        NV_ENC_VUI_MATRIX_COEFFS_FCC,
        NV_ENC_VUI_MATRIX_COEFFS_BT470BG,
        NV_ENC_VUI_MATRIX_COEFFS_SMPTE170M,
        NV_ENC_VUI_MATRIX_COEFFS_SMPTE240M,
        NV_ENC_VUI_MATRIX_COEFFS_YCGCO,
        NV_ENC_VUI_MATRIX_COEFFS_BT2020_NCL,
        NV_ENC_VUI_MATRIX_COEFFS_BT2020_CL,
        NV_ENC_VUI_MATRIX_COEFFS_SMPTE2085,
    ]
};
