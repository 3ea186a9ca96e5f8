//! Bitstream buffers: where packets go, and where the client reads them.

use std::collections::HashMap;
use std::ffi::c_void;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::refusal::{Refusal, reserved_is_zero, rule, structure};
use super::session::on_session;
use crate::cuda;
use crate::settings::{Fault, settings};

/// Those of a session, by their handles, each with the packet that it is locked with.
#[derive(Default)]
pub struct Outputs {
    buffers: HashMap<usize, Option<Vec<u8>>>,
    created: usize,
}

impl Outputs {
    pub fn any(&self) -> bool {
        !self.buffers.is_empty()
    }

    /// Refuses a buffer that is not there, or is locked.
    pub fn check_free(&self, handle: *mut c_void) -> Result<(), Refusal> {
        match self.buffers.get(&(handle as usize)) {
            Some(None) => Ok(()),
            Some(Some(_)) => {
                let status = NVENCSTATUS::NV_ENC_ERR_INVALID_CALL;
                Err(Refusal::breach(status, "a bitstream buffer is used while it is locked"))
            }
            None => Err(Refusal::parameter("there is no such bitstream buffer")),
        }
    }
}

pub unsafe extern "C" fn create(
    handle: *mut c_void,
    params: *mut NV_ENC_CREATE_BITSTREAM_BUFFER,
) -> NVENCSTATUS {
    on_session(handle, "nvEncCreateBitstreamBuffer", |session| {
        let name = "NV_ENC_CREATE_BITSTREAM_BUFFER";
        // SAFETY: the client's pointer is null or to what the header says.
        let params = unsafe { structure(params, NV_ENC_CREATE_BITSTREAM_BUFFER_VER, name)? };
        reserved_is_zero(&params.reserved1, name)?;
        reserved_is_zero(&params.reserved2, name)?;
        session.encoding()?;
        session.outputs.created += 1;
        let buffer = 0xb175_0000 + session.outputs.created;
        session.outputs.buffers.insert(buffer, None);
        params.bitstreamBuffer = buffer as *mut c_void;
        Ok(())
    })
}

pub unsafe extern "C" fn destroy(handle: *mut c_void, buffer: NV_ENC_OUTPUT_PTR) -> NVENCSTATUS {
    on_session(handle, "nvEncDestroyBitstreamBuffer", |session| {
        session.outputs.check_free(buffer)?;
        session.outputs.buffers.remove(&(buffer as usize));
        let encoding = session.encoding()?;
        let in_use =
            !encoding.ended && encoding.queue.iter().any(|pending| pending.bitstream == buffer as usize);
        let lost = cuda::is_lost(session.gpu);
        let status = NVENCSTATUS::NV_ENC_ERR_INVALID_CALL;
        rule(!in_use || lost, status, "a bitstream buffer is destroyed before its packet came")
    })
}

pub unsafe extern "C" fn lock(handle: *mut c_void, params: *mut NV_ENC_LOCK_BITSTREAM) -> NVENCSTATUS {
    on_session(handle, "nvEncLockBitstream", |session| {
        let name = "NV_ENC_LOCK_BITSTREAM";
        // SAFETY: the client's pointer is null or to what the header says.
        let params = unsafe { structure(params, NV_ENC_LOCK_BITSTREAM_VER, name)? };
        reserved_is_zero(&params.reserved1, name)?;
        reserved_is_zero(&params.reserved2, name)?;
        reserved_is_zero(&params.reservedInternal, name)?;
        session.outputs.check_free(params.outputBitstream)?;
        let gpu = session.gpu;
        if cuda::is_lost(gpu) {
            return Ok(());
        }
        let encoding = session.encoding()?;
        let number = encoding.locked;
        let status = NVENCSTATUS::NV_ENC_ERR_INVALID_CALL;
        rule(
            number < encoding.ready,
            status,
            "a buffer is locked whose packet the encoder has not promised yet",
        )?;
        let first = encoding.queue.front().map(|pending| pending.bitstream);
        rule(
            first == Some(params.outputBitstream as usize),
            status,
            "buffers are not locked in the order in which they were handed in",
        )?;
        let (Some(pending), Some(packet)) = (encoding.queue.pop_front(), encoding.stream.take()) else {
            return Err(Refusal::fault(NVENCSTATUS::NV_ENC_ERR_GENERIC, "the engine has lost a packet"));
        };
        encoding.locked += 1;
        let fault = settings().fault_of(gpu);
        let mut bytes = packet.bytes;
        if fault == Some(Fault::Empty(number)) {
            bytes.clear();
        }
        params.outputTimeStamp = pending.time_stamp + u64::from(fault == Some(Fault::Late(number)));
        params.frameIdx = number as u32;
        params.bitstreamSizeInBytes = bytes.len() as u32;
        params.pictureStruct = NV_ENC_PIC_STRUCT::NV_ENC_PIC_STRUCT_FRAME;
        params.pictureType = match packet.is_key {
            true => NV_ENC_PIC_TYPE::NV_ENC_PIC_TYPE_IDR,
            false => NV_ENC_PIC_TYPE::NV_ENC_PIC_TYPE_P,
        };
        let buffer = session.outputs.buffers.entry(pending.bitstream).or_default().insert(bytes);
        params.bitstreamBufferPtr = buffer.as_mut_ptr().cast();
        Ok(())
    })
}

pub unsafe extern "C" fn unlock(handle: *mut c_void, buffer: NV_ENC_OUTPUT_PTR) -> NVENCSTATUS {
    on_session(handle, "nvEncUnlockBitstream", |session| {
        let packet = session.outputs.buffers.get_mut(&(buffer as usize)).and_then(Option::take);
        rule(
            packet.is_some(),
            NVENCSTATUS::NV_ENC_ERR_INVALID_CALL,
            "a buffer is unlocked that is not locked",
        )
    })
}
