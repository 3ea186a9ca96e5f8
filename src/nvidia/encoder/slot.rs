//! A place for one frame on its way through the encoder: the GPU's memory that it is read from,
//! and the buffer that its packet is written to.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::api::Status;
use super::session::Session;
use super::{EncodeError, EncoderConfig, Packet};
use crate::nvidia::{DeviceBuffer, PinnedBuffer};

/// The session's resources in a slot are released by [`Slot::release`] only.
pub struct Slot {
    memory: DeviceBuffer,
    registered: Option<NV_ENC_REGISTERED_PTR>,
    /// Set from when a frame is handed in until its packet was read.
    mapped: Option<NV_ENC_INPUT_PTR>,
    bitstream: Option<NV_ENC_OUTPUT_PTR>,
}

// SAFETY: what it holds belongs to a session, which any thread may use, one at a time.
unsafe impl Send for Slot {}

impl EncoderConfig {
    pub(super) fn bytes_per_sample(&self) -> usize {
        if self.bit_depth > 8 { 2 } else { 1 }
    }

    /// Bytes of a row, of luma as of chroma, whose two samples take turns.
    pub(super) fn row_bytes(&self) -> usize {
        self.width as usize * self.bytes_per_sample()
    }

    /// Rows of luma, and then half as many of chroma.
    pub(super) fn rows(&self) -> usize {
        self.height as usize + (self.height as usize).div_ceil(2)
    }

    fn format(&self) -> NV_ENC_BUFFER_FORMAT {
        match self.bit_depth {
            8 => NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_NV12,
            _ => NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_YUV420_10BIT,
        }
    }
}

impl Slot {
    pub fn new(session: &Session, config: &EncoderConfig) -> Result<Slot, EncodeError> {
        let memory = DeviceBuffer::new(session.context(), config.row_bytes(), config.rows())?;
        let mut slot = Slot { memory, registered: None, mapped: None, bitstream: None };
        match slot.acquire(session, config) {
            Ok(()) => Ok(slot),
            Err(error) => {
                slot.release(session);
                Err(error)
            }
        }
    }

    fn acquire(&mut self, session: &Session, config: &EncoderConfig) -> Result<(), EncodeError> {
        let pitch = u32::try_from(self.memory.pitch())
            .map_err(|_| EncodeError::Broken("rows of its memory are too far apart".to_owned()))?;
        let mut params = NV_ENC_REGISTER_RESOURCE {
            version: NV_ENC_REGISTER_RESOURCE_VER,
            resourceType: NV_ENC_INPUT_RESOURCE_TYPE::NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR,
            width: config.width,
            height: config.height,
            pitch,
            resourceToRegister: self.memory.pointer() as *mut c_void,
            bufferFormat: config.format(),
            bufferUsage: NV_ENC_BUFFER_USAGE::NV_ENC_INPUT_IMAGE,
            ..Default::default()
        };
        // SAFETY: the memory has these rows, and is freed after it is unregistered.
        session.call("nvEncRegisterResource", |functions, session| unsafe {
            (functions.nvEncRegisterResource)(session, &mut params)
        })?;
        self.registered = Some(params.registeredResource);
        let version = NV_ENC_CREATE_BITSTREAM_BUFFER_VER;
        let mut params = NV_ENC_CREATE_BITSTREAM_BUFFER { version, ..Default::default() };
        // SAFETY: the function writes one handle.
        session.call("nvEncCreateBitstreamBuffer", |functions, session| unsafe {
            (functions.nvEncCreateBitstreamBuffer)(session, &mut params)
        })?;
        self.bitstream = Some(params.bitstreamBuffer);
        Ok(())
    }

    /// Copies a frame to the GPU and hands it to the encoder as number `number`. The status is
    /// success, or that more input is needed first, or any other.
    pub fn submit(
        &mut self,
        session: &Session,
        config: &EncoderConfig,
        frame: &PinnedBuffer,
        number: u64,
    ) -> Result<Status, EncodeError> {
        let input = match self.mapped {
            // The encoder was busy when the frame was handed in.
            Some(mapped) => mapped,
            None => {
                self.memory.upload(0, frame.bytes(), config.row_bytes(), config.row_bytes())?;
                self.map(session)?
            }
        };
        let mut params = picture_params();
        params.inputWidth = config.width;
        params.inputHeight = config.height;
        params.inputPitch = u32::try_from(self.memory.pitch()).unwrap_or(config.width);
        params.inputBuffer = input;
        params.bufferFmt = config.format();
        params.outputBitstream = self.bitstream.unwrap_or(std::ptr::null_mut());
        params.inputTimeStamp = number;
        params.frameIdx = number as u32;
        if number == 0 {
            params.encodePicFlags = NV_ENC_PIC_FLAGS::NV_ENC_PIC_FLAG_FORCEIDR as u32;
        }
        // SAFETY: the input is mapped and the buffer is there, until the packet was read.
        session.status(|functions, session| unsafe { (functions.nvEncEncodePicture)(session, &mut params) })
    }

    fn map(&mut self, session: &Session) -> Result<NV_ENC_INPUT_PTR, EncodeError> {
        let mut params = NV_ENC_MAP_INPUT_RESOURCE {
            version: NV_ENC_MAP_INPUT_RESOURCE_VER,
            registeredResource: self.registered.unwrap_or(std::ptr::null_mut()),
            ..Default::default()
        };
        // SAFETY: the resource is registered; the function writes a handle and a format.
        session.call("nvEncMapInputResource", |functions, session| unsafe {
            (functions.nvEncMapInputResource)(session, &mut params)
        })?;
        self.mapped = Some(params.mappedResource);
        Ok(params.mappedResource)
    }

    /// Waits for the packet and reads it; then the slot is free for another frame.
    pub fn packet(&mut self, session: &Session) -> Result<Packet, EncodeError> {
        let buffer = self.bitstream.unwrap_or(std::ptr::null_mut());
        let mut params = MaybeUninit::<NV_ENC_LOCK_BITSTREAM>::zeroed();
        let place = params.as_mut_ptr();
        // SAFETY: the fields are written and read one by one, for the types of frames that a
        // driver tells are not all the header's; the bytes are there until the buffer is unlocked.
        let packet = unsafe {
            (&raw mut (*place).version).write(NV_ENC_LOCK_BITSTREAM_VER);
            (&raw mut (*place).outputBitstream).write(buffer);
            session.call("nvEncLockBitstream", |functions, session| {
                (functions.nvEncLockBitstream)(session, place)
            })?;
            let bytes = (&raw const (*place).bitstreamBufferPtr).read().cast::<u8>();
            let length = (&raw const (*place).bitstreamSizeInBytes).read() as usize;
            let picture_type = (&raw const (*place).pictureType).cast::<u32>().read();
            let bytes = match bytes.is_null() {
                true => Vec::new(),
                false => std::slice::from_raw_parts(bytes, length).to_vec(),
            };
            Packet {
                bytes,
                number: (&raw const (*place).outputTimeStamp).read(),
                is_key: picture_type == NV_ENC_PIC_TYPE::NV_ENC_PIC_TYPE_IDR as u32,
            }
        };
        // SAFETY: the buffer was locked just now, and nothing reads it any more.
        session.call("nvEncUnlockBitstream", |functions, session| unsafe {
            (functions.nvEncUnlockBitstream)(session, buffer)
        })?;
        self.unmap(session)?;
        if packet.bytes.is_empty() {
            return Err(EncodeError::Broken(format!("the packet of frame {} is empty", packet.number)));
        }
        Ok(packet)
    }

    fn unmap(&mut self, session: &Session) -> Result<(), EncodeError> {
        let Some(mapped) = self.mapped.take() else { return Ok(()) };
        // SAFETY: it was mapped once, and the encoder does not read it any more.
        session.call("nvEncUnmapInputResource", |functions, session| unsafe {
            (functions.nvEncUnmapInputResource)(session, mapped)
        })
    }

    /// Gives back what is the session's, in the order that the header asks for. The encoder must
    /// not be using it. Failures are ignored: there is nothing to do about them.
    pub fn release(&mut self, session: &Session) {
        let _ = self.unmap(session);
        if let Some(registered) = self.registered.take() {
            // SAFETY: it was registered once, and is not mapped.
            let _ = session.status(|functions, session| unsafe {
                (functions.nvEncUnregisterResource)(session, registered)
            });
        }
        if let Some(bitstream) = self.bitstream.take() {
            // SAFETY: it was created once, and is not locked.
            let _ = session.status(|functions, session| unsafe {
                (functions.nvEncDestroyBitstreamBuffer)(session, bitstream)
            });
        }
    }
}

/// The parameters of a frame, or of the end of the stream, at their defaults.
pub fn picture_params() -> NV_ENC_PIC_PARAMS {
    let mut params = MaybeUninit::<NV_ENC_PIC_PARAMS>::zeroed();
    let place = params.as_mut_ptr();
    // SAFETY: all zeros is a value of every field but `pictureStruct`, which is set.
    unsafe {
        (&raw mut (*place).version).write(NV_ENC_PIC_PARAMS_VER);
        (&raw mut (*place).pictureStruct).write(NV_ENC_PIC_STRUCT::NV_ENC_PIC_STRUCT_FRAME);
        params.assume_init()
    }
}
