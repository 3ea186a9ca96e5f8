//! Names of the libraries and encoders in use, as they go into keys.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::media::{AudioDecoder, AudioTrack, Libraries, VideoTrack};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    #[serde(flatten)]
    pub libraries: Libraries,
    /// It only is in keys of what depends on it.
    #[serde(default)]
    pub cpu: String,
    /// By the name that the spec has for them, all that are here.
    pub encoders: BTreeMap<String, Vec<String>>,
}

impl Tools {
    /// All that can matter to a ladder with these encoders.
    pub fn summary(&self, encoders: &BTreeSet<&str>) -> String {
        let encoders = self.encoders.iter().filter(|(name, _)| encoders.contains(name.as_str()));
        let encoders = encoders.flat_map(|(_, identities)| identities).map(String::as_str);
        self.libraries.all().into_iter().chain(encoders).collect::<Vec<_>>().join("; ")
    }

    pub fn decoder_of(&self, track: &VideoTrack) -> String {
        format!("{} {}", self.libraries.decoder, track.codec)
    }

    pub fn audio_decoder_of(&self, track: &AudioTrack) -> String {
        AudioDecoder::of(&track.codec).identity(&self.libraries.decoder, &self.cpu)
    }
}
