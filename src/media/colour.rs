//! What the numbers of a picture mean, by the code points of ITU-T H.273, which FFmpeg, MP4
//! and AV1 share. 2 stands for "unspecified".

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Colour {
    /// H.273 ColourPrimaries.
    pub primaries: u8,
    /// H.273 TransferCharacteristics.
    pub transfer: u8,
    /// H.273 MatrixCoefficients, of the encoded 4:2:0 pictures (so never 0, RGB).
    pub matrix: u8,
    /// Whether luma uses all values rather than 16 to 235 (in 8 bits).
    pub full_range: bool,
    /// AV1's chroma_sample_position: 0 unknown, 1 vertical (left), 2 colocated (top left).
    pub chroma_position: u8,
}

impl Colour {
    pub const UNSPECIFIED: u8 = 2;
    pub const BT709: u8 = 1;
    /// The transfer characteristics of SMPTE ST 2084, in which films in high dynamic range mostly are.
    pub const PQ: u8 = 16;
}
