//! Coding-independent code points (ITU-T H.273): what the samples of a frame mean. FFmpeg, MP4 and AV1 share
//! the numbers. It stands below all folders, since a GPU's encoder is told the same as a container.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Colour {
    /// H.273 ColourPrimaries.
    pub primaries: u8,
    /// H.273 TransferCharacteristics.
    pub transfer: u8,
    /// H.273 MatrixCoefficients, of the encoded 4:2:0 frames (so never 0, RGB).
    pub matrix: u8,
    /// Whether luma uses all values rather than 16 to 235 (in 8 bits).
    pub full_range: bool,
    /// AV1's chroma_sample_position: 0 unknown, 1 vertical (left), 2 colocated (top left).
    pub chroma_position: u8,
}

impl Colour {
    pub const UNSPECIFIED: u8 = 2;
    pub const BT709: u8 = 1;
    /// The transfer characteristics of SMPTE ST 2084, which most sources in high dynamic range have.
    pub const PQ: u8 = 16;
}
