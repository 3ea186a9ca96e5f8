//! Finds the encoders of this machine. A build looks only for those that its ladder names: to try a
//! hardware encoder takes longer than to find that there is nothing to do.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Executor, Failure, Ffmpeg, Rav1e, ffmpeg, svt_av1};

/// Encoders that rivet has names of its own for; all others go by FFmpeg's.
const OWN: [&str; 3] = ["rav1e", svt_av1::NAME, "nvenc"];

/// Which encoders are looked for, by the names that the spec has for them.
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

/// What was found.
pub struct Found {
    pub executors: Vec<Arc<dyn Executor>>,
    /// Encoders that are known or were asked for, and cannot be used.
    pub unusable: Vec<Unusable>,
}

/// An encoder that cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// As the spec names it.
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
/// How many there are changes no byte.
pub fn found_here(slots: usize, wanted: Wanted<'_>) -> Result<Found, Failure> {
    let mut found = Found { executors: Vec::new(), unusable: Vec::new() };
    if wanted.has("rav1e") {
        found.executors.push(Arc::new(Rav1e::new(slots)?));
    }
    if wanted.has(svt_av1::NAME) {
        found.take(
            svt_av1::NAME,
            svt_av1::find(slots).ok_or_else(|| "this FFmpeg has no libsvtav1".to_owned()),
        );
    }
    let of_ffmpeg: Vec<&str> = match wanted {
        Wanted::All => ffmpeg::known(),
        Wanted::Named(names) => names.iter().copied().filter(|name| !OWN.contains(name)).collect(),
    };
    for name in of_ffmpeg {
        found.take(name, ffmpeg::named(name, slots));
    }
    Ok(found)
}
