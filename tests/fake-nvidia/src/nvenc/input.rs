//! Memory that a session reads its pictures from: registered, and mapped while a picture is in it.

use std::collections::HashMap;
use std::ffi::c_void;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::refusal::{Refusal, expect, reserved_is_zero, rule, structure};
use super::session::{on_session, set_registered};
use crate::cuda;

/// Those of a session, by their handles.
#[derive(Default)]
pub struct Inputs {
    registered: HashMap<usize, Resource>,
    /// Of each mapped one that which it is of.
    mapped: HashMap<usize, usize>,
    handles: usize,
}

#[derive(Clone, Copy)]
pub struct Resource {
    address: u64,
    pitch: usize,
    width: usize,
    height: usize,
    format: NV_ENC_BUFFER_FORMAT,
}

impl Inputs {
    pub fn is_registered(&self) -> bool {
        !self.registered.is_empty()
    }

    pub fn is_mapped(&self) -> bool {
        !self.mapped.is_empty()
    }

    /// The resource that is mapped by this handle.
    pub fn mapped(&self, handle: *mut c_void) -> Result<Resource, Refusal> {
        let found = self.mapped.get(&(handle as usize)).and_then(|of| self.registered.get(of));
        found.copied().ok_or_else(|| {
            Refusal::breach(NVENCSTATUS::NV_ENC_ERR_RESOURCE_NOT_MAPPED, "a picture's input is not mapped")
        })
    }

    fn handle(&mut self) -> usize {
        self.handles += 1;
        0x1290_0000 + self.handles
    }
}

fn bytes_per_sample(format: NV_ENC_BUFFER_FORMAT) -> Result<usize, Refusal> {
    match format {
        NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_NV12 => Ok(1),
        NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_YUV420_10BIT => Ok(2),
        other => Err(Refusal::parameter(format!("no input format was offered as {other:?}"))),
    }
}

impl Resource {
    /// The planes Y, U and V of a picture, as [`super::stream`] takes them: rows of luma, then half
    /// as many of U and V by turns, `pitch` bytes apart; of two bytes the upper ten bits count.
    pub fn planes(&self, gpu: i32) -> Result<[Vec<u8>; 3], Refusal> {
        let size = bytes_per_sample(self.format)?;
        let row_bytes = self.width * size;
        let rows = self.height + self.height / 2;
        let all = self.pitch * (rows - 1) + row_bytes;
        let planes = cuda::read(gpu, self.address, all, |bytes| {
            let mut planes = [Vec::new(), Vec::new(), Vec::new()];
            for row in 0..rows {
                let samples = bytes[row * self.pitch..][..row_bytes].chunks_exact(size);
                for (column, sample) in samples.enumerate() {
                    let plane = if row < self.height { 0 } else { 1 + column % 2 };
                    match *sample {
                        [low, high] => {
                            let value = u16::from_le_bytes([low, high]) >> 6;
                            planes[plane].extend_from_slice(&value.to_le_bytes());
                        }
                        _ => planes[plane].extend_from_slice(sample),
                    }
                }
            }
            planes
        });
        planes.ok_or_else(|| {
            Refusal::breach(NVENCSTATUS::NV_ENC_ERR_MAP_FAILED, "a mapped resource's memory is gone")
        })
    }

    pub fn format(&self) -> NV_ENC_BUFFER_FORMAT {
        self.format
    }

    pub fn size(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }
}

pub unsafe extern "C" fn register(handle: *mut c_void, params: *mut NV_ENC_REGISTER_RESOURCE) -> NVENCSTATUS {
    on_session(handle, "nvEncRegisterResource", |session| {
        let name = "NV_ENC_REGISTER_RESOURCE";
        // SAFETY: the client's pointer is null or to what the header says.
        let params = unsafe { structure(params, NV_ENC_REGISTER_RESOURCE_VER, name)? };
        reserved_is_zero(&params.reserved1, name)?;
        reserved_is_zero(&params.reserved2, name)?;
        session.encoding()?;
        let device = NV_ENC_INPUT_RESOURCE_TYPE::NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR;
        expect(params.resourceType == device, "the resource is not CUDA's memory")?;
        let image = NV_ENC_BUFFER_USAGE::NV_ENC_INPUT_IMAGE;
        expect(params.bufferUsage == image, "the resource is not for pictures")?;
        expect(params.pitch.is_multiple_of(4), "the pitch is no multiple of 4")?;
        let resource = Resource {
            address: params.resourceToRegister as u64,
            pitch: params.pitch as usize,
            width: params.width as usize,
            height: params.height as usize,
            format: params.bufferFormat,
        };
        let row_bytes = resource.width * bytes_per_sample(resource.format)?;
        expect(resource.pitch >= row_bytes, "the pitch is less than a row")?;
        let all = resource.pitch * (resource.height + resource.height / 2);
        let is_there = cuda::read(session.gpu, resource.address, all, |_| ()).is_some();
        let status = NVENCSTATUS::NV_ENC_ERR_RESOURCE_REGISTER_FAILED;
        rule(is_there, status, "a resource is larger than its memory, or another GPU's")?;
        let registered = session.inputs.handle();
        session.inputs.registered.insert(registered, resource);
        set_registered(resource.address, true);
        params.registeredResource = registered as *mut c_void;
        Ok(())
    })
}

pub unsafe extern "C" fn unregister(handle: *mut c_void, registered: NV_ENC_REGISTERED_PTR) -> NVENCSTATUS {
    on_session(handle, "nvEncUnregisterResource", |session| {
        let is_mapped = session.inputs.mapped.values().any(|&of| of == registered as usize);
        rule(
            !is_mapped,
            NVENCSTATUS::NV_ENC_ERR_INVALID_CALL,
            "a resource is unregistered while it is mapped",
        )?;
        let resource = session.inputs.registered.remove(&(registered as usize));
        let status = NVENCSTATUS::NV_ENC_ERR_RESOURCE_NOT_REGISTERED;
        let resource = resource.ok_or_else(|| Refusal::breach(status, "the resource is not registered"))?;
        set_registered(resource.address, false);
        Ok(())
    })
}

pub unsafe extern "C" fn map(handle: *mut c_void, params: *mut NV_ENC_MAP_INPUT_RESOURCE) -> NVENCSTATUS {
    on_session(handle, "nvEncMapInputResource", |session| {
        let name = "NV_ENC_MAP_INPUT_RESOURCE";
        // SAFETY: the client's pointer is null or to what the header says.
        let params = unsafe { structure(params, NV_ENC_MAP_INPUT_RESOURCE_VER, name)? };
        reserved_is_zero(&params.reserved1, name)?;
        reserved_is_zero(&params.reserved2, name)?;
        session.encoding()?;
        let inputs = &mut session.inputs;
        let of = params.registeredResource as usize;
        let resource = inputs.registered.get(&of).copied();
        let status = NVENCSTATUS::NV_ENC_ERR_RESOURCE_NOT_REGISTERED;
        let resource = resource.ok_or_else(|| Refusal::breach(status, "what is mapped is not registered"))?;
        let again = inputs.mapped.values().any(|&other| other == of);
        rule(!again, NVENCSTATUS::NV_ENC_ERR_MAP_FAILED, "the resource is mapped already")?;
        let mapped = inputs.handle();
        inputs.mapped.insert(mapped, of);
        params.mappedResource = mapped as *mut c_void;
        params.mappedBufferFmt = resource.format;
        Ok(())
    })
}

pub unsafe extern "C" fn unmap(handle: *mut c_void, mapped: NV_ENC_INPUT_PTR) -> NVENCSTATUS {
    on_session(handle, "nvEncUnmapInputResource", |session| {
        let encoding = session.encoding()?;
        // After a flush nothing reads it any more.
        let in_use = !encoding.ended && encoding.queue.iter().any(|pending| pending.input == mapped as usize);
        let lost = cuda::is_lost(session.gpu);
        let status = NVENCSTATUS::NV_ENC_ERR_INVALID_CALL;
        rule(!in_use || lost, status, "an input is unmapped before its picture's packet was locked")?;
        let found = session.inputs.mapped.remove(&(mapped as usize)).is_some();
        rule(found, NVENCSTATUS::NV_ENC_ERR_RESOURCE_NOT_MAPPED, "what is unmapped is not mapped")
    })
}
