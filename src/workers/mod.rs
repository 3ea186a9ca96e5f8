//! Encoders and decoders in processes of their own, so that one that crashes, hangs or eats its
//! memory costs an attempt and not the build.
//!
//! A build has a [`WorkerPool`]. [`WorkerCodecs`] and [`WorkerExecutor`]s give it work like any
//! other codecs and executors; in each process [`serve`] does it with this machine's own. A
//! frame is written once, by the process that decodes it, into memory that the build and all
//! encoding processes see; a worker elsewhere gets its samples as messages.

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
