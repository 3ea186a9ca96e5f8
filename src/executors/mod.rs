//! What encodes a chunk. An [`Executor`] takes an [`EncodeJob`] and returns a [`Report`] of what
//! happened, in which a failure says whose it is; it is handed its frames and knows nothing of
//! keys or caches. Every encode is held against the rung's [`Contract`] at its first packet.

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
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::media::{Frame, HdrMetadata, PictureFormat};

pub use ffmpeg::Ffmpeg;
pub use find::{Found, Unusable, Wanted, check_options, found_here, is_on_device, open, smallest_side};
#[cfg(feature = "nvidia")]
pub use nvenc::{GpuEncoder, Nvenc, find_nvenc};
pub use rav1e::Rav1e;

pub use crate::stream::{Contract, ContractError};

const RAV1E: &str = "rav1e";
const SVT_AV1: &str = "svt-av1";
const NVENC: &str = "nvenc";
/// Encoders that rivet has names of its own for; all others go by FFmpeg's.
const OWN: [&str; 3] = [RAV1E, SVT_AV1, NVENC];

/// The pictures of a chunk, as decoded. They need not all be in memory at once.
pub trait Pictures: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// All of them in presentation order, from the first. An error ends them.
    fn open(&self) -> Box<dyn Iterator<Item = Result<Arc<Frame>, Failure>> + '_>;

    /// Whether each stays in memory for as long as this is here, rather than only until it is dropped.
    fn stay(&self) -> bool {
        false
    }
}

/// One chunk for one rung.
pub struct EncodeJob<'a> {
    pub pictures: &'a dyn Pictures,
    pub settings: &'a EncodeSettings,
    pub contract: &'a Contract,
    /// Cores that the job may use at a time, at least one. They change no byte.
    pub threads: usize,
    /// Asked between frames and between packets; when it says so, the job ends with [`Blame::Cancelled`].
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What the encoded stream depends on, besides the pictures. All of it is part of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeSettings {
    pub picture: PictureFormat,
    /// Said in every chunk, where the source says it.
    pub hdr: HdrMetadata,
    /// Constant quality on AV1's scale of 0 (best) to 63.
    pub crf: u8,
    pub encoder: EncoderSettings,
}

/// The knobs of one encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncoderSettings {
    Rav1e {
        /// 0 (slowest) to 10.
        speed: u8,
        /// Tiles of a picture: they change the bytes, and let idle cores help with one chunk.
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

/// What came of a job.
#[derive(Debug)]
pub struct Report {
    pub outcome: Result<EncodedChunk, Failure>,
    pub wall: Duration,
    /// The name of the executor that did the job.
    pub executor: String,
}

/// Why a job failed, and on whose account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub blame: Blame,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blame {
    /// The spec asks for what the encoder cannot do.
    Spec,
    /// The source's pictures cannot be encoded.
    Source,
    /// The encoder or the machine.
    Machine,
    /// Nobody: the device has no room for another job beside those that it is at. The same job may
    /// succeed once one of them has ended, and so will fewer of them at a time.
    Refused,
    /// The encoder: its stream cannot be one of the rung's.
    Contract,
    /// Nobody: the build was told to stop.
    Cancelled,
}

impl Failure {
    pub fn machine(message: impl Into<String>) -> Failure {
        Failure { blame: Blame::Machine, message: message.into() }
    }

    /// A header that cannot be read is the machine's fault; one that says something else is not.
    pub(crate) fn contract(encoder: &str, error: &ContractError) -> Failure {
        let blame = match error {
            ContractError::Broken(_) => Blame::Contract,
            ContractError::Unreadable(_) | ContractError::NoLevel { .. } => Blame::Machine,
        };
        Failure { blame, message: format!("{encoder}: {error}") }
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

/// An option that an encoder does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionFault {
    /// As the spec names it.
    pub option: String,
    pub message: String,
    pub hint: String,
}

/// What can be told of an executor, to other processes and to people.
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

    /// Everything about the encoder itself that can change its bytes.
    fn identity(&self) -> String;

    /// The encoder that it runs, as the spec names it.
    fn encoder(&self) -> &str;

    /// Jobs that it can do at a time.
    fn slots(&self) -> usize;

    /// Whether it works on a device of its own, beside the CPUs.
    fn is_device(&self) -> bool {
        false
    }

    /// What it runs on, for people to read.
    fn place(&self) -> String {
        "CPU".to_owned()
    }

    /// Bits a sample that it can encode.
    fn bit_depths(&self) -> Vec<u8> {
        vec![8, 10]
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Report;
}
