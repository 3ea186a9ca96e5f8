//! Takes pictures across: those that lie in shared memory stay where they are and only their place
//! is told; without shared memory their samples are in the message.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::media::{Frame, Returns, Shape, Slab, SlabWriter};

use super::protocol::{Carried, Samples};

/// Pictures of one message, on their way out.
#[derive(Default)]
pub(super) struct Parcel {
    pub pictures: Vec<Carried>,
    /// Bytes that all pictures take that were added.
    pub bytes: usize,
    slabs: Vec<Arc<Slab>>,
}

impl Parcel {
    pub(super) fn handles(&self) -> Vec<BorrowedFd<'_>> {
        self.slabs.iter().map(|slab| slab.as_fd()).collect()
    }
}

/// Sends the pictures of one job.
pub(super) struct Sender {
    shares: bool,
    /// Whether the pictures stay here for as long as the other side may see them.
    stay: bool,
    /// Where the last picture lay.
    last: Option<Arc<Slab>>,
}

impl Sender {
    /// `shares`: whether the other side sees this side's memory. `stay`: whether the pictures are kept
    /// here until the job has ended.
    pub(super) fn new(shares: bool, stay: bool) -> Sender {
        Sender { shares, stay, last: None }
    }

    /// Adds a picture to a parcel; `None` where there is no memory for it.
    pub(super) fn add(&mut self, frame: &Frame, parcel: &mut Parcel) -> Option<()> {
        let shape = Shape::of(frame);
        let here = |slab: &Arc<Slab>, offset: usize| -> Option<Samples> {
            Some(Samples::Here(slab.bytes(offset..offset + shape.bytes()?)?.to_vec()))
        };
        let copied;
        // A slab that goes back to its writer with the picture must not be seen any more then.
        let place = frame.place().filter(|(slab, _)| self.stay || !self.shares || !slab.is_lent());
        let (slab, offset) = match place {
            Some((slab, offset)) => (slab, offset),
            None => {
                let mut writer = SlabWriter::new(shape.bytes()?, 0).ok()?;
                let offset = writer.place(frame)?;
                copied = Arc::clone(writer.slab());
                (&copied, offset)
            }
        };
        let samples = if self.shares { self.shared(slab, offset, parcel) } else { here(slab, offset)? };
        parcel.bytes += shape.bytes()?;
        parcel.pictures.push(Carried { shape, samples });
        Some(())
    }

    fn shared(&mut self, slab: &Arc<Slab>, offset: usize, parcel: &mut Parcel) -> Samples {
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, slab)) {
            return Samples::Shared { next: None, offset };
        }
        self.last = Some(Arc::clone(slab));
        parcel.slabs.push(Arc::clone(slab));
        Samples::Shared { next: Some(slab.number()), offset }
    }
}

/// Receives the pictures of one job.
#[derive(Default)]
pub(super) struct Receiver {
    last: Option<Arc<Slab>>,
    /// Where slabs go that are to be filled again.
    returns: Option<Returns>,
}

impl Receiver {
    /// Of pictures whose slabs go back by `returns`.
    pub(super) fn returning(returns: Returns) -> Receiver {
        Receiver { last: None, returns: Some(returns) }
    }

    /// A picture; `handles` are those that came with its message, and have not been used yet. `None`
    /// where it cannot be what was sent.
    pub(super) fn frame(
        &mut self,
        carried: &Carried,
        handles: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Frame> {
        match &carried.samples {
            Samples::Shared { next, offset } => {
                if let Some(number) = next {
                    let handle = handles.next()?;
                    let slab = match &self.returns {
                        Some(returns) => Slab::lent(handle, *number, returns),
                        None => Slab::open(handle),
                    };
                    self.last = Some(slab.ok()?);
                }
                self.last.as_ref()?.frame(*offset, &carried.shape)
            }
            Samples::Here(bytes) => SlabWriter::holding(bytes).ok()?.frame(0, &carried.shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The picture as the other side gets it, and whether it lies where it did.
    fn across(stay: bool, frame: &Frame) -> (Frame, bool) {
        let (mut sender, mut parcel) = (Sender::new(true, stay), Parcel::default());
        sender.add(frame, &mut parcel).unwrap();
        let place = |slab: BorrowedFd<'_>| rustix::fs::fstat(slab).unwrap().st_ino;
        let (slab, _) = frame.place().unwrap();
        let is_there = place(parcel.handles()[0]) == place(slab.as_fd());
        let handles: Vec<OwnedFd> =
            parcel.handles().iter().map(|handle| handle.try_clone_to_owned().unwrap()).collect();
        let received = Receiver::default().frame(&parcel.pictures[0], &mut handles.into_iter());
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
        for (stay, frame, is_there) in
            [(true, &own, true), (false, &own, true), (true, &lent, true), (false, &lent, false)]
        {
            let (received, where_it_lay) = across(stay, frame);
            assert_eq!(received.digest(), frame.digest());
            assert_eq!(where_it_lay, is_there);
        }
    }
}
