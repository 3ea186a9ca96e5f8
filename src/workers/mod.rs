//! Encoders and decoders in processes of their own, so that one that crashes, hangs or runs out of memory
//! costs an attempt and not the build.
//!
//! A build has a [`WorkerPool`]. [`WorkerCodecs`] and [`WorkerExecutor`]s send it the same work that
//! in-process codecs and executors do; in each worker [`serve`] does it. The process that decodes a frame
//! writes it once, to memory shared with the build and all encoding processes; a worker on another machine
//! gets the samples in messages. Frames travel as they were decoded, and are converted where they are
//! encoded.

mod channel;
mod codecs;
mod encode;
mod frame_arena;
mod frame_batch;
mod pool;
mod process;
mod protocol;
mod serve;

pub use codecs::WorkerCodecs;
pub use encode::WorkerExecutor;
pub use pool::{WorkerOptions, WorkerPool};
pub use process::WorkerCommand;
pub use serve::serve;
