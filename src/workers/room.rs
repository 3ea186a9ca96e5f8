//! Where a worker puts decoded pictures: one slab after the other. Those that the build has returned are
//! filled again.

use std::collections::VecDeque;
use std::io;

use crate::media::{Frame, Shape, SlabWriter};

/// Bytes of a slab, but for pictures that are larger: few enough that its memory is soon free again,
/// which it is when its last picture has been encoded, and enough that open files do not run out.
pub(super) const SLAB: usize = 32 << 20;
/// Slabs that are kept to be filled again.
const MOST_FREE: usize = 2;
/// Slabs that are awaited. Each is an open file.
const MOST_LENT: usize = 64;

pub(super) struct Room {
    /// Whether the build sees the slabs, and not only what was copied out of them.
    shares: bool,
    current: Option<SlabWriter>,
    /// Those with pictures that the build may still see, the oldest first.
    lent: VecDeque<SlabWriter>,
    /// Those with pictures that nobody sees any more.
    free: Vec<SlabWriter>,
    next_number: u32,
}

impl Room {
    pub(super) fn new(shares: bool) -> Room {
        Room { shares, current: None, lent: VecDeque::new(), free: Vec::new(), next_number: 0 }
    }

    /// The one copy of a decoded picture, which is one of the last `left` of its span.
    pub(super) fn place(&mut self, frame: &Frame, left: usize) -> io::Result<Frame> {
        let shape = Shape::of(frame);
        if !self.shares
            && let Some(writer) = &mut self.current
        {
            // SAFETY: no other process has the slab: the last picture's samples went with its message.
            unsafe { writer.reuse() };
        }
        let offset = match self.current.as_mut().and_then(|writer| writer.place(frame)) {
            Some(offset) => offset,
            None => {
                let each = shape.bytes().ok_or_else(no_room)?.next_multiple_of(64);
                let pictures = if self.shares { (SLAB / each).clamp(1, left.max(1)) } else { 1 };
                self.close();
                let writer = self.fresh(each.saturating_mul(pictures))?;
                self.current.insert(writer).place(frame).ok_or_else(no_room)?
            }
        };
        let slab = self.current.as_ref().map(SlabWriter::slab);
        slab.and_then(|slab| slab.frame(offset, &shape)).ok_or_else(no_room)
    }

    /// Puts no more pictures where those of the span lie: the build returns a slab once.
    pub(super) fn close(&mut self) {
        if let Some(writer) = self.current.take().filter(|_| self.shares) {
            self.lent.push_back(writer);
        }
        while self.lent.len() > MOST_LENT {
            self.lent.pop_front();
        }
    }

    /// Takes slabs back that the build does not see any more. Of some it may have been too long.
    pub(super) fn take_back(&mut self, numbers: &[u32]) {
        for number in numbers {
            if let Some(at) = self.lent.iter().position(|writer| writer.slab().number() == *number) {
                self.free.extend(self.lent.remove(at));
            }
        }
        let too_many = self.free.len().saturating_sub(MOST_FREE);
        self.free.drain(..too_many);
    }

    /// Lets go of memory that nobody sees.
    pub(super) fn clear(&mut self) {
        self.free.clear();
    }

    fn fresh(&mut self, bytes: usize) -> io::Result<SlabWriter> {
        // Not a large one for a few pictures, which would keep all of its memory.
        let fits = |writer: &SlabWriter| (bytes..=bytes.saturating_mul(2)).contains(&writer.bytes());
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
    io::Error::new(io::ErrorKind::OutOfMemory, "no memory for a picture")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32) -> Frame {
        let shape = Shape::named("yuv420p", width, 1080);
        let bytes: Vec<u8> = (0..shape.bytes().unwrap()).map(|place| (place * 7) as u8).collect();
        SlabWriter::holding(&bytes).unwrap().frame(0, &shape).unwrap()
    }

    /// The number of the slab in which so many pictures of a span end up, one after the other.
    fn span(room: &mut Room, frame: &Frame, pictures: usize) -> Vec<u32> {
        let placed = (0..pictures).map(|at| {
            let placed = room.place(frame, pictures - at).unwrap();
            assert_eq!(placed.digest(), frame.digest());
            placed.place().unwrap().0.number()
        });
        let mut slabs: Vec<u32> = placed.collect();
        slabs.dedup();
        room.close();
        slabs
    }

    #[test]
    fn slabs_that_came_back_are_filled_again() {
        let mut room = Room::new(true);
        let frame = picture(1920);
        let first = span(&mut room, &frame, 25);
        assert_eq!(first.len(), 3, "ten pictures fill one");
        assert!(span(&mut room, &frame, 25).iter().all(|slab| !first.contains(slab)), "they are seen still");
        room.take_back(&first[..2]);
        let third = span(&mut room, &frame, 25);
        assert_eq!(third.iter().filter(|slab| first.contains(slab)).count(), 2);
        // A large one is not taken for a small picture, nor one that nobody awaits.
        room.take_back(&third);
        room.take_back(&[77]);
        assert!(!third.contains(&span(&mut room, &frame, 1)[0]));
        room.clear();
        assert!(room.free.is_empty());
    }

    #[test]
    fn few_are_kept() {
        let mut room = Room::new(true);
        let frame = picture(16);
        let slabs: Vec<u32> = (0..MOST_LENT + 9).flat_map(|_| span(&mut room, &frame, 1)).collect();
        assert_eq!((slabs.len(), room.lent.len()), (MOST_LENT + 9, MOST_LENT));
        room.take_back(&slabs);
        assert_eq!((room.lent.len(), room.free.len()), (0, MOST_FREE));
    }

    #[test]
    fn what_is_copied_out_needs_one_slab() {
        let mut room = Room::new(false);
        assert_eq!(span(&mut room, &picture(1920), 25).len(), 1);
    }
}
