//! SVT-AV1, through FFmpeg's `libsvtav1`: an order of magnitude faster than rav1e. Available where the
//! installed FFmpeg has it. Neither threads nor the CPU change its bytes.

use ffmpeg_next::codec;

use super::SVT_AV1;
use super::ffi::library_version;
use super::ffmpeg::{Capabilities, Ffmpeg};
use crate::media;
use crate::spec::catalog;

/// Its own options for what other encoders have FFmpeg's for: no key frame but the first, no scene detection,
/// and one thread, as chunks are encoded in parallel.
const PARAMETERS: (&str, &str) = ("svtav1-params", "keyint=-1:scd=0:lp=1");

/// `None` where the installed FFmpeg has no SVT-AV1. `slots` never changes the bytes.
pub fn find(slots: usize) -> Option<Ffmpeg> {
    media::init();
    let codec = codec::encoder::find_by_name(catalog::SVT_AV1.ffmpeg_name?)?;
    // The library's own version, where it has one to read; FFmpeg's wrapper counts, too.
    let version =
        library_version(b"svt_av1_get_version\0").unwrap_or_else(|| "of unknown version".to_owned());
    let identity = format!("SVT-AV1 {version}, {}", media::decoder_library());
    Some(Ffmpeg::software(SVT_AV1, Capabilities::with(codec, vec![PARAMETERS]), identity, slots))
}
