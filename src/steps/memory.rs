//! The memory that is counted against `--memory`. Whoever uses some holds a [`Reservation`]
//! for as long as that lasts; dropping it releases the bytes. Reservations travel with the frames that they
//! are for, so that wherever a frame ends, it is counted no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes are taken; clones count the same.
#[derive(Clone, Default)]
pub struct Memory(Arc<Taken>);

#[derive(Default)]
struct Taken {
    all: AtomicU64,
    /// Of those, frames that decode steps have kept, or will.
    kept: AtomicU64,
}

/// Bytes that are counted as taken for as long as this is there.
pub struct Reservation {
    memory: Memory,
    bytes: u64,
    /// Whether they count as kept, too.
    is_kept: bool,
}

impl Memory {
    pub fn taken(&self) -> u64 {
        self.0.all.load(Ordering::Relaxed)
    }

    pub fn kept(&self) -> u64 {
        self.0.kept.load(Ordering::Relaxed)
    }

    pub fn take(&self, bytes: u64) -> Reservation {
        self.reserve(bytes, false)
    }

    /// For frames that a decode step keeps.
    pub fn keep(&self, bytes: u64) -> Reservation {
        self.reserve(bytes, true)
    }

    fn reserve(&self, bytes: u64, is_kept: bool) -> Reservation {
        self.0.all.fetch_add(bytes, Ordering::Relaxed);
        if is_kept {
            self.0.kept.fetch_add(bytes, Ordering::Relaxed);
        }
        Reservation { memory: self.clone(), bytes, is_kept }
    }
}

impl Reservation {
    /// Makes a reservation of its own of so many of the bytes, or of as many as are left.
    pub fn split(&mut self, bytes: u64) -> Reservation {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Reservation { memory: self.memory.clone(), bytes, is_kept: self.is_kept }
    }

    /// Makes one of two that were split off the same, or others of its kind.
    pub fn join(mut self, mut other: Reservation) -> Reservation {
        self.bytes += std::mem::take(&mut other.bytes);
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.0.all.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.is_kept {
            self.memory.0.kept.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_release_what_they_hold() {
        let memory = Memory::default();
        let taken = || (memory.taken(), memory.kept());
        let encoder = memory.take(5);
        let mut frames = memory.keep(10);
        let parts = [4, 4, 4].map(|bytes| frames.split(bytes));
        assert_eq!(taken(), (15, 10));
        drop(frames);
        assert_eq!(taken(), (15, 10), "all of it has been split off");
        let [first, second, third] = parts;
        let one = first.join(second);
        assert_eq!(taken(), (15, 10));
        drop(one);
        assert_eq!(taken(), (7, 2));
        drop(third);
        assert_eq!(taken(), (5, 0));
        drop(encoder);
        assert_eq!(taken(), (0, 0));
    }
}
