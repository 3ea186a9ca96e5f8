//! What a build and a worker process say to each other. A worker speaks first; then it does one job
//! at a time, and says nothing unasked but that it is alive.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::executors::{About, EncodeTask, EncodedChunk, Failure, Unusable};
use crate::media::{
    AudioSource, AudioWindow, FrameDigest, GpuAbout, Index, Libraries, LumaFingerprint, MediaError, OnGpu,
    PackedSpan, Shape,
};

/// The first word of a worker. A build only works with its equal: it files what the worker makes under keys
/// that name its own libraries.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Greeting {
    rivet: String,
    /// Of this protocol.
    version: u32,
    pub(super) libraries: Libraries,
}

/// Changes with any change of what is said.
const VERSION: u32 = 4;

impl Greeting {
    pub(super) fn here() -> Greeting {
        Greeting {
            rivet: env!("CARGO_PKG_VERSION").to_owned(),
            version: VERSION,
            libraries: Libraries::here(),
        }
    }

    /// What another has that this one has not, and what this one has in its place; `None` between equals.
    pub(super) fn difference(&self, other: &Greeting) -> Option<String> {
        let of = |greeting: &Greeting| {
            let of_rivet = [format!("rivet {}", greeting.rivet), format!("protocol {}", greeting.version)];
            of_rivet.into_iter().chain(greeting.libraries.all().map(str::to_owned))
        };
        let (theirs, ours) = of(other).zip(of(self)).find(|(theirs, ours)| theirs != ours)?;
        Some(format!("{theirs}, not {ours}"))
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    Encode(Box<EncodeRequest>),
    /// As many frames as were wanted; fewer only where they end.
    Frames(Vec<FrameHandle>),
    Decode(Box<DecodeRequest>),
    /// So many more frames are wanted of the span that is being decoded.
    More(u32),
    /// Slabs of decoded frames that nobody sees any more, by their numbers. Comes between jobs and in the
    /// middle of a decode.
    Returned(Vec<u32>),
    /// Which GPUs there are that decode.
    Gpus,
    /// The GPU with this UUID is to be readied for decoding.
    OpenGpu(String),
    /// Which of these encoders there are, with so many slots.
    Find(usize, BTreeSet<String>),
    Scan(PathBuf),
    DecodeAudio(Box<AudioRequest>),
    EncodeAudio(Box<AudioWindow>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct EncodeRequest {
    /// The executor's name, and who it is expected to be.
    pub executor: String,
    pub identity: String,
    /// Threads that it may use, which change nothing.
    pub threads: usize,
    pub task: EncodeTask,
    /// Frames that there will be.
    pub count: usize,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DecodeRequest {
    pub span: PackedSpan,
    pub threads: usize,
    /// Whether the frames themselves are wanted.
    pub frames: bool,
    /// The UUID of the GPU that shall decode it.
    pub gpu: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AudioRequest {
    pub source: AudioSource,
    /// The decoder that it is expected to go through, with all that its samples depend on.
    pub decoder: String,
}

/// The encoders that were found, and those that cannot be used.
pub(super) type Encoders = (Vec<About>, Vec<Unusable>);

#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    Greeting(Greeting),
    /// A job goes on, and may take longer still.
    Heartbeat,
    /// An encode can take so many more frames.
    Want(u32),
    /// An encode has ended.
    Encoded(Result<EncodedChunk, Failure>),
    /// The span's next frames.
    Decoded(Vec<DecodedFrameHandle>),
    /// A span has ended, or cannot be decoded.
    DecodeEnded(Result<(), MediaError>, Option<OnGpu>),
    /// Those that decode, and what is wrong with others.
    Gpus(Vec<GpuAbout>, Vec<String>),
    /// It decodes, or why it does not.
    GpuOpened(Result<(), String>),
    Found(Result<Encoders, Failure>),
    Scanned(Result<Box<Index>, MediaError>),
    /// The next samples of a audio.
    Samples(Vec<i32>),
    AudioEnded(Result<i64, MediaError>),
    AudioEncoded(Result<Vec<Vec<u8>>, MediaError>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct DecodedFrameHandle {
    pub rank: u32,
    pub digest: FrameDigest,
    pub fingerprint: LumaFingerprint,
    pub frame: Option<FrameHandle>,
}

/// How a frame crosses.
#[derive(Serialize, Deserialize)]
pub(super) struct FrameHandle {
    pub shape: Shape,
    pub samples: Samples,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Samples {
    /// In shared memory, at this offset: in the next of the slabs that came with the message, which has
    /// this number, or in that of the frame before it.
    Shared { next: Option<u32>, offset: usize },
    /// In the message itself, as they lie in a slab.
    Here(#[serde(with = "serde_bytes")] Vec<u8>),
}
