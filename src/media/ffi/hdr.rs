//! FFmpeg's structures of HDR metadata, which the binding leaves out. They are laid out as in
//! libavutil/mastering_display_metadata.h, and have been since FFmpeg 3.

use ffmpeg::codec::packet::side_data::Type;
use ffmpeg::{ffi, frame};
use ffmpeg_next as ffmpeg;

use crate::media::hdr::{ContentLight, HdrMetadata, MasteringDisplay, fixed_point};

#[repr(C)]
#[derive(Clone, Copy)]
struct RawFraction {
    num: i32,
    den: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawMastering {
    /// x and y of red, green and blue.
    primaries: [[RawFraction; 2]; 3],
    white_point: [RawFraction; 2],
    min_luminance: RawFraction,
    max_luminance: RawFraction,
    has_primaries: i32,
    has_luminance: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawContentLight {
    max_cll: u32,
    max_fall: u32,
}

/// A structure out of the bytes of side data, if they are enough for one.
fn structure<T: Copy>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are bytes enough, they need no alignment to be copied, and every pattern of them
    // is one of these structures of plain integers.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn mastering(bytes: &[u8]) -> Option<MasteringDisplay> {
    let raw: RawMastering = structure(bytes)?;
    if raw.has_primaries == 0 || raw.has_luminance == 0 {
        return None;
    }
    let fixed = |value: RawFraction, bits| fixed_point(value.num, value.den, bits);
    // One is 1.0, which no chromaticity that a display has reaches.
    let chromaticity = |value| Some(u16::try_from(fixed(value, 16)?).unwrap_or(u16::MAX));
    let point = |[x, y]: [RawFraction; 2]| Some([chromaticity(x)?, chromaticity(y)?]);
    let [red, green, blue] = raw.primaries;
    Some(MasteringDisplay {
        primaries: [point(red)?, point(green)?, point(blue)?],
        white_point: point(raw.white_point)?,
        max_luminance: fixed(raw.max_luminance, 8)?,
        min_luminance: fixed(raw.min_luminance, 14)?,
    })
}

fn content_light(bytes: &[u8]) -> Option<ContentLight> {
    let raw: RawContentLight = structure(bytes)?;
    let nits = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let light = ContentLight { max_cll: nits(raw.max_cll), max_fall: nits(raw.max_fall) };
    (light.max_cll > 0 || light.max_fall > 0).then_some(light)
}

/// The container's metadata.
pub(in crate::media) fn of_stream(stream: &ffmpeg::Stream<'_>) -> HdrMetadata {
    let mut found = HdrMetadata::default();
    for side in stream.side_data() {
        match side.kind() {
            Type::MasteringDisplayMetadata => found.mastering = mastering(side.data()),
            Type::ContentLightLevel => found.content_light = content_light(side.data()),
            _ => {}
        }
    }
    found
}

/// A frame's own metadata.
pub(in crate::media) fn of_frame(frame: &frame::Video) -> HdrMetadata {
    let data = |kind| {
        // SAFETY: the frame is live; the function returns null or side data of the frame, which has
        // `size` bytes at `data` and lives as long.
        unsafe {
            let side = ffi::av_frame_get_side_data(frame.as_ptr(), kind).as_ref()?;
            (!side.data.is_null()).then(|| std::slice::from_raw_parts(side.data, side.size as usize))
        }
    };
    use ffi::AVFrameSideDataType::{
        AV_FRAME_DATA_CONTENT_LIGHT_LEVEL, AV_FRAME_DATA_MASTERING_DISPLAY_METADATA,
    };
    HdrMetadata {
        mastering: data(AV_FRAME_DATA_MASTERING_DISPLAY_METADATA).and_then(mastering),
        content_light: data(AV_FRAME_DATA_CONTENT_LIGHT_LEVEL).and_then(content_light),
    }
}
