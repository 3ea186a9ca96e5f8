//! The one place here that calls foreign code by its raw name.

use std::ffi::{CStr, c_char};

/// What the SVT-AV1 that FFmpeg was linked with says of itself; `None` where it cannot be asked.
pub(super) fn svt_av1_version() -> Option<String> {
    let program = libloading::os::unix::Library::this();
    // SAFETY: where there is such a function, it is SVT-AV1's (EbSvtAv1Enc.h), which takes nothing
    // and returns a string of the library's own that lasts as long as the library does.
    unsafe {
        let version: libloading::os::unix::Symbol<unsafe extern "C" fn() -> *const c_char> =
            program.get(b"svt_av1_get_version\0").ok()?;
        let text = version();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}
