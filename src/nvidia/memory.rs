//! Memory that a GPU reads and writes: its own, in rows, and pages of the host's that it copies to
//! and from at full speed.

use std::ffi::c_void;
use std::sync::Arc;

use super::driver::{Copy2d, DevicePointer, MEMORY_DEVICE, MEMORY_HOST};
use super::{Context, NvidiaError};

/// Rows of bytes in the GPU's memory, each `pitch` bytes after the one before.
pub struct DeviceBuffer {
    context: Arc<Context>,
    pointer: DevicePointer,
    pitch: usize,
    row_bytes: usize,
    rows: usize,
}

impl DeviceBuffer {
    /// Their content is not defined at first.
    pub fn new(context: &Arc<Context>, row_bytes: usize, rows: usize) -> Result<DeviceBuffer, NvidiaError> {
        /// Bytes that a thread of the GPU would access at a time: the alignment of rows.
        const ELEMENT: u32 = 16;
        let driver = context.driver();
        let _current = context.enter()?;
        let (mut pointer, mut pitch) = (0, 0);
        // SAFETY: the function writes an address and a number.
        let status =
            unsafe { (driver.cuMemAllocPitch_v2)(&mut pointer, &mut pitch, row_bytes, rows, ELEMENT) };
        driver.check("cuMemAllocPitch_v2", status)?;
        Ok(DeviceBuffer { context: Arc::clone(context), pointer, pitch, row_bytes, rows })
    }

    /// The address of the first row.
    pub fn pointer(&self) -> DevicePointer {
        self.pointer
    }

    /// Bytes from a row to the next.
    pub fn pitch(&self) -> usize {
        self.pitch
    }

    /// Copies rows from the host: row `n` of `from`, which are `stride` bytes apart, becomes row
    /// `first + n`. Only as much is copied as `from` has whole rows of `row_bytes`.
    pub fn upload(
        &mut self,
        first: usize,
        from: &[u8],
        stride: usize,
        row_bytes: usize,
    ) -> Result<(), NvidiaError> {
        let rows = whole_rows(from.len(), stride, row_bytes);
        self.check(first, rows, row_bytes)?;
        let copy = Copy2d {
            src_memory: MEMORY_HOST,
            src_host: from.as_ptr().cast(),
            src_pitch: stride,
            dst_memory: MEMORY_DEVICE,
            dst_device: self.pointer,
            dst_pitch: self.pitch,
            dst_y: first,
            width: row_bytes,
            height: rows,
            ..Copy2d::default()
        };
        // SAFETY: `from` has these rows, and so has the buffer, as was just checked.
        unsafe { copy_2d(&self.context, &copy) }
    }

    /// Copies rows to the host: row `first + n` becomes row `n` of `to`, which are `stride` bytes
    /// apart. Only as much is copied as `to` has whole rows of `row_bytes`.
    pub fn download(
        &self,
        first: usize,
        to: &mut [u8],
        stride: usize,
        row_bytes: usize,
    ) -> Result<(), NvidiaError> {
        let rows = whole_rows(to.len(), stride, row_bytes);
        self.check(first, rows, row_bytes)?;
        // SAFETY: the buffer has these rows, as was just checked, and is not changed meanwhile: it
        // changes only through `upload`, or by the GPU where the caller has it do so.
        unsafe { download(&self.context, (self.pointer, self.pitch), first, to, stride, row_bytes) }
    }

    fn check(&self, first: usize, rows: usize, row_bytes: usize) -> Result<(), NvidiaError> {
        let fits = first.checked_add(rows).is_some_and(|end| end <= self.rows) && row_bytes <= self.row_bytes;
        let why = || NvidiaError::Unsupported(format!("{rows} rows of {row_bytes} bytes do not fit"));
        fits.then_some(()).ok_or_else(why)
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // SAFETY: the address is of `new`'s allocation, which nothing else frees.
            unsafe { (self.context.driver().cuMemFree_v2)(self.pointer) };
        }
    }
}

/// How many rows of `row_bytes`, each `stride` after the one before, lie within so many bytes.
fn whole_rows(bytes: usize, stride: usize, row_bytes: usize) -> usize {
    if bytes < row_bytes || stride < row_bytes || stride == 0 {
        return 0;
    }
    (bytes - row_bytes) / stride + 1
}

/// Copies rows of the GPU's memory at an address with a pitch to the host, from row `first` on, as
/// many as `to` has whole rows of `row_bytes`, each `stride` bytes after the one before.
///
/// # Safety
///
/// The address must be the context's, and have so many rows of so many bytes.
pub(super) unsafe fn download(
    context: &Context,
    (pointer, pitch): (DevicePointer, usize),
    first: usize,
    to: &mut [u8],
    stride: usize,
    row_bytes: usize,
) -> Result<(), NvidiaError> {
    let copy = Copy2d {
        src_memory: MEMORY_DEVICE,
        src_device: pointer,
        src_pitch: pitch,
        src_y: first,
        dst_memory: MEMORY_HOST,
        dst_host: to.as_mut_ptr().cast(),
        dst_pitch: stride,
        width: row_bytes,
        height: whole_rows(to.len(), stride, row_bytes),
        ..Copy2d::default()
    };
    // SAFETY: the caller vouches for the address, and `to` has these rows.
    unsafe { copy_2d(context, &copy) }
}

/// # Safety
///
/// All that the copy reads and writes must be there, the GPU's memory in this context.
unsafe fn copy_2d(context: &Context, copy: &Copy2d) -> Result<(), NvidiaError> {
    if copy.height == 0 || copy.width == 0 {
        return Ok(());
    }
    let _current = context.enter()?;
    // SAFETY: the caller vouches for it.
    let status = unsafe { (context.driver().cuMemcpy2D_v2)(copy) };
    context.driver().check("cuMemcpy2D_v2", status)
}

/// Host memory that the GPU copies to and from without a detour, since it cannot be moved.
pub struct PinnedBuffer {
    context: Arc<Context>,
    pointer: *mut c_void,
    bytes: usize,
}

// SAFETY: it is plain memory, owned here alone.
unsafe impl Send for PinnedBuffer {}

impl PinnedBuffer {
    /// All zeros.
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<PinnedBuffer, NvidiaError> {
        let driver = context.driver();
        let _current = context.enter()?;
        let mut pointer = std::ptr::null_mut();
        // SAFETY: the function writes an address of so many bytes, which are then made zeros.
        unsafe {
            driver.check("cuMemAllocHost_v2", (driver.cuMemAllocHost_v2)(&mut pointer, bytes.max(1)))?;
            pointer.cast::<u8>().write_bytes(0, bytes);
        }
        Ok(PinnedBuffer { context: Arc::clone(context), pointer, bytes })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `new` has allocated and set so many bytes, and `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.pointer.cast(), self.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.cast(), self.bytes) }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // SAFETY: the address is of `new`'s allocation, which nothing else frees.
            unsafe { (self.context.driver().cuMemFreeHost)(self.pointer) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::whole_rows;

    #[test]
    fn the_last_row_needs_no_padding() {
        assert_eq!(whole_rows(30, 10, 10), 3);
        assert_eq!(whole_rows(26, 10, 6), 3);
        assert_eq!(whole_rows(25, 10, 6), 2);
        assert_eq!(whole_rows(5, 10, 6), 0);
        assert_eq!(whole_rows(100, 4, 6), 0, "rows would overlap");
        assert_eq!(whole_rows(0, 0, 0), 0);
    }
}
