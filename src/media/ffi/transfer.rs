//! Packets put together from their parts, and frames over memory that is not FFmpeg's: what
//! crosses from one process to another.

use std::ffi::c_void;
use std::sync::Arc;

use ffmpeg::codec::packet::{Mut as _, side_data};
use ffmpeg::format::Pixel;
use ffmpeg::{Packet, ffi, frame};
use ffmpeg_next as ffmpeg;

/// Side data that decoders of frames read; nothing else of it is carried or in a digest.
const SIDE_DATA: [(side_data::Type, ffi::AVPacketSideDataType); 2] = [
    (side_data::Type::NewExtraData, ffi::AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA),
    (side_data::Type::Palette, ffi::AVPacketSideDataType::AV_PKT_DATA_PALETTE),
];

/// The side data of a packet that a decoder reads: for each piece its number in [`SIDE_DATA`].
pub(in crate::media) fn side_data_of(packet: &Packet) -> Vec<(u8, Vec<u8>)> {
    let number = |kind: side_data::Type| SIDE_DATA.iter().position(|&(carried, _)| carried == kind);
    let pieces = packet.side_data();
    pieces.filter_map(|piece| Some((number(piece.kind())? as u8, piece.data().to_vec()))).collect()
}

/// A packet with these bytes, raw flags and side data; `None` where there is no memory, or a piece
/// of side data is of no kind that is carried.
pub(in crate::media) fn packet(data: &[u8], flags: i32, side: &[(u8, Vec<u8>)]) -> Option<Packet> {
    let mut packet = Packet::copy(data);
    for (number, bytes) in side {
        let &(_, kind) = SIDE_DATA.get(usize::from(*number))?;
        // SAFETY: the packet is live and ours; the function returns null or room for as many bytes
        // as were asked for, which then belongs to the packet.
        unsafe {
            let room = ffi::av_packet_new_side_data(packet.as_mut_ptr(), kind, bytes.len());
            if room.is_null() {
                return None;
            }
            room.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }
    // SAFETY: a write of a plain field of a live packet.
    unsafe { (*packet.as_mut_ptr()).flags = flags };
    Some(packet)
}

/// A plane in a piece of memory: where its first row begins, and how far apart rows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::media) struct PlanePlace {
    pub offset: usize,
    pub stride: usize,
}

/// A frame over memory that is there as long as its `owner`, of which the frame has a share. FFmpeg only
/// reads it.
///
/// # Safety
///
/// The address must have as many bytes as are told, every plane that the format has must lie within them,
/// with as many rows of `stride` bytes as a frame of this size has, and nothing may change them but through
/// the frame while it lives.
pub(in crate::media) unsafe fn frame_over<O: Send + Sync + 'static>(
    owner: Arc<O>,
    (memory, bytes): (*mut u8, usize),
    format: Pixel,
    (width, height): (u32, u32),
    planes: &[PlanePlace; 4],
) -> Option<frame::Video> {
    /// Lets go of the memory when FFmpeg has let go of the frame.
    unsafe extern "C" fn let_go<O>(owner: *mut c_void, _: *mut u8) {
        // SAFETY: `owner` is what `Arc::into_raw` gave below, and FFmpeg frees a buffer once.
        drop(unsafe { Arc::from_raw(owner.cast::<O>().cast_const()) });
    }
    // SAFETY: the frame is made here and owned by the value that is returned; pointers into the
    // memory stay valid as the buffer holds a share of its owner; the buffer is marked as read-only, so
    // FFmpeg copies before it writes.
    unsafe {
        let raw = ffi::av_frame_alloc();
        if raw.is_null() {
            return None;
        }
        let video = frame::Video::wrap(raw);
        let owner = Arc::into_raw(owner).cast_mut().cast::<c_void>();
        let flags = ffi::AV_BUFFER_FLAG_READONLY;
        let buffer = ffi::av_buffer_create(memory, bytes, Some(let_go::<O>), owner, flags);
        if buffer.is_null() {
            drop(Arc::from_raw(owner.cast::<O>().cast_const()));
            return None;
        }
        (*raw).buf[0] = buffer;
        let format: ffi::AVPixelFormat = format.into();
        (*raw).format = format as i32;
        (*raw).width = i32::try_from(width).ok()?;
        (*raw).height = i32::try_from(height).ok()?;
        for (number, plane) in planes.iter().enumerate().filter(|(_, plane)| plane.stride > 0) {
            (*raw).data[number] = memory.add(plane.offset);
            (*raw).linesize[number] = i32::try_from(plane.stride).ok()?;
        }
        Some(video)
    }
}

/// The format that has this name.
pub(in crate::media) fn format_named(name: &str) -> Option<Pixel> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: the name is a C string that outlives the call.
    let format = unsafe { ffi::av_get_pix_fmt(name.as_ptr()) };
    (format != ffi::AVPixelFormat::AV_PIX_FMT_NONE).then(|| Pixel::from(format))
}
