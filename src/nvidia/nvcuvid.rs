//! The functions of `libnvcuvid.so.1`, loaded at first use, and the GPU's decoding capabilities. Types and
//! numbers are those of NVIDIA's `cuviddec.h` and `nvcuvid.h`.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;

use nvidia_video_codec_sdk::sys::cuviddec::{
    CUVIDDECODECAPS, CUVIDDECODECREATEINFO, CUVIDPICPARAMS, CUVIDPROCPARAMS, CUvideodecoder,
    cudaVideoChromaFormat, cudaVideoCodec, cudaVideoSurfaceFormat,
};
use nvidia_video_codec_sdk::sys::nvcuvid::{CUVIDPARSERPARAMS, CUVIDSOURCEDATAPACKET, CUvideoparser};

use super::library::function_table;
use super::{Context, Library, NvidiaError};

/// `CUVIDGETDECODESTATUS`, with its number as a number: a driver may know more of them.
#[repr(C)]
pub struct DecodeStatus {
    pub status: c_uint,
    reserved: [c_uint; 31],
    reserved_pointers: [*mut c_void; 8],
}

impl DecodeStatus {
    const ERROR: c_uint = 8;
    const ERROR_CONCEALED: c_uint = 9;

    pub fn new() -> DecodeStatus {
        DecodeStatus { status: 0, reserved: [0; 31], reserved_pointers: [std::ptr::null_mut(); 8] }
    }

    pub fn is_damaged(&self) -> bool {
        matches!(self.status, DecodeStatus::ERROR | DecodeStatus::ERROR_CONCEALED)
    }
}

function_table! {
    /// The functions of `libnvcuvid.so.1`.
    Nvcuvid {
        cuvidGetDecoderCaps(*mut CUVIDDECODECAPS);
        cuvidCreateVideoParser(*mut CUvideoparser, *mut CUVIDPARSERPARAMS);
        cuvidParseVideoData(CUvideoparser, *mut CUVIDSOURCEDATAPACKET);
        cuvidDestroyVideoParser(CUvideoparser);
        cuvidCreateDecoder(*mut CUvideodecoder, *mut CUVIDDECODECREATEINFO);
        cuvidDestroyDecoder(CUvideodecoder);
        cuvidDecodePicture(CUvideodecoder, *mut CUVIDPICPARAMS);
        cuvidGetDecodeStatus(CUvideodecoder, c_int, *mut DecodeStatus);
        cuvidMapVideoFrame64(CUvideodecoder, c_int, *mut c_ulonglong, *mut c_uint, *mut CUVIDPROCPARAMS);
        cuvidUnmapVideoFrame64(CUvideodecoder, c_ulonglong);
    }
}

/// The library. The result of the first attempt is kept until the program ends.
pub fn nvcuvid() -> Result<&'static Nvcuvid, NvidiaError> {
    static NVCUVID: OnceLock<Result<Nvcuvid, NvidiaError>> = OnceLock::new();
    let load = || {
        let library = Library::open("libnvcuvid.so.1")?;
        // SAFETY: the names and types are those of the headers, which NVIDIA keeps compatible.
        unsafe { Nvcuvid::load(library) }
    };
    NVCUVID.get_or_init(load).as_ref().map_err(Clone::clone)
}

/// Of the codecs that NVDEC knows, those whose specifications leave no sample to the decoder, so
/// that its frames are those of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    H264,
    Hevc,
    Vp9,
    Av1,
}

impl Codec {
    pub(super) fn number(self) -> cudaVideoCodec {
        match self {
            Codec::H264 => cudaVideoCodec::cudaVideoCodec_H264,
            Codec::Hevc => cudaVideoCodec::cudaVideoCodec_HEVC,
            Codec::Vp9 => cudaVideoCodec::cudaVideoCodec_VP9,
            Codec::Av1 => cudaVideoCodec::cudaVideoCodec_AV1,
        }
    }
}

/// A GPU's capabilities for a codec, in 4:2:0 and at one bit depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderCaps {
    /// The GPU's decoding engines.
    pub engines: u32,
    /// Smallest and largest size in samples.
    pub min: (u32, u32),
    pub max: (u32, u32),
    /// Most squares of 16x16 samples in a frame.
    pub max_macroblocks: u32,
}

impl DecoderCaps {
    pub fn allows(&self, width: u32, height: u32) -> bool {
        let macroblocks = u64::from(width.div_ceil(16)) * u64::from(height.div_ceil(16));
        (self.min.0..=self.max.0).contains(&width)
            && (self.min.1..=self.max.1).contains(&height)
            && macroblocks <= u64::from(self.max_macroblocks)
    }
}

/// The format of the frames that come of samples of so many bits.
pub(super) fn surface(bit_depth: u8) -> cudaVideoSurfaceFormat {
    if bit_depth > 8 {
        cudaVideoSurfaceFormat::cudaVideoSurfaceFormat_P016
    } else {
        cudaVideoSurfaceFormat::cudaVideoSurfaceFormat_NV12
    }
}

/// The capabilities of a context's GPU for a codec at 8 to 16 bits; `None` if it does not decode it.
pub fn decoder_caps(
    context: &Context,
    codec: Codec,
    bit_depth: u8,
) -> Result<Option<DecoderCaps>, NvidiaError> {
    let library = nvcuvid()?;
    let _current = context.enter()?;
    let mut caps = CUVIDDECODECAPS {
        eCodecType: codec.number(),
        eChromaFormat: cudaVideoChromaFormat::cudaVideoChromaFormat_420,
        nBitDepthMinus8: u32::from(bit_depth.saturating_sub(8)),
        ..CUVIDDECODECAPS::default()
    };
    // SAFETY: the function reads and writes the structure of its header.
    let status = unsafe { (library.cuvidGetDecoderCaps)(&mut caps) };
    context.driver().check("cuvidGetDecoderCaps", status)?;
    let comes_as_wanted = caps.nOutputFormatMask & (1 << surface(bit_depth) as u16) != 0;
    Ok((caps.bIsSupported != 0 && comes_as_wanted).then(|| DecoderCaps {
        engines: u32::from(caps.nNumNVDECs),
        min: (u32::from(caps.nMinWidth), u32::from(caps.nMinHeight)),
        max: (caps.nMaxWidth, caps.nMaxHeight),
        max_macroblocks: caps.nMaxMBCount,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_limited_by_sides_and_by_macroblocks() {
        let caps = DecoderCaps { engines: 1, min: (48, 16), max: (4096, 4096), max_macroblocks: 256 * 144 };
        assert!(caps.allows(1920, 1080));
        assert!(caps.allows(4096, 2304));
        assert!(!caps.allows(4096, 4096), "too many macroblocks");
        assert!(!caps.allows(32, 32));
        assert!(!caps.allows(4098, 16));
    }
}
