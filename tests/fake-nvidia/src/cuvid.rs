//! `libnvcuvid.so.1` of a GPU that decodes nothing.

use std::ffi::{c_int, c_void};

use nvidia_video_codec_sdk::sys::cuviddec::CUVIDDECODECAPS;

use crate::cuda::{INVALID_VALUE, NOT_SUPPORTED, SUCCESS};

#[unsafe(no_mangle)]
unsafe extern "C" fn cuvidGetDecoderCaps(caps: *mut CUVIDDECODECAPS) -> c_int {
    // SAFETY: the client's pointer is null or to such a structure.
    let Some(caps) = (unsafe { caps.as_mut() }) else { return INVALID_VALUE };
    caps.bIsSupported = 0;
    caps.nNumNVDECs = 0;
    SUCCESS
}

/// Functions that are there, for a client looks all of them up, and refuse to do anything.
macro_rules! refused {
    ($($name:ident($($argument:ident),*);)*) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name($($argument: *mut c_void),*) -> c_int {
            $(let _ = $argument;)*
            NOT_SUPPORTED
        })*
    };
}

refused! {
    cuvidCreateVideoParser(parser, parameters);
    cuvidParseVideoData(parser, packet);
    cuvidDestroyVideoParser(parser);
    cuvidCreateDecoder(decoder, info);
    cuvidDestroyDecoder(decoder);
    cuvidReconfigureDecoder(decoder, info);
    cuvidDecodePicture(decoder, parameters);
    cuvidGetDecodeStatus(decoder, number, status);
    cuvidMapVideoFrame64(decoder, number, address, pitch, parameters);
    cuvidUnmapVideoFrame64(decoder, address);
    cuvidCtxLockCreate(lock, context);
    cuvidCtxLockDestroy(lock);
    cuvidCtxLock(lock, flags);
    cuvidCtxUnlock(lock, flags);
}
