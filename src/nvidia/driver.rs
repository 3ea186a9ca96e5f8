//! The functions of `libcuda.so.1` that are needed, loaded at first use. Types and numbers are those of
//! NVIDIA's `cuda.h`.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use super::library::function_table;
use super::{Library, NvidiaError};

/// A context's handle.
pub type RawContext = *mut c_void;
/// An address in a GPU's memory.
pub type DevicePointer = u64;

pub(super) const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
pub(super) const COMPUTE_CAPABILITY_MINOR: c_int = 76;
/// A thread that waits for the GPU sleeps rather than spins: its core is free for encoding.
pub(super) const SCHEDULE_BLOCKING_SYNC: c_uint = 4;
pub(super) const MEMORY_HOST: c_uint = 1;
pub(super) const MEMORY_DEVICE: c_uint = 2;
const NO_DEVICE: c_int = 100;
const NOT_INITIALIZED: c_int = 3;

/// `CUDA_MEMCPY2D`: rows of bytes from here to there.
#[repr(C)]
pub struct Copy2d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_memory: c_uint,
    pub src_host: *const c_void,
    pub src_device: DevicePointer,
    pub src_array: *mut c_void,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_memory: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePointer,
    pub dst_array: *mut c_void,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

impl Default for Copy2d {
    /// Nothing, from nowhere.
    fn default() -> Copy2d {
        Copy2d {
            src_x: 0,
            src_y: 0,
            src_memory: 0,
            src_host: std::ptr::null(),
            src_device: 0,
            src_array: std::ptr::null_mut(),
            src_pitch: 0,
            dst_x: 0,
            dst_y: 0,
            dst_memory: 0,
            dst_host: std::ptr::null_mut(),
            dst_device: 0,
            dst_array: std::ptr::null_mut(),
            dst_pitch: 0,
            width: 0,
            height: 0,
        }
    }
}

function_table! {
    /// The functions of `libcuda.so.1`.
    Driver {
        cuInit(c_uint);
        cuDriverGetVersion(*mut c_int);
        cuGetErrorName(c_int, *mut *const c_char);
        cuDeviceGetCount(*mut c_int);
        cuDeviceGet(*mut c_int, c_int);
        cuDeviceGetName(*mut c_char, c_int, c_int);
        cuDeviceGetUuid(*mut [u8; 16], c_int);
        cuDeviceGetAttribute(*mut c_int, c_int, c_int);
        cuDeviceTotalMem_v2(*mut usize, c_int);
        cuDevicePrimaryCtxSetFlags_v2(c_int, c_uint);
        cuDevicePrimaryCtxRetain(*mut RawContext, c_int);
        cuDevicePrimaryCtxRelease_v2(c_int);
        cuCtxPushCurrent_v2(RawContext);
        cuCtxPopCurrent_v2(*mut RawContext);
        cuMemAllocPitch_v2(*mut DevicePointer, *mut usize, usize, usize, c_uint);
        cuMemFree_v2(DevicePointer);
        cuMemAllocHost_v2(*mut *mut c_void, usize);
        cuMemFreeHost(*mut c_void);
        cuMemcpy2D_v2(*const Copy2d);
    }
}

/// The driver, initialised. The result of the first attempt is kept until the program ends.
pub fn driver() -> Result<&'static Driver, NvidiaError> {
    static DRIVER: OnceLock<Result<Driver, NvidiaError>> = OnceLock::new();
    let load = || {
        let library = Library::open("libcuda.so.1")?;
        // SAFETY: the names and types are those of cuda.h, which NVIDIA keeps compatible.
        let driver = unsafe { Driver::load(library)? };
        // SAFETY: cuInit takes no flags yet, and may be called at any time.
        match unsafe { (driver.cuInit)(0) } {
            // A driver without a GPU is no error.
            NO_DEVICE => {}
            status => driver.check("cuInit", status)?,
        }
        Ok(driver)
    };
    DRIVER.get_or_init(load).as_ref().map_err(Clone::clone)
}

impl Driver {
    /// Makes an error of a status that is not success.
    pub fn check(&self, call: &'static str, status: c_int) -> Result<(), NvidiaError> {
        if status == 0 {
            return Ok(());
        }
        Err(NvidiaError::Call { call, name: self.error_name(status) })
    }

    fn error_name(&self, status: c_int) -> String {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: the function writes a pointer to a string that lasts as long as the library, or
        // leaves null for a number that it does not know.
        unsafe {
            let known = (self.cuGetErrorName)(status, &mut name) == 0 && !name.is_null();
            let name = known.then(|| CStr::from_ptr(name).to_string_lossy().into_owned());
            name.unwrap_or_else(|| format!("CUDA error {status}"))
        }
    }

    /// How many GPUs there are.
    pub(super) fn count(&self) -> Result<c_int, NvidiaError> {
        let mut count = 0;
        // SAFETY: the function writes one number.
        match unsafe { (self.cuDeviceGetCount)(&mut count) } {
            NO_DEVICE => return Ok(0),
            // It was not initialised, for there is no GPU.
            NOT_INITIALIZED => return Ok(0),
            status => self.check("cuDeviceGetCount", status)?,
        }
        Ok(count)
    }

    /// The CUDA version that the driver supports, e.g. 13000 for 13.0.
    pub(super) fn cuda_version(&self) -> Result<c_int, NvidiaError> {
        let mut version = 0;
        // SAFETY: the function writes one number.
        self.check("cuDriverGetVersion", unsafe { (self.cuDriverGetVersion)(&mut version) })?;
        Ok(version)
    }
}
