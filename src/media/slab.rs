//! Shared memory for decoded frames: the process that decodes writes each frame once, and the processes that
//! encode read it in place. A slab whose frames have been dropped is returned to its writer for reuse: to
//! have the kernel clear and map new memory takes many times as long as writing a frame.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

use super::ffi::transfer::{self, PlanePlace};
use super::{Frame, ffi};

/// Alignment of rows and planes in bytes, for vector instructions.
const ALIGN: usize = 64;
/// Slabs that keep their memory while they wait to be returned to their writer.
const WAITING: usize = 6;

/// A frame's format and size, from which both processes compute its layout in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// FFmpeg's name of the pixel format.
    format: String,
    width: u32,
    height: u32,
}

/// The offsets and strides of a frame's planes.
struct Layout {
    format: Pixel,
    planes: [PlanePlace; 4],
    /// Visible bytes of a row, and rows, of each plane.
    visible: [(usize, usize); 4],
    bytes: usize,
}

impl Shape {
    pub(super) fn new(format: Pixel, width: u32, height: u32) -> Shape {
        let format = format.descriptor().map_or("none", |descriptor| descriptor.name());
        Shape { format: format.to_owned(), width, height }
    }

    pub fn of(frame: &Frame) -> Shape {
        let video = frame.video();
        Shape::new(video.format(), video.width(), video.height())
    }

    #[cfg(test)]
    pub fn named(format: &str, width: u32, height: u32) -> Shape {
        Shape { format: format.to_owned(), width, height }
    }

    /// The samples of a frame, laid out as in a slab.
    pub fn samples(frame: &Frame) -> Option<Vec<u8>> {
        let layout = Shape::of(frame).layout()?;
        let mut samples = vec![0; layout.bytes];
        layout.write(frame, &mut samples)?;
        Some(samples)
    }

    /// Bytes of a frame of this shape in a slab; `None` for an invalid shape.
    pub fn bytes(&self) -> Option<usize> {
        self.layout().map(|layout| layout.bytes)
    }

    /// A frame in memory of this process, made from samples that are laid out as in a slab; `None` if they
    /// are too few.
    pub fn frame(&self, samples: &[u8]) -> Option<Frame> {
        let layout = self.layout()?;
        let samples = samples.get(..layout.bytes)?;
        let mut memory = vec![0; layout.bytes + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        let room = &mut memory[start..start + layout.bytes];
        room.copy_from_slice(samples);
        let place = (room.as_mut_ptr(), room.len());
        let size = (self.width, self.height);
        // SAFETY: the layout was made for this format and size, and all of it lies within the memory, which
        // the frame alone has.
        let video =
            unsafe { transfer::frame_over(Arc::new(memory), place, layout.format, size, &layout.planes)? };
        Some(Frame::new(video))
    }

    fn layout(&self) -> Option<Layout> {
        let format = transfer::format_named(&self.format)?;
        let mut layout =
            Layout { format, planes: [PlanePlace::default(); 4], visible: [(0, 0); 4], bytes: 0 };
        for number in 0..4 {
            let shape = ffi::plane_shape(format, self.width, self.height, number);
            let Some((row, rows)) = shape else { continue };
            let stride = row.checked_next_multiple_of(ALIGN)?;
            layout.planes[number] = PlanePlace { offset: layout.bytes, stride };
            layout.visible[number] = (row, rows);
            layout.bytes = layout.bytes.checked_add(stride.checked_mul(rows)?)?;
        }
        if ffi::has_palette(format) {
            layout.planes[1] = PlanePlace { offset: layout.bytes, stride: ffi::PALETTE_BYTES };
            layout.bytes += ffi::PALETTE_BYTES;
        }
        // Vector code may read past the end of the last row.
        layout.bytes = layout.bytes.checked_add(ALIGN)?;
        (layout.planes[0].stride > 0).then_some(layout)
    }
}

/// Memory that a decoder writes its frames to.
pub trait FrameMemory: Send + Sync {
    /// A frame with undefined content. It is one of the last `left` frames of its span.
    fn blank(&self, shape: &Shape, left: usize) -> io::Result<Frame>;
}

/// Shared memory that is sealed against resizing, so that no process can cause a fault in another that reads
/// it.
pub struct Slab {
    file: File,
    /// Only its writer writes to it, and only where no frame has been passed on yet.
    map: MmapRaw,
    /// Its writer's number for it.
    number: u32,
    /// Where its number goes when it is dropped.
    returns: Option<Returns>,
}

/// The numbers of slabs that have been dropped and are to be returned to their writer.
#[derive(Clone, Default)]
pub struct Returns(Arc<Mutex<Vec<u32>>>);

impl Returns {
    /// The numbers since the last call.
    pub fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.waiting())
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        let Some(returns) = &self.returns else { return };
        if returns.waiting().len() >= WAITING {
            // It may take long until the writer is told. A punched hole frees the memory, which is allocated
            // again when it is written to; if punching fails the memory is kept.
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Rounded up to a multiple of every page size: only whole pages are freed.
            let _ = rustix::fs::fallocate(
                &self.file,
                flags,
                0,
                (self.map.len() as u64).next_multiple_of(1 << 16),
            );
        }
        returns.waiting().push(self.number);
    }
}

impl AsFd for Slab {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Slab {
    /// A slab that another process has made.
    pub fn open(handle: OwnedFd) -> io::Result<Arc<Slab>> {
        Slab::read(handle.into(), 0, None)
    }

    /// A slab of another process; its `number` goes to `returns` when it is dropped, so that it is reused.
    pub fn lent(handle: OwnedFd, number: u32, returns: &Returns) -> io::Result<Arc<Slab>> {
        Slab::read(handle.into(), number, Some(returns.clone()))
    }

    fn read(file: File, number: u32, returns: Option<Returns>) -> io::Result<Arc<Slab>> {
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        // With these seals the mapped bytes cannot go away.
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "memory that may be taken away again"));
        }
        let map = MmapOptions::new().map_raw_read_only(&file)?;
        Ok(Arc::new(Slab { file, map, number, returns }))
    }

    /// Its writer's number for it.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether its writer reuses it once this process has dropped it. No other process may then read it for
    /// longer than this one does.
    pub fn is_lent(&self) -> bool {
        self.returns.is_some()
    }

    /// The frame at `offset`; `None` if it would not lie within the slab.
    pub fn frame(self: &Arc<Slab>, offset: usize, shape: &Shape) -> Option<Frame> {
        let layout = shape.layout()?;
        if offset.checked_add(layout.bytes)? > self.map.len() {
            return None;
        }
        // SAFETY: all of the layout lies within the slab, of which the frame holds a reference, and whose
        // writer overwrites no frame that is in use.
        let video = unsafe {
            let memory = self.map.as_mut_ptr().add(offset);
            let size = (shape.width, shape.height);
            transfer::frame_over(
                Arc::clone(self),
                (memory, layout.bytes),
                layout.format,
                size,
                &layout.planes,
            )?
        };
        Some(Frame::in_slab(video, Arc::clone(self), offset))
    }
}

/// Fills a slab with frames, one after the other.
pub struct SlabWriter {
    slab: Arc<Slab>,
    used: usize,
}

impl SlabWriter {
    /// A new slab of this size, with this number.
    pub fn new(bytes: usize, number: u32) -> io::Result<SlabWriter> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("rivet frames", flags)?);
        file.set_len(bytes as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        // All of it will be written: populating its pages at once is faster than one page fault each.
        let map = MmapOptions::new().populate().map_raw(&file)?;
        Ok(SlabWriter { slab: Arc::new(Slab { file, map, number, returns: None }), used: 0 })
    }

    /// Makes all of the slab available again. Returns false, and does nothing, while this process has a frame
    /// in it.
    ///
    /// # Safety
    ///
    /// No other process may still read a frame in it.
    pub unsafe fn reuse(&mut self) -> bool {
        let is_alone = Arc::get_mut(&mut self.slab).is_some();
        if is_alone {
            self.used = 0;
        }
        is_alone
    }

    pub fn bytes(&self) -> usize {
        self.slab.map.len()
    }

    /// A slab with these bytes.
    #[cfg(test)]
    pub fn holding(bytes: &[u8]) -> io::Result<Arc<Slab>> {
        let mut writer = SlabWriter::new(bytes.len(), 0)?;
        if let Some((_, room)) = writer.take(bytes.len()) {
            room.copy_from_slice(bytes);
        }
        Ok(writer.slab)
    }

    pub fn slab(&self) -> &Arc<Slab> {
        &self.slab
    }

    /// A frame with undefined content in the slab; `None` if the slab is full.
    pub fn blank(&mut self, shape: &Shape) -> Option<Frame> {
        let (offset, _) = self.take(shape.bytes()?)?;
        self.slab.frame(offset, shape)
    }

    /// Copies a frame to the slab and returns its offset; `None` if the slab is full.
    pub fn place(&mut self, frame: &Frame) -> Option<usize> {
        let layout = Shape::of(frame).layout()?;
        let (offset, room) = self.take(layout.bytes)?;
        layout.write(frame, room)?;
        Some(offset)
    }

    /// Allocates bytes of the slab and returns their offset; `None` if the slab is full.
    fn take(&mut self, bytes: usize) -> Option<(usize, &mut [u8])> {
        let offset = self.used;
        let end = offset.checked_add(bytes).filter(|&end| end <= self.slab.map.len())?;
        self.used = end.next_multiple_of(ALIGN);
        // SAFETY: the bytes are mapped for writing as long as the slab lives, since `new` has mapped it. From
        // `used` on there is no frame, so nothing in this process or another reads them.
        let room = unsafe { std::slice::from_raw_parts_mut(self.slab.map.as_mut_ptr().add(offset), bytes) };
        Some((offset, room))
    }
}

impl Layout {
    /// Writes a frame's samples to memory of this layout.
    fn write(&self, frame: &Frame, room: &mut [u8]) -> Option<()> {
        for (number, (plane, (row_bytes, rows))) in self.planes.iter().zip(self.visible).enumerate() {
            for row in 0..rows {
                let bytes = ffi::row(frame.video(), number, row, row_bytes);
                let start = plane.offset + row * plane.stride;
                room.get_mut(start..start + bytes.len())?.copy_from_slice(bytes);
            }
        }
        if let Some(palette) = ffi::palette(frame.video()) {
            let start = self.planes[1].offset;
            room.get_mut(start..start + palette.len())?.copy_from_slice(&palette);
        }
        Some(())
    }
}

/// A pool of memory for frames of this process alone; the memory of a dropped frame is reused. Clones share
/// one pool.
#[cfg(feature = "nvidia")]
#[derive(Clone, Default)]
pub struct FramePool(Arc<Mutex<Vec<SlabWriter>>>);

#[cfg(feature = "nvidia")]
impl FrameMemory for FramePool {
    fn blank(&self, shape: &Shape, _: usize) -> io::Result<Frame> {
        /// Free slabs that are kept, each for one frame.
        const MAX_FREE: usize = 8;
        let too_large = || io::Error::new(io::ErrorKind::OutOfMemory, "no memory for a frame");
        let bytes = shape.bytes().ok_or_else(too_large)?;
        let mut writers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: these are never passed to another process.
        let is_free = |writer: &mut SlabWriter| unsafe { writer.reuse() };
        let fits = |writer: &mut SlabWriter| writer.bytes() == bytes && is_free(writer);
        let found = (0..writers.len()).rfind(|&at| fits(&mut writers[at]));
        let mut writer = match found {
            Some(at) => writers.remove(at),
            None => {
                let mut free: usize = writers.iter_mut().map(|writer| usize::from(is_free(writer))).sum();
                // The oldest first.
                writers.retain_mut(|writer| {
                    let goes = free > MAX_FREE && is_free(writer);
                    free -= usize::from(goes);
                    !goes
                });
                SlabWriter::new(bytes, 0)?
            }
        };
        let blank = writer.blank(shape);
        writers.push(writer);
        blank.ok_or_else(too_large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ffmpeg::frame::Video;

    /// A frame with other samples everywhere, its rows farther apart than they are long.
    fn example(format: Pixel, width: u32, height: u32) -> Frame {
        let mut video = Video::new(format, width, height);
        for plane in 0..video.planes() {
            for (place, byte) in video.data_mut(plane).iter_mut().enumerate() {
                *byte = (place * 7 + plane * 31) as u8;
            }
        }
        Frame::new(video)
    }

    #[test]
    fn a_picture_is_the_same_on_the_other_side() {
        let formats =
            [Pixel::YUV420P, Pixel::YUV422P10LE, Pixel::NV12, Pixel::RGB24, Pixel::GRAY8, Pixel::PAL8];
        let frames: Vec<Frame> = formats.iter().map(|&format| example(format, 333, 77)).collect();
        let bytes = frames.iter().map(|frame| Shape::of(frame).bytes().unwrap() + ALIGN).sum();
        let mut writer = SlabWriter::new(bytes, 0).unwrap();
        let places: Vec<usize> = frames.iter().map(|frame| writer.place(frame).unwrap()).collect();
        assert_eq!(writer.place(&frames[0]), None, "it is full");
        let handle = writer.slab().as_fd().try_clone_to_owned().unwrap();
        drop(writer);
        let slab = Slab::open(handle).unwrap();
        for (frame, offset) in frames.iter().zip(places) {
            let shape = Shape::of(frame);
            let other = slab.frame(offset, &shape).unwrap();
            assert_eq!(other.digest(), frame.digest(), "{shape:?}");
            assert_eq!(other.place().map(|(_, offset)| offset), Some(offset));
            // So it is where the samples go there alone.
            let samples = Shape::samples(frame).unwrap();
            assert_eq!(shape.frame(&samples).unwrap().digest(), frame.digest(), "{shape:?}");
            assert!(shape.frame(&samples[1..]).is_none(), "{shape:?}");
        }
    }

    #[test]
    fn a_slab_that_nobody_sees_is_filled_again() {
        let (first, second) = (example(Pixel::YUV420P, 64, 64), example(Pixel::YUV420P, 62, 64));
        let mut writer = SlabWriter::new(Shape::of(&first).bytes().unwrap(), 7).unwrap();
        let returns = Returns::default();
        let lend = |writer: &SlabWriter| {
            let handle = writer.slab().as_fd().try_clone_to_owned().unwrap();
            Slab::lent(handle, writer.slab().number(), &returns).unwrap()
        };
        for given in [&first, &second, &first] {
            let offset = writer.place(given).unwrap();
            let slab = lend(&writer);
            let seen = slab.frame(offset, &Shape::of(given)).unwrap();
            drop(slab);
            assert_eq!(seen.digest(), given.digest());
            assert!(returns.take().is_empty(), "somebody sees it");
            drop(seen);
            assert_eq!(returns.take(), [7]);
            // SAFETY: nobody does.
            assert!(unsafe { writer.reuse() });
        }
        let own = writer.slab().frame(0, &Shape::of(&first)).unwrap();
        // SAFETY: no other process has it.
        assert!(!unsafe { writer.reuse() });
        drop(own);
        // SAFETY: no other process has it.
        assert!(unsafe { writer.reuse() });
    }

    #[cfg(feature = "nvidia")]
    #[test]
    fn a_pool_fills_its_memory_again() {
        let shape = Shape::named("yuv420p10le", 333, 77);
        let pool = FramePool::default();
        let place = |frame: &Frame| frame.video().data(0).as_ptr();
        let (first, second) = (pool.blank(&shape, 2).unwrap(), pool.clone().blank(&shape, 1).unwrap());
        let seen = second.digest();
        assert_ne!(place(&first), place(&second));
        let free = place(&first);
        drop(first);
        assert_eq!(place(&pool.blank(&shape, 1).unwrap()), free);
        let other = pool.blank(&Shape::named("yuv420p", 333, 77), 1).unwrap();
        assert_ne!(place(&other), free);
        // Of those that nobody looks at few are kept once others are needed.
        let mut many: Vec<Frame> = (0..20).map(|_| pool.blank(&shape, 1).unwrap()).collect();
        many.iter_mut().for_each(|frame| frame.video_mut().data_mut(0).fill(255));
        assert!(pool.0.lock().unwrap().len() >= 20);
        drop(many);
        drop(pool.blank(&Shape::named("yuv420p", 64, 64), 1).unwrap());
        assert!(pool.0.lock().unwrap().len() < 12);
        drop(pool);
        assert_eq!(second.digest(), seen, "it stays as long as it is looked at");
    }

    #[test]
    fn slabs_that_wait_long_hold_no_memory() {
        let frame = example(Pixel::YUV420P, 640, 480);
        let returns = Returns::default();
        let mut writers: Vec<SlabWriter> = (0..8)
            .map(|number| SlabWriter::new(Shape::of(&frame).bytes().unwrap(), number).unwrap())
            .collect();
        for writer in &mut writers {
            writer.place(&frame).unwrap();
            let handle = writer.slab().as_fd().try_clone_to_owned().unwrap();
            drop(Slab::lent(handle, writer.slab().number(), &returns).unwrap());
        }
        let has_memory =
            |writer: &SlabWriter| rustix::fs::fstat(writer.slab().as_fd()).unwrap().st_blocks > 0;
        let held: Vec<bool> = writers.iter().map(has_memory).collect();
        assert_eq!(held, [true, true, true, true, true, true, false, false]);
        assert_eq!(returns.take(), [0, 1, 2, 3, 4, 5, 6, 7]);
        // They are as good as new.
        let last = &mut writers[7];
        // SAFETY: no other process has it.
        assert!(unsafe { last.reuse() });
        let offset = last.place(&frame).unwrap();
        assert_eq!(last.slab().frame(offset, &Shape::of(&frame)).unwrap().digest(), frame.digest());
    }

    #[test]
    fn what_lies_outside_is_no_picture() {
        let frame = example(Pixel::YUV420P, 64, 64);
        let shape = Shape::of(&frame);
        let mut writer = SlabWriter::new(shape.bytes().unwrap(), 0).unwrap();
        writer.place(&frame).unwrap();
        let slab = writer.slab();
        assert!(slab.frame(1, &shape).is_none());
        assert!(slab.frame(usize::MAX, &shape).is_none());
        for (format, width, height) in [("yuv420p", 66, 64), ("no format", 64, 64), ("yuv420p", u32::MAX, 2)]
        {
            assert!(slab.frame(0, &Shape { format: format.to_owned(), width, height }).is_none());
        }
    }

    #[test]
    fn memory_that_can_be_taken_away_is_refused() {
        let file = File::from(rustix::fs::memfd_create("loose", MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(4096).unwrap();
        assert!(Slab::open(file.into()).is_err());
    }
}
