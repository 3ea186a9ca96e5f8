//! The properties of a GPU and its driver that can change an encoder's bytes, as far as a program can read
//! them: part of the encoder's identity. Firmware versions cannot be read.

use std::fs;
use std::path::Path;

use super::device::{Device, DeviceKind};

/// Where Linux lists GPUs.
const GPUS: &str = "/sys/class/drm";

/// The GPUs of this machine, and the driver of an encoder that takes frames from `device`, or from memory for
/// a device of `kind`.
pub fn identity(kind: Option<DeviceKind>, device: Option<&Device>) -> String {
    let mut parts = gpus(Path::new(GPUS));
    let driver = match (device, kind) {
        (Some(device), _) if device.vaapi_vendor().is_some() => device.vaapi_vendor(),
        // Intel's encoders stand on VA-API's driver here, whoever calls them.
        (_, Some(DeviceKind::QSV)) => {
            Device::open(DeviceKind::VAAPI).ok().and_then(|device| device.vaapi_vendor())
        }
        (_, Some(DeviceKind::CUDA)) => fs::read_to_string("/sys/module/nvidia/version").ok(),
        _ => None,
    };
    parts.extend(driver.map(|driver| driver.trim().to_owned()));
    match parts.is_empty() {
        true => "an unknown device".to_owned(),
        false => parts.join(", "),
    }
}

/// Vendor and device of every GPU that can render, as PCI numbers them, e.g. `GPU 8086:56a0`; sorted,
/// with none twice.
fn gpus(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let nodes = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("renderD"));
    let number = |node: &fs::DirEntry, name: &str| {
        let text = fs::read_to_string(node.path().join("device").join(name)).ok()?;
        Some(text.trim().trim_start_matches("0x").to_owned())
    };
    let mut gpus: Vec<String> = nodes
        .filter_map(|node| Some(format!("GPU {}:{}", number(&node, "vendor")?, number(&node, "device")?)))
        .collect();
    gpus.sort();
    gpus.dedup();
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_named_by_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for (node, vendor, device) in [
            ("renderD129", "0x1002\n", "0x744c\n"),
            ("renderD128", "0x8086\n", "0x56a0\n"),
            ("card0", "1", "2"),
        ] {
            let path = folder.path().join(node).join("device");
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("vendor"), vendor).unwrap();
            fs::write(path.join("device"), device).unwrap();
        }
        fs::create_dir(folder.path().join("renderD130")).unwrap();
        assert_eq!(gpus(folder.path()), ["GPU 1002:744c", "GPU 8086:56a0"]);
        assert_eq!(gpus(Path::new("/nowhere")), [] as [&str; 0]);
    }
}
