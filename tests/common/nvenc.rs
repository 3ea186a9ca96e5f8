//! The NVENC executor as tests with the fake driver use it.

use rivet::testing::executors::{EncodeSettings, EncoderSettings, Nvenc, find_nvenc};
use rivet::testing::media::{Colour, FrameFormat, HdrMetadata, Rotation};

/// Pictures whose rows are no whole number of what a GPU aligns them to, in one depth or the other.
pub fn settings(bit_depth: u8, preset: u8) -> EncodeSettings {
    let colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 1 };
    let picture = FrameFormat { width: 258, height: 146, bit_depth, rotation: Rotation::None, colour };
    EncodeSettings {
        format: picture,
        hdr: HdrMetadata::default(),
        crf: 16,
        encoder: EncoderSettings::Nvenc { preset },
    }
}

/// The encoders of all GPUs that have one.
pub fn found() -> Vec<Nvenc> {
    find_nvenc().unwrap_or_default().into_iter().filter_map(|(_, found)| found.ok()).collect()
}

/// The encoder of the only GPU.
pub fn only() -> Nvenc {
    let mut found = found();
    assert_eq!(found.len(), 1);
    found.remove(0)
}
