//! The functions of `libnvidia-encode.so.1`, loaded at first use, and their status codes.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::{EncodeError, RefusedCall};
use crate::nvidia::library::function_table;
use crate::nvidia::{Library, NvidiaError};

/// The version of the encode API that is used, major and minor; newer drivers support it.
pub const API_VERSION: (u32, u32) = (NVENCAPI_MAJOR_VERSION, NVENCAPI_MINOR_VERSION);

/// A status code, as a number: a newer driver may return values that are none of the header's `NVENCSTATUS`.
pub type Status = c_int;
pub const SUCCESS: Status = NVENCSTATUS::NV_ENC_SUCCESS as Status;
pub const NEED_MORE_INPUT: Status = NVENCSTATUS::NV_ENC_ERR_NEED_MORE_INPUT as Status;
pub const ENCODER_BUSY: Status = NVENCSTATUS::NV_ENC_ERR_ENCODER_BUSY as Status;
pub const LOCK_BUSY: Status = NVENCSTATUS::NV_ENC_ERR_LOCK_BUSY as Status;
pub const OUT_OF_MEMORY: Status = NVENCSTATUS::NV_ENC_ERR_OUT_OF_MEMORY as Status;
pub const NO_ENCODE_DEVICE: Status = NVENCSTATUS::NV_ENC_ERR_NO_ENCODE_DEVICE as Status;
pub const UNSUPPORTED_DEVICE: Status = NVENCSTATUS::NV_ENC_ERR_UNSUPPORTED_DEVICE as Status;
pub const INCOMPATIBLE_CLIENT_KEY: Status = NVENCSTATUS::NV_ENC_ERR_INCOMPATIBLE_CLIENT_KEY as Status;

const LIBRARY: &str = "libnvidia-encode.so.1";

function_table! {
    /// The functions that the library exports.
    EntryPoints {
        NvEncodeAPIGetMaxSupportedVersion(*mut u32);
        NvEncodeAPICreateInstance(*mut NV_ENCODE_API_FUNCTION_LIST);
    }
}

/// Declares the functions of the library's table that are used. All return a status code.
macro_rules! functions {
    ($($name:ident($($argument:ty),*);)*) => {
        /// The table's functions, none of them null.
        #[allow(non_snake_case, reason = "the functions' names are the header's")]
        pub struct Functions {
            $(pub $name: unsafe extern "C" fn(*mut c_void, $($argument),*) -> Status,)*
            pub nvEncOpenEncodeSessionEx:
                unsafe extern "C" fn(*mut NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS, *mut *mut c_void) -> Status,
            pub nvEncGetLastErrorString: unsafe extern "C" fn(*mut c_void) -> *const c_char,
        }

        impl Functions {
            fn of(list: &NV_ENCODE_API_FUNCTION_LIST) -> Result<Functions, NvidiaError> {
                // SAFETY: each function stays of the type that the header gives it, but for the
                // status, of which the number is taken: an enum of 32 bits and a number of 32 bits
                // are returned alike.
                unsafe {
                    Ok(Functions {
                        $($name: std::mem::transmute::<
                            unsafe extern "C" fn(*mut c_void, $($argument),*) -> NVENCSTATUS,
                            unsafe extern "C" fn(*mut c_void, $($argument),*) -> Status,
                        >(present(list.$name, stringify!($name))?),)*
                        nvEncOpenEncodeSessionEx: std::mem::transmute::<
                            unsafe extern "C" fn(
                                *mut NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS,
                                *mut *mut c_void,
                            ) -> NVENCSTATUS,
                            unsafe extern "C" fn(
                                *mut NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS,
                                *mut *mut c_void,
                            ) -> Status,
                        >(present(list.nvEncOpenEncodeSessionEx, "nvEncOpenEncodeSessionEx")?),
                        nvEncGetLastErrorString: present(
                            list.nvEncGetLastErrorString,
                            "nvEncGetLastErrorString",
                        )?,
                    })
                }
            }
        }
    };
}

functions! {
    nvEncDestroyEncoder();
    nvEncGetEncodeGUIDCount(*mut u32);
    nvEncGetEncodeGUIDs(*mut GUID, u32, *mut u32);
    nvEncGetEncodeCaps(GUID, *mut NV_ENC_CAPS_PARAM, *mut c_int);
    nvEncGetEncodePresetConfigEx(GUID, GUID, NV_ENC_TUNING_INFO, *mut NV_ENC_PRESET_CONFIG);
    nvEncInitializeEncoder(*mut NV_ENC_INITIALIZE_PARAMS);
    nvEncRegisterResource(*mut NV_ENC_REGISTER_RESOURCE);
    nvEncUnregisterResource(NV_ENC_REGISTERED_PTR);
    nvEncMapInputResource(*mut NV_ENC_MAP_INPUT_RESOURCE);
    nvEncUnmapInputResource(NV_ENC_INPUT_PTR);
    nvEncCreateBitstreamBuffer(*mut NV_ENC_CREATE_BITSTREAM_BUFFER);
    nvEncDestroyBitstreamBuffer(NV_ENC_OUTPUT_PTR);
    nvEncEncodePicture(*mut NV_ENC_PIC_PARAMS);
    nvEncLockBitstream(*mut NV_ENC_LOCK_BITSTREAM);
    nvEncUnlockBitstream(NV_ENC_OUTPUT_PTR);
}

fn present<F>(function: Option<F>, name: &str) -> Result<F, NvidiaError> {
    function.ok_or_else(|| NvidiaError::NoSymbol { library: LIBRARY.to_owned(), symbol: name.to_owned() })
}

pub struct Api {
    pub functions: Functions,
    /// Keeps the library loaded.
    _entry_points: EntryPoints,
}

/// The library, if it supports [`API_VERSION`]. The result of the first attempt is kept until the program
/// ends.
pub fn api() -> Result<&'static Api, EncodeError> {
    static API: OnceLock<Result<Api, EncodeError>> = OnceLock::new();
    API.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Api, EncodeError> {
    // SAFETY: the names and types are those of nvEncodeAPI.h, which NVIDIA keeps compatible.
    let entry_points = unsafe { EntryPoints::load(Library::open(LIBRARY)?)? };
    let mut version = 0;
    // SAFETY: the function writes one number.
    let status = unsafe { (entry_points.NvEncodeAPIGetMaxSupportedVersion)(&mut version) };
    check("NvEncodeAPIGetMaxSupportedVersion", status, None)?;
    let found = (version >> 4, version & 0xf);
    if found < API_VERSION {
        return Err(EncodeError::TooOld { found, needed: API_VERSION });
    }
    let version = NV_ENCODE_API_FUNCTION_LIST_VER;
    let mut list = NV_ENCODE_API_FUNCTION_LIST { version, ..Default::default() };
    // SAFETY: the function fills a list of this version.
    let status = unsafe { (entry_points.NvEncodeAPICreateInstance)(&mut list) };
    check("NvEncodeAPICreateInstance", status, None)?;
    Ok(Api { functions: Functions::of(&list)?, _entry_points: entry_points })
}

impl Api {
    /// Makes an error of a session's status that is not success.
    ///
    /// # Safety
    ///
    /// The session must be open.
    pub unsafe fn check(
        &self,
        call: &'static str,
        status: Status,
        session: *mut c_void,
    ) -> Result<(), EncodeError> {
        let detail = || {
            // SAFETY: the session is open, and the string lasts until its next call.
            unsafe {
                let text = (self.functions.nvEncGetLastErrorString)(session);
                (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
            }
        };
        check(call, status, Some(&detail))
    }
}

/// Makes an error of a status that is not success.
pub fn check(
    call: &'static str,
    status: Status,
    detail: Option<&dyn Fn() -> Option<String>>,
) -> Result<(), EncodeError> {
    if status == SUCCESS {
        return Ok(());
    }
    let detail = detail.and_then(|detail| detail()).unwrap_or_default();
    Err(RefusedCall { call, status: name(status), detail }.into())
}

/// The name of a status in the header.
fn name(status: Status) -> String {
    use NVENCSTATUS::*;
    /// By their numbers, from 0.
    const KNOWN: [NVENCSTATUS; 27] = [
        NV_ENC_SUCCESS,
        NV_ENC_ERR_NO_ENCODE_DEVICE,
        NV_ENC_ERR_UNSUPPORTED_DEVICE,
        NV_ENC_ERR_INVALID_ENCODERDEVICE,
        NV_ENC_ERR_INVALID_DEVICE,
        NV_ENC_ERR_DEVICE_NOT_EXIST,
        NV_ENC_ERR_INVALID_PTR,
        NV_ENC_ERR_INVALID_EVENT,
        NV_ENC_ERR_INVALID_PARAM,
        NV_ENC_ERR_INVALID_CALL,
        NV_ENC_ERR_OUT_OF_MEMORY,
        NV_ENC_ERR_ENCODER_NOT_INITIALIZED,
        NV_ENC_ERR_UNSUPPORTED_PARAM,
        NV_ENC_ERR_LOCK_BUSY,
        NV_ENC_ERR_NOT_ENOUGH_BUFFER,
        NV_ENC_ERR_INVALID_VERSION,
        NV_ENC_ERR_MAP_FAILED,
        NV_ENC_ERR_NEED_MORE_INPUT,
        NV_ENC_ERR_ENCODER_BUSY,
        NV_ENC_ERR_EVENT_NOT_REGISTERD,
        NV_ENC_ERR_GENERIC,
        NV_ENC_ERR_INCOMPATIBLE_CLIENT_KEY,
        NV_ENC_ERR_UNIMPLEMENTED,
        NV_ENC_ERR_RESOURCE_REGISTER_FAILED,
        NV_ENC_ERR_RESOURCE_NOT_REGISTERED,
        NV_ENC_ERR_RESOURCE_NOT_MAPPED,
        NV_ENC_ERR_NEED_MORE_OUTPUT,
    ];
    let known = usize::try_from(status).ok().and_then(|number| KNOWN.get(number));
    known.map_or_else(|| format!("status {status}"), |status| format!("{status:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_the_headers_names() {
        assert_eq!(name(NEED_MORE_INPUT), "NV_ENC_ERR_NEED_MORE_INPUT");
        assert_eq!(name(NVENCSTATUS::NV_ENC_ERR_NEED_MORE_OUTPUT as Status), "NV_ENC_ERR_NEED_MORE_OUTPUT");
        assert_eq!(name(NVENCSTATUS::NV_ENC_ERR_NEED_MORE_OUTPUT as Status + 1), "status 27");
        assert_eq!(name(-1), "status -1");
    }
}
