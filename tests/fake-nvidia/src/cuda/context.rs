//! Primary contexts, one a GPU, each thread's stack of current ones, and GPUs that have vanished.

use std::cell::RefCell;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::device::known;
use super::{DEVICE_UNAVAILABLE, INVALID_CONTEXT, SUCCESS, memory};
use crate::journal::{breach, note};

/// A context's handle is this and the number of its GPU.
const HANDLE: usize = 0xc0de_0000;

/// What is remembered of each GPU.
#[derive(Clone, Copy, Default)]
struct Gpu {
    /// How often its primary context is held.
    held: u32,
    lost: bool,
}

static GPUS: Mutex<Vec<Gpu>> = Mutex::new(Vec::new());

thread_local! {
    static CURRENT: RefCell<Vec<c_int>> = const { RefCell::new(Vec::new()) };
}

fn with_gpu<T>(gpu: c_int, look: impl FnOnce(&mut Gpu) -> T) -> T {
    let mut gpus: MutexGuard<'_, Vec<Gpu>> = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let number = gpu as usize;
    if gpus.len() <= number {
        gpus.resize(number + 1, Gpu::default());
    }
    look(&mut gpus[number])
}

/// The GPU of a context that is held.
pub fn gpu_of(context: *mut c_void) -> Option<c_int> {
    let gpu = c_int::try_from((context as usize).checked_sub(HANDLE)?).ok()?;
    (known(gpu) == SUCCESS && with_gpu(gpu, |gpu| gpu.held > 0)).then_some(gpu)
}

/// Has a GPU vanish.
pub fn lose(gpu: c_int) {
    with_gpu(gpu, |gpu| gpu.lost = true);
}

pub fn is_lost(gpu: c_int) -> bool {
    with_gpu(gpu, |gpu| gpu.lost)
}

/// The GPU whose context is current on this thread, or the status to refuse a call with.
pub fn current() -> Result<c_int, c_int> {
    let gpu = CURRENT.with_borrow(|stack| stack.last().copied());
    let gpu = gpu.ok_or_else(|| {
        breach("a call came on a thread without a current context");
        INVALID_CONTEXT
    })?;
    if is_lost(gpu) { Err(DEVICE_UNAVAILABLE) } else { Ok(gpu) }
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, _flags: c_uint) -> c_int {
    known(device)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) -> c_int {
    let status = known(device);
    if status != SUCCESS {
        return status;
    }
    if is_lost(device) {
        return DEVICE_UNAVAILABLE;
    }
    with_gpu(device, |gpu| gpu.held += 1);
    note("+context");
    // SAFETY: the client's pointer is to a handle.
    unsafe { context.write((HANDLE + device as usize) as *mut c_void) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int {
    let status = known(device);
    if status != SUCCESS {
        return status;
    }
    let left = with_gpu(device, |gpu| {
        let left = gpu.held.checked_sub(1);
        gpu.held = left.unwrap_or(0);
        left
    });
    match left {
        None => {
            breach("a context was released that is not held");
            return INVALID_CONTEXT;
        }
        Some(0) if memory::has_any(device) => breach("a context was released before its memory"),
        Some(_) => {}
    }
    note("-context");
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPushCurrent_v2(context: *mut c_void) -> c_int {
    let Some(gpu) = gpu_of(context) else {
        breach("a context was made current that is not held");
        return INVALID_CONTEXT;
    };
    CURRENT.with_borrow_mut(|stack| stack.push(gpu));
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxPopCurrent_v2(context: *mut *mut c_void) -> c_int {
    let Some(gpu) = CURRENT.with_borrow_mut(Vec::pop) else {
        breach("there was no current context to pop");
        return INVALID_CONTEXT;
    };
    // SAFETY: the client's pointer is to a handle.
    unsafe { context.write((HANDLE + gpu as usize) as *mut c_void) };
    SUCCESS
}
