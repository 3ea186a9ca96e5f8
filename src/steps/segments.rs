//! The segments of a track as they are published: their names, their sizes, their bit rates. Segments are
//! named by number and content, so that a new version never overwrites what a player of the old one may
//! still ask for; playlists keep their names.

use crate::cache::Digest;
use crate::package::{Bandwidth, ContentId, RelPath, SegmentSize};
use crate::title::Title;
use crate::title::chunk::Chunk;
use crate::title::ids::{PackId, TrackId};

use super::error::StepError;
use super::pack::PackSegments;

/// The multivariant playlist's name.
pub const ENTRY: &str = "master.m3u8";
/// A media playlist's name, in its track's folder.
pub(crate) const PLAYLIST: &str = "playlist.m3u8";

pub(crate) struct Segments {
    pub files: Vec<ContentId>,
    /// Ticks.
    pub durations: Vec<u64>,
    pub timescale: u32,
}

impl Segments {
    pub fn of(title: &Title, track: TrackId) -> Result<Segments, StepError> {
        let made = title.track(track).and_then(|track| track.segments());
        Ok(Segments {
            files: made.ok_or_else(StepError::early)?,
            durations: title.chunks_of(track).iter().map(Chunk::duration).collect(),
            timescale: title.timescale(track),
        })
    }

    /// Measured over stretches of about the target duration, in seconds.
    pub fn bandwidth(&self, target: u64) -> Bandwidth {
        let sizes = self.files.iter().zip(&self.durations);
        let sizes: Vec<SegmentSize> =
            sizes.map(|(file, &duration)| SegmentSize { bytes: file.size, duration }).collect();
        Bandwidth::measure(&sizes, self.timescale, target)
    }
}

/// The packs of a track.
pub(crate) fn packs_of(title: &Title, track: TrackId) -> impl Iterator<Item = PackSegments> + use<> {
    let packs = title.track(track).map_or(0, |track| track.packs.len());
    (0..packs).map(move |pack| PackSegments { track, pack: PackId::new(pack) })
}

pub(crate) fn path(path: String) -> Result<RelPath, StepError> {
    RelPath::new(path).map_err(StepError::internal)
}

/// `number` counts from 1.
pub(crate) fn segment_name(number: usize, file: &ContentId) -> String {
    format!("{number:05}-{}.m4s", Digest::from(file.digest).short())
}

pub(crate) fn init_name(file: &ContentId) -> String {
    format!("init-{}.mp4", Digest::from(file.digest).short())
}
