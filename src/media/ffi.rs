//! The one place that reaches through FFmpeg's bindings to raw structures. Each function takes
//! and returns safe values; each unsafe block says why it holds.

pub(super) mod codec_parameters;
pub(super) mod hdr;
pub(super) mod transfer;

use std::ffi::CStr;
use std::path::Path;
use std::sync::Once;

use ffmpeg::codec::{self, packet::Mut as _};
use ffmpeg::ffi;
use ffmpeg::format::context::Input;
use ffmpeg::{Dictionary, Packet, frame};
use ffmpeg_next as ffmpeg;

use super::{Colour, MediaError, Rational, Rotation};

/// The resampling library and its version.
pub(super) fn resampler_library() -> String {
    // SAFETY: the function only returns a number.
    format!("libswresample {}", version(unsafe { ffi::swresample_version() }))
}

/// Readies FFmpeg's libraries, and silences their own messages: what matters comes as an error.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Only old FFmpeg registers anything here, and it cannot fail.
        let _ = ffmpeg::init();
        ffmpeg::log::set_level(ffmpeg::log::Level::Quiet);
    });
}

fn version(version: u32) -> String {
    format!("{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}

/// The CPU features by which FFmpeg selects its code, a bit each.
pub(super) fn cpu_flags() -> i32 {
    // SAFETY: the function only returns a number.
    unsafe { ffi::av_get_cpu_flags() }
}

/// The codec of this name.
pub(super) fn codec_named(name: &str) -> Option<codec::Id> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: the name is a C string that outlives the call, which returns null or a static description.
    let descriptor = unsafe { ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() };
    descriptor.map(|descriptor| codec::Id::from(descriptor.id))
}

/// The demuxing library and its version, e.g. `libavformat 59.27.100`.
pub(super) fn demuxer_library() -> String {
    format!("libavformat {}", version(ffmpeg::format::version()))
}

/// The decoding library and its version.
pub fn decoder_library() -> String {
    format!("libavcodec {}", version(codec::version()))
}

/// The scaling library and its version.
pub(super) fn scaler_library() -> String {
    // SAFETY: the function only returns a number.
    format!("libswscale {}", version(unsafe { ffi::swscale_version() }))
}

/// Opens a media file. Only files are read: a playlist cannot reach out to the network.
pub(super) fn open(path: &Path) -> Result<Input, MediaError> {
    init();
    let unreadable = |reason: String| MediaError::Open { path: path.to_owned(), reason };
    let meta = std::fs::metadata(path).map_err(|error| MediaError::opening(path, &error))?;
    if !meta.is_file() {
        return Err(unreadable("it is not a regular file".to_owned()));
    }
    std::fs::File::open(path).map_err(|error| MediaError::opening(path, &error))?;
    let not_media = |reason: String| MediaError::NotMedia { path: path.to_owned(), reason };
    if meta.len() == 0 {
        return Err(not_media("the file is empty".to_owned()));
    }
    let name = path.to_str().filter(|name| !name.contains('\0'));
    let name = name
        .ok_or_else(|| unreadable("its path is not valid UTF-8, which FFmpeg's libraries need".to_owned()))?;
    let mut options = Dictionary::new();
    options.set("protocol_whitelist", "file");
    // `file:` keeps a name with a colon from being taken for a protocol.
    let input = ffmpeg::format::input_with_dictionary(&format!("file:{name}"), options)
        .map_err(|error| not_media(error.to_string()))?;
    // Their content lies in other files, which this file's digest does not cover.
    if PLAYLISTS.contains(&input.format().name()) {
        return Err(not_media("it is a playlist; name the media file itself".to_owned()));
    }
    Ok(input)
}

/// FFmpeg's names of what reads other files than its own.
const PLAYLISTS: [&str; 6] = ["concat", "concatf", "hls", "dash", "sdp", "imf"];

/// Tells the demuxer to drop every stream but those in `wanted`.
pub(super) fn keep_streams(input: &mut Input, wanted: &[usize]) {
    let count = input.nb_streams() as usize;
    // SAFETY: `input` is exclusively borrowed and open, so its array of `nb_streams` stream
    // pointers is valid, and nothing else reads or writes the field.
    unsafe {
        let streams = (*input.as_mut_ptr()).streams;
        for index in 0..count {
            if !wanted.contains(&index) {
                (**streams.add(index)).discard = ffi::AVDiscard::AVDISCARD_ALL;
            }
        }
    }
}

/// Seeks to a random-access point at or before `stamp`, in the stream's own time base.
pub(super) fn seek(input: &mut Input, stream: usize, stamp: i64) -> bool {
    // SAFETY: `input` is exclusively borrowed and open; av_seek_frame checks the stream number.
    unsafe { ffi::av_seek_frame(input.as_mut_ptr(), stream as i32, stamp, ffi::AVSEEK_FLAG_BACKWARD) >= 0 }
}

/// What decoding a track needs, read off its codec parameters.
pub(super) struct Parameters {
    pub codec: String,
    pub digest: [u8; 32],
    pub width: u32,
    pub height: u32,
    pub sample_aspect: Option<Rational>,
    pub pixel_format: ffmpeg::format::Pixel,
    pub colour: Colour,
    pub sample_rate: u32,
    pub channels: u32,
}

pub(super) fn parameters(stream: &ffmpeg::Stream<'_>) -> Parameters {
    use ffi::AVCodecID::*;
    let parameters = stream.parameters();
    // SAFETY: `parameters` keeps the format context alive; FFmpeg guarantees that `codecpar` is
    // valid while it is, and that `extradata` has `extradata_size` bytes or is null.
    let (par, extradata) = unsafe {
        let par = &*parameters.as_ptr();
        let extradata: &[u8] = match (par.extradata.is_null(), usize::try_from(par.extradata_size)) {
            (false, Ok(size)) => std::slice::from_raw_parts(par.extradata, size),
            _ => &[],
        };
        (par, extradata)
    };
    // SAFETY: avcodec_get_name returns a static string for every number.
    let codec = unsafe { CStr::from_ptr(ffi::avcodec_get_name(par.codec_id)) }.to_string_lossy().into_owned();
    // For these codecs the four-character code only names the container's format of them.
    let own_headers = matches!(
        par.codec_id,
        AV_CODEC_ID_H264
            | AV_CODEC_ID_HEVC
            | AV_CODEC_ID_AV1
            | AV_CODEC_ID_VP8
            | AV_CODEC_ID_VP9
            | AV_CODEC_ID_MPEG2VIDEO
    );
    let mut hasher = blake3::Hasher::new_derive_key("rivet codec parameters v1");
    hasher.update(codec.as_bytes()).update(&[0]);
    hasher.update(&(extradata.len() as u64).to_le_bytes()).update(extradata);
    hasher.update(&if own_headers { 0 } else { par.codec_tag }.to_le_bytes());
    // For codecs with headers of their own, the container's values are only hints.
    let hints =
        if own_headers { [0; 4] } else { [par.width, par.height, par.format, par.bits_per_coded_sample] };
    for hint in hints {
        hasher.update(&hint.to_le_bytes());
    }
    let code = |value: i32| u8::try_from(value).ok().filter(|&v| v != 0).unwrap_or(Colour::UNSPECIFIED);
    let pixel_format = pixel_format(par.format);
    let full = par.color_range == ffi::AVColorRange::AVCOL_RANGE_JPEG
        || matches!(
            pixel_format,
            ffmpeg::format::Pixel::YUVJ420P
                | ffmpeg::format::Pixel::YUVJ422P
                | ffmpeg::format::Pixel::YUVJ444P
        );
    let colour = Colour {
        primaries: code(par.color_primaries as i32),
        transfer: code(par.color_trc as i32),
        // RGB becomes luma and chroma here, in BT.709 and limited range.
        matrix: if is_rgb(pixel_format) { Colour::BT709 } else { code(par.color_space as i32) },
        full_range: full && !is_rgb(pixel_format),
        // AV1 knows two positions for 4:2:0; H.273's other ones have no equal there.
        chroma_position: match par.chroma_location {
            ffi::AVChromaLocation::AVCHROMA_LOC_LEFT => 1,
            ffi::AVChromaLocation::AVCHROMA_LOC_TOPLEFT => 2,
            _ => 0,
        },
    };
    // SAFETY: reads of a plain field; FFmpeg before 5.1 is not supported by the binding's
    // ch_layout, so ask the structure that the binding was made from.
    let channels = u32::try_from(par.ch_layout.nb_channels).unwrap_or(0);
    Parameters {
        codec,
        digest: *hasher.finalize().as_bytes(),
        width: u32::try_from(par.width).unwrap_or(0),
        height: u32::try_from(par.height).unwrap_or(0),
        sample_aspect: positive(par.sample_aspect_ratio.num, par.sample_aspect_ratio.den),
        pixel_format,
        colour,
        sample_rate: u32::try_from(par.sample_rate).unwrap_or(0),
        channels,
    }
}

/// A fraction of FFmpeg's, if it is positive.
pub(super) fn positive(num: i32, den: i32) -> Option<Rational> {
    Rational::new(u64::try_from(num).ok()?, u64::try_from(den).ok()?)
}

/// FFmpeg's format of that number; none where it knows no such format.
pub(super) fn pixel_format(number: i32) -> ffmpeg::format::Pixel {
    // SAFETY: av_pix_fmt_desc_get_id returns a valid enumeration value for a valid descriptor;
    // the number becomes an enumeration only after the library has confirmed that it knows it.
    // Formats beyond the binding's enumeration do not arise: it is made from the same headers.
    unsafe {
        if number < 0 || number >= ffi::AVPixelFormat::AV_PIX_FMT_NB as i32 {
            return ffmpeg::format::Pixel::None;
        }
        ffmpeg::format::Pixel::from(std::mem::transmute::<i32, ffi::AVPixelFormat>(number))
    }
}

/// Bits of a sample of the first component; 8 when the format is not known.
pub(super) fn bit_depth(format: ffmpeg::format::Pixel) -> u8 {
    // SAFETY: the returned descriptor is null or static.
    let depth = unsafe { ffi::av_pix_fmt_desc_get(format.into()).as_ref().map(|d| d.comp[0].depth) };
    depth.and_then(|depth| u8::try_from(depth).ok()).unwrap_or(8)
}

/// Whether samples are red, green and blue rather than luma and chroma.
pub(super) fn is_rgb(format: ffmpeg::format::Pixel) -> bool {
    // SAFETY: as in `bit_depth`.
    unsafe {
        ffi::av_pix_fmt_desc_get(format.into())
            .as_ref()
            .is_some_and(|d| d.flags & ffi::AV_PIX_FMT_FLAG_RGB as u64 != 0)
    }
}

/// The rotation that the container asks players for (the display matrix of ISO/IEC 14496-12).
pub(super) fn rotation(stream: &ffmpeg::Stream<'_>) -> Rotation {
    for side in stream.side_data() {
        if side.kind() != codec::packet::side_data::Type::DisplayMatrix {
            continue;
        }
        let mut matrix = [0i32; 9];
        let data = side.data();
        if data.len() < 36 {
            continue;
        }
        for (value, bytes) in matrix.iter_mut().zip(data.chunks_exact(4)) {
            *value = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        // SAFETY: the function reads nine numbers, which `matrix` has.
        let degrees = unsafe { ffi::av_display_rotation_get(matrix.as_ptr()) };
        // FFmpeg counts anticlockwise; not a number for a degenerate matrix.
        return match (-degrees / 90.0).round() as i64 {
            _ if degrees.is_nan() => Rotation::None,
            turns => match turns.rem_euclid(4) {
                1 => Rotation::Rotate90,
                2 => Rotation::Rotate180,
                3 => Rotation::Rotate270,
                _ => Rotation::None,
            },
        };
    }
    Rotation::None
}

/// The visible bytes of a row and the number of rows of a plane of a frame; `None` for a plane
/// that the format does not have, and for sizes that no frame has.
pub(super) fn plane_shape(
    format: ffmpeg::format::Pixel,
    width: u32,
    height: u32,
    plane: usize,
) -> Option<(usize, usize)> {
    let (width, height) = (i32::try_from(width).ok()?, usize::try_from(i32::try_from(height).ok()?).ok()?);
    // SAFETY: as in `bit_depth`; av_image_get_linesize only does arithmetic on its arguments.
    unsafe {
        let format: ffi::AVPixelFormat = format.into();
        let descriptor = ffi::av_pix_fmt_desc_get(format).as_ref()?;
        let bytes = ffi::av_image_get_linesize(format, width, i32::try_from(plane).ok()?);
        let shift = if plane == 1 || plane == 2 { descriptor.log2_chroma_h } else { 0 };
        let rows = height.div_ceil(1 << shift);
        (bytes > 0).then_some((bytes as usize, rows))
    }
}

/// Whether the decoder marked the frame as concealed or corrupt.
pub(super) fn is_damaged(frame: &frame::Video) -> bool {
    // SAFETY: reads of plain fields of a live frame.
    unsafe {
        let raw = &*frame.as_ptr();
        raw.decode_error_flags != 0 || raw.flags & ffi::AV_FRAME_FLAG_CORRUPT != 0
    }
}

/// The raw flags of a packet, of which the binding names only some.
pub(super) fn packet_flags(packet: &mut Packet) -> i32 {
    // SAFETY: a read of a plain field.
    unsafe { (*packet.as_mut_ptr()).flags }
}

/// A scaling context for these definitions that keeps levels and matrix: input and output
/// share `matrix` (H.273) and range, except that RGB becomes limited-range `matrix`.
pub(super) fn scaling_context(
    from: (ffmpeg::format::Pixel, u32, u32),
    to: (ffmpeg::format::Pixel, u32, u32),
    colour: &Colour,
    flags: ffmpeg::software::scaling::Flags,
) -> Result<ffmpeg::software::scaling::Context, ffmpeg::Error> {
    let mut context =
        ffmpeg::software::scaling::Context::get(from.0, from.1, from.2, to.0, to.1, to.2, flags)?;
    let matrix = match colour.matrix {
        1 => ffi::SWS_CS_ITU709,
        4 => ffi::SWS_CS_FCC,
        7 => ffi::SWS_CS_SMPTE240M,
        9 | 10 => ffi::SWS_CS_BT2020,
        _ => ffi::SWS_CS_ITU601,
    };
    let range = i32::from(colour.full_range);
    let source_range = if is_rgb(from.0) { 1 } else { range };
    // SAFETY: the context is live and ours; the coefficient tables are static.
    unsafe {
        let table = ffi::sws_getCoefficients(matrix);
        ffi::sws_setColorspaceDetails(
            context.as_mut_ptr(),
            table,
            source_range,
            table,
            range,
            0,
            1 << 16,
            1 << 16,
        );
    }
    Ok(context)
}

/// Packets of the container's own table that lie beyond the end of the file.
/// ISO media and AVI have such a table; other containers have none or an incomplete one.
pub(super) fn beyond_the_end(input: &mut Input, file_size: u64) -> Option<String> {
    let name = input.format().name().to_owned();
    if !name.contains("mp4") && name != "avi" {
        return None;
    }
    let mut missing = 0u64;
    let mut total = 0u64;
    // SAFETY: `input` is exclusively borrowed and open; entries are only read below the count
    // that the library gives for the same stream, before anything else is called on it.
    unsafe {
        let context = input.as_mut_ptr();
        for index in 0..(*context).nb_streams as usize {
            let stream = *(*context).streams.add(index);
            for entry in 0..ffi::avformat_index_get_entries_count(stream) {
                let Some(entry) = ffi::avformat_index_get_entry(stream, entry).as_ref() else {
                    break;
                };
                total += 1;
                let end = u64::try_from(entry.pos).unwrap_or(0) + u64::try_from(entry.size()).unwrap_or(0);
                missing += u64::from(end > file_size);
            }
        }
    }
    (missing > 0).then(|| format!("{missing} of its {total} packets lie beyond the end of the file"))
}

/// The duration that the container declares, in microseconds, if it does.
pub(super) fn declared_duration_us(input: &Input) -> Option<i64> {
    // SAFETY: reads of plain fields of a live context.
    let (duration, method) =
        unsafe { ((*input.as_ptr()).duration, (*input.as_ptr()).duration_estimation_method) };
    let stated = method == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM;
    (stated && duration != ffi::AV_NOPTS_VALUE && duration > 0).then_some(duration)
}

/// Whether samples of more than 8 bits are stored most significant byte first.
pub(super) fn is_big_endian(format: ffmpeg::format::Pixel) -> bool {
    // SAFETY: as in `bit_depth`.
    unsafe {
        ffi::av_pix_fmt_desc_get(format.into())
            .as_ref()
            .is_some_and(|d| d.flags & ffi::AV_PIX_FMT_FLAG_BE as u64 != 0)
    }
}

/// Bytes of a frame with rows padded for vector instructions; `None` for an unknown format.
pub(super) fn image_bytes(pixel_format: &str, width: u32, height: u32) -> Option<u64> {
    let name = std::ffi::CString::new(pixel_format).ok()?;
    let (width, height) = (i32::try_from(width).ok()?, i32::try_from(height).ok()?);
    // SAFETY: the name is a C string that outlives the call; the second function takes any format
    // and size and returns a negative number for those that it does not know.
    let bytes = unsafe {
        let format = ffi::av_get_pix_fmt(name.as_ptr());
        ffi::av_image_get_buffer_size(format, width, height, 64)
    };
    u64::try_from(bytes).ok().filter(|&bytes| bytes > 0)
}

/// Bytes of a palette: 256 colours.
pub(super) const PALETTE_BYTES: usize = 1024;

/// Whether the samples of a format stand for colours of a palette.
pub(super) fn has_palette(format: ffmpeg::format::Pixel) -> bool {
    // SAFETY: as in `bit_depth`.
    unsafe {
        ffi::av_pix_fmt_desc_get(format.into())
            .as_ref()
            .is_some_and(|d| d.flags & ffi::AV_PIX_FMT_FLAG_PAL as u64 != 0)
    }
}

/// The colours that the samples of a frame with a palette stand for; `None` without one.
pub(super) fn palette(frame: &frame::Video) -> Option<[u8; PALETTE_BYTES]> {
    if !has_palette(frame.format()) {
        return None;
    }
    // SAFETY: FFmpeg keeps as many bytes at data[1] of every frame of a format that has a palette.
    unsafe {
        let data = (*frame.as_ptr()).data[1];
        (!data.is_null()).then(|| data.cast::<[u8; PALETTE_BYTES]>().read_unaligned())
    }
}

/// Whether the packet is only decoded for others to refer to, and its frame not shown.
pub(super) fn is_discarded(packet: &mut Packet) -> bool {
    packet_flags(packet) & ffi::AV_PKT_FLAG_DISCARD != 0
}

/// All rows of a plane, where one begins right after the other.
pub(super) fn rows(frame: &frame::Video, plane: usize) -> Option<&[u8]> {
    let (row_bytes, rows) = plane_shape(frame.format(), frame.width(), frame.height(), plane)?;
    if plane >= 4 || rows == 0 {
        return None;
    }
    // SAFETY: as for `row` below; the rows that a decoded frame holds are one piece if their distance is
    // their length.
    unsafe {
        let raw = &*frame.as_ptr();
        let is_one = raw.linesize[plane] > 0 && raw.linesize[plane] as usize == row_bytes;
        let is_one = is_one && !raw.data[plane].is_null();
        is_one.then(|| std::slice::from_raw_parts(raw.data[plane], row_bytes * rows))
    }
}

/// The first `bytes` bytes of a row of a plane. Rows may be stored bottom up, with a negative
/// stride, as uncompressed AVI has them. Empty where the frame has no such row.
pub(super) fn row(frame: &frame::Video, plane: usize, row: usize, bytes: usize) -> &[u8] {
    let shape = plane_shape(frame.format(), frame.width(), frame.height(), plane);
    let Some((row_bytes, rows)) = shape else { return &[] };
    if plane >= 4 || row >= rows || bytes > row_bytes {
        return &[];
    }
    // SAFETY: a decoded frame holds, at each plane that its format has, as many rows of
    // `linesize` bytes (either way) as `plane_shape` tells from format and size; the row and its
    // length were checked against that, and the frame outlives the slice.
    unsafe {
        let raw = &*frame.as_ptr();
        if raw.data[plane].is_null() || (raw.linesize[plane].unsigned_abs() as usize) < row_bytes {
            return &[];
        }
        let start = raw.data[plane].offset(row as isize * raw.linesize[plane] as isize);
        std::slice::from_raw_parts(start, bytes)
    }
}
