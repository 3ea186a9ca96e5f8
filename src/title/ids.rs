//! The numbers by which the parts of a title are known. Each is a type of its own, so that a chunk's
//! number is never taken for a track's. They count from 0; people are shown numbers from 1.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(u32);

        impl $name {
            pub fn new(index: usize) -> $name {
                $name(u32::try_from(index).unwrap_or(u32::MAX))
            }

            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (u64::from(self.0) + 1).fmt(f)
            }
        }
    };
}

id! {
    /// A title of the ladder, in the spec's order.
    TitleId
}
id! {
    /// A track of a title's output: first the rungs, then the audio renditions, each in the spec's order.
    TrackId
}
id! {
    /// A span of the source's video track.
    SpanId
}
id! {
    /// A chunk of the video, or a window of an audio track: what becomes one segment of a track.
    ChunkId
}
id! {
    /// A pack of a track's segments, or of the source's spans.
    PackId
}
id! {
    /// One way of mixing one audio track of the source; several renditions may share it.
    AudioId
}
