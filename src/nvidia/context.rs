//! A GPU's CUDA context. It is the primary context, which all users in a process share.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::sync::Arc;

use super::driver::{Driver, RawContext, SCHEDULE_BLOCKING_SYNC, driver};
use super::{Gpu, NvidiaError};

/// A reference to a GPU's context. Any thread may make it current.
pub struct Context {
    driver: &'static Driver,
    device: c_int,
    raw: RawContext,
}

// SAFETY: CUDA's contexts may be made current on any thread, and on several at a time.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub fn open(gpu: &Gpu) -> Result<Arc<Context>, NvidiaError> {
        let driver = driver()?;
        let ordinal = c_int::try_from(gpu.ordinal).unwrap_or(c_int::MAX);
        let (mut device, mut raw) = (0, std::ptr::null_mut());
        // SAFETY: each function writes one value of the type that it is handed a pointer to.
        unsafe {
            driver.check("cuDeviceGet", (driver.cuDeviceGet)(&mut device, ordinal))?;
            let status = (driver.cuDevicePrimaryCtxSetFlags_v2)(device, SCHEDULE_BLOCKING_SYNC);
            driver.check("cuDevicePrimaryCtxSetFlags_v2", status)?;
            let status = (driver.cuDevicePrimaryCtxRetain)(&mut raw, device);
            driver.check("cuDevicePrimaryCtxRetain", status)?;
        }
        Ok(Arc::new(Context { driver, device, raw }))
    }

    pub fn driver(&self) -> &'static Driver {
        self.driver
    }

    /// The handle, for calls that want it. It is good as long as the context is.
    pub fn raw(&self) -> RawContext {
        self.raw
    }

    /// Makes the context current on this thread until the guard is dropped. Guards may nest, and
    /// go in the order opposite to that in which they came.
    pub fn enter(&self) -> Result<Current<'_>, NvidiaError> {
        // SAFETY: the handle is held.
        let status = unsafe { (self.driver.cuCtxPushCurrent_v2)(self.raw) };
        self.driver.check("cuCtxPushCurrent_v2", status)?;
        Ok(Current { context: self, on_this_thread: PhantomData })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was retained once, by `open`. There is nobody to tell of a failure, and
        // nothing to do about it.
        unsafe { (self.driver.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}

/// While it lives the context is current on this thread.
pub struct Current<'a> {
    context: &'a Context,
    /// Another thread has its own current context.
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: the function writes one handle, that of the context which `enter` pushed.
        unsafe { (self.context.driver.cuCtxPopCurrent_v2)(&mut popped) };
    }
}
