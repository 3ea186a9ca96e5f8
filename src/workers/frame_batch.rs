//! Frames on their way between processes: one that lies in shared memory is passed as a handle, its slab and
//! offset; without shared memory its samples are in the message.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::media::{Frame, Returns, Shape, Slab, SlabWriter};

use super::protocol::{FrameHandle, Samples};

/// Frames of one outgoing message.
#[derive(Default)]
pub(super) struct FrameBatch {
    pub frames: Vec<FrameHandle>,
    /// Bytes of all frames that were added.
    pub bytes: usize,
    slabs: Vec<Arc<Slab>>,
}

impl FrameBatch {
    pub(super) fn handles(&self) -> Vec<BorrowedFd<'_>> {
        self.slabs.iter().map(|slab| slab.as_fd()).collect()
    }
}

/// Sends the frames of one job.
pub(super) struct FrameSender {
    shares: bool,
    /// Whether this side keeps each frame until the job has ended.
    retained: bool,
    /// The slab of the last frame.
    last: Option<Arc<Slab>>,
}

impl FrameSender {
    /// `shares`: whether frames can be passed in shared memory. `retained`: whether this side keeps each
    /// frame until the job has ended.
    pub(super) fn new(shares: bool, retained: bool) -> FrameSender {
        FrameSender { shares, retained, last: None }
    }

    /// Adds a frame to a batch.
    pub(super) fn add(&mut self, frame: &Frame, batch: &mut FrameBatch) -> io::Result<()> {
        let shape = Shape::of(frame);
        let bytes = shape.bytes().ok_or_else(impossible)?;
        let samples = if self.shares {
            self.shared(frame, bytes, batch)?
        } else {
            Samples::Here(Shape::samples(frame).ok_or_else(impossible)?)
        };
        batch.bytes += bytes;
        batch.frames.push(FrameHandle { shape, samples });
        Ok(())
    }

    /// The handle of a frame of that many bytes. It is copied if its slab may be reused while the other side
    /// still reads it.
    fn shared(&mut self, frame: &Frame, bytes: usize, batch: &mut FrameBatch) -> io::Result<Samples> {
        let copied;
        let (slab, offset) = match frame.place().filter(|(slab, _)| self.retained || !slab.is_lent()) {
            Some(place) => place,
            None => {
                let mut writer = SlabWriter::new(bytes, 0)?;
                let offset = writer.place(frame).ok_or_else(impossible)?;
                copied = Arc::clone(writer.slab());
                (&copied, offset)
            }
        };
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, slab)) {
            return Ok(Samples::Shared { next: None, offset });
        }
        self.last = Some(Arc::clone(slab));
        batch.slabs.push(Arc::clone(slab));
        Ok(Samples::Shared { next: Some(slab.number()), offset })
    }
}

/// Receives the frames of one job.
#[derive(Default)]
pub(super) struct FrameReceiver {
    last: Option<Arc<Slab>>,
    /// Where slabs go back to their writer for reuse.
    returns: Option<Returns>,
}

impl FrameReceiver {
    /// For frames whose slabs go back by `returns`.
    pub(super) fn returning(returns: Returns) -> FrameReceiver {
        FrameReceiver { last: None, returns: Some(returns) }
    }

    /// The frame of a handle; `handles` are the file descriptors of its message that have not been used yet.
    pub(super) fn frame(
        &mut self,
        handle: &FrameHandle,
        handles: &mut impl Iterator<Item = OwnedFd>,
    ) -> io::Result<Frame> {
        let frame = match &handle.samples {
            Samples::Shared { next, offset } => {
                if let Some(number) = next {
                    let handle = handles.next().ok_or_else(impossible)?;
                    let slab = match &self.returns {
                        Some(returns) => Slab::lent(handle, *number, returns),
                        None => Slab::open(handle),
                    };
                    self.last = Some(slab?);
                }
                self.last.as_ref().and_then(|slab| slab.frame(*offset, &handle.shape))
            }
            // In ordinary memory: a file descriptor for each frame that is kept would be too many.
            Samples::Here(bytes) => handle.shape.frame(bytes),
        };
        frame.ok_or_else(impossible)
    }
}

fn impossible() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an invalid frame")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frame as the other side gets it, and whether it lies where it did.
    fn across(retained: bool, frame: &Frame) -> (Frame, bool) {
        let (mut sender, mut batch) = (FrameSender::new(true, retained), FrameBatch::default());
        sender.add(frame, &mut batch).unwrap();
        let place = |slab: BorrowedFd<'_>| rustix::fs::fstat(slab).unwrap().st_ino;
        let (slab, _) = frame.place().unwrap();
        let is_there = place(batch.handles()[0]) == place(slab.as_fd());
        let handles: Vec<OwnedFd> =
            batch.handles().iter().map(|handle| handle.try_clone_to_owned().unwrap()).collect();
        let received = FrameReceiver::default().frame(&batch.frames[0], &mut handles.into_iter());
        (received.unwrap(), is_there)
    }

    #[test]
    fn what_may_be_written_over_is_not_shown_for_longer() {
        let shape = Shape::named("yuv420p", 64, 48);
        let bytes: Vec<u8> = (0..shape.bytes().unwrap()).map(|place| (place * 7) as u8).collect();
        let slab = SlabWriter::holding(&bytes).unwrap();
        let returns = Returns::default();
        let lent = Slab::lent(slab.as_fd().try_clone_to_owned().unwrap(), 3, &returns).unwrap();
        let (own, lent) = (slab.frame(0, &shape).unwrap(), lent.frame(0, &shape).unwrap());
        for (retained, frame, is_there) in
            [(true, &own, true), (false, &own, true), (true, &lent, true), (false, &lent, false)]
        {
            let (received, where_it_lay) = across(retained, frame);
            assert_eq!(received.digest(), frame.digest());
            assert_eq!(where_it_lay, is_there);
        }
    }
}
