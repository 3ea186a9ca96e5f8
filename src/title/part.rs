//! The parts of a title's graph. Which steps a part has follows from what is known of the title, and from
//! nothing else: whenever something is learned, the parts that it touches are derived anew.

use super::ids::{PackId, TrackId};

/// In the order of their steps' inputs: a step needs only steps of its own part and of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The file and its index.
    Source,
    /// A pack of the source's spans.
    Spans(PackId),
    /// Where the source is cut into chunks.
    Chunks,
    /// The analysis of the audio that the renditions want.
    Audio,
    /// A pack of a track's segments.
    Segments(TrackId, PackId),
    /// What is written once all segments are there.
    Package,
}

/// How often what a part rests on was withdrawn. A step of an earlier revision is another step, though it
/// may have the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(u32);

/// Where revisions come from: one counter a title, so that the latest of several is the largest.
#[derive(Default)]
pub struct Revisions(u32);

impl Revisions {
    pub fn next(&mut self) -> Revision {
        self.0 += 1;
        Revision(self.0)
    }
}
