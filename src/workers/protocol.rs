//! The messages between a build and a worker process. The worker sends a greeting first; then it does one job
//! at a time, and sends nothing but replies and heartbeats.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::executors::{About, EncodeTask, EncodedChunk, Failure, Unusable};
use crate::media::{
    AudioSource, AudioWindow, FrameDigest, GpuAbout, Index, Libraries, LumaFingerprint, MediaError, OnGpu,
    PackedSpan, Shape,
};

/// A worker's first message. Versions must be those of the build, since the build stores the worker's results
/// under keys that name its own libraries.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Greeting {
    rivet: String,
    /// The version of this protocol.
    version: u32,
    pub(super) libraries: Libraries,
}

/// Changes with any change of the messages.
const VERSION: u32 = 4;

impl Greeting {
    pub(super) fn here() -> Greeting {
        Greeting {
            rivet: env!("CARGO_PKG_VERSION").to_owned(),
            version: VERSION,
            libraries: Libraries::here(),
        }
    }

    /// The first version in which the other differs from this one; `None` where all are equal.
    pub(super) fn difference(&self, other: &Greeting) -> Option<String> {
        let of = |greeting: &Greeting| {
            let of_rivet = [format!("rivet {}", greeting.rivet), format!("protocol {}", greeting.version)];
            of_rivet.into_iter().chain(greeting.libraries.all().map(str::to_owned))
        };
        let (theirs, ours) = of(other).zip(of(self)).find(|(theirs, ours)| theirs != ours)?;
        Some(format!("{theirs}, expected {ours}"))
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    Encode(Box<EncodeRequest>),
    /// The frames that [`Reply::Want`] asked for; fewer only at the end.
    Frames(Vec<FrameHandle>),
    Decode(Box<DecodeRequest>),
    /// Asks for that many more frames of the span that is being decoded.
    More(u32),
    /// Numbers of slabs whose frames the build has dropped. Comes between jobs and in the middle of a decode.
    Returned(Vec<u32>),
    /// Lists the GPUs that decode.
    Gpus,
    /// Initializes the GPU with this UUID for decoding.
    OpenGpu(String),
    /// Looks for these encoders, each with that many slots.
    Find(usize, BTreeSet<String>),
    Scan(PathBuf),
    DecodeAudio(Box<AudioRequest>),
    EncodeAudio(Box<AudioWindow>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct EncodeRequest {
    /// The executor's name, and the identity that the build has keyed its results by.
    pub executor: String,
    pub identity: String,
    /// Threads that the encode may use; they change no byte.
    pub threads: usize,
    pub task: EncodeTask,
    /// Frames that there will be.
    pub count: usize,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DecodeRequest {
    pub span: PackedSpan,
    pub threads: usize,
    /// Whether the frames are sent, and not only their digests and fingerprints.
    pub frames: bool,
    /// The UUID of the GPU that shall decode it.
    pub gpu: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AudioRequest {
    pub source: AudioSource,
    /// The identity of the decoder that the build has keyed the samples by.
    pub decoder: String,
}

/// The encoders that were found, and those that cannot be used.
pub(super) type Encoders = (Vec<About>, Vec<Unusable>);

#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    Greeting(Greeting),
    /// A job goes on; the timeout starts anew.
    Heartbeat,
    /// Asks for that many more frames to encode.
    Want(u32),
    /// The end of an encode.
    Encoded(Result<EncodedChunk, Failure>),
    /// The span's next frames.
    Decoded(Vec<DecodedFrameHandle>),
    /// The end of a span, or why it cannot be decoded.
    DecodeEnded(Result<(), MediaError>, Option<OnGpu>),
    /// The GPUs that decode, and what is wrong with others.
    Gpus(Vec<GpuAbout>, Vec<String>),
    /// Why a GPU does not decode, if it does not.
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

/// A frame in a message.
#[derive(Serialize, Deserialize)]
pub(super) struct FrameHandle {
    pub shape: Shape,
    pub samples: Samples,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Samples {
    /// In shared memory, at this offset. `next`: the number of a slab whose handle is the next of those that
    /// came with the message; without it the frame lies in the slab of the frame before it.
    Shared { next: Option<u32>, offset: usize },
    /// In the message itself, laid out as in a slab.
    Here(#[serde(with = "serde_bytes")] Vec<u8>),
}
