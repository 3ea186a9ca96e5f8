//! A GPU's video decoders. Making one takes longer than decoding some dozens of pictures, so those
//! that are done with a stretch of a film are kept for the next one.

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
/// Pictures of a decoder that may be looked at while it goes on.
const OUTPUT_SURFACES: u32 = 2;

/// A GPU that decodes, with the decoders that are waiting for something to do.
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
                // Those of other formats may take the memory that is wanted.
                let others = std::mem::take(&mut *self.idle());
                drop(others);
                Session::new(&self.context, format)
            }
            made => made,
        }
    }

    /// Keeps a decoder that works for whoever needs one like it.
    pub(super) fn give_back(&self, session: Session) {
        let mut idle = self.idle();
        let oldest = (idle.len() >= MAX_IDLE).then(|| idle.remove(0));
        idle.push(session);
        drop(idle);
        // It is ended without keeping others waiting.
        drop(oldest);
    }
}

/// Bytes of a row that are shown; the rows of luma, with those that are not shown, and those of
/// chroma, whose two components take turns.
fn shape(format: &VideoFormat) -> (usize, usize, usize) {
    let (width, height) = (format.visible.0 as usize, format.visible.1 as usize);
    (width.next_multiple_of(2) * format.bytes_per_sample(), format.coded.1 as usize, height.div_ceil(2))
}

/// An open decoder, and memory of the host's that its pictures are copied to.
pub(super) struct Session {
    context: Arc<Context>,
    library: &'static Nvcuvid,
    decoder: CUvideodecoder,
    format: VideoFormat,
    host: PinnedBuffer,
}

// SAFETY: a decoder may be used from any thread that has its context current, one at a time, and
// all its uses go through `&mut self`.
unsafe impl Send for Session {}

impl Session {
    fn new(context: &Arc<Context>, format: &VideoFormat) -> Result<Session, NvidiaError> {
        let library = nvcuvid()?;
        let (row_bytes, luma_rows, chroma_rows) = shape(format);
        let host = PinnedBuffer::new(context, row_bytes * (luma_rows + chroma_rows))?;
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
        Ok(Session { context: Arc::clone(context), library, decoder, format: *format, host })
    }

    /// Has the GPU begin to decode a picture.
    ///
    /// # Safety
    ///
    /// `picture` must be what the parser has handed out, and still be there.
    pub(super) unsafe fn decode(&mut self, picture: *mut CUVIDPICPARAMS) -> Result<(), NvidiaError> {
        // SAFETY: the decoder is open, and the caller vouches for the picture.
        let status = unsafe { (self.library.cuvidDecodePicture)(self.decoder, picture) };
        self.context.driver().check("cuvidDecodePicture", status)
    }

    /// Waits until a picture is decoded, and makes its samples readable.
    pub(super) fn map(&mut self, number: c_int) -> Result<Mapped<'_>, NvidiaError> {
        let driver = self.context.driver();
        let mut how = CUVIDPROCPARAMS { progressive_frame: 1, ..CUVIDPROCPARAMS::default() };
        let (mut pointer, mut pitch) = (0, 0);
        // SAFETY: the decoder is open; the function reads the structure of its header and writes
        // an address and a number.
        let status = unsafe {
            (self.library.cuvidMapVideoFrame64)(self.decoder, number, &mut pointer, &mut pitch, &mut how)
        };
        driver.check("cuvidMapVideoFrame64", status)?;
        let mapped = Mapped { session: self, pointer, pitch: pitch as usize };
        let mut status = DecodeStatus::new();
        // SAFETY: the decoder is open, and the function writes the structure of its header. It does
        // not know of all codecs; of the others no status is as good as a good one.
        let told = unsafe {
            (mapped.session.library.cuvidGetDecodeStatus)(mapped.session.decoder, number, &mut status)
        };
        if told == 0 && status.is_damaged() {
            return Err(NvidiaError::Damaged);
        }
        Ok(mapped)
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

/// A decoded picture in the GPU's memory, until it is dropped.
pub(super) struct Mapped<'a> {
    session: &'a mut Session,
    pointer: DevicePointer,
    pitch: usize,
}

impl Mapped<'_> {
    /// The visible samples, in the host's memory: rows of luma, rows of chroma in which the two
    /// components take turns, and the bytes of each row.
    pub(super) fn download(&mut self) -> Result<(&[u8], &[u8], usize), NvidiaError> {
        let (row_bytes, luma_rows, chroma_rows) = shape(&self.session.format);
        let visible = self.session.format.visible.1 as usize;
        let Session { context, host, .. } = &mut *self.session;
        let place = (self.pointer, self.pitch);
        // SAFETY: the decoder was made for pictures of the coded size, and maps their chroma right
        // behind as many rows of luma; `host` was made for as many rows as are copied.
        unsafe { super::memory::download(context, place, 0, host.bytes_mut(), row_bytes, row_bytes)? };
        let (luma, chroma) = host.bytes().split_at(row_bytes * luma_rows);
        Ok((&luma[..row_bytes * visible.min(luma_rows)], &chroma[..row_bytes * chroma_rows], row_bytes))
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        // SAFETY: the address is of `map`, and the last to use it is `self`.
        unsafe { (self.session.library.cuvidUnmapVideoFrame64)(self.session.decoder, self.pointer) };
    }
}
