//! GPUs that decode video, independent of their maker. A GPU only saves time: its frames equal those of the
//! software decoder in every sample, or they are not used.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{MediaError, VideoTrack, nvdec};

/// A GPU that decodes, with its pool of open decoders, which clones share.
#[derive(Clone)]
pub struct GpuDecoder {
    /// E.g. `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// As `nvidia-smi -L` prints it.
    pub uuid: String,
    /// Frames that it decodes at a time.
    pub engines: u32,
    pub codecs: Vec<GpuCodec>,
    pub(super) device: nvdec::Device,
}

/// A description of a GPU that decodes, for other processes and for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuAbout {
    pub name: String,
    pub uuid: String,
    pub engines: u32,
    pub codecs: Vec<GpuCodec>,
}

impl GpuAbout {
    /// Spans to decode at a time. With one span per engine, the engine would idle while a span begins and
    /// ends.
    pub fn spans_at_a_time(&self) -> usize {
        2 * self.engines as usize
    }

    /// Whether it may be given spans of a track. The decoder still checks each span.
    pub fn decodes(&self, track: &VideoTrack) -> bool {
        let is_420 =
            ["yuv420p", "yuvj420p", "yuv420p10le", "yuv420p12le"].contains(&track.pixel_format.as_str());
        let name = match track.codec.as_str() {
            "h264" => "H.264",
            "hevc" => "HEVC",
            "vp9" => "VP9",
            "av1" => "AV1",
            _ => return false,
        };
        let fits = |codec: &GpuCodec| track.width <= codec.max.0 && track.height <= codec.max.1;
        let mut codecs = self.codecs.iter();
        is_420 && codecs.any(|codec| codec.name == name && codec.bit_depth == track.bit_depth && fits(codec))
    }
}

impl GpuDecoder {
    pub fn about(&self) -> GpuAbout {
        GpuAbout {
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            engines: self.engines,
            codecs: self.codecs.clone(),
        }
    }
}

/// What a GPU decodes: 4:2:0, progressive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuCodec {
    /// As people write it, e.g. `H.264`.
    pub name: Cow<'static, str>,
    /// Bits of a sample.
    pub bit_depth: u8,
    /// Largest size in samples.
    pub max: (u32, u32),
}

/// The outcome of a span that was given to a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnGpu {
    /// The GPU decoded it.
    Did,
    /// It was decoded in software; other spans may still go to the GPU.
    Declined(String),
    /// It was decoded in software, and the GPU should not be used again.
    Failed(String),
}

/// Why a span that was given to a GPU was decoded in software.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuTrouble {
    /// The GPU does not decode such streams.
    #[error("{0}")]
    Unsupported(String),
    /// The GPU's output for this stream was not as expected.
    #[error("{0}")]
    Anomaly(String),
    /// The GPU or its driver failed. It should not be used again.
    #[error("{0}")]
    Failed(String),
}

/// The GPUs of this machine that decode, and what is wrong with others; both are empty without a driver.
/// Initializing takes up to a second for each GPU, which then stays initialized until its last clone is
/// dropped.
pub fn gpu_decoders() -> (Vec<GpuDecoder>, Vec<MediaError>) {
    nvdec::find(None)
}

/// The GPU with this UUID; others are not initialized.
pub fn gpu_decoder(uuid: &str) -> Result<Option<GpuDecoder>, MediaError> {
    let (found, problems) = nvdec::find(Some(uuid));
    problems.into_iter().next().map_or(Ok(found.into_iter().next()), Err)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/friday_640x480_30_aac.mp4");

    #[test]
    fn a_gpu_is_given_what_it_can_decode() {
        let about = |bit_depth, max| GpuAbout {
            name: "a GPU".to_owned(),
            uuid: "GPU-1".to_owned(),
            engines: 1,
            codecs: vec![GpuCodec { name: "H.264".into(), bit_depth, max }],
        };
        let track = crate::media::scan(Path::new(CLIP), &|| false).unwrap().video;
        assert!(about(8, (640, 480)).decodes(&track));
        assert!(!about(8, (639, 480)).decodes(&track), "too small");
        assert!(!about(10, (640, 480)).decodes(&track), "another depth");
        assert!(!about(8, (640, 480)).decodes(&VideoTrack { codec: "hevc".to_owned(), ..track.clone() }));
        for other in ["yuv422p", "yuv444p", "gray"] {
            let track = VideoTrack { pixel_format: other.to_owned(), ..track.clone() };
            assert!(!about(8, (640, 480)).decodes(&track), "{other}");
        }
    }
}
