//! Finds the encoders of this machine. A build looks only for those that its ladder names: opening a hardware
//! encoder takes longer than a build that has nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::spec::catalog::is_own;

use super::{Executor, Failure, Ffmpeg, NVENC, OptionFault, RAV1E, Rav1e, SVT_AV1, ffmpeg, svt_av1};

/// Which encoders to look for, by their names in the spec.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    All,
    Named(&'a BTreeSet<&'a str>),
}

impl Wanted<'_> {
    /// Whether an encoder is looked for.
    pub fn has(self, encoder: &str) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Named(names) => names.contains(encoder),
        }
    }
}

/// The encoders of a machine.
#[derive(Default)]
pub struct Found {
    pub executors: Vec<Arc<dyn Executor>>,
    /// Encoders that are known or were asked for, and are not available.
    pub unusable: Vec<Unusable>,
}

/// An encoder that is not available.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Its name in the spec.
    pub encoder: String,
    pub reason: String,
}

impl Found {
    fn take(&mut self, encoder: &str, found: Result<Ffmpeg, String>) {
        match found {
            Ok(executor) => self.executors.push(Arc::new(executor)),
            Err(reason) => self.unusable.push(Unusable { encoder: encoder.to_owned(), reason }),
        }
    }
}

/// The encoders of this machine, each with as many slots, or with fewer where its device has fewer.
/// The number of slots changes no byte.
pub fn found_here(slots: usize, wanted: Wanted<'_>) -> Result<Found, Failure> {
    let mut found = Found::default();
    if wanted.has(RAV1E) {
        found.executors.push(Arc::new(Rav1e::new(slots)));
    }
    if wanted.has(SVT_AV1) {
        found.take(SVT_AV1, svt_av1::find(slots).ok_or_else(|| "this FFmpeg has no libsvtav1".to_owned()));
    }
    if wanted.has(NVENC) {
        take_nvenc(&mut found);
    }
    let of_ffmpeg: Vec<&str> = match wanted {
        Wanted::All => ffmpeg::known(),
        Wanted::Named(names) => names.iter().copied().filter(|name| !is_own(name)).collect(),
    };
    for name in of_ffmpeg {
        found.take(name, ffmpeg::named(name, slots));
    }
    Ok(found)
}

/// NVENC on every GPU that has it, and why the others have not.
#[cfg(feature = "nvidia")]
fn take_nvenc(found: &mut Found) {
    let unusable = |reason: String| Unusable { encoder: NVENC.to_owned(), reason };
    match super::find_nvenc() {
        Err(error) => found.unusable.push(unusable(error.to_string())),
        Ok(gpus) if gpus.is_empty() => found.unusable.push(unusable("there is no NVIDIA GPU".to_owned())),
        Ok(gpus) => {
            for (gpu, opened) in gpus {
                match opened {
                    Ok(executor) => found.executors.push(Arc::new(executor)),
                    Err(error) => found.unusable.push(unusable(format!("{}: {error}", gpu.name))),
                }
            }
        }
    }
}

#[cfg(not(feature = "nvidia"))]
fn take_nvenc(found: &mut Found) {
    let reason = "this rivet was built without it".to_owned();
    found.unusable.push(Unusable { encoder: NVENC.to_owned(), reason });
}

/// Opens the executor of this name, one that [`found_here`] gave it, for one job at a time. Opening may need
/// a session of a device for a moment: where none is free the failure is
/// [`super::FailureKind::ResourceExhausted`].
pub fn open(name: &str) -> Result<Arc<dyn Executor>, Failure> {
    #[cfg(feature = "nvidia")]
    if let Some(ordinal) = name.strip_prefix("nvenc:") {
        let failed = |error: &dyn std::fmt::Display| Failure::machine(format!("{name}: {error}"));
        let gpus = crate::nvidia::gpus().map_err(|error| failed(&error))?;
        let gpu = gpus.iter().find(|gpu| gpu.ordinal.to_string() == ordinal);
        let gpu = gpu.ok_or_else(|| failed(&"there is no such GPU"))?;
        return Ok(Arc::new(super::Nvenc::open(gpu).map_err(super::nvenc::failure)?));
    }
    let found = found_here(1, Wanted::Named(&BTreeSet::from([name])))?;
    let reason = found.unusable.into_iter().map(|one| one.reason).next();
    let missing = || {
        Failure::machine(format!(
            "{name}: {}",
            reason.unwrap_or_else(|| "it is not available here".to_owned())
        ))
    };
    found.executors.into_iter().find(|executor| executor.name() == name).ok_or_else(missing)
}

/// Whether an encoder of this name opens a device, and so a driver, when it is looked for.
pub fn is_on_device(encoder: &str) -> bool {
    encoder == NVENC || (!is_own(encoder) && ffmpeg::is_hardware(encoder))
}

/// What is wrong with an encoder's own options, as far as can be checked without encoding.
pub fn check_options(encoder: &str, options: &BTreeMap<String, String>) -> Vec<OptionFault> {
    if is_own(encoder) { Vec::new() } else { ffmpeg::faults_of(encoder, options) }
}
