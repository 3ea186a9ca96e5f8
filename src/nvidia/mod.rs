//! NVIDIA's GPUs, through the driver's own libraries, which are loaded when the program runs. It is
//! the lowest layer: it knows nothing of sources, of keys or of what its frames are for.
//!
//! [`gpus`] lists what is there. All work is done in a GPU's [`Context`], which a thread makes
//! current while it calls; [`DeviceBuffer`] is the GPU's memory. A [`VideoDecoder`] decodes a stream
//! on the engines of an [`Nvdec`] and hands its frames to a [`FrameSink`]; an [`Encoder`] makes
//! AV1 of frames. Where there is no driver, each of these says so in an [`NvidiaError`]. Nothing
//! here panics over a library that is not there, or is not what it should be.

mod context;
mod decoder;
mod driver;
mod encoder;
mod error;
mod format;
mod gpu;
mod library;
mod mapped_frame;
mod memory;
mod nvcuvid;
mod session;

pub use context::{Context, Current};
pub use decoder::{FrameSink, VideoDecoder};
pub use driver::{DevicePointer, Driver, RawContext, driver};
pub use encoder::{API_VERSION, EncodeCaps, EncodeError, Encoder, EncoderConfig, Packet, RefusedCall};
pub use error::NvidiaError;
pub use format::VideoFormat;
pub use gpu::{Gpu, driver_version, gpus};
pub use library::{Library, OVERRIDE};
pub use mapped_frame::{MappedFrame, Samples, SamplesMut};
pub use memory::{DeviceBuffer, PinnedBuffer};
pub use nvcuvid::{Codec, DecoderCaps};
pub use session::Nvdec;
