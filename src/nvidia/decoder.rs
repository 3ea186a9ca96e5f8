//! Decoding a stream: packets in, frames in the order in which they are shown out. The driver's
//! parser reads the stream and calls back; nothing unwinds through it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use nvidia_video_codec_sdk::sys::cuviddec::CUVIDPICPARAMS;
use nvidia_video_codec_sdk::sys::nvcuvid::{
    CUVIDEOFORMAT, CUVIDPARSERDISPINFO, CUVIDPARSERPARAMS, CUVIDSOURCEDATAPACKET, CUvideopacketflags,
    CUvideoparser,
};

use super::format::{DISPLAY_DELAY, SequenceFormat};
use super::nvcuvid::{Nvcuvid, nvcuvid};
use super::session::Session;
use super::{Codec, MappedFrame, Nvdec, NvidiaError, VideoFormat};

/// Receives the frames of a decoder. An error that it returns ends the decoding and is returned by
/// [`VideoDecoder::decode`].
pub trait FrameSink {
    /// Called before the first frame.
    fn format(&mut self, format: &VideoFormat) -> Result<(), NvidiaError>;

    /// Whether a frame is wanted; it is decoded all the same, since others may refer to it.
    fn wants(&self, stamp: i64) -> bool;

    fn frame(&mut self, frame: MappedFrame<'_>) -> Result<(), NvidiaError>;
}

/// A stream being decoded.
pub struct VideoDecoder<S: FrameSink> {
    library: &'static Nvcuvid,
    parser: CUvideoparser,
    /// The parser has its address, so it is a leaked box until the decoder is dropped.
    state: NonNull<State<S>>,
}

// SAFETY: the parser calls back only from within calls to it, which go through `&mut self`.
unsafe impl<S: FrameSink + Send> Send for VideoDecoder<S> {}

/// The state of the parser's callbacks.
struct State<S> {
    nvdec: Arc<Nvdec>,
    codec: Codec,
    sink: S,
    format: Option<VideoFormat>,
    session: Option<Session>,
    /// Whether the decoder has been given a frame.
    begun: bool,
    /// The stamp of the packet that is being parsed.
    stamp: i64,
    /// For codecs that reorder: stamps of frames that were decoded and not shown yet, by frame number.
    decoded: BTreeMap<c_int, i64>,
    /// For codecs that do not reorder: the number of each frame to be shown, unless it shows an existing one,
    /// and the stamp of its packet.
    to_show: VecDeque<(Option<c_int>, i64)>,
    error: Option<NvidiaError>,
}

impl<S: FrameSink> VideoDecoder<S> {
    pub fn new(nvdec: &Arc<Nvdec>, codec: Codec, sink: S) -> Result<VideoDecoder<S>, NvidiaError> {
        let library = nvcuvid()?;
        let nvdec = Arc::clone(nvdec);
        let context = Arc::clone(nvdec.context());
        let state = State {
            nvdec,
            codec,
            sink,
            format: None,
            session: None,
            begun: false,
            stamp: 0,
            decoded: BTreeMap::new(),
            to_show: VecDeque::new(),
            error: None,
        };
        let state = NonNull::from(Box::leak(Box::new(state)));
        let mut decoder = VideoDecoder { library, parser: std::ptr::null_mut(), state };
        let mut parameters = CUVIDPARSERPARAMS {
            CodecType: codec.number(),
            // The sequence callback returns the number that is needed.
            ulMaxNumDecodeSurfaces: 1,
            ulMaxDisplayDelay: DISPLAY_DELAY,
            pUserData: state.as_ptr().cast(),
            pfnSequenceCallback: Some(on_sequence::<S>),
            pfnDecodePicture: Some(on_decode::<S>),
            pfnDisplayPicture: Some(on_display::<S>),
            ..CUVIDPARSERPARAMS::default()
        };
        let _current = context.enter()?;
        // SAFETY: the function reads the structure of its header and writes a handle.
        let status = unsafe { (library.cuvidCreateVideoParser)(&mut decoder.parser, &mut parameters) };
        context.driver().check("cuvidCreateVideoParser", status)?;
        Ok(decoder)
    }

    /// Decodes the next packet; frames that become ready go to the sink meanwhile. A packet of H.264
    /// or HEVC (Annex B) holds one frame, whole, with all headers that are needed before it. One of
    /// VP9 or AV1 shows one frame at most, and may show one that was decoded before.
    pub fn decode(&mut self, data: &[u8], stamp: i64, shows_existing: bool) -> Result<(), NvidiaError> {
        let state = self.state();
        state.stamp = stamp;
        if shows_existing {
            state.to_show.push_back((None, stamp));
        }
        let flags = flags(state.codec);
        self.parse(CUVIDSOURCEDATAPACKET {
            flags,
            payload_size: data.len() as u64,
            payload: data.as_ptr(),
            timestamp: stamp,
        })
    }

    /// Ends the stream: the frames that are left go to the sink.
    pub fn finish(&mut self) -> Result<(), NvidiaError> {
        self.parse(CUVIDSOURCEDATAPACKET {
            flags: CUvideopacketflags::CUVID_PKT_ENDOFSTREAM as u64,
            payload_size: 0,
            payload: std::ptr::null(),
            timestamp: 0,
        })
    }

    pub fn sink(&mut self) -> &mut S {
        &mut self.state().sink
    }

    fn state(&mut self) -> &mut State<S> {
        // SAFETY: the box is ended only by `drop`, and outside of `parse` nothing else uses it.
        unsafe { self.state.as_mut() }
    }

    fn parse(&mut self, mut packet: CUVIDSOURCEDATAPACKET) -> Result<(), NvidiaError> {
        let context = Arc::clone(self.state().nvdec.context());
        let _current = context.enter()?;
        // SAFETY: the parser is there; the packet's bytes outlive the call; the callbacks are the
        // only ones to use the state during it.
        let status = unsafe { (self.library.cuvidParseVideoData)(self.parser, &mut packet) };
        if let Some(error) = &self.state().error {
            return Err(error.clone());
        }
        // Without an error of a callback the stream is damaged.
        let parsed = context.driver().check("cuvidParseVideoData", status);
        parsed.map_err(|_| NvidiaError::Damaged)
    }
}

impl<S: FrameSink> Drop for VideoDecoder<S> {
    fn drop(&mut self) {
        let context = Arc::clone(self.state().nvdec.context());
        if let Ok(_current) = context.enter()
            && !self.parser.is_null()
        {
            // SAFETY: `new` has made it, and nothing uses it any more.
            unsafe { (self.library.cuvidDestroyVideoParser)(self.parser) };
        }
        // SAFETY: `new` has leaked the box, and the parser, which had its address, is gone.
        let mut state = unsafe { Box::from_raw(self.state.as_ptr()) };
        // A decoder is not reused after an error.
        if let (Some(session), None | Some(NvidiaError::Stopped)) = (state.session.take(), &state.error) {
            state.nvdec.give_back(session);
        }
    }
}

/// The parser's flags for a packet.
fn flags(codec: Codec) -> u64 {
    let stamped = CUvideopacketflags::CUVID_PKT_TIMESTAMP as u64;
    match codec {
        // The frame is then decoded at once, rather than when the next packet comes.
        Codec::H264 | Codec::Hevc => stamped | CUvideopacketflags::CUVID_PKT_ENDOFPICTURE as u64,
        Codec::Vp9 | Codec::Av1 => stamped,
    }
}

/// Runs a callback. Panics do not unwind into the driver, and after an error callbacks do nothing.
///
/// # Safety
///
/// `user` must be the state that [`VideoDecoder::new`] has given to the parser, which must have
/// called back from within `parse`.
unsafe fn call<S: FrameSink>(
    user: *mut c_void,
    act: impl FnOnce(&mut State<S>) -> Result<c_int, NvidiaError>,
) -> c_int {
    const FAILED: c_int = 0;
    // SAFETY: the caller vouches for it.
    let state = unsafe { &mut *user.cast::<State<S>>() };
    if state.error.is_some() {
        return FAILED;
    }
    let done = catch_unwind(AssertUnwindSafe(|| act(state)));
    let done = done.unwrap_or(Err(NvidiaError::Panicked));
    done.unwrap_or_else(|error| {
        state.error = Some(error);
        FAILED
    })
}

/// The parser has read the format of what follows. Returns how many frames it may number.
extern "C" fn on_sequence<S: FrameSink>(user: *mut c_void, format: *mut CUVIDEOFORMAT) -> c_int {
    // SAFETY: the parser hands back what it was given, and a format that is there meanwhile.
    unsafe { call::<S>(user, |state| state.sequence(&*format.cast())) }
}

/// A frame is ready to be decoded.
extern "C" fn on_decode<S: FrameSink>(user: *mut c_void, picture: *mut CUVIDPICPARAMS) -> c_int {
    // SAFETY: the parser hands back what it was given, and a frame that is there meanwhile.
    unsafe { call::<S>(user, |state| state.decode(picture)) }
}

/// A frame is next to be shown.
extern "C" fn on_display<S: FrameSink>(user: *mut c_void, shown: *mut CUVIDPARSERDISPINFO) -> c_int {
    // SAFETY: the parser hands back what it was given, and facts that are there meanwhile; null
    // where the stream ends.
    unsafe { call::<S>(user, |state| shown.as_ref().map_or(Ok(1), |shown| state.display(shown))) }
}

impl<S: FrameSink> State<S> {
    fn sequence(&mut self, format: &SequenceFormat) -> Result<c_int, NvidiaError> {
        let format = format.read(self.codec)?;
        if self.format != Some(format) {
            if self.begun {
                return Err(NvidiaError::Unsupported("its format changes".to_owned()));
            }
            self.sink.format(&format)?;
            if let Some(session) = self.session.take() {
                self.nvdec.give_back(session);
            }
            self.session = Some(self.nvdec.take(&format)?);
            self.format = Some(format);
        }
        Ok(format.surfaces as c_int)
    }

    /// # Safety
    ///
    /// `picture` must point to what the parser wants to have decoded.
    unsafe fn decode(&mut self, picture: *mut CUVIDPICPARAMS) -> Result<c_int, NvidiaError> {
        // SAFETY: the caller vouches for it; the union holds what belongs to the parser's codec.
        let (number, is_field, is_shown, has_grain) = unsafe {
            let (is_shown, has_grain) = match self.codec {
                Codec::H264 | Codec::Hevc => (false, false),
                Codec::Vp9 => ((*picture).CodecSpecific.vp9.showFrame() != 0, false),
                Codec::Av1 => {
                    let av1 = &(*picture).CodecSpecific.av1;
                    (av1.show_frame() != 0, av1.apply_grain() != 0)
                }
            };
            ((*picture).CurrPicIdx, (*picture).field_pic_flag != 0, is_shown, has_grain)
        };
        if is_field {
            return Err(NvidiaError::Unsupported("its frames are interlaced".to_owned()));
        }
        // Film grain need not be bit-exact (AV1 7.18.3).
        if has_grain {
            return Err(NvidiaError::Unsupported("its frames get film grain".to_owned()));
        }
        if matches!(self.codec, Codec::H264 | Codec::Hevc) {
            self.decoded.insert(number, self.stamp);
        } else if is_shown {
            self.to_show.push_back((Some(number), self.stamp));
        }
        let session = self.session.as_mut().ok_or(NvidiaError::Damaged)?;
        // SAFETY: the caller vouches for it.
        unsafe { session.decode(picture)? };
        self.begun = true;
        Ok(1)
    }

    fn display(&mut self, shown: &CUVIDPARSERDISPINFO) -> Result<c_int, NvidiaError> {
        let number = shown.picture_index;
        let stamp = match self.codec {
            Codec::H264 | Codec::Hevc => self.stamp_of(number, shown.timestamp)?,
            Codec::Vp9 | Codec::Av1 => self.next_to_show(number)?,
        };
        if self.sink.wants(stamp) {
            let session = self.session.as_mut().ok_or(NvidiaError::Damaged)?;
            self.sink.frame(MappedFrame::wait(session, number, stamp)?)?;
        }
        Ok(1)
    }

    /// The stamp of a frame. After a packet without a frame the parser gives its stamp to the next frame, so
    /// the parser's stamp must equal the recorded one.
    fn stamp_of(&mut self, number: c_int, told: i64) -> Result<i64, NvidiaError> {
        self.decoded.remove(&number).filter(|&stamp| stamp == told).ok_or(NvidiaError::Damaged)
    }

    /// The stamp of the frame that is shown next. The parser's own is wrong after a packet with more than one
    /// frame.
    fn next_to_show(&mut self, number: c_int) -> Result<i64, NvidiaError> {
        let (expected, stamp) = self.to_show.pop_front().ok_or(NvidiaError::Damaged)?;
        let is_right = match expected {
            Some(expected) => expected == number,
            None => !self.to_show.iter().any(|&(later, _)| later == Some(number)),
        };
        if is_right { Ok(stamp) } else { Err(NvidiaError::Damaged) }
    }
}
