//! FFmpeg's raw structures for a GPU's decoder: packets, and the bitstream filters that convert H.264 and
//! HEVC from the format of MP4 and Matroska to the byte stream that a hardware parser reads (Annex B of
//! either).

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ffmpeg::codec::{self, packet::Mut as _, packet::Ref as _};
use ffmpeg::{Error, Packet, ffi};
use ffmpeg_next as ffmpeg;

/// An open bitstream filter, which returns one packet for each.
pub(super) struct AnnexB(NonNull<ffi::AVBSFContext>);

// SAFETY: the filter is owned here alone, and FFmpeg ties none to a thread.
unsafe impl Send for AnnexB {}

impl AnnexB {
    /// `name` is FFmpeg's, e.g. `h264_mp4toannexb`. Streams that are such a byte stream already
    /// pass it unchanged.
    pub fn open(name: &CStr, parameters: &codec::Parameters) -> Result<AnnexB, Error> {
        let mut context = std::ptr::null_mut();
        // SAFETY: the name is a string, and the filter found for it is static; the function writes
        // the address of a context, which then is ours.
        unsafe {
            let filter = ffi::av_bsf_get_by_name(name.as_ptr());
            if filter.is_null() {
                return Err(Error::BsfNotFound);
            }
            check(ffi::av_bsf_alloc(filter, &mut context))?;
        }
        let filter = AnnexB(NonNull::new(context).ok_or(Error::Bug)?);
        // SAFETY: the context has parameters of its own to copy to, and is not initialised yet.
        unsafe {
            check(ffi::avcodec_parameters_copy((*context).par_in, parameters.as_ptr()))?;
            check(ffi::av_bsf_init(context))?;
        }
        Ok(filter)
    }

    /// The headers of the whole stream, which its packets need not repeat.
    pub fn headers(&self) -> Vec<u8> {
        // SAFETY: the context is open; its output parameters have so many bytes of extradata, or
        // null.
        unsafe {
            let parameters = &*self.0.as_ref().par_out;
            match usize::try_from(parameters.extradata_size) {
                Ok(size) if !parameters.extradata.is_null() => {
                    std::slice::from_raw_parts(parameters.extradata, size).to_vec()
                }
                _ => Vec::new(),
            }
        }
    }

    /// The packet in the format of the byte stream.
    pub fn convert(&mut self, mut packet: Packet) -> Result<Packet, Error> {
        let mut converted = Packet::empty();
        // SAFETY: the context is open; it takes over what the first packet holds, and fills the
        // second, which is empty.
        unsafe {
            check(ffi::av_bsf_send_packet(self.0.as_ptr(), packet.as_mut_ptr()))?;
            check(ffi::av_bsf_receive_packet(self.0.as_ptr(), converted.as_mut_ptr()))?;
        }
        Ok(converted)
    }
}

impl Drop for AnnexB {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: `open` has allocated it, and nothing uses it any more.
        unsafe { ffi::av_bsf_free(&mut context) };
    }
}

fn check(code: c_int) -> Result<(), Error> {
    if code < 0 { Err(Error::from(code)) } else { Ok(()) }
}

/// A second reference to a packet's data.
pub(super) fn share(packet: &Packet) -> Result<Packet, Error> {
    let mut shared = Packet::empty();
    // SAFETY: both are valid packets, of which the second is empty. The bytes that they share are
    // counted, and nothing changes those of a packet that it only reads.
    unsafe { check(ffi::av_packet_ref(shared.as_mut_ptr(), packet.as_ptr()))? };
    Ok(shared)
}
