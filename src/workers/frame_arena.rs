//! The memory to which a worker decodes frames: slabs of shared memory, filled one after the other. Slabs
//! that the build has returned are reused.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::media::{Frame, FrameMemory, Shape, SlabWriter};

/// Bytes of a slab, unless a frame is larger: small, since a slab is free only when the last of its frames
/// has been encoded, and large enough that file descriptors do not run out.
pub(super) const SLAB: usize = 16 << 20;
/// Free slabs that are kept for reuse: as many as a span needs whose frames are dropped as they come, with as
/// many frames in flight as a GPU decodes ahead.
const MAX_FREE: usize = 6;
/// Slabs whose return is awaited. Each is an open file.
const MAX_LENT: usize = 128;

/// Clones share one arena.
#[derive(Clone, Default)]
pub(super) struct FrameArena(Arc<Mutex<Slabs>>);

#[derive(Default)]
struct Slabs {
    current: Option<SlabWriter>,
    /// Slabs with frames that the build may still read, the oldest first.
    lent: VecDeque<SlabWriter>,
    /// Slabs that can be reused.
    free: Vec<SlabWriter>,
    next_number: u32,
}

impl FrameArena {
    fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a decoded frame into the arena. It is one of the last `left` frames of its span.
    pub(super) fn place(&self, frame: &Frame, left: usize) -> io::Result<Frame> {
        let shape = Shape::of(frame);
        self.slabs().put(&shape, left, |writer| {
            let offset = writer.place(frame)?;
            writer.slab().frame(offset, &shape)
        })
    }

    /// Closes the current slab at the end of a span: the build returns a slab only once.
    pub(super) fn close(&self) {
        self.slabs().close();
    }

    /// Takes back slabs that the build has returned. The arena may have given up on some of them.
    pub(super) fn take_back(&self, numbers: &[u32]) {
        let mut slabs = self.slabs();
        let Slabs { lent, free, .. } = &mut *slabs;
        for number in numbers {
            if let Some(at) = lent.iter().position(|writer| writer.slab().number() == *number) {
                free.extend(lent.remove(at));
            }
        }
        let too_many = free.len().saturating_sub(MAX_FREE);
        free.drain(..too_many);
    }

    /// Frees the slabs that are kept for reuse.
    pub(super) fn clear(&self) {
        self.slabs().free.clear();
    }
}

impl FrameMemory for FrameArena {
    fn blank(&self, shape: &Shape, left: usize) -> io::Result<Frame> {
        self.slabs().put(shape, left, |writer| writer.blank(shape))
    }
}

impl Slabs {
    /// Has `put` place a frame of this shape in a slab with space for it.
    fn put(
        &mut self,
        shape: &Shape,
        left: usize,
        put: impl Fn(&mut SlabWriter) -> Option<Frame>,
    ) -> io::Result<Frame> {
        if let Some(frame) = self.current.as_mut().and_then(&put) {
            return Ok(frame);
        }
        let each = shape.bytes().ok_or_else(no_room)?.next_multiple_of(64);
        let pictures = (SLAB / each).clamp(1, left.max(1));
        self.close();
        let writer = self.fresh(each.saturating_mul(pictures))?;
        put(self.current.insert(writer)).ok_or_else(no_room)
    }

    fn close(&mut self) {
        self.lent.extend(self.current.take());
        while self.lent.len() > MAX_LENT {
            self.lent.pop_front();
        }
    }

    fn fresh(&mut self, bytes: usize) -> io::Result<SlabWriter> {
        // A large slab is not reused for a few frames: all of its memory would stay allocated.
        let fits = |writer: &SlabWriter| (bytes..=bytes.saturating_mul(3)).contains(&writer.bytes());
        if let Some(at) = self.free.iter().rposition(fits) {
            let mut writer = self.free.swap_remove(at);
            // SAFETY: the build has returned it, and the processes that the build passed it to have ended
            // their jobs.
            if unsafe { writer.reuse() } {
                return Ok(writer);
            }
        }
        self.next_number = self.next_number.wrapping_add(1);
        SlabWriter::new(bytes, self.next_number)
    }
}

pub(super) fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "no memory for a frame")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32) -> Frame {
        let shape = Shape::named("yuv420p", width, 1080);
        let bytes: Vec<u8> = (0..shape.bytes().unwrap()).map(|place| (place * 7) as u8).collect();
        SlabWriter::holding(&bytes).unwrap().frame(0, &shape).unwrap()
    }

    /// The numbers of the slabs that a span of so many frames fills, in order.
    fn span(arena: &FrameArena, frame: &Frame, pictures: usize) -> Vec<u32> {
        let placed = (0..pictures).map(|at| {
            let placed = arena.place(frame, pictures - at).unwrap();
            assert_eq!(placed.digest(), frame.digest());
            placed.place().unwrap().0.number()
        });
        let mut slabs: Vec<u32> = placed.collect();
        slabs.dedup();
        arena.close();
        slabs
    }

    #[test]
    fn slabs_that_came_back_are_filled_again() {
        let arena = FrameArena::default();
        let frame = picture(1920);
        let first = span(&arena, &frame, 25);
        assert_eq!(first.len(), 5, "five frames fill one");
        assert!(span(&arena, &frame, 25).iter().all(|slab| !first.contains(slab)), "they are still in use");
        arena.take_back(&first[..2]);
        let third = span(&arena, &frame, 25);
        assert_eq!(third.iter().filter(|slab| first.contains(slab)).count(), 2);
        // A large slab is not reused for a small frame; an unknown number is ignored.
        arena.take_back(&third);
        arena.take_back(&[77]);
        assert!(!third.contains(&span(&arena, &frame, 1)[0]));
        arena.clear();
        assert!(arena.slabs().free.is_empty());
    }

    #[test]
    fn few_are_kept() {
        let arena = FrameArena::default();
        let frame = picture(16);
        let slabs: Vec<u32> = (0..MAX_LENT + 9).flat_map(|_| span(&arena, &frame, 1)).collect();
        assert_eq!((slabs.len(), arena.slabs().lent.len()), (MAX_LENT + 9, MAX_LENT));
        arena.take_back(&slabs);
        let left = arena.slabs();
        assert_eq!((left.lent.len(), left.free.len()), (0, MAX_FREE));
    }
}
