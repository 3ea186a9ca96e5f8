//! The kinds of step as people see them: events, summaries, plans and the build log count by them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal),* $(,)?) => {
        /// A kind of step. In order of distance from the source.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            pub const ALL: [Kind; [$(Kind::$kind),*].len()] = [$(Kind::$kind),*];

            /// As events and summaries spell it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// The source file's digest.
    Source "source",
    /// The tracks of the source, and the spans of its video.
    Index "index",
    /// The frames of a span, or the analysis of an audio track.
    Decode "decode",
    /// Where the source is cut into chunks.
    Chunk "chunk",
    /// A chunk on a rung.
    Encode "encode",
    /// A window of audio in a rendition.
    Audio "audio",
    /// A segment, or an initialisation segment.
    Mux "mux",
    /// Up to 128 segments of one track, or decoded spans, looked up as one.
    Pack "pack",
    /// That all chunks of a rung agree.
    Contract "contract",
    /// An HLS playlist.
    Playlist "playlist",
    /// The output folder.
    Publish "publish",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
