//! GPUs that decode video, as far as others need to know of them. A GPU only ever saves time: its
//! pictures are those of the software decoder, to the last sample, or they are not used.

use super::{MediaError, nvdec};

/// A GPU that decodes. Its decoders wait here for their next span, so clones share them.
#[derive(Clone)]
pub struct GpuDecoder {
    /// E.g. `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// As `nvidia-smi -L` prints it.
    pub uuid: String,
    /// Spans that it decodes at a time without one waiting for another.
    pub engines: u32,
    pub codecs: Vec<GpuCodec>,
    pub(super) device: nvdec::Device,
}

/// What a GPU decodes: 4:2:0, progressive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuCodec {
    /// As people write it, e.g. `H.264`.
    pub name: &'static str,
    /// Bits of a sample.
    pub bit_depth: u8,
    /// Largest size in samples.
    pub max: (u32, u32),
}

/// Why a span was decoded in software after all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuTrouble {
    /// Such streams are not for this GPU.
    #[error("{0}")]
    Unsupported(String),
    /// This stream did not come out as it should.
    #[error("{0}")]
    Anomaly(String),
    /// The GPU or its driver failed. It is better not asked again.
    #[error("{0}")]
    Failed(String),
}

/// The GPUs of this machine that decode; none where there is no driver. Asking takes a good part of
/// a second for each, which then stays ready until the last clone is dropped.
pub fn gpu_decoders() -> Result<Vec<GpuDecoder>, MediaError> {
    nvdec::find().map_err(|trouble| MediaError::Gpu { reason: trouble.to_string() })
}
