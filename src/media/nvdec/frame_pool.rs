//! Memory for frames, used again once the last who looks at a frame is done with it: on a fast GPU new
//! pages would cost more than what is written to them.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ffmpeg::format::Pixel;
use ffmpeg::{Error, ffi, frame};
use ffmpeg_next as ffmpeg;

/// Bytes at multiples of which rows begin: what vector instructions like best.
const ALIGNMENT: usize = 64;
/// Bytes behind the last row, which vector instructions may read.
const PADDING: usize = 256;
/// Bytes that are kept for frames to come.
const MAX_FREE: usize = 64 << 20;

/// Frames' memory. Clones share it.
#[derive(Clone, Default)]
pub(super) struct FramePool(Arc<Mutex<Vec<Memory>>>);

/// The memory of one frame.
type Memory = Box<[Line]>;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

/// Memory that a frame has, as a box taken apart, and where it goes from there.
struct Lent {
    memory: *mut [Line],
    home: FramePool,
}

impl FramePool {
    /// A frame with any content.
    pub fn frame(&self, format: Pixel, width: u32, height: u32) -> Result<frame::Video, Error> {
        let side = |samples| c_int::try_from(samples).map_err(|_| Error::InvalidData);
        let (wide, high) = (side(width)?, side(height)?);
        // SAFETY: the function only computes, and takes any size.
        let bytes = unsafe { ffi::av_image_get_buffer_size(format.into(), wide, high, ALIGNMENT as c_int) };
        let bytes = usize::try_from(bytes).map_err(|_| Error::InvalidData)?;
        let memory = Box::into_raw(self.take((bytes + PADDING).div_ceil(ALIGNMENT)));
        let lent = Box::into_raw(Box::new(Lent { memory, home: self.clone() }));
        let mut video = frame::Video::empty();
        // SAFETY: the buffer has the address and the size of the memory, which is there until FFmpeg
        // calls `give_back`; the frame is empty and takes over the buffer, and the function computes
        // the places of its planes as the other did their size.
        unsafe {
            let (data, size) = (memory.cast::<u8>(), memory.len() * ALIGNMENT);
            let buffer = ffi::av_buffer_create(data, size, Some(give_back), lent.cast(), 0);
            if buffer.is_null() {
                give_back(lent.cast(), data);
                return Err(Error::Other { errno: ffmpeg::error::ENOMEM });
            }
            let raw = &mut *video.as_mut_ptr();
            raw.buf[0] = buffer;
            raw.format = ffi::AVPixelFormat::from(format) as c_int;
            (raw.width, raw.height) = (wide, high);
            raw.extended_data = raw.data.as_mut_ptr();
            let (planes, strides) = (raw.data.as_mut_ptr(), raw.linesize.as_mut_ptr());
            let filled = ffi::av_image_fill_arrays(
                planes,
                strides,
                data,
                format.into(),
                wide,
                high,
                ALIGNMENT as c_int,
            );
            if filled < 0 {
                return Err(Error::from(filled));
            }
        }
        Ok(video)
    }

    fn free(&self) -> MutexGuard<'_, Vec<Memory>> {
        // The list is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, lines: usize) -> Memory {
        let mut free = self.free();
        let fitting = free.iter().rposition(|memory| memory.len() == lines);
        let memory = fitting.map(|at| free.remove(at));
        drop(free);
        memory.unwrap_or_else(|| vec![Line([0; ALIGNMENT]); lines].into_boxed_slice())
    }

    fn put(&self, memory: Memory) {
        let mut free = self.free();
        free.push(memory);
        let mut bytes: usize = free.iter().map(|memory| memory.len() * ALIGNMENT).sum();
        let mut surplus = Vec::new();
        while bytes > MAX_FREE {
            let oldest = free.remove(0);
            bytes -= oldest.len() * ALIGNMENT;
            surplus.push(oldest);
        }
        // Memory is handed back to the system without keeping others waiting.
        drop(free);
        drop(surplus);
    }
}

/// Called by FFmpeg when the last who looks at a frame is done with it.
unsafe extern "C" fn give_back(lent: *mut c_void, _: *mut u8) {
    // SAFETY: it is what `frame` has taken apart and handed over, and this is called once.
    let (memory, home) = unsafe {
        let Lent { memory, home } = *Box::from_raw(lent.cast::<Lent>());
        (Box::from_raw(memory), home)
    };
    home.put(memory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_nobody_looks_at_a_frame() {
        let pool = FramePool::default();
        let frame = pool.frame(Pixel::YUV420P10LE, 33, 17).unwrap();
        assert_eq!((frame.width(), frame.height(), frame.planes()), (33, 17, 3));
        assert!(frame.stride(0) >= 66 && frame.data(2).len() >= 9 * 34);
        let place = frame.data(0).as_ptr();
        assert!(place.addr().is_multiple_of(ALIGNMENT) && pool.free().is_empty());
        drop(frame);
        assert_eq!(pool.free().len(), 1);
        assert_eq!(pool.frame(Pixel::YUV420P10LE, 33, 17).unwrap().data(0).as_ptr(), place);
        let other = pool.frame(Pixel::YUV420P, 64, 64).unwrap();
        drop(pool);
        assert_eq!(other.planes(), 3);
    }

    #[test]
    fn not_more_is_kept_than_is_worth_it() {
        let pool = FramePool::default();
        let frames: Vec<_> = (0..8).map(|_| pool.frame(Pixel::YUV420P, 4096, 2160).unwrap()).collect();
        let bytes = frames[0].data(0).len() * 3 / 2;
        drop(frames);
        let kept = pool.free().len();
        assert!(kept >= 4 && kept * bytes <= MAX_FREE, "{kept}");
    }
}
