//! AV1 by a GPU's encoder, NVENC (Ada and newer), through the function table of
//! `libnvidia-encode.so.1`. The rules are those of NVIDIA's `nvEncodeAPI.h` 12.1, and of the
//! programming guide that goes with it.
//!
//! [`EncodeCaps::of`] asks what a GPU's encoder can do. An [`Encoder`] encodes one closed sequence:
//! frames go in by [`Encoder::encode`], packets come out in presentation order, a temporal unit
//! a frame, the last of them after [`Encoder::finish`]. All errors are [`EncodeError`]s.

mod api;
mod caps;
mod config;
mod error;
mod session;
mod slot;
mod stream;

pub use api::API_VERSION;
pub use caps::EncodeCaps;
pub use config::EncoderConfig;
pub use error::{EncodeError, RefusedCall};
pub use stream::{Encoder, Packet};
