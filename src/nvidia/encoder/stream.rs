//! The encoding of one closed sequence: frames in, packets out.

use std::sync::Arc;
use std::time::Duration;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::NV_ENC_PIC_FLAGS;

use super::api::{ENCODER_BUSY, LOCK_BUSY, NEED_MORE_INPUT, SUCCESS, Status};
use super::config::{check, parameters};
use super::session::Session;
use super::slot::{Slot, picture_params};
use super::{EncodeCaps, EncodeError, EncoderConfig};
use crate::nvidia::{Context, PinnedBuffer, SamplesMut};

/// The header asks for at least four buffers more than there are B frames in a row; with these the
/// encoder also has work while the host copies.
const SLOTS_BESIDE_B_FRAMES: usize = 6;

/// A temporal unit: a frame that is shown, and before it those that are not which it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// OBUs with their sizes, as in the "low-overhead" format (AV1 5.2).
    pub bytes: Vec<u8>,
    /// The number of the frame, from 0.
    pub number: u64,
    pub is_key: bool,
}

/// An open encoder. It can be dropped in any state.
pub struct Encoder {
    // Closed before the slots' memory is freed, and after `drop` has released the session's resources in
    // them.
    session: Session,
    config: EncoderConfig,
    /// Frame `n` is in slot `n % slots.len()`.
    slots: Vec<Slot>,
    /// A frame as the GPU reads it.
    input: PinnedBuffer,
    /// The number of frames that were submitted, of packets that the encoder has finished, and of packets
    /// that were read.
    submitted: u64,
    promised: u64,
    read: u64,
    ended: bool,
}

impl Encoder {
    /// `caps` are those of the context's GPU.
    pub fn open(
        context: &Arc<Context>,
        caps: &EncodeCaps,
        config: &EncoderConfig,
    ) -> Result<Encoder, EncodeError> {
        check(config, caps)?;
        let session = Session::open(context)?;
        let mut params = parameters(&session, caps, config)?;
        params.initialize.encodeConfig = &mut params.config;
        // SAFETY: both structures are complete and live as long as the call.
        let initialized = session.call("nvEncInitializeEncoder", |functions, session| unsafe {
            (functions.nvEncInitializeEncoder)(session, &mut params.initialize)
        });
        initialized.map_err(EncodeError::while_configuring)?;
        let input = PinnedBuffer::new(context, config.row_bytes() * config.rows())
            .map_err(|error| EncodeError::from(error).while_opening())?;
        let mut encoder = Encoder {
            session,
            config: config.clone(),
            slots: Vec::new(),
            input,
            submitted: 0,
            promised: 0,
            read: 0,
            ended: false,
        };
        let b_frames = usize::try_from(params.config.frameIntervalP - 1).unwrap_or(0);
        for _ in 0..b_frames + SLOTS_BESIDE_B_FRAMES {
            let slot = Slot::new(&encoder.session, config).map_err(EncodeError::while_opening)?;
            encoder.slots.push(slot);
        }
        Ok(encoder)
    }

    /// Encodes the next frame, which `write` writes as NV12 or, with 10 bits, as P010. Returns the packet
    /// of an earlier frame once as many are on their way as there is room for.
    pub fn encode(&mut self, write: impl FnOnce(SamplesMut<'_>)) -> Result<Option<Packet>, EncodeError> {
        let is_full = self.submitted - self.read == self.slots.len() as u64;
        let packet = if is_full { Some(self.read()?) } else { None };
        let stride = self.config.row_bytes();
        let (luma, chroma) = self.input.bytes_mut().split_at_mut(stride * self.config.height as usize);
        write(SamplesMut { luma, chroma, stride });
        let number = self.submitted;
        let slot = slot(&mut self.slots, number)?;
        let (session, config, input) = (&self.session, &self.config, &self.input);
        match retry_while_busy(|| slot.submit(session, config, input, number))? {
            SUCCESS => self.promised = number + 1,
            NEED_MORE_INPUT => {}
            status => self.session.check("nvEncEncodePicture", status)?,
        }
        self.submitted = number + 1;
        Ok(packet)
    }

    /// Ends the stream. [`Encoder::next_packet`] then returns the packets that are left.
    pub fn finish(&mut self) -> Result<(), EncodeError> {
        if self.ended || self.submitted == 0 {
            return Ok(());
        }
        let status = self.end()?;
        self.session.check("nvEncEncodePicture", status)?;
        self.promised = self.submitted;
        Ok(())
    }

    /// The next of the packets that are left after [`Encoder::finish`]; `None` after the last.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, EncodeError> {
        if self.ended && self.read < self.promised { self.read().map(Some) } else { Ok(None) }
    }

    fn end(&mut self) -> Result<Status, EncodeError> {
        self.ended = true;
        let mut params = picture_params();
        params.encodePicFlags = NV_ENC_PIC_FLAGS::NV_ENC_PIC_FLAG_EOS as u32;
        // SAFETY: the structure is complete, and has no buffers.
        retry_while_busy(|| {
            self.session
                .status(|functions, session| unsafe { (functions.nvEncEncodePicture)(session, &mut params) })
        })
    }

    /// Reads the packet that comes next.
    fn read(&mut self) -> Result<Packet, EncodeError> {
        if self.read == self.promised {
            let what = format!("it wants more than {} frames for a packet", self.slots.len());
            return Err(EncodeError::Broken(what));
        }
        let packet = slot(&mut self.slots, self.read)?.packet(&self.session)?;
        self.read += 1;
        Ok(packet)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // An encoder must be flushed before its buffers are released.
        if self.submitted > 0 && !self.ended {
            let _ = self.end();
        }
        for slot in &mut self.slots {
            slot.release(&self.session);
        }
    }
}

fn slot(slots: &mut [Slot], number: u64) -> Result<&mut Slot, EncodeError> {
    let place = number.checked_rem(slots.len() as u64).and_then(|place| usize::try_from(place).ok());
    let slot = place.and_then(|place| slots.get_mut(place));
    slot.ok_or_else(|| EncodeError::Broken("there is no slot for a frame".to_owned()))
}

/// Retries a call while the encoder is busy, up to some seconds.
fn retry_while_busy(mut call: impl FnMut() -> Result<Status, EncodeError>) -> Result<Status, EncodeError> {
    /// "A few milliseconds", says the header.
    const BACKOFF: Duration = Duration::from_millis(2);
    const MAX_TRIES: u32 = 2500;
    for _ in 1..MAX_TRIES {
        match call()? {
            ENCODER_BUSY | LOCK_BUSY => std::thread::sleep(BACKOFF),
            status => return Ok(status),
        }
    }
    call()
}
