//! A decoded frame, in the GPU's memory until the decoder reuses its surface.

use std::ffi::c_int;

use super::driver::DevicePointer;
use super::memory::download;
use super::session::Session;
use super::{NvidiaError, PinnedBuffer};

/// A decoded frame.
pub struct MappedFrame<'a> {
    session: &'a mut Session,
    pointer: DevicePointer,
    pitch: usize,
    /// The stamp of the packet that it came from.
    pub stamp: i64,
}

/// The samples of a frame as NV12 or, with more than 8 bits, as P016: little-endian and msb-aligned. Rows are
/// as long as the stride, and may be wider than the visible frame.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    pub luma: &'a [u8],
    /// Half as many rows, rounded up, of interleaved Cb and Cr.
    pub chroma: &'a [u8],
    /// Bytes from a row to the next.
    pub stride: usize,
}

/// As [`Samples`], for writing.
pub struct SamplesMut<'a> {
    pub luma: &'a mut [u8],
    pub chroma: &'a mut [u8],
    pub stride: usize,
}

impl<'a> MappedFrame<'a> {
    /// Waits until the decoder's frame of this number is decoded.
    pub(super) fn wait(
        session: &'a mut Session,
        number: c_int,
        stamp: i64,
    ) -> Result<MappedFrame<'a>, NvidiaError> {
        let (pointer, pitch) = session.map(number)?;
        let frame = MappedFrame { session, pointer, pitch, stamp };
        if frame.session.is_whole(number) { Ok(frame) } else { Err(NvidiaError::Damaged) }
    }

    /// Copies the samples to the host, where they stay until the next frame comes.
    pub fn download(&mut self) -> Result<Samples<'_>, NvidiaError> {
        let (pitch, format) = (self.pitch, *self.session.format());
        if pitch < format.visible.0.next_multiple_of(2) as usize * format.bytes_per_sample() {
            return Err(NvidiaError::Damaged);
        }
        let luma = pitch * format.coded.1 as usize;
        let bytes = luma + pitch * format.visible.1.div_ceil(2) as usize;
        let (context, host) = self.session.host();
        let fits = |buffer: &PinnedBuffer| buffer.bytes().len() == bytes;
        let buffer = match host.take().filter(fits) {
            Some(buffer) => buffer,
            None => PinnedBuffer::new(context, bytes)?,
        };
        let host = host.insert(buffer);
        // Rows are copied with their padding: in one piece that is fastest.
        // SAFETY: the decoder was made for frames of the coded size, and maps their rows of chroma
        // right behind as many rows of luma.
        unsafe { download(context, (self.pointer, pitch), 0, host.bytes_mut(), pitch, pitch)? };
        let (luma, chroma) = host.bytes().split_at(luma);
        Ok(Samples { luma: &luma[..pitch * format.visible.1 as usize], chroma, stride: pitch })
    }
}

impl Drop for MappedFrame<'_> {
    fn drop(&mut self) {
        self.session.unmap(self.pointer);
    }
}
