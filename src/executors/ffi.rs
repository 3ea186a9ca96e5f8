//! Versions of the libraries that FFmpeg was linked with, read through functions of theirs by symbol name.

use std::ffi::{CStr, c_char};

/// What a library's function of the kind `const char *f(void)` returns; `symbol` is its name, ended by
/// a zero. `None` where it cannot be asked.
pub(super) fn library_version(symbol: &[u8]) -> Option<String> {
    let program = libloading::os::unix::Library::this();
    // SAFETY: callers name functions (svt_av1_get_version of EbSvtAv1Enc.h, aom_codec_version_str of
    // aom_codec.h) that, where they are there at all, take nothing and return a string of the
    // library's own that lasts as long as the library does.
    unsafe {
        let version: libloading::os::unix::Symbol<unsafe extern "C" fn() -> *const c_char> =
            program.get(symbol).ok()?;
        let text = version();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}
