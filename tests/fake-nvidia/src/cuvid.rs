//! `libnvcuvid.so.1` of a GPU that decodes nothing, though it may say that it does.

use std::ffi::{c_int, c_void};

use nvidia_video_codec_sdk::sys::cuviddec::{CUVIDDECODECAPS, cudaVideoCodec};

use crate::cuda::{INVALID_VALUE, NOT_SUPPORTED, SUCCESS};
use crate::journal::note;
use crate::settings::settings;

/// The bit of NV12 among the arrangements of a picture's samples.
const NV12: u16 = 1;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuvidGetDecoderCaps(caps: *mut CUVIDDECODECAPS) -> c_int {
    // SAFETY: the client's pointer is null or to such a structure.
    let Some(caps) = (unsafe { caps.as_mut() }) else { return INVALID_VALUE };
    let decodes = settings().decoders > 0
        && caps.eCodecType == cudaVideoCodec::cudaVideoCodec_H264
        && caps.nBitDepthMinus8 == 0;
    caps.bIsSupported = u8::from(decodes);
    caps.nNumNVDECs = settings().decoders;
    caps.nOutputFormatMask = NV12;
    (caps.nMinWidth, caps.nMinHeight) = (16, 16);
    (caps.nMaxWidth, caps.nMaxHeight, caps.nMaxMBCount) = (4096, 4096, 1 << 16);
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuvidCreateVideoParser(_: *mut c_void, _: *mut c_void) -> c_int {
    note("declined");
    NOT_SUPPORTED
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
