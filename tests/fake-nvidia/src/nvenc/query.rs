//! What a session answers before it is initialised: codecs, what AV1 can do, presets.

use std::ffi::{c_int, c_void};

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::refusal::{Refusal, expect, offered, pointee, reserved_is_zero, rule, structure};
use super::session::on_session;
use crate::settings::settings;

const PRESETS: [GUID; 7] = [
    NV_ENC_PRESET_P1_GUID,
    NV_ENC_PRESET_P2_GUID,
    NV_ENC_PRESET_P3_GUID,
    NV_ENC_PRESET_P4_GUID,
    NV_ENC_PRESET_P5_GUID,
    NV_ENC_PRESET_P6_GUID,
    NV_ENC_PRESET_P7_GUID,
];
const FORMATS: [NV_ENC_BUFFER_FORMAT; 2] = [
    NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_NV12,
    NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_YUV420_10BIT,
];

/// Sizes of pictures, smallest and largest.
pub const WIDTHS: (u32, u32) = (192, 8192);
pub const HEIGHTS: (u32, u32) = (128, 8192);

fn codec_guids() -> &'static [GUID] {
    const ALL: [GUID; 3] = [NV_ENC_CODEC_H264_GUID, NV_ENC_CODEC_HEVC_GUID, NV_ENC_CODEC_AV1_GUID];
    if settings().av1 { &ALL } else { &ALL[..2] }
}

pub fn codec_offered(codec: GUID) -> Result<(), Refusal> {
    offered(codec, codec_guids(), "the codec")
}

pub fn preset_offered(preset: GUID) -> Result<(), Refusal> {
    offered(preset, &PRESETS, "the preset")
}

/// Answers with how many there are.
fn count<T>(handle: *mut c_void, name: &str, codec: Option<GUID>, all: &[T], to: *mut u32) -> NVENCSTATUS {
    on_session(handle, name, |_| {
        codec.map_or(Ok(()), codec_offered)?;
        // SAFETY: the client's pointer is null or to a number.
        *unsafe { pointee(to, "the place for a count")? } = all.len() as u32;
        Ok(())
    })
}

/// Answers with as many of them as the client has room for.
fn list<T: Copy>(
    handle: *mut c_void,
    name: &str,
    codec: Option<GUID>,
    all: &[T],
    (to, room): (*mut T, u32),
    filled: *mut u32,
) -> NVENCSTATUS {
    on_session(handle, name, |_| {
        codec.map_or(Ok(()), codec_offered)?;
        let count = all.len().min(room as usize);
        // SAFETY: the client has room for so many, and its other pointer is to a number.
        unsafe {
            pointee(to, "the place for a list")?;
            to.copy_from_nonoverlapping(all.as_ptr(), count);
            *pointee(filled, "the place for a count")? = count as u32;
        }
        Ok(())
    })
}

pub unsafe extern "C" fn codec_count(handle: *mut c_void, to: *mut u32) -> NVENCSTATUS {
    count(handle, "nvEncGetEncodeGUIDCount", None, codec_guids(), to)
}

pub unsafe extern "C" fn codecs(
    handle: *mut c_void,
    to: *mut GUID,
    room: u32,
    filled: *mut u32,
) -> NVENCSTATUS {
    list(handle, "nvEncGetEncodeGUIDs", None, codec_guids(), (to, room), filled)
}

pub unsafe extern "C" fn preset_count(handle: *mut c_void, codec: GUID, to: *mut u32) -> NVENCSTATUS {
    count(handle, "nvEncGetEncodePresetCount", Some(codec), &PRESETS, to)
}

pub unsafe extern "C" fn presets(
    handle: *mut c_void,
    codec: GUID,
    to: *mut GUID,
    room: u32,
    filled: *mut u32,
) -> NVENCSTATUS {
    list(handle, "nvEncGetEncodePresetGUIDs", Some(codec), &PRESETS, (to, room), filled)
}

pub unsafe extern "C" fn input_format_count(handle: *mut c_void, codec: GUID, to: *mut u32) -> NVENCSTATUS {
    count(handle, "nvEncGetInputFormatCount", Some(codec), &FORMATS, to)
}

pub unsafe extern "C" fn input_formats(
    handle: *mut c_void,
    codec: GUID,
    to: *mut NV_ENC_BUFFER_FORMAT,
    room: u32,
    filled: *mut u32,
) -> NVENCSTATUS {
    list(handle, "nvEncGetInputFormats", Some(codec), &FORMATS, (to, room), filled)
}

pub unsafe extern "C" fn caps(
    handle: *mut c_void,
    codec: GUID,
    params: *mut NV_ENC_CAPS_PARAM,
    to: *mut c_int,
) -> NVENCSTATUS {
    on_session(handle, "nvEncGetEncodeCaps", |_| {
        // SAFETY: the client's pointers are null or to what the header says.
        let (params, to) = unsafe {
            let params = structure(params, NV_ENC_CAPS_PARAM_VER, "NV_ENC_CAPS_PARAM")?;
            (params, pointee(to, "the place for a capability")?)
        };
        reserved_is_zero(&params.reserved, "NV_ENC_CAPS_PARAM")?;
        codec_offered(codec)?;
        *to = value(params.capsToQuery);
        Ok(())
    })
}

fn value(caps: NV_ENC_CAPS) -> c_int {
    use NV_ENC_CAPS::*;
    match caps {
        NV_ENC_CAPS_NUM_MAX_BFRAMES => settings().b_frames,
        // Bits by the numbers of constant QP, variable and constant bit rate.
        NV_ENC_CAPS_SUPPORTED_RATECONTROL_MODES => 0b111,
        NV_ENC_CAPS_LEVEL_MAX => 24,
        NV_ENC_CAPS_LEVEL_MIN => 0,
        NV_ENC_CAPS_WIDTH_MIN => WIDTHS.0 as c_int,
        NV_ENC_CAPS_WIDTH_MAX => WIDTHS.1 as c_int,
        NV_ENC_CAPS_HEIGHT_MIN => HEIGHTS.0 as c_int,
        NV_ENC_CAPS_HEIGHT_MAX => HEIGHTS.1 as c_int,
        NV_ENC_CAPS_SUPPORT_10BIT_ENCODE => c_int::from(settings().ten_bit),
        NV_ENC_CAPS_SUPPORT_LOOKAHEAD => 1,
        NV_ENC_CAPS_NUM_ENCODER_ENGINES => settings().engines,
        _ => 0,
    }
}

pub unsafe extern "C" fn preset_config(
    handle: *mut c_void,
    codec: GUID,
    preset: GUID,
    tuning: NV_ENC_TUNING_INFO,
    params: *mut NV_ENC_PRESET_CONFIG,
) -> NVENCSTATUS {
    on_session(handle, "nvEncGetEncodePresetConfigEx", |_| {
        // SAFETY: the client's pointer is null or to what the header says.
        let params = unsafe { structure(params, NV_ENC_PRESET_CONFIG_VER, "NV_ENC_PRESET_CONFIG")? };
        let status = NVENCSTATUS::NV_ENC_ERR_INVALID_VERSION;
        rule(params.presetCfg.version == NV_ENC_CONFIG_VER, status, "presetCfg has another version")?;
        reserved_is_zero(&params.reserved1, "NV_ENC_PRESET_CONFIG")?;
        reserved_is_zero(&params.reserved2, "NV_ENC_PRESET_CONFIG")?;
        codec_offered(codec)?;
        preset_offered(preset)?;
        expect(tuning != NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_UNDEFINED, "the tuning is undefined")?;
        let number = PRESETS.iter().position(|&known| known == preset).unwrap_or(0) as i32 + 1;
        fill(&mut params.presetCfg, number);
        Ok(())
    })
}

/// What a preset says where its client says nothing: not what suits a closed sequence, nor every
/// GPU. It has key frames now and then, a bit rate, B frames, and from P6 on look-ahead.
fn fill(config: &mut NV_ENC_CONFIG, preset: i32) {
    config.profileGUID = NV_ENC_CODEC_PROFILE_AUTOSELECT_GUID;
    config.gopLength = 10;
    config.frameIntervalP = 1 + preset / 2;
    config.frameFieldMode = NV_ENC_PARAMS_FRAME_FIELD_MODE::NV_ENC_PARAMS_FRAME_FIELD_MODE_FRAME;
    config.mvPrecision = NV_ENC_MV_PRECISION::NV_ENC_MV_PRECISION_QUARTER_PEL;
    let rate = &mut config.rcParams;
    rate.version = NV_ENC_RC_PARAMS_VER;
    rate.rateControlMode = NV_ENC_PARAMS_RC_MODE::NV_ENC_PARAMS_RC_VBR;
    rate.averageBitRate = 5_000_000;
    rate.set_enableLookahead(u32::from(preset > 5));
    rate.lookaheadDepth = if preset > 5 { 8 } else { 0 };
    // SAFETY: it is AV1's configuration that is filled in, whole, in a structure of zeros.
    let av1 = unsafe { &mut config.encodeCodecConfig.av1Config };
    av1.level = NV_ENC_LEVEL::NV_ENC_LEVEL_AV1_AUTOSELECT as u32;
    av1.set_chromaFormatIDC(1);
    av1.idrPeriod = config.gopLength;
    if config.frameIntervalP > 1 {
        av1.useBFramesAsRef = NV_ENC_BFRAME_REF_MODE::NV_ENC_BFRAME_REF_MODE_MIDDLE;
    }
    av1.colorPrimaries = NV_ENC_VUI_COLOR_PRIMARIES::NV_ENC_VUI_COLOR_PRIMARIES_UNSPECIFIED;
    av1.transferCharacteristics =
        NV_ENC_VUI_TRANSFER_CHARACTERISTIC::NV_ENC_VUI_TRANSFER_CHARACTERISTIC_UNSPECIFIED;
    av1.matrixCoefficients = NV_ENC_VUI_MATRIX_COEFFS::NV_ENC_VUI_MATRIX_COEFFS_UNSPECIFIED;
}
