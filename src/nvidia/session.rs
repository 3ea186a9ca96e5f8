//! A GPU's video decoders. Creating one takes as long as decoding dozens of frames, so idle decoders are kept
//! for the next span.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvidia_video_codec_sdk::sys::cuviddec::{
    CUVIDDECODECREATEINFO, CUVIDPICPARAMS, CUVIDPROCPARAMS, CUvideodecoder, cudaVideoChromaFormat,
    cudaVideoCreateFlags, cudaVideoDeinterlaceMode,
};

use super::driver::DevicePointer;
use super::nvcuvid::{DecodeStatus, Nvcuvid, decoder_caps, nvcuvid, surface};
use super::{Codec, Context, DecoderCaps, Gpu, NvidiaError, PinnedBuffer, VideoFormat};

/// Idle decoders that are kept: as many as GPUs have engines, at most.
const MAX_IDLE: usize = 8;
/// Frames of a decoder that may be looked at while it goes on.
const OUTPUT_SURFACES: u32 = 2;

/// A GPU that decodes, with its idle decoders.
pub struct Nvdec {
    context: Arc<Context>,
    idle: Mutex<Vec<Session>>,
}

impl Nvdec {
    pub fn open(gpu: &Gpu) -> Result<Arc<Nvdec>, NvidiaError> {
        // Without it there is no point in a context.
        nvcuvid()?;
        Ok(Arc::new(Nvdec { context: Context::open(gpu)?, idle: Mutex::default() }))
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What the GPU does of a codec with samples of so many bits; `None` for nothing.
    pub fn caps(&self, codec: Codec, bit_depth: u8) -> Result<Option<DecoderCaps>, NvidiaError> {
        decoder_caps(&self.context, codec, bit_depth)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        // The list is whole at every moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A decoder for this format.
    pub(super) fn take(&self, format: &VideoFormat) -> Result<Session, NvidiaError> {
        let mut idle = self.idle();
        if let Some(at) = idle.iter().position(|session| session.format == *format) {
            return Ok(idle.swap_remove(at));
        }
        drop(idle);
        match Session::new(&self.context, format) {
            Err(NvidiaError::Call { .. }) if !self.idle().is_empty() => {
                // Idle decoders of other formats may occupy the memory that is needed.
                let others = std::mem::take(&mut *self.idle());
                drop(others);
                Session::new(&self.context, format)
            }
            made => made,
        }
    }

    /// Keeps an idle decoder for reuse.
    pub(super) fn give_back(&self, session: Session) {
        let mut idle = self.idle();
        let oldest = (idle.len() >= MAX_IDLE).then(|| idle.remove(0));
        idle.push(session);
        drop(idle);
        // It is destroyed after the lock was released.
        drop(oldest);
    }
}

/// An open decoder, and memory of the host's that its frames are copied to.
pub(super) struct Session {
    context: Arc<Context>,
    library: &'static Nvcuvid,
    decoder: CUvideodecoder,
    format: VideoFormat,
    /// As much as a frame takes, once one was fetched.
    host: Option<PinnedBuffer>,
}

// SAFETY: a decoder may be used from any thread that has its context current, one at a time, and
// all its uses go through `&mut self`.
unsafe impl Send for Session {}

impl Session {
    fn new(context: &Arc<Context>, format: &VideoFormat) -> Result<Session, NvidiaError> {
        let library = nvcuvid()?;
        let _current = context.enter()?;
        let (width, height) = (u64::from(format.coded.0), u64::from(format.coded.1));
        let mut info = CUVIDDECODECREATEINFO {
            ulWidth: width,
            ulHeight: height,
            ulMaxWidth: width,
            ulMaxHeight: height,
            // As coded, so that nothing is scaled.
            ulTargetWidth: width,
            ulTargetHeight: height,
            ulNumDecodeSurfaces: u64::from(format.surfaces),
            ulNumOutputSurfaces: u64::from(OUTPUT_SURFACES),
            CodecType: format.codec.number(),
            ChromaFormat: cudaVideoChromaFormat::cudaVideoChromaFormat_420,
            bitDepthMinus8: u64::from(format.bit_depth.saturating_sub(8)),
            OutputFormat: surface(format.bit_depth),
            DeinterlaceMode: cudaVideoDeinterlaceMode::cudaVideoDeinterlaceMode_Weave,
            ulCreationFlags: cudaVideoCreateFlags::cudaVideoCreate_PreferCUVID as u64,
            ..CUVIDDECODECREATEINFO::default()
        };
        let mut decoder = std::ptr::null_mut();
        // SAFETY: the function reads the structure of its header and writes a handle.
        let status = unsafe { (library.cuvidCreateDecoder)(&mut decoder, &mut info) };
        context.driver().check("cuvidCreateDecoder", status)?;
        Ok(Session { context: Arc::clone(context), library, decoder, format: *format, host: None })
    }

    /// Has the GPU begin to decode a frame.
    ///
    /// # Safety
    ///
    /// `picture` must be what the parser has handed out, and still be there.
    pub(super) unsafe fn decode(&mut self, picture: *mut CUVIDPICPARAMS) -> Result<(), NvidiaError> {
        // SAFETY: the decoder is open, and the caller vouches for the frame.
        let status = unsafe { (self.library.cuvidDecodePicture)(self.decoder, picture) };
        self.context.driver().check("cuvidDecodePicture", status)
    }

    /// Waits until a frame is decoded, and makes its samples readable until [`Session::unmap`].
    pub(super) fn map(&mut self, number: c_int) -> Result<(DevicePointer, usize), NvidiaError> {
        let driver = self.context.driver();
        let mut how = CUVIDPROCPARAMS { progressive_frame: 1, ..CUVIDPROCPARAMS::default() };
        let (mut pointer, mut pitch) = (0, 0);
        // SAFETY: the decoder is open; the function reads the structure of its header and writes
        // an address and a number.
        let status = unsafe {
            (self.library.cuvidMapVideoFrame64)(self.decoder, number, &mut pointer, &mut pitch, &mut how)
        };
        driver.check("cuvidMapVideoFrame64", status)?;
        Ok((pointer, pitch as usize))
    }

    /// Whether a frame that was mapped was decoded without errors, as far as the decoder knows.
    pub(super) fn is_whole(&self, number: c_int) -> bool {
        let mut status = DecodeStatus::new();
        // SAFETY: the decoder is open, and the function writes the structure of its header.
        let told = unsafe { (self.library.cuvidGetDecodeStatus)(self.decoder, number, &mut status) };
        // The driver has no status for some codecs; no status then counts as success.
        told != 0 || !status.is_damaged()
    }

    /// Ends what [`Session::map`] began.
    pub(super) fn unmap(&mut self, pointer: DevicePointer) {
        // SAFETY: the decoder is open, and takes no address that it has not given out. There is
        // nothing to do about a failure, which the next call would report.
        unsafe { (self.library.cuvidUnmapVideoFrame64)(self.decoder, pointer) };
    }

    pub(super) fn format(&self) -> &VideoFormat {
        &self.format
    }

    /// The place for frames that are fetched, and the context that it is for.
    pub(super) fn host(&mut self) -> (&Arc<Context>, &mut Option<PinnedBuffer>) {
        (&self.context, &mut self.host)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // SAFETY: `new` has made it, and nothing uses it any more.
            unsafe { (self.library.cuvidDestroyDecoder)(self.decoder) };
        }
    }
}
