//! Decoding as the rest of rivet sees it: the packets of a span go in, its own pictures come out in
//! presentation order, looked at. Where that happens, in this process, in another or on a GPU,
//! changes none of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Frame, FrameDigest, MediaError, Signature, SpanDecoder, SpanPackets};

/// A picture, and what was seen of it.
pub struct DecodedPicture {
    /// In presentation order among the packets of its span.
    pub rank: u32,
    pub digest: FrameDigest,
    pub signature: Signature,
    /// The picture itself, if it was asked for.
    pub frame: Option<Frame>,
}

/// How to decode a span. Nothing of it changes a picture.
#[derive(Clone, Copy, Debug)]
pub struct DecodeOptions {
    pub threads: usize,
    /// Whether the pictures themselves are wanted, and not only what was seen of them.
    pub frames: bool,
    /// Whether all of them will be taken at once, so that there is room for them.
    pub at_once: bool,
}

/// A span on its way through a decoder.
pub trait Decoding: Send {
    /// The next of the span's own pictures; `None` after the last.
    fn next_picture(&mut self) -> Result<Option<DecodedPicture>, MediaError>;
}

/// What decodes spans.
pub trait Decoder: Send + Sync {
    fn open(&self, span: SpanPackets, options: &DecodeOptions) -> Result<Box<dyn Decoding>, MediaError>;
}

/// Decodes in this process, on the CPU.
pub struct DecodesHere;

impl Decoder for DecodesHere {
    fn open(&self, span: SpanPackets, options: &DecodeOptions) -> Result<Box<dyn Decoding>, MediaError> {
        let decoder = SpanDecoder::new(span, options.threads)?;
        Ok(Box::new(Here { decoder, frames: options.frames }))
    }
}

struct Here {
    decoder: SpanDecoder,
    frames: bool,
}

impl Decoding for Here {
    fn next_picture(&mut self) -> Result<Option<DecodedPicture>, MediaError> {
        let Some(decoded) = self.decoder.next_frame()? else { return Ok(None) };
        Ok(Some(DecodedPicture {
            rank: decoded.rank,
            digest: decoded.frame.digest(),
            signature: Signature::of(&decoded.frame),
            frame: self.frames.then_some(decoded.frame),
        }))
    }
}

/// Counts the pictures that another decoder hands out.
pub struct CountingDecoder {
    inner: Arc<dyn Decoder>,
    pictures: Arc<AtomicU64>,
}

impl CountingDecoder {
    pub fn new(inner: Arc<dyn Decoder>) -> CountingDecoder {
        CountingDecoder { inner, pictures: Arc::default() }
    }

    /// Pictures so far; those count twice that were decoded twice.
    pub fn pictures(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }
}

impl Decoder for CountingDecoder {
    fn open(&self, span: SpanPackets, options: &DecodeOptions) -> Result<Box<dyn Decoding>, MediaError> {
        Ok(Box::new(Counted { inner: self.inner.open(span, options)?, pictures: Arc::clone(&self.pictures) }))
    }
}

struct Counted {
    inner: Box<dyn Decoding>,
    pictures: Arc<AtomicU64>,
}

impl Decoding for Counted {
    fn next_picture(&mut self) -> Result<Option<DecodedPicture>, MediaError> {
        let next = self.inner.next_picture()?;
        self.pictures.fetch_add(u64::from(next.is_some()), Ordering::Relaxed);
        Ok(next)
    }
}
