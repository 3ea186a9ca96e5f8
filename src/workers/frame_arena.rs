//! Where a worker puts decoded frames: one slab after the other. Those that the build has returned are
//! filled again.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::media::{Frame, FrameMemory, Shape, SlabWriter};

/// Bytes of a slab, but for frames that are larger: few enough that its memory is soon free again,
/// which it is when its last frame has been encoded, and enough that open files do not run out.
pub(super) const SLAB: usize = 16 << 20;
/// Slabs that are kept to be filled again: what a span takes whose frames are let go of as they come, as
/// far as a GPU decodes ahead.
const MAX_FREE: usize = 6;
/// Slabs that are awaited. Each is an open file.
const MAX_LENT: usize = 128;

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct FrameArena(Arc<Mutex<Slabs>>);

#[derive(Default)]
struct Slabs {
    current: Option<SlabWriter>,
    /// Those with frames that the build may still see, the oldest first.
    lent: VecDeque<SlabWriter>,
    /// Those with frames that nobody sees any more.
    free: Vec<SlabWriter>,
    next_number: u32,
}

impl FrameArena {
    fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one copy of a decoded frame, which is one of the last `left` of its span.
    pub(super) fn place(&self, frame: &Frame, left: usize) -> io::Result<Frame> {
        let shape = Shape::of(frame);
        self.slabs().put(&shape, left, |writer| {
            let offset = writer.place(frame)?;
            writer.slab().frame(offset, &shape)
        })
    }

    /// Puts no more frames where those of the span lie: the build returns a slab once.
    pub(super) fn close(&self) {
        self.slabs().close();
    }

    /// Takes slabs back that the build does not see any more. Of some it may have been too long.
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

    /// Lets go of memory that nobody sees.
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
    /// Has a frame of this shape put to where there is room for it.
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
        // Not a large one for a few frames, which would keep all of its memory.
        let fits = |writer: &SlabWriter| (bytes..=bytes.saturating_mul(3)).contains(&writer.bytes());
        if let Some(at) = self.free.iter().rposition(fits) {
            let mut writer = self.free.swap_remove(at);
            // SAFETY: the build has returned it, and whom it showed the slab to has ended that job.
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

    /// The number of the slab in which so many frames of a span end up, one after the other.
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
        assert!(span(&arena, &frame, 25).iter().all(|slab| !first.contains(slab)), "they are seen still");
        arena.take_back(&first[..2]);
        let third = span(&arena, &frame, 25);
        assert_eq!(third.iter().filter(|slab| first.contains(slab)).count(), 2);
        // A large one is not taken for a small frame, nor one that nobody awaits.
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
