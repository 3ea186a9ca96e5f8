//! Memory of the GPUs. Its addresses are none of this process's, so that a client that reads one
//! without asking the driver ends there and then.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::{Mutex, PoisonError};

use super::context::current;
use super::{INVALID_VALUE, OUT_OF_MEMORY, SUCCESS};
use crate::journal::{breach, note};
use crate::settings::settings;

/// The alignment of rows, as on real GPUs.
const PITCH: usize = 512;
/// No process has memory of its own above this on x86-64 or ARM.
const FIRST_ADDRESS: u64 = 1 << 56;

struct Allocation {
    gpu: c_int,
    bytes: Vec<u8>,
}

/// What the GPUs hold, by address.
static MEMORY: Mutex<BTreeMap<u64, Allocation>> = Mutex::new(BTreeMap::new());
/// Pinned pages of the host's, by address, with their length.
static PINNED: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn with_memory<T>(look: impl FnOnce(&mut BTreeMap<u64, Allocation>) -> T) -> T {
    look(&mut MEMORY.lock().unwrap_or_else(PoisonError::into_inner))
}

fn with_pinned<T>(look: impl FnOnce(&mut BTreeMap<usize, usize>) -> T) -> T {
    look(&mut PINNED.lock().unwrap_or_else(PoisonError::into_inner))
}

pub fn has_any(gpu: c_int) -> bool {
    with_memory(|memory| memory.values().any(|allocation| allocation.gpu == gpu))
}

fn used(memory: &BTreeMap<u64, Allocation>, gpu: c_int) -> usize {
    memory.values().filter(|allocation| allocation.gpu == gpu).map(|allocation| allocation.bytes.len()).sum()
}

/// The `length` bytes at an address of a GPU's memory; `None` where they are not all one allocation's.
fn at(memory: &mut BTreeMap<u64, Allocation>, gpu: c_int, address: u64, length: usize) -> Option<&mut [u8]> {
    let (start, allocation) = memory.range_mut(..=address).next_back()?;
    let from = usize::try_from(address - start).ok()?;
    let bytes = allocation.bytes.get_mut(from..from.checked_add(length)?)?;
    (allocation.gpu == gpu).then_some(bytes)
}

/// Has `look` see the bytes at an address of a GPU's memory.
pub fn read<T>(gpu: c_int, address: u64, length: usize, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
    with_memory(|memory| at(memory, gpu, address, length).map(|bytes| look(bytes)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocPitch_v2(
    address: *mut u64,
    pitch: *mut usize,
    row_bytes: usize,
    rows: usize,
    element: c_uint,
) -> c_int {
    let gpu = match current() {
        Ok(gpu) => gpu,
        Err(status) => return status,
    };
    if row_bytes == 0 || rows == 0 || !matches!(element, 4 | 8 | 16) {
        breach("cuMemAllocPitch: rows without bytes, or elements of other than 4, 8 or 16 bytes");
        return INVALID_VALUE;
    }
    let stride = row_bytes.next_multiple_of(PITCH);
    let bytes = stride * rows;
    let start = with_memory(|memory| {
        if used(memory, gpu) + bytes > settings().memory {
            return None;
        }
        let end = memory.last_key_value().map(|(start, last)| start + last.bytes.len() as u64);
        // What lies between two allocations belongs to none, so that what reaches beyond one is seen.
        let start = (end.unwrap_or(FIRST_ADDRESS) + 1).next_multiple_of(4096);
        memory.insert(start, Allocation { gpu, bytes: vec![0xa5; bytes] });
        Some(start)
    });
    let Some(start) = start else { return OUT_OF_MEMORY };
    note("+memory");
    // SAFETY: the client's pointers are to an address and a number.
    unsafe {
        address.write(start);
        pitch.write(stride);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    if crate::nvenc::is_registered(address) {
        breach("memory was freed that a session still has registered");
    }
    if with_memory(|memory| memory.remove(&address)).is_none() {
        breach("memory was freed that is nobody's");
        return INVALID_VALUE;
    }
    note("-memory");
    // A GPU that is lost has nothing to free, and says so.
    current().err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocHost_v2(pages: *mut *mut c_void, bytes: usize) -> c_int {
    if let Err(status) = current() {
        return status;
    }
    let allocation = Box::leak(vec![0xa5u8; bytes].into_boxed_slice());
    with_pinned(|pinned| pinned.insert(allocation.as_ptr() as usize, bytes));
    note("+pinned");
    // SAFETY: the client's pointer is to an address.
    unsafe { pages.write(allocation.as_mut_ptr().cast()) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeHost(pages: *mut c_void) -> c_int {
    let Some(bytes) = with_pinned(|pinned| pinned.remove(&(pages as usize))) else {
        breach("pinned memory was freed that is nobody's");
        return INVALID_VALUE;
    };
    // SAFETY: it was leaked when it was allocated, with this length, and is freed once.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(pages.cast::<u8>(), bytes)) });
    note("-pinned");
    current().err().unwrap_or(SUCCESS)
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
struct Copy2d {
    src_x: usize,
    src_y: usize,
    src_memory: c_uint,
    src_host: *const u8,
    src_device: u64,
    src_array: *mut c_void,
    src_pitch: usize,
    dst_x: usize,
    dst_y: usize,
    dst_memory: c_uint,
    dst_host: *mut u8,
    dst_device: u64,
    dst_array: *mut c_void,
    dst_pitch: usize,
    width: usize,
    height: usize,
}

const HOST: c_uint = 1;
const DEVICE: c_uint = 2;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpy2D_v2(copy: *const Copy2d) -> c_int {
    let gpu = match current() {
        Ok(gpu) => gpu,
        Err(status) => return status,
    };
    // SAFETY: the client's pointer is to such a structure.
    let copy = unsafe { &*copy };
    let overlap = |pitch| pitch < copy.width && copy.height > 1;
    if overlap(copy.src_pitch) || overlap(copy.dst_pitch) {
        breach("cuMemcpy2D: rows are longer than they are apart");
        return INVALID_VALUE;
    }
    for row in 0..copy.height {
        let source = (copy.src_y + row) * copy.src_pitch + copy.src_x;
        let target = (copy.dst_y + row) * copy.dst_pitch + copy.dst_x;
        let copied = with_memory(|memory| match (copy.src_memory, copy.dst_memory) {
            (HOST, DEVICE) => {
                let to = at(memory, gpu, copy.dst_device + target as u64, copy.width)?;
                // SAFETY: the client has such rows there.
                to.copy_from_slice(unsafe {
                    std::slice::from_raw_parts(copy.src_host.add(source), copy.width)
                });
                Some(())
            }
            (DEVICE, HOST) => {
                let from = at(memory, gpu, copy.src_device + source as u64, copy.width)?;
                // SAFETY: the client has room for such rows there.
                unsafe { copy.dst_host.add(target).copy_from_nonoverlapping(from.as_ptr(), copy.width) };
                Some(())
            }
            _ => None,
        });
        if copied.is_none() {
            breach("cuMemcpy2D: from or to where nothing is, or not between the host and the current GPU");
            return INVALID_VALUE;
        }
    }
    SUCCESS
}
