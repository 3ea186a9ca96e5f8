//! The interface to reading, decoding and audio encoding. Where it is implemented, in this process, in worker
//! processes or on a GPU, changes no result.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::{
    AudioSink, AudioTrack, Frame, FrameDigest, GpuTrouble, Index, LumaFingerprint, MediaError, OnGpu,
    RankedFrame, Rational, SpanDecoder, SpanPackets, decode_audio, encode_window, scan,
};

/// A decoded frame with its digest and fingerprint.
pub struct DecodedFrame {
    /// In presentation order among the packets of its span.
    pub rank: u32,
    pub digest: FrameDigest,
    pub fingerprint: LumaFingerprint,
    /// The frame itself, if it was requested.
    pub frame: Option<Frame>,
}

/// How to decode a span. No option changes a frame.
#[derive(Clone, Debug, Default)]
pub struct DecodeOptions {
    pub threads: usize,
    /// Whether the frames themselves are wanted, and not only their digests and fingerprints.
    pub frames: bool,
    /// Whether the caller takes all frames at once, and has memory for them.
    pub at_once: bool,
    /// The UUID of a GPU to try first.
    pub gpu: Option<String>,
}

/// A span that is being decoded.
pub trait Decoding: Send {
    /// The next of the span's own frames in presentation order; `None` after the last.
    fn next_frame(&mut self) -> Result<Option<DecodedFrame>, MediaError>;

    /// The outcome so far on the GPU that the span was given to, if it was given to one.
    fn on_gpu(&self) -> Option<OnGpu> {
        None
    }
}

/// The audio track of a rendition, and how it is decoded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AudioSource {
    pub path: PathBuf,
    pub track: AudioTrack,
    /// 1 or 2.
    pub channels: u8,
    /// Start of the video, in units of the second.
    pub origin: (i64, Rational),
}

/// Audio to encode by itself: the arguments of [`encode_window`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AudioWindow {
    pub channels: u8,
    /// Bits a second.
    pub bitrate: u32,
    pub lead: Vec<i32>,
    pub own: Vec<i32>,
}

/// Reads sources, decodes them, and encodes their audio.
pub trait Codecs: Send + Sync {
    /// As `scan` does.
    fn scan(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Index, MediaError>;

    fn open(&self, span: SpanPackets, options: &DecodeOptions) -> Result<Box<dyn Decoding>, MediaError>;

    /// As [`decode_audio`].
    fn decode_audio(
        &self,
        source: &AudioSource,
        cancelled: &dyn Fn() -> bool,
        sink: &mut AudioSink<'_>,
    ) -> Result<i64, MediaError>;

    /// As [`encode_window`].
    fn encode_audio(&self, window: AudioWindow) -> Result<Vec<Vec<u8>>, MediaError>;
}

/// Codecs of this process, on the CPU; GPUs are not used.
pub struct CodecsHere;

impl Codecs for CodecsHere {
    fn scan(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Index, MediaError> {
        scan(path, cancelled)
    }

    fn open(&self, span: SpanPackets, options: &DecodeOptions) -> Result<Box<dyn Decoding>, MediaError> {
        let decoder = SpanDecoder::new(span, options.threads)?;
        Ok(Box::new(DecodingHere { decoder, frames: options.frames, given_to_gpu: false }))
    }

    fn decode_audio(
        &self,
        source: &AudioSource,
        cancelled: &dyn Fn() -> bool,
        sink: &mut AudioSink<'_>,
    ) -> Result<i64, MediaError> {
        decode_audio(&source.path, &source.track, source.channels, source.origin, cancelled, sink)
    }

    fn encode_audio(&self, window: AudioWindow) -> Result<Vec<Vec<u8>>, MediaError> {
        encode_window(window.channels, window.bitrate, &window.lead, &window.own)
    }
}

/// A span that is decoded in this process.
pub struct DecodingHere {
    pub decoder: SpanDecoder,
    /// Whether the frames themselves are wanted.
    pub frames: bool,
    /// Whether the decoder was opened on a GPU.
    pub given_to_gpu: bool,
}

impl Decoding for DecodingHere {
    fn on_gpu(&self) -> Option<OnGpu> {
        self.given_to_gpu.then(|| match self.decoder.gpu_trouble() {
            None => OnGpu::Did,
            Some(GpuTrouble::Failed(reason)) => OnGpu::Failed(reason.clone()),
            Some(other) => OnGpu::Declined(other.to_string()),
        })
    }

    fn next_frame(&mut self) -> Result<Option<DecodedFrame>, MediaError> {
        let Some(RankedFrame { rank, frame }) = self.decoder.next_frame()? else { return Ok(None) };
        // A GPU decodes frames faster than one core digests them.
        let (digest, fingerprint) = match self.given_to_gpu {
            true => rayon::join(|| frame.digest(), || LumaFingerprint::of(&frame)),
            false => (frame.digest(), LumaFingerprint::of(&frame)),
        };
        Ok(Some(DecodedFrame { rank, digest, fingerprint, frame: self.frames.then_some(frame) }))
    }
}

/// Counts the frames that a decoder hands out.
pub struct Counted {
    inner: Box<dyn Decoding>,
    frames: Arc<AtomicU64>,
}

impl Counted {
    pub fn new(inner: Box<dyn Decoding>, frames: &Arc<AtomicU64>) -> Counted {
        Counted { inner, frames: Arc::clone(frames) }
    }
}

impl Decoding for Counted {
    fn next_frame(&mut self) -> Result<Option<DecodedFrame>, MediaError> {
        let next = self.inner.next_frame()?;
        self.frames.fetch_add(u64::from(next.is_some()), Ordering::Relaxed);
        Ok(next)
    }

    fn on_gpu(&self) -> Option<OnGpu> {
        self.inner.on_gpu()
    }
}
