//! Packaging: encoded samples in, files of a stream out, and those files into an output folder.
//! Nothing here encodes, caches or plans; the same samples give the same bytes. A file is a [`Composition`]:
//! what was encoded is named in it and copied only when the file is written.
//!
//! How the parts fit, for one title:
//!
//! - For each [`Track`](crate::stream::Track) an [`init_segment`], and for each of its chunks a [`segment`].
//!   Each is one file of a CMAF track.
//! - [`target_duration`] over all tracks, since their playlists must agree in it, and
//!   [`Bandwidth::measure`] over the sizes of each track's segments.
//! - [`media_playlist`] for each track, and one [`multivariant_playlist`] that names them. Paths
//!   in playlists are [`RelPath`]s, relative to the playlist.
//! - [`publish`] with a [`FileList`] of all these files, or nothing where [`is_current`]
//!   says that they are there.

mod bandwidth;
mod cmaf;
mod composition;
mod hls;
mod path;
mod publish;

pub use bandwidth::{SegmentSize, average_bandwidth, peak_bandwidth};
pub use cmaf::{CmafError, Sample, Segment, init_segment, segment};
pub use composition::{Blobs, ComposeError, Composition, ContentId, Part};
pub use hls::{
    Bandwidth, HlsError, MediaPlaylist, PlaylistSegment, Rendition, media_playlist, multivariant_playlist,
    target_duration,
};
pub use path::{RelPath, RelPathError};
pub use publish::{
    Contents, FileList, FolderDifference, PublishError, PublishFile, PublishReport, Role, check_folder,
    compare, is_current, publish, published_list,
};

#[cfg(test)]
mod test_tools;
#[cfg(test)]
mod tests;
