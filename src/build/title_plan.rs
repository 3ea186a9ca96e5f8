//! What a build would do of one title, as far as it is known.

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct TitlePlan {
    pub name: String,
    /// Whether it is known how the film is cut; if not, what there is to encode is known once it
    /// has been decoded.
    pub exact: bool,
    pub up_to_date: bool,
    /// Length of the picture, as far as it is known.
    pub seconds: f64,
    pub tracks: Vec<TrackPlan>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TrackPlan {
    pub name: String,
    /// Width and height of the picture; `None` for sound.
    pub size: Option<(u32, u32)>,
    pub segments: u64,
    pub to_encode: u64,
    pub seconds_to_encode: f64,
    /// The numbers of the segments to encode, from 1, as ranges.
    pub which: Vec<(u64, u64)>,
    /// Why they would be encoded.
    pub why: Vec<String>,
}
