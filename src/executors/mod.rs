//! Encoding of chunks. An [`Executor`] takes an [`EncodeJob`] and returns the chunk; a failure has a
//! [`FailureKind`]. It is handed the frames to encode, converted already, and knows nothing of keys or
//! caches. Every encode is checked against the rung's [`Contract`] at its first packet.

mod collect;
mod ffi;
mod ffmpeg;
mod find;
#[cfg(feature = "nvidia")]
mod nvenc;
mod quality;
mod rav1e;
mod svt_av1;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::media::{Frame, FrameConverter, FrameFormat, HdrMetadata};
use crate::spec::catalog;

pub use ffmpeg::Ffmpeg;
pub use find::{Found, Unusable, Wanted, check_options, found_here, is_on_device, open};
#[cfg(feature = "nvidia")]
pub use nvenc::{GpuEncoder, Nvenc, find_nvenc};
pub use rav1e::Rav1e;

pub use crate::stream::{Contract, ContractError};

const RAV1E: &str = catalog::RAV1E.name;
const SVT_AV1: &str = catalog::SVT_AV1.name;
const NVENC: &str = catalog::NVENC.name;

/// The frames of a chunk, as decoded. They need not all be in memory at once.
pub trait FrameSupply: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// All of them in presentation order, from the first. An error ends them.
    fn open(&self) -> Box<dyn Iterator<Item = Result<Arc<Frame>, Failure>> + '_>;

    /// Whether the supply itself keeps each frame in memory, so that it outlives the caller's reference.
    fn is_retained(&self) -> bool {
        false
    }
}

/// What to make of a chunk's frames, as plain data: the same for an encode in this process, in a worker
/// process and on another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeTask {
    pub settings: EncodeSettings,
    pub contract: Contract,
}

/// One chunk for one rung.
pub struct EncodeJob<'a> {
    pub task: &'a EncodeTask,
    /// The chunk's frames as they were decoded. An executor that hands the job on to another process sends
    /// these, and they are converted there; every other encodes [`EncodeJob::frames`].
    pub decoded: &'a dyn FrameSupply,
    /// Cores that the job may use at a time, at least one. They change no byte.
    pub threads: usize,
    /// Called between frames and between packets; once it returns true the job ends with
    /// [`FailureKind::Cancelled`].
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl EncodeJob<'_> {
    /// The frames to encode, in presentation order, each in the format that the settings name. An error
    /// ends them.
    pub fn frames(&self) -> impl Iterator<Item = Result<Arc<Frame>, Failure>> + '_ {
        let mut converter = FrameConverter::new(self.task.settings.format);
        self.decoded
            .open()
            .map(move |frame| converter.convert(frame?).map_err(|error| Failure::machine(error.to_string())))
    }

    /// How many frames there are.
    pub fn count(&self) -> usize {
        self.decoded.count()
    }
}

/// What the encoded stream depends on, besides the frames. All of it is part of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeSettings {
    pub format: FrameFormat,
    /// Written to every chunk, where the source has it.
    pub hdr: HdrMetadata,
    /// Constant quality on AV1's scale of 0 (best) to 63.
    pub crf: u8,
    pub encoder: EncoderSettings,
}

/// The options of one encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncoderSettings {
    Rav1e {
        /// 0 (slowest) to 10.
        speed: u8,
        /// Tiles of a frame: they change the bytes, and let idle cores help with one chunk.
        tiles: u32,
    },
    SvtAv1 {
        /// SVT-AV1's own scale: 0 (slowest) to 13.
        preset: u8,
    },
    Nvenc {
        /// NVIDIA's own scale: 1 (fastest) to 7 (best).
        preset: u8,
    },
    /// Another AV1 encoder of the installed FFmpeg.
    Ffmpeg {
        /// FFmpeg's name for it, e.g. `libaom-av1`.
        encoder: String,
        /// The encoder's own options, by FFmpeg's names for them.
        options: BTreeMap<String, String>,
    },
}

impl EncoderSettings {
    /// The encoder's name, as the spec spells it.
    pub fn name(&self) -> &str {
        match self {
            EncoderSettings::Rav1e { .. } => RAV1E,
            EncoderSettings::SvtAv1 { .. } => SVT_AV1,
            EncoderSettings::Nvenc { .. } => NVENC,
            EncoderSettings::Ffmpeg { encoder, .. } => encoder,
        }
    }
}

/// A closed sequence: it starts with a key frame and refers to nothing outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedChunk {
    /// The sequence header OBU, with its header and size.
    pub sequence_header: Vec<u8>,
    /// Temporal units as ISO-BMFF stores them, one a frame, in presentation order.
    pub units: Vec<Vec<u8>>,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The encoder does not support what the spec asks for.
    Spec,
    /// The source's frames cannot be encoded.
    Source,
    /// The encoder or the machine failed; a retry may succeed.
    Machine,
    /// The device has no session or memory left for another job. The job may succeed once another has ended.
    ResourceExhausted,
    /// The encoder's stream does not keep the rung's contract.
    Contract,
    /// The build was cancelled.
    Cancelled,
}

impl Failure {
    pub fn machine(message: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Machine, message: message.into() }
    }

    /// A header that cannot be parsed is a failure of the machine; one that differs breaks the contract.
    pub(crate) fn contract(encoder: &str, error: &ContractError) -> Failure {
        let kind = match error {
            ContractError::Broken(_) => FailureKind::Contract,
            ContractError::Unreadable(_) | ContractError::NoLevel { .. } => FailureKind::Machine,
        };
        Failure { kind, message: format!("{encoder}: {error}") }
    }

    fn not_mine(encoder: &str) -> Failure {
        Failure::machine(format!("internal error: settings of another encoder were given to {encoder}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An option that an encoder does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionFault {
    /// Its name in the spec.
    pub option: String,
    pub message: String,
    pub hint: String,
}

/// A description of an executor, for other processes and for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    pub encoder: String,
    pub identity: String,
    pub slots: usize,
    pub is_device: bool,
    pub place: String,
    pub bit_depths: Vec<u8>,
}

impl About {
    pub fn of(executor: &dyn Executor) -> About {
        About {
            name: executor.name().to_owned(),
            encoder: executor.encoder().to_owned(),
            identity: executor.identity(),
            slots: executor.slots(),
            is_device: executor.is_device(),
            place: executor.place(),
            bit_depths: executor.bit_depths(),
        }
    }
}

/// Runs encode jobs.
pub trait Executor: Send + Sync {
    /// Short and stable, e.g. `rav1e`, or `nvenc:1` for the second GPU's.
    fn name(&self) -> &str;

    /// Everything about the encoder itself that can change its bytes, for keys.
    fn identity(&self) -> String;

    /// The encoder's name in the spec.
    fn encoder(&self) -> &str;

    /// Jobs that can run at a time.
    fn slots(&self) -> usize;

    /// Whether it works on a device of its own, beside the CPUs.
    fn is_device(&self) -> bool {
        false
    }

    /// What it runs on, for display.
    fn place(&self) -> String {
        "CPU".to_owned()
    }

    /// Bits per sample that it can encode.
    fn bit_depths(&self) -> Vec<u8> {
        vec![8, 10]
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure>;
}
