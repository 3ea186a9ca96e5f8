//! `libnvidia-encode.so.1`: AV1 only, on CUDA's memory, in synchronous mode. Functions that are not
//! here are null in the table, as those of a driver that does not implement them.

mod config;
mod input;
mod output;
mod picture;
mod query;
mod refusal;
mod seat;
mod session;
mod stream;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use crate::journal::breach;
use crate::settings::settings;

pub use session::is_registered;

#[unsafe(no_mangle)]
unsafe extern "C" fn NvEncodeAPIGetMaxSupportedVersion(version: *mut u32) -> NVENCSTATUS {
    let (major, minor) = settings().api;
    // SAFETY: the client's pointer is to a number.
    unsafe { version.write(major << 4 | minor) };
    NVENCSTATUS::NV_ENC_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn NvEncodeAPICreateInstance(list: *mut NV_ENCODE_API_FUNCTION_LIST) -> NVENCSTATUS {
    // SAFETY: the client's pointer is null or to such a structure.
    let Some(list) = (unsafe { list.as_mut() }) else { return NVENCSTATUS::NV_ENC_ERR_INVALID_PTR };
    if list.version != NV_ENCODE_API_FUNCTION_LIST_VER {
        breach(format_args!("NvEncodeAPICreateInstance: the list's version is {:#x}", list.version));
        return NVENCSTATUS::NV_ENC_ERR_INVALID_VERSION;
    }
    if settings().api < (NVENCAPI_MAJOR_VERSION, NVENCAPI_MINOR_VERSION) {
        breach("NvEncodeAPICreateInstance: the client speaks a newer version than the driver");
        return NVENCSTATUS::NV_ENC_ERR_INVALID_VERSION;
    }
    list.nvEncOpenEncodeSessionEx = Some(session::open);
    list.nvEncDestroyEncoder = Some(session::destroy);
    list.nvEncGetLastErrorString = Some(session::last_error);
    list.nvEncGetEncodeGUIDCount = Some(query::codec_count);
    list.nvEncGetEncodeGUIDs = Some(query::codecs);
    list.nvEncGetEncodeCaps = Some(query::caps);
    list.nvEncGetEncodePresetCount = Some(query::preset_count);
    list.nvEncGetEncodePresetGUIDs = Some(query::presets);
    list.nvEncGetEncodePresetConfigEx = Some(query::preset_config);
    list.nvEncGetInputFormatCount = Some(query::input_format_count);
    list.nvEncGetInputFormats = Some(query::input_formats);
    list.nvEncInitializeEncoder = Some(config::initialize);
    list.nvEncRegisterResource = Some(input::register);
    list.nvEncUnregisterResource = Some(input::unregister);
    list.nvEncMapInputResource = Some(input::map);
    list.nvEncUnmapInputResource = Some(input::unmap);
    list.nvEncCreateBitstreamBuffer = Some(output::create);
    list.nvEncDestroyBitstreamBuffer = Some(output::destroy);
    list.nvEncLockBitstream = Some(output::lock);
    list.nvEncUnlockBitstream = Some(output::unlock);
    list.nvEncEncodePicture = Some(picture::encode);
    NVENCSTATUS::NV_ENC_SUCCESS
}
