//! NVENC, the encoder of NVIDIA's GPUs: one executor a GPU, available where there is a driver and the GPU
//! encodes AV1. One closed sequence a chunk, at constant QP.

use std::sync::Arc;

use super::collect::Collector;
use super::quality::base_q_idx;
use super::{EncodeJob, EncodeTask, EncodedChunk, EncoderSettings, Executor, Failure, FailureKind, NVENC};
use crate::media::{av1, semi_planar};
use crate::nvidia::{
    self, API_VERSION, Context, EncodeCaps, EncodeError, Encoder, EncoderConfig, Gpu, NvidiaError, Packet,
    SamplesMut,
};

/// Jobs at a time for each of a GPU's encode engines: the engine encodes frames of one job while frames of
/// the other are converted and copied.
const JOBS_PER_ENGINE: u32 = 2;

/// The encoder of one GPU.
pub struct Nvenc {
    name: String,
    /// E.g. `NVIDIA GeForce RTX 4090`.
    gpu: String,
    identity: String,
    context: Arc<Context>,
    caps: EncodeCaps,
}

/// A GPU with its encoder, or why it has none.
pub type GpuEncoder = (Gpu, Result<Nvenc, EncodeError>);

/// Every GPU in CUDA's order. An error tells why there is no GPU to be found.
pub fn find_nvenc() -> Result<Vec<GpuEncoder>, NvidiaError> {
    let open = |gpu: Gpu| {
        let found = Nvenc::open(&gpu);
        (gpu, found)
    };
    Ok(nvidia::gpus()?.into_iter().map(open).collect())
}

impl Nvenc {
    /// The encoder of a GPU, or why it has none.
    pub fn open(gpu: &Gpu) -> Result<Nvenc, EncodeError> {
        let context = Context::open(gpu)?;
        let caps = EncodeCaps::of(&context)?;
        let driver = nvidia::driver_version()?;
        let (major, minor) = gpu.compute_capability;
        let (api_major, api_minor) = API_VERSION;
        Ok(Nvenc {
            name: format!("{NVENC}:{}", gpu.ordinal),
            gpu: gpu.name.clone(),
            // Differences between GPUs of one architecture, such as the number of engines, change no byte.
            identity: format!(
                "NVENC, driver {driver}, compute capability {major}.{minor}, API {api_major}.{api_minor}"
            ),
            context,
            caps,
        })
    }

    pub fn caps(&self) -> &EncodeCaps {
        &self.caps
    }

    fn run(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let mut encoder = Encoder::open(&self.context, &self.caps, &configure(job)?).map_err(failure)?;
        let mut chunk = Collector::new(job, NVENC, false);
        for frame in job.frames() {
            if (job.cancelled)() {
                return Err(Failure { kind: FailureKind::Cancelled, message: "interrupted".to_owned() });
            }
            let frame = frame?;
            let packet = encoder.encode(|SamplesMut { luma, chroma, stride }| {
                semi_planar::write_luma(&frame, luma, stride);
                semi_planar::write_chroma(&frame, chroma, stride);
            });
            if let Some(packet) = packet.map_err(failure)? {
                take(&mut chunk, &packet)?;
            }
        }
        encoder.finish().map_err(failure)?;
        while let Some(packet) = encoder.next_packet().map_err(failure)? {
            take(&mut chunk, &packet)?;
        }
        chunk.finish()
    }
}

impl Executor for Nvenc {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn encoder(&self) -> &'static str {
        NVENC
    }

    /// As many as keep the GPU busy. The driver may grant fewer sessions, and tells so only when one is
    /// opened: a job beyond them fails with [`FailureKind::ResourceExhausted`].
    fn slots(&self) -> usize {
        self.caps.engines.saturating_mul(JOBS_PER_ENGINE) as usize
    }

    fn is_device(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        format!("GPU {}", self.gpu)
    }

    fn bit_depths(&self) -> Vec<u8> {
        if self.caps.ten_bit { vec![8, 10] } else { vec![8] }
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        self.run(job)
    }
}

fn configure(job: &EncodeJob<'_>) -> Result<EncoderConfig, Failure> {
    let EncoderSettings::Nvenc { preset } = job.task.settings.encoder else {
        return Err(Failure::not_mine(NVENC));
    };
    let EncodeTask { settings, contract } = job.task;
    let format = &settings.format;
    let agreed = contract.header();
    Ok(EncoderConfig {
        width: format.width,
        height: format.height,
        bit_depth: format.bit_depth,
        preset,
        quantizer: base_q_idx(settings.crf),
        level_idx: agreed.seq_level_idx,
        high_tier: agreed.seq_tier,
        colour: format.colour,
        frames: u32::try_from(job.count()).unwrap_or(u32::MAX),
    })
}

/// A packet counts as a key frame if either the driver's flag or the packet itself says so: a decoder sees
/// only the packet.
fn take(chunk: &mut Collector<'_>, packet: &Packet) -> Result<(), Failure> {
    let starts = av1::is_random_access_point(&packet.bytes)
        .map_err(|error| Failure::machine(format!("{NVENC} made an unreadable packet: {error}")))?;
    let is_key = starts || (packet.number > 0 && packet.is_key);
    chunk.take(&packet.bytes, packet.number, is_key)
}

/// The failure of a job, or of opening an encoder for one.
pub(super) fn failure(error: EncodeError) -> Failure {
    let kind = match &error {
        EncodeError::Unsupported(_) => FailureKind::Spec,
        EncodeError::NoRoom(_) => FailureKind::ResourceExhausted,
        EncodeError::Nvidia(_)
        | EncodeError::TooOld { .. }
        | EncodeError::NoEncoder
        | EncodeError::NoAv1
        | EncodeError::Call(_)
        | EncodeError::Broken(_) => FailureKind::Machine,
    };
    Failure { kind, message: format!("{NVENC}: {error}") }
}
