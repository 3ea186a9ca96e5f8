//! Framing of the messages between a build and a worker process: a length, the number of file descriptors
//! that come with the message, and one value in postcard's encoding. File descriptors can be passed only over
//! a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The length of the value and the number of file descriptors, 32 bits each, little-endian.
const HEADER: usize = 8;
/// File descriptors in one message; Linux allows 253.
pub(super) const MAX_HANDLES: usize = 32;
/// Bytes that are read at a time, so that a wrong length allocates no memory.
const PIECE: usize = 1 << 20;

/// How to wait for a file descriptor that does not block by itself.
pub(super) trait Wait {
    fn until(&self, handle: BorrowedFd<'_>, what: PollFlags) -> io::Result<()>;
}

/// For file descriptors that block.
pub(super) struct Blocks;

impl Wait for Blocks {
    fn until(&self, _: BorrowedFd<'_>, _: PollFlags) -> io::Result<()> {
        Ok(())
    }
}

/// One end of a connection.
pub(super) struct Channel {
    input: OwnedFd,
    output: OwnedFd,
    /// Whether both are one Unix socket, over which file descriptors can be passed.
    shares: bool,
}

impl Channel {
    pub(super) fn new(input: OwnedFd, output: OwnedFd, shares: bool) -> Channel {
        Channel { input, output, shares }
    }

    pub(super) fn shares(&self) -> bool {
        self.shares
    }

    pub(super) fn send(
        &self,
        message: &impl Serialize,
        handles: &[BorrowedFd<'_>],
        wait: &dyn Wait,
    ) -> io::Result<()> {
        let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(|_| io::Error::other("a message of over 4 GiB"))?;
        if handles.len() > MAX_HANDLES || (!self.shares && !handles.is_empty()) {
            return Err(io::Error::other("handles that cannot be sent"));
        }
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..].copy_from_slice(&(handles.len() as u32).to_le_bytes());
        let sent = self.send_header(&header, handles, wait)?;
        self.write_all(&header[sent..], wait)?;
        self.write_all(&body, wait)
    }

    /// Sends file descriptors with the first bytes of the header.
    fn send_header(&self, header: &[u8], handles: &[BorrowedFd<'_>], wait: &dyn Wait) -> io::Result<usize> {
        if handles.is_empty() {
            return Ok(0);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(handles)) {
            return Err(io::Error::other("handles that cannot be sent"));
        }
        self.again(&self.output, PollFlags::OUT, wait, || {
            rustix::net::sendmsg(&self.output, &[IoSlice::new(header)], &mut ancillary, SendFlags::NOSIGNAL)
        })
    }

    fn write_all(&self, mut bytes: &[u8], wait: &dyn Wait) -> io::Result<()> {
        while !bytes.is_empty() {
            let written =
                self.again(&self.output, PollFlags::OUT, wait, || rustix::io::write(&self.output, bytes))?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether there is a message to read, or the other end has closed.
    pub(super) fn has_input(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.input, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next message and its file descriptors; `None` when the other end has closed.
    pub(super) fn receive<T: DeserializeOwned>(
        &self,
        wait: &dyn Wait,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut header = [0; HEADER];
        let mut handles = Vec::new();
        let mut filled = 0;
        while filled < HEADER {
            let read = self.read_header(&mut header[filled..], &mut handles, wait)?;
            if read == 0 {
                return if filled == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            filled += read;
        }
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if number(4) as usize != handles.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "handles are missing"));
        }
        let body = self.read_body(number(0) as usize, wait)?;
        let message =
            postcard::from_bytes(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((message, handles)))
    }

    fn read_header(&self, room: &mut [u8], handles: &mut Vec<OwnedFd>, wait: &dyn Wait) -> io::Result<usize> {
        if !self.shares {
            return self
                .again(&self.input, PollFlags::IN, wait, || rustix::io::read(&self.input, &mut *room));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = self.again(&self.input, PollFlags::IN, wait, || {
            let room = &mut [IoSliceMut::new(room)];
            rustix::net::recvmsg(&self.input, room, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                handles.extend(rights);
            }
        }
        Ok(received.bytes)
    }

    fn read_body(&self, length: usize, wait: &dyn Wait) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while body.len() < length {
            let start = body.len();
            body.resize(length.min(start + PIECE), 0);
            let read = self.again(&self.input, PollFlags::IN, wait, || {
                rustix::io::read(&self.input, &mut body[start..])
            })?;
            body.truncate(start + read);
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(body)
    }

    /// Repeats a call that was interrupted, and one that would block once waiting for it is over.
    fn again<T>(
        &self,
        handle: &impl AsFd,
        what: PollFlags,
        wait: &dyn Wait,
        mut call: impl FnMut() -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match call() {
                Ok(done) => return Ok(done),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => wait.until(handle.as_fd(), what)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
