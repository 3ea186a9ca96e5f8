//! The libraries that this process works with, and the CPU, as they go into keys.

use serde::{Deserialize, Serialize};

use super::audio::resampler_identity;
use super::{FrameConverter, ffi, opus_library};

/// Each by name and version, with what else its results depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libraries {
    pub demuxer: String,
    pub decoder: String,
    pub scaler: String,
    pub resampler: String,
    pub opus: String,
}

impl Libraries {
    /// Those of this process.
    pub fn here() -> Libraries {
        Libraries {
            demuxer: ffi::demuxer_library(),
            decoder: ffi::decoder_library(),
            scaler: FrameConverter::identity(),
            resampler: resampler_identity(),
            opus: opus_library(),
        }
    }

    pub fn all(&self) -> [&str; 5] {
        let Libraries { demuxer, decoder, scaler, resampler, opus } = self;
        [demuxer, decoder, scaler, resampler, opus]
    }
}

/// This CPU, by the architecture and all that FFmpeg chooses its code by.
pub fn cpu() -> String {
    format!("{} ({:x})", std::env::consts::ARCH, ffi::cpu_flags())
}
