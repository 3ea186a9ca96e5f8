//! Versions of the libraries that this process uses, and the CPU, for keys.

use serde::{Deserialize, Serialize};

use super::audio::resampler_identity;
use super::{FrameConverter, ffi, opus_library};

/// Name and version of each, with everything else that its results depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libraries {
    pub demuxer: String,
    pub decoder: String,
    pub scaler: String,
    pub resampler: String,
    pub opus: String,
}

impl Libraries {
    /// The libraries of this process.
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

/// This CPU: the architecture, and the features by which FFmpeg selects its code.
pub fn cpu() -> String {
    format!("{} ({:x})", std::env::consts::ARCH, ffi::cpu_flags())
}
