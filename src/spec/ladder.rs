//! The plain types of a checked spec: what the rest of rivet knows of `ladder.toml`.
//! They hold no spans, no TOML and no defaults still to be filled in; they may not do anything.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::cache::remote::RemoteUrl;
use crate::cache::trust::PublicKey;

use super::catalog::{self, NvencOptions, Rav1eOptions, SvtAv1Options};
use super::entry::Choice;
use super::units::{BitsPerSecond, Millis};

/// Luma samples of the longest side of a frame: that of the largest frame of AV1's level 6, 8192 x 4352 (AV1
/// Annex A.3, MaxPicSize).
pub const MAX_SIDE: u32 = 8192;

/// A whole spec. Lists keep the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// Where the spec stands: absolute, without `.` and `..`.
    pub path: PathBuf,
    /// The same as messages name it: as the caller did.
    pub named: PathBuf,
    /// The spec's text.
    pub text: String,
    /// At least one.
    pub titles: Vec<Title>,
    pub segments: SegmentPolicy,
    /// At least one. No two share a name, nor do a rung and an audio rendition.
    pub rungs: Vec<Rung>,
    /// Empty for a ladder without audio.
    pub audio: Vec<AudioRendition>,
    pub package: Package,
    pub cache: CacheSpec,
}

/// One source and what is made of it.
///
/// Paths are absolute and lexically normalised (`..` takes back a written component, not a
/// symbolic link). The source need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title {
    /// Unique in the spec; for a single `[title]` without a name, the source's file stem.
    pub name: String,
    pub source: PathBuf,
    /// A folder that the title owns: it holds no source, no spec and no other title's output.
    pub output: PathBuf,
}

/// How a source is cut into chunks. `min <= target <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct SegmentPolicy {
    pub mode: SegmentMode,
    /// Two and a half times the mean length; with [`SegmentMode::Fixed`], the grid.
    pub target: Millis,
    /// The shortest video chunk; with [`SegmentMode::Fixed`], the target.
    pub min: Millis,
    /// The longest video chunk; with [`SegmentMode::Fixed`], the target.
    pub max: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum SegmentMode {
    /// Content-defined cuts, so that an edit stays local.
    Content,
    /// Cut on a time grid, and within a cell of it that has too many frames to be held at once.
    Fixed,
}

/// One video rendition, `[video]` and the encoder's own table merged into it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Rung {
    /// Fit to be a folder's name anywhere: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most 64 bytes.
    pub name: String,
    /// Luma samples, even, 16 to 8192. `None` follows from the height and the display aspect ratio.
    /// At least one of the two is given.
    pub width: Option<u32>,
    /// Luma samples, even, 16 to 8192. `None` follows from the width and the display aspect ratio.
    pub height: Option<u32>,
    /// In order of preference; at least one, none twice.
    pub encoders: Vec<Encoder>,
    pub crf: Crf,
    /// `None`: as the source.
    pub bit_depth: Option<BitDepth>,
    pub rav1e: Rav1eOptions,
    pub svt_av1: SvtAv1Options,
    pub nvenc: NvencOptions,
    /// The options that the spec sets for those of `encoders` that are FFmpeg's, by encoder.
    /// An encoder without options is not here.
    pub ffmpeg: BTreeMap<String, FfmpegOptions>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Encoder {
    /// Always there.
    Rav1e,
    /// There where the installed FFmpeg has it.
    SvtAv1,
    /// NVIDIA's, by the driver's own library.
    Nvenc,
    /// Any other AV1 encoder of the installed FFmpeg, by FFmpeg's name for it, e.g. `libaom-av1`.
    /// Whether there is one is not known here.
    Ffmpeg(String),
}

impl Encoder {
    /// Those that rivet has names of its own for.
    pub(super) const OWN: [Encoder; 3] = [Encoder::Rav1e, Encoder::SvtAv1, Encoder::Nvenc];

    /// As the spec spells it.
    pub fn name(&self) -> &str {
        match self {
            Encoder::Rav1e => catalog::RAV1E.name,
            Encoder::SvtAv1 => catalog::SVT_AV1.name,
            Encoder::Nvenc => catalog::NVENC.name,
            Encoder::Ffmpeg(name) => name,
        }
    }
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An encoder's own options, by FFmpeg's names for them, with values as FFmpeg reads them.
pub type FfmpegOptions = BTreeMap<String, String>;

/// Constant rate factor on AV1's own scale, 0 (best) to 63 (smallest). Each encoder maps it to
/// its native scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Crf(u8);

impl Crf {
    pub const MAX: Crf = Crf(63);

    /// `None` above 63.
    pub const fn new(value: u8) -> Option<Crf> {
        if value <= Crf::MAX.0 { Some(Crf(value)) } else { None }
    }

    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Crf {
    fn default() -> Self {
        Crf(32)
    }
}

/// Bits per sample of the encoded video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum BitDepth {
    Eight,
    Ten,
}

impl BitDepth {
    pub const fn bits(self) -> u8 {
        match self {
            BitDepth::Eight => 8,
            BitDepth::Ten => 10,
        }
    }
}

/// One audio rendition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct AudioRendition {
    /// As [`Rung::name`], in the same namespace.
    pub name: String,
    pub codec: AudioCodec,
    /// Of all channels together, 6 to 510 kbit/s (RFC 6716 2.1.1).
    pub bitrate: BitsPerSecond,
    /// 1 or 2. `None`: stereo, except that mono stays mono.
    pub channels: Option<u8>,
    /// A well-formed BCP 47 tag, as it was written. `None`: the source's.
    pub language: Option<String>,
    /// Which of the source's audio tracks, counted from 0. `None`: the best.
    pub track: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum AudioCodec {
    Opus,
}

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// At least one, none twice.
    pub formats: Vec<PackageFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum PackageFormat {
    Hls,
}

/// Where cache entries and blobs are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheSpec {
    /// Absolute, lexically normalised. `None`: the user's cache folder.
    pub dir: Option<PathBuf>,
    /// A cache elsewhere, behind that folder.
    pub remote: Option<RemoteUrl>,
    /// Keys whose entries there are accepted, besides those that the user trusts.
    pub trusted_keys: Vec<PublicKey>,
}

/// Gives a choice its spelling: one table for reading it, for showing it and for messages.
macro_rules! spelled {
    ($name:ident { $($variant:ident = $spelling:literal),* }) => {
        impl $name {
            /// As the spec spells it.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $spelling),*
                }
            }
        }

        impl Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($spelling, $name::$variant)),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

spelled!(SegmentMode { Content = "content", Fixed = "fixed" });
spelled!(AudioCodec { Opus = "opus" });
spelled!(PackageFormat { Hls = "hls" });

impl fmt::Display for Crf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BitDepth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bits().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crf_keeps_to_the_scale_of_av1() {
        assert_eq!(Crf::new(0).map(Crf::get), Some(0));
        assert_eq!(Crf::new(63), Some(Crf::MAX));
        assert_eq!(Crf::new(64), None);
    }

    #[test]
    fn own_encoders_are_those_of_the_catalog() {
        let names: Vec<&str> = Encoder::OWN.iter().map(Encoder::name).collect();
        assert_eq!(names, catalog::OWN.map(|encoder| encoder.name));
    }

    #[test]
    fn choices_are_shown_as_the_spec_spells_them() {
        assert_eq!(Encoder::Rav1e.to_string(), "rav1e");
        assert_eq!(Encoder::Ffmpeg("av1_qsv".to_owned()).to_string(), "av1_qsv");
        assert_eq!(SegmentMode::Content.to_string(), "content");
        assert_eq!(BitDepth::Ten.to_string(), "10");
    }
}
