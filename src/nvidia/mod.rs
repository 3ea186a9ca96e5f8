//! NVIDIA's GPUs, through the driver's own libraries, which are loaded when the program runs. It is
//! the lowest layer: it knows nothing of films, of keys or of what its pictures are for.
//!
//! [`gpus`] lists what is there. All work is done in a GPU's [`Context`], which a thread makes
//! current while it calls; [`DeviceBuffer`] is the GPU's memory. A [`VideoDecoder`] decodes a stream
//! on the engines of an [`Nvdec`] and hands its pictures to a [`PictureSink`]; an [`Encoder`] makes
//! AV1 of pictures. Where there is no driver, each of these says so in an [`NvidiaError`]. Nothing
//! here panics over a library that is not there, or is not what it should be.

mod context;
mod decoder;
mod driver;
mod encoder;
mod error;
mod format;
mod gpu;
mod library;
mod memory;
mod nvcuvid;
mod picture;
mod session;

pub use context::{Context, Current};
pub use decoder::{PictureSink, VideoDecoder};
pub use driver::{DevicePointer, Driver, RawContext, driver};
pub use encoder::{API_VERSION, EncodeCaps, EncodeError, Encoder, EncoderConfig, Packet, RefusedCall};
pub use error::NvidiaError;
pub use format::VideoFormat;
pub use gpu::{Gpu, driver_version, gpus};
pub use library::{Library, OVERRIDE};
pub use memory::{DeviceBuffer, PinnedBuffer};
pub use nvcuvid::{Codec, DecoderCaps};
pub use picture::{Picture, Samples, SamplesMut};
pub use session::Nvdec;
