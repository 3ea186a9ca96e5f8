//! SVT-AV1, through FFmpeg's `libsvtav1`: an order of magnitude faster than rav1e. It is there where
//! the installed FFmpeg has it. Neither threads nor the CPU change its bytes.

use ffmpeg_next::codec;

use super::SVT_AV1;
use super::ffi::library_version;
use super::ffmpeg::{Capabilities, Ffmpeg};
use crate::media;

/// FFmpeg's name for it.
const CODEC: &str = "libsvtav1";

/// Its frames are at least as wide and as high.
pub const MIN_SIDE: u32 = 64;

/// It has options of its own for what others are told by FFmpeg's: no key frame but the first, no
/// search for scenes, and one thread, as chunks run side by side.
const PARAMETERS: (&str, &str) = ("svtav1-params", "keyint=-1:scd=0:lp=1");

/// `None` where the installed FFmpeg has no SVT-AV1. `slots` never changes the bytes.
pub fn find(slots: usize) -> Option<Ffmpeg> {
    media::init();
    let codec = codec::encoder::find_by_name(CODEC)?;
    // Its own version where it tells it; the wrapper's version counts, too.
    let version =
        library_version(b"svt_av1_get_version\0").unwrap_or_else(|| "of unknown version".to_owned());
    let identity = format!("SVT-AV1 {version}, {}", media::decoder_library());
    Some(Ffmpeg::software(SVT_AV1, Capabilities::with(codec, vec![PARAMETERS]), identity, slots))
}
