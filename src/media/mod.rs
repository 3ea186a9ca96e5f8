//! Reading, decoding and converting video and audio. Bytes and frames in, bytes and frames out: nothing here
//! knows of keys, caches or steps.
//!
//! A source file is read in three steps. [`scan`] reads all of its packets once and returns an [`Index`]: the
//! tracks, and for the video track its [`Span`]s, packets that decode by themselves. A [`PacketReader`] reads
//! the packets of a span again, and a [`SpanDecoder`] decodes them to [`Frame`]s in presentation order; a
//! [`PackedSpan`] takes them to another process, which does not need the file. A [`FrameConverter`] makes a
//! rung's frames of the source's. Audio goes through [`decode_audio`] to 48 kHz PCM and through
//! [`encode_window`] to packets. [`probe`] only reads a file's head.

pub mod av1;

mod audio;
mod audio_decoder;
mod codec_parameters;
mod codecs;
mod convert;
mod decode;
mod error;
mod ffi;
mod frame;
mod gpu;
mod hdr;
mod index;
mod libraries;
#[cfg(feature = "nvidia")]
mod nvdec;
#[cfg(not(feature = "nvidia"))]
#[path = "no_nvdec.rs"]
mod nvdec;
mod opus;
mod packed;
mod reader;
mod rotate;
mod scan;
mod score;
pub mod semi_planar;
mod slab;
mod software;
mod timing;

pub use crate::colour::Colour;
pub use audio::{AudioSink, decode_audio};
pub use audio_decoder::AudioDecoder;
pub use codec_parameters::CodecParameters;
pub use codecs::{
    AudioSource, AudioWindow, Codecs, CodecsHere, Counted, DecodeOptions, DecodedFrame, Decoding,
    DecodingHere,
};
pub use convert::{FrameConverter, FrameFormat};
pub use decode::{RankedFrame, SpanDecoder, decodable_codecs};
pub use error::MediaError;
pub use ffi::{decoder_library, init};
pub use frame::{Frame, FrameDigest};
pub use gpu::{GpuAbout, GpuCodec, GpuDecoder, GpuTrouble, OnGpu, gpu_decoder, gpu_decoders};
pub use hdr::{ContentLight, HdrMetadata, MasteringDisplay};
pub use index::{AudioTrack, Index, Rotation, Span, SpanDigest, VideoTrack};
pub use libraries::{Libraries, cpu};
pub use opus::{Blocks, OPUS_FRAME, OPUS_LEAD, OPUS_PRE_SKIP, OPUS_RATE, encode_window, opus_library};
pub use packed::PackedSpan;
pub use reader::{PacketReader, SpanPackets};
pub use scan::{probe, scan};
pub use score::{LumaFingerprint, cut_score};
pub use slab::{FrameMemory, Returns, Shape, Slab, SlabWriter};
pub use timing::{FrameTimes, Rational};
