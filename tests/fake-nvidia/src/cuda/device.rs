//! What the driver says of itself and of its GPUs.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{INVALID_DEVICE, INVALID_VALUE, NO_DEVICE, NOT_INITIALIZED, SUCCESS};
use crate::settings::settings;

const NAME: &[u8] = b"Fake RTX 4090\0";
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;
/// Ada, the first with an AV1 encoder.
const COMPUTE_CAPABILITY: (c_int, c_int) = (8, 9);

static INITIALIZED: AtomicBool = AtomicBool::new(false);

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> c_int {
    if flags != 0 {
        return INVALID_VALUE;
    }
    if settings().gpus == 0 {
        return NO_DEVICE;
    }
    INITIALIZED.store(true, Ordering::Relaxed);
    SUCCESS
}

/// The status of a call that is about a GPU.
pub fn known(device: c_int) -> c_int {
    match device {
        _ if !INITIALIZED.load(Ordering::Relaxed) => NOT_INITIALIZED,
        _ if (0..settings().gpus).contains(&device) => SUCCESS,
        _ => INVALID_DEVICE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: the client's pointer is to a number.
    unsafe { version.write(12_010) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    if !INITIALIZED.load(Ordering::Relaxed) {
        return NOT_INITIALIZED;
    }
    // SAFETY: the client's pointer is to a number.
    unsafe { count.write(settings().gpus) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    let status = known(ordinal);
    if status == SUCCESS {
        // SAFETY: the client's pointer is to a number.
        unsafe { device.write(ordinal) };
    }
    status
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) -> c_int {
    if usize::try_from(length).is_ok_and(|length| length < NAME.len()) {
        return INVALID_VALUE;
    }
    let status = known(device);
    if status == SUCCESS {
        // SAFETY: the client has so many characters there, as was just looked at.
        unsafe { name.copy_from_nonoverlapping(NAME.as_ptr().cast(), NAME.len()) };
    }
    status
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) -> c_int {
    let status = known(device);
    if status == SUCCESS {
        // SAFETY: the client's pointer is to 16 bytes.
        unsafe { uuid.write([0xfa, 0xfa, 0xfa, 0xfa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, device as u8]) };
    }
    status
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> c_int {
    let found = match attribute {
        COMPUTE_CAPABILITY_MAJOR => COMPUTE_CAPABILITY.0,
        COMPUTE_CAPABILITY_MINOR => COMPUTE_CAPABILITY.1,
        _ => return INVALID_VALUE,
    };
    let status = known(device);
    if status == SUCCESS {
        // SAFETY: the client's pointer is to a number.
        unsafe { value.write(found) };
    }
    status
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> c_int {
    let status = known(device);
    if status == SUCCESS {
        // SAFETY: the client's pointer is to a number.
        unsafe { bytes.write(settings().memory) };
    }
    status
}
