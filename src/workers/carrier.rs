//! Takes pictures across: those that lie in shared memory stay where they are and only their place
//! is told; without shared memory their samples are in the message.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::media::{Frame, Shape, Slab, SlabWriter};

use super::protocol::{Carried, Samples};

/// Pictures of one message, on their way out.
#[derive(Default)]
pub(super) struct Parcel {
    pub pictures: Vec<Carried>,
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
    /// Where the last picture lay.
    last: Option<Arc<Slab>>,
}

impl Sender {
    /// `shares`: whether the other side sees this side's memory.
    pub(super) fn new(shares: bool) -> Sender {
        Sender { shares, last: None }
    }

    /// Adds a picture to a parcel; `None` where there is no memory for it.
    pub(super) fn add(&mut self, frame: &Frame, parcel: &mut Parcel) -> Option<()> {
        let shape = Shape::of(frame);
        let here = |slab: &Arc<Slab>, offset: usize| -> Option<Samples> {
            let bytes: &[u8] = (**slab).as_ref();
            Some(Samples::Here(bytes.get(offset..offset + shape.bytes()?)?.to_vec()))
        };
        let copied;
        let (slab, offset) = match frame.place() {
            Some((slab, offset)) => (slab, offset),
            None => {
                let mut writer = SlabWriter::new(shape.bytes()?).ok()?;
                let offset = writer.place(frame)?;
                copied = Arc::clone(writer.slab());
                (&copied, offset)
            }
        };
        let samples = if self.shares { self.shared(slab, offset, parcel) } else { here(slab, offset)? };
        parcel.pictures.push(Carried { shape, samples });
        Some(())
    }

    fn shared(&mut self, slab: &Arc<Slab>, offset: usize, parcel: &mut Parcel) -> Samples {
        let next = !self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, slab));
        if next {
            self.last = Some(Arc::clone(slab));
            parcel.slabs.push(Arc::clone(slab));
        }
        Samples::Shared { next, offset }
    }
}

/// Receives the pictures of one job.
#[derive(Default)]
pub(super) struct Receiver {
    last: Option<Arc<Slab>>,
}

impl Receiver {
    /// A picture; `handles` are those that came with its message, and have not been used yet. `None`
    /// where it cannot be what was sent.
    pub(super) fn frame(
        &mut self,
        carried: &Carried,
        handles: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Frame> {
        match &carried.samples {
            Samples::Shared { next, offset } => {
                if *next {
                    self.last = Some(Slab::open(handles.next()?).ok()?);
                }
                self.last.as_ref()?.frame(*offset, &carried.shape)
            }
            Samples::Here(bytes) => SlabWriter::holding(bytes).ok()?.frame(0, &carried.shape),
        }
    }
}
