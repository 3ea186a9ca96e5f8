//! The machine's GPUs, as the driver lists them.

use std::ffi::{CStr, c_char, c_int};

use super::driver::{COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR, Driver, driver};
use super::{NvidiaError, library};

/// A GPU, or a part of one that the driver presents as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// CUDA's number of it, from 0.
    pub ordinal: u32,
    /// E.g. `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// As `nvidia-smi -L` prints it, e.g. `GPU-8f1d3c2a-…`.
    pub uuid: String,
    /// Major and minor, which tell the architecture.
    pub compute_capability: (u32, u32),
    pub memory_bytes: u64,
}

/// The GPUs of this machine; none where there is a driver without one.
pub fn gpus() -> Result<Vec<Gpu>, NvidiaError> {
    let driver = driver()?;
    (0..driver.count()?).map(|ordinal| gpu(driver, ordinal)).collect()
}

fn gpu(driver: &Driver, ordinal: c_int) -> Result<Gpu, NvidiaError> {
    let (mut device, mut bytes) = (0, 0usize);
    let mut name: [c_char; 256] = [0; 256];
    let mut uuid = [0u8; 16];
    let (mut major, mut minor) = (0, 0);
    // SAFETY: each function writes one value of the type that it is handed a pointer to;
    // cuDeviceGetName writes a string of at most the length that it is told, with its end.
    unsafe {
        driver.check("cuDeviceGet", (driver.cuDeviceGet)(&mut device, ordinal))?;
        let length = name.len() as c_int;
        driver.check("cuDeviceGetName", (driver.cuDeviceGetName)(name.as_mut_ptr(), length, device))?;
        driver.check("cuDeviceGetUuid", (driver.cuDeviceGetUuid)(&mut uuid, device))?;
        driver.check("cuDeviceTotalMem_v2", (driver.cuDeviceTotalMem_v2)(&mut bytes, device))?;
        for (value, attribute) in
            [(&mut major, COMPUTE_CAPABILITY_MAJOR), (&mut minor, COMPUTE_CAPABILITY_MINOR)]
        {
            let status = (driver.cuDeviceGetAttribute)(value, attribute, device);
            driver.check("cuDeviceGetAttribute", status)?;
        }
    }
    name[name.len() - 1] = 0;
    // SAFETY: the last character was just made an end.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let number = |value: c_int| u32::try_from(value).unwrap_or(0);
    Ok(Gpu {
        ordinal: number(ordinal),
        name,
        uuid: uuid_text(&uuid),
        compute_capability: (number(major), number(minor)),
        memory_bytes: bytes as u64,
    })
}

fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = "GPU-".to_owned();
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The driver's version, e.g. `580.159.04`; where the system does not have it, the CUDA version that the
/// driver supports, e.g. `CUDA 13.0`.
pub fn driver_version() -> Result<String, NvidiaError> {
    let driver = driver()?;
    // The system's version is not that of a library that stands in for the driver.
    let told = match library::stand_in() {
        None => std::fs::read_to_string("/proc/driver/nvidia/version").ok(),
        Some(_) => None,
    };
    if let Some(version) = told.as_deref().and_then(kernel_module_version) {
        return Ok(version.to_owned());
    }
    let version = driver.cuda_version()?;
    Ok(format!("CUDA {}.{}", version / 1000, version % 1000 / 10))
}

/// Finds the version in `/proc/driver/nvidia/version`, whose first line ends like
/// `Kernel Module  580.159.04  Tue …`.
fn kernel_module_version(text: &str) -> Option<&str> {
    let is_version = |word: &&str| {
        word.contains('.')
            && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    text.lines().next()?.split_whitespace().find(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_module_tells_the_drivers_version() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n\
                      GCC version:  gcc version 12.2.0\n";
        assert_eq!(kernel_module_version(closed), Some("535.104.05"));
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (x)\n";
        assert_eq!(kernel_module_version(open), Some("580.159.04"));
        assert_eq!(kernel_module_version(""), None);
    }

    #[test]
    fn uuids_read_as_everywhere() {
        let uuid = std::array::from_fn(|at| at as u8 * 16);
        assert_eq!(uuid_text(&uuid), "GPU-00102030-4050-6070-8090-a0b0c0d0e0f0");
    }
}
