//! Opens the driver's libraries at run time, so that one program starts with and without a driver.

use std::ffi::OsString;

use super::NvidiaError;

/// Names a single shared library that stands for all of the driver's: the tests' fake driver.
pub const OVERRIDE: &str = "RIVET_NVIDIA_DRIVER";

/// An open library, which stays open until the program ends where it is kept in a static.
pub struct Library {
    name: String,
    handle: libloading::Library,
}

/// The library that stands for all others, where one was named.
pub(super) fn stand_in() -> Option<OsString> {
    std::env::var_os(OVERRIDE).filter(|name| !name.is_empty())
}

impl Library {
    /// Opens one of the driver's libraries, e.g. `libcuda.so.1`.
    pub fn open(name: &str) -> Result<Library, NvidiaError> {
        let file = stand_in().unwrap_or_else(|| name.into());
        let name = file.to_string_lossy().into_owned();
        // SAFETY: loading runs the library's initialisers. It is the driver's own, found by the
        // name that NVIDIA documents, or one that the user has named for this.
        match unsafe { libloading::Library::new(&file) } {
            Ok(handle) => Ok(Library { name, handle }),
            Err(error) => Err(unloaded(name, &error)),
        }
    }

    /// A function of the library.
    ///
    /// # Safety
    ///
    /// `T` must be the type of a pointer to the function of that name, and must not be used after
    /// the library was dropped.
    pub unsafe fn function<T: Copy>(&self, symbol: &str) -> Result<T, NvidiaError> {
        // SAFETY: the caller vouches for the type.
        match unsafe { self.handle.get::<T>(symbol) } {
            Ok(function) => Ok(*function),
            Err(_) => Err(NvidiaError::NoSymbol { library: self.name.clone(), symbol: symbol.to_owned() }),
        }
    }
}

/// The loader's message is the same for a missing library and for one whose dependency is missing; it begins
/// with the name of the missing file.
fn unloaded(library: String, error: &libloading::Error) -> NvidiaError {
    let mut reason = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        reason = source.to_string();
    }
    let missing = format!("{library}: cannot open shared object file: No such file");
    if reason.starts_with(&missing) {
        return NvidiaError::NoDriver { library };
    }
    NvidiaError::Unloadable { library, reason }
}

/// Declares a table of a library's functions, each loaded by its name in the header. All of them
/// return a status, 0 for success.
macro_rules! function_table {
    ($(#[$doc:meta])* $table:ident { $($(#[$field_doc:meta])* $name:ident($($argument:ty),*);)* }) => {
        $(#[$doc])*
        #[allow(non_snake_case, reason = "the functions' names are the header's")]
        pub struct $table {
            $($(#[$field_doc])* pub $name: unsafe extern "C" fn($($argument),*) -> std::ffi::c_int,)*
            /// What the functions are part of.
            _library: $crate::nvidia::Library,
        }

        impl $table {
            /// # Safety
            ///
            /// The functions of these names in the library must have these types.
            unsafe fn load(library: $crate::nvidia::Library) -> Result<$table, $crate::nvidia::NvidiaError> {
                // SAFETY: the caller vouches for the types; the table keeps the library open.
                unsafe {
                    Ok($table {
                        $($name: library.function(stringify!($name))?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}
pub(super) use function_table;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_no_driver_and_a_broken_one_is() {
        let missing = Library::open("librivet-is-not-there.so.1").err();
        assert!(missing.is_some_and(|error| error.is_no_driver()));
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("libbroken.so.1");
        std::fs::write(&broken, "no library").unwrap();
        let error = Library::open(broken.to_str().unwrap()).err().unwrap();
        assert!(matches!(error, NvidiaError::Unloadable { .. }), "{error}");
    }

    #[test]
    fn a_missing_function_is_named() {
        let library = Library::open("libc.so.6").unwrap();
        // SAFETY: the type does not matter for a function that is not there.
        let error = unsafe { library.function::<unsafe extern "C" fn()>("cuRivet") }.err().unwrap();
        assert_eq!(error.to_string(), "libc.so.6 has no cuRivet: the NVIDIA driver is too old");
    }
}
