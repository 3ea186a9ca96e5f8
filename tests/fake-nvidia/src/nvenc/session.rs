//! Sessions: who holds which, and what every call on one has in common.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

use super::config::Encoding;
use super::input::Inputs;
use super::output::Outputs;
use super::refusal::{Refusal, expect, pointee, reserved_is_zero, rule, structure};
use super::seat::Seat;
use crate::cuda;
use crate::journal::{breach, note};
use crate::settings::settings;

pub struct Session {
    pub gpu: c_int,
    /// Set by `nvEncInitializeEncoder`.
    encoding: Option<Encoding>,
    pub inputs: Inputs,
    pub outputs: Outputs,
    last_error: CString,
    _seat: Seat,
}

#[derive(Default)]
struct Sessions {
    open: HashMap<usize, Arc<Mutex<Session>>>,
    opened: usize,
}

static SESSIONS: LazyLock<Mutex<Sessions>> = LazyLock::new(Mutex::default);
/// Addresses of memory that sessions have registered.
static REGISTERED: LazyLock<Mutex<HashSet<u64>>> = LazyLock::new(Mutex::default);

fn sessions<T>(look: impl FnOnce(&mut Sessions) -> T) -> T {
    look(&mut SESSIONS.lock().unwrap_or_else(PoisonError::into_inner))
}

fn registered<T>(look: impl FnOnce(&mut HashSet<u64>) -> T) -> T {
    look(&mut REGISTERED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether a session has registered memory at this address.
pub fn is_registered(address: u64) -> bool {
    registered(|registered| registered.contains(&address))
}

pub fn set_registered(address: u64, is: bool) {
    registered(|registered| if is { registered.insert(address) } else { registered.remove(&address) });
}

impl Session {
    /// What the encoder was initialised to do.
    pub fn encoding(&mut self) -> Result<&mut Encoding, Refusal> {
        let status = NVENCSTATUS::NV_ENC_ERR_ENCODER_NOT_INITIALIZED;
        self.encoding.as_mut().ok_or_else(|| Refusal::breach(status, "the encoder is not initialised"))
    }

    pub fn initialize(&mut self, encoding: Encoding) -> Result<(), Refusal> {
        let status = NVENCSTATUS::NV_ENC_ERR_INVALID_CALL;
        rule(self.encoding.is_none(), status, "the encoder is initialised already")?;
        self.encoding = Some(encoding);
        Ok(())
    }
}

/// The session of a handle.
fn find(handle: *mut c_void) -> Option<Arc<Mutex<Session>>> {
    sessions(|sessions| sessions.open.get(&(handle as usize)).map(Arc::clone))
}

/// Runs a call on a session; what refuses it becomes the session's last error.
pub fn on_session(
    handle: *mut c_void,
    name: &str,
    run: impl FnOnce(&mut Session) -> Result<(), Refusal>,
) -> NVENCSTATUS {
    let Some(session) = find(handle) else {
        breach(format_args!("{name} on a session that is not open"));
        return NVENCSTATUS::NV_ENC_ERR_INVALID_ENCODERDEVICE;
    };
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = run(&mut session).and_then(|()| {
        // A GPU that is lost does what it is told of handing things back, and says that it is lost.
        let gone = Refusal::fault(NVENCSTATUS::NV_ENC_ERR_DEVICE_NOT_EXIST, "the GPU has fallen off the bus");
        if cuda::is_lost(session.gpu) { Err(gone) } else { Ok(()) }
    });
    let Err(refusal) = outcome else { return NVENCSTATUS::NV_ENC_SUCCESS };
    session.last_error = CString::new(format!("{name}: {}", refusal.why)).unwrap_or_default();
    refusal.status
}

pub unsafe extern "C" fn open(
    params: *mut NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS,
    encoder: *mut *mut c_void,
) -> NVENCSTATUS {
    // SAFETY: the client's pointers are null or to what the header says.
    match unsafe { try_open(params, encoder) } {
        Ok(()) => NVENCSTATUS::NV_ENC_SUCCESS,
        Err(refusal) => refusal.status,
    }
}

/// # Safety
///
/// The pointers must be null or to what the header says.
unsafe fn try_open(
    params: *mut NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS,
    encoder: *mut *mut c_void,
) -> Result<(), Refusal> {
    let version = NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER;
    // SAFETY: the caller vouches for both.
    let (params, encoder) = unsafe {
        let params = structure(params, version, "NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS")?;
        (params, pointee(encoder, "the place for a session")?)
    };
    reserved_is_zero(&params.reserved1, "NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS")?;
    reserved_is_zero(&params.reserved2, "NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS")?;
    let status = NVENCSTATUS::NV_ENC_ERR_INVALID_VERSION;
    rule(params.apiVersion == NVENCAPI_VERSION, status, "apiVersion is not NVENCAPI_VERSION")?;
    expect(params.deviceType == NV_ENC_DEVICE_TYPE::NV_ENC_DEVICE_TYPE_CUDA, "the device is not CUDA's")?;
    let invalid = NVENCSTATUS::NV_ENC_ERR_INVALID_DEVICE;
    let gpu = cuda::gpu_of(params.device);
    let gpu = gpu.ok_or_else(|| Refusal::breach(invalid, "the device is no context that is held"))?;
    if cuda::is_lost(gpu) {
        return Err(Refusal::fault(NVENCSTATUS::NV_ENC_ERR_DEVICE_NOT_EXIST, "the GPU has vanished"));
    }
    if settings().engines == 0 {
        return Err(Refusal::fault(NVENCSTATUS::NV_ENC_ERR_UNSUPPORTED_DEVICE, "the GPU has no encoder"));
    }
    let seat = Seat::take();
    let seat =
        seat.ok_or_else(|| Refusal::fault(NVENCSTATUS::NV_ENC_ERR_OUT_OF_MEMORY, "no session is left"))?;
    let handle = sessions(|sessions| {
        sessions.opened += 1;
        let handle = 0x5e55_0000 + sessions.opened;
        let session = Session {
            gpu,
            encoding: None,
            inputs: Inputs::default(),
            outputs: Outputs::default(),
            last_error: CString::default(),
            _seat: seat,
        };
        sessions.open.insert(handle, Arc::new(Mutex::new(session)));
        handle
    });
    note(format_args!("+session on GPU {gpu}"));
    *encoder = handle as *mut c_void;
    Ok(())
}

pub unsafe extern "C" fn destroy(handle: *mut c_void) -> NVENCSTATUS {
    // What is still there is looked at before the session goes.
    let status = on_session(handle, "nvEncDestroyEncoder", |session| {
        let pending = session.encoding.as_ref().is_some_and(Encoding::is_pending);
        let lost = cuda::is_lost(session.gpu);
        for (left, what) in [
            (session.inputs.is_mapped(), "a resource is still mapped"),
            (session.inputs.is_registered(), "a resource is still registered"),
            (session.outputs.any(), "a bitstream buffer was not destroyed"),
            (pending && !lost, "the encoder was not flushed"),
        ] {
            if left {
                breach(format_args!("nvEncDestroyEncoder: {what}"));
            }
        }
        Ok(())
    });
    if sessions(|sessions| sessions.open.remove(&(handle as usize))).is_some() {
        note("-session");
    }
    status
}

pub unsafe extern "C" fn last_error(handle: *mut c_void) -> *const c_char {
    // The string lasts until the session's next call, or its end.
    find(handle).map_or(std::ptr::null(), |session| {
        session.lock().unwrap_or_else(PoisonError::into_inner).last_error.as_ptr()
    })
}
