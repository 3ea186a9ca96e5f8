//! A picture on its way into the encoder, and what goes wrong with it.

use std::ffi::c_void;

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::config::Pending;
use super::refusal::{Refusal, expect, reserved_is_zero, rule, structure};
use super::session::{Session, on_session};
use crate::cuda;
use crate::journal::note;
use crate::settings::{Fault, settings};

const FORCE_IDR: u32 = NV_ENC_PIC_FLAGS::NV_ENC_PIC_FLAG_FORCEIDR as u32;
const END: u32 = NV_ENC_PIC_FLAGS::NV_ENC_PIC_FLAG_EOS as u32;

pub unsafe extern "C" fn encode(handle: *mut c_void, params: *mut NV_ENC_PIC_PARAMS) -> NVENCSTATUS {
    on_session(handle, "nvEncEncodePicture", |session| {
        let name = "NV_ENC_PIC_PARAMS";
        // SAFETY: the client's pointer is null or to what the header says.
        let params = unsafe { structure(params, NV_ENC_PIC_PARAMS_VER, name)? };
        reserved_is_zero(&params.reserved1, name)?;
        reserved_is_zero(&params.reserved2, name)?;
        reserved_is_zero(&params.reserved3, name)?;
        reserved_is_zero(&params.reserved4, name)?;
        expect(params.completionEvent.is_null(), "there are events in asynchronous mode alone")?;
        if cuda::is_lost(session.gpu) {
            return Ok(());
        }
        let encoding = session.encoding()?;
        let status = NVENCSTATUS::NV_ENC_ERR_INVALID_CALL;
        rule(!encoding.ended, status, "a picture comes after the end of the stream")?;
        if params.encodePicFlags & END != 0 {
            expect(params.inputBuffer.is_null(), "the end of the stream has a picture")?;
            encoding.ended = true;
            encoding.stream.end();
            encoding.advance();
            return Ok(());
        }
        accept(session, params)
    })
}

/// Takes a picture into the encoder.
fn accept(session: &mut Session, params: &NV_ENC_PIC_PARAMS) -> Result<(), Refusal> {
    let gpu = session.gpu;
    let resource = session.inputs.mapped(params.inputBuffer)?;
    session.outputs.check_free(params.outputBitstream)?;
    let encoding = session.encoding()?;
    let size = (encoding.width, encoding.height);
    expect(resource.size() == size, "the resource has another size than the pictures")?;
    expect((params.inputWidth, params.inputHeight) == size, "the picture has another size than agreed")?;
    expect(resource.format() == encoding.format, "the resource has another format than agreed")?;
    expect(params.bufferFmt == encoding.format, "the picture has another format than agreed")?;
    let frame = NV_ENC_PIC_STRUCT::NV_ENC_PIC_STRUCT_FRAME;
    expect(params.pictureStruct == frame, "the picture is not a whole frame")?;
    let waits = |pending: &Pending| {
        pending.bitstream == params.outputBitstream as usize || pending.input == params.inputBuffer as usize
    };
    let status = NVENCSTATUS::NV_ENC_ERR_INVALID_CALL;
    rule(!encoding.queue.iter().any(waits), status, "a buffer is used again before its packet was locked")?;

    let number = encoding.submitted;
    let fault = settings().fault_of(gpu);
    misbehave(fault, gpu, number, &mut encoding.busy)?;

    let planes = resource.planes(gpu)?;
    let forced = params.encodePicFlags & FORCE_IDR != 0;
    let is_key = number.is_multiple_of(encoding.key_interval) || forced || fault == Some(Fault::Key(number));
    encoding.stream.send(&planes, is_key);
    encoding.submitted += 1;
    encoding.queue.push_back(Pending {
        bitstream: params.outputBitstream as usize,
        input: params.inputBuffer as usize,
        time_stamp: params.inputTimeStamp,
    });
    let starves = matches!(fault, Some(Fault::Starve(from)) if number >= from);
    if !starves && encoding.advance() {
        return Ok(());
    }
    let status = NVENCSTATUS::NV_ENC_ERR_NEED_MORE_INPUT;
    Err(Refusal::fault(status, "pictures that follow are needed first"))
}

/// Does what the settings ask for at this picture.
fn misbehave(fault: Option<Fault>, gpu: i32, number: u64, busy: &mut u32) -> Result<(), Refusal> {
    match fault {
        Some(Fault::Hang(at)) if at == number => {
            note("fault: hang");
            loop {
                std::thread::park();
            }
        }
        Some(Fault::Abort(at)) if at == number => {
            note("fault: abort");
            std::process::abort();
        }
        Some(Fault::Lose(at)) if at == number => {
            note("fault: lose");
            cuda::lose(gpu);
            Err(Refusal::fault(NVENCSTATUS::NV_ENC_ERR_DEVICE_NOT_EXIST, "the GPU has fallen off the bus"))
        }
        Some(Fault::NoMemory(at)) if at == number => {
            note("fault: no-memory");
            Err(Refusal::fault(NVENCSTATUS::NV_ENC_ERR_OUT_OF_MEMORY, "the encoder finds no memory"))
        }
        Some(Fault::Busy(at)) if at == number && *busy < 2 => {
            note("fault: busy");
            *busy += 1;
            Err(Refusal::fault(NVENCSTATUS::NV_ENC_ERR_ENCODER_BUSY, "the engine is busy"))
        }
        _ => Ok(()),
    }
}
