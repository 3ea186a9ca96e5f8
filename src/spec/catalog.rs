//! The one list of encoders: their names, their options with range and default, and what rivet sets itself.
//! The readers of the spec, their messages, docs/spec.md, `rivet init` and the executors go by it; a new
//! encoder or option is one row. How an encoder runs, and whether it is on this machine, is not known here.

use std::fmt::Write;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::keys::{Key, Table, key};

/// An encoder that is known by name.
#[derive(Debug)]
pub struct EncoderInfo {
    /// As the spec names it.
    pub name: &'static str,
    /// FFmpeg's name for it, where rivet has another.
    pub ffmpeg_name: Option<&'static str>,
    /// Luma samples of the shortest side that it encodes.
    pub min_side: u32,
    /// One line on what it is and where it runs.
    pub summary: &'static str,
    /// Options that rivet names and checks. `None`: the options are FFmpeg's, and only FFmpeg knows them.
    pub(super) own: Option<OwnOptions>,
}

/// The table `[encoder.NAME]` of an encoder whose options rivet names.
#[derive(Debug)]
pub(super) struct OwnOptions {
    pub(super) table: Table,
    pub(super) options: &'static [OwnOption],
}

/// An option that is a whole number.
#[derive(Debug)]
pub(super) struct OwnOption {
    pub(super) key: Key,
    pub(super) range: RangeInclusive<u32>,
    /// What the lowest and the highest value mean; `None` for an amount.
    pub(super) ends: Option<(&'static str, &'static str)>,
    /// `None`: it follows from the rung.
    pub(super) default: Option<u32>,
    /// One line for documents.
    pub(super) meaning: &'static str,
}

impl OwnOption {
    /// "0 (slowest) to 10 (fastest)".
    pub(super) fn scale(&self) -> String {
        let (low, high) = (self.range.start(), self.range.end());
        match self.ends {
            Some((lowest, highest)) => format!("{low} ({lowest}) to {high} ({highest})"),
            None => format!("{low} to {high}"),
        }
    }
}

/// How a field holds an option's value, `None` where neither the spec nor the list has one.
trait OptionValue {
    fn of(value: Option<u32>) -> Self;
}

impl OptionValue for u8 {
    fn of(value: Option<u32>) -> u8 {
        value.and_then(|value| u8::try_from(value).ok()).unwrap_or_default()
    }
}

impl OptionValue for Option<u32> {
    fn of(value: Option<u32>) -> Option<u32> {
        value
    }
}

/// An encoder whose options rivet names: its row of the list, and the type of its options' values.
macro_rules! own_encoder {
    (
        $(#[$about:meta])*
        $row:ident, $values:ident, $name:literal {
            ffmpeg_name: $ffmpeg_name:expr,
            min_side: $min_side:expr,
            summary: $summary:literal,
        }
        $(
            $field:ident: $type:ty = $key:literal {
                range: $range:expr,
                ends: $ends:expr,
                default: $default:expr,
                example: $example:literal,
                meaning: $meaning:literal,
            }
        )*
    ) => {
        $(#[$about])*
        pub static $row: EncoderInfo = EncoderInfo {
            name: $name,
            ffmpeg_name: $ffmpeg_name,
            min_side: $min_side,
            summary: $summary,
            own: Some(OwnOptions {
                table: Table {
                    header: concat!("[encoder.", $name, "]"),
                    keys: &[&[$(key($key, concat!($key, " = ", $example))),*]],
                },
                options: &[$(OwnOption {
                    key: key($key, concat!($key, " = ", $example)),
                    range: $range,
                    ends: $ends,
                    default: $default,
                    meaning: $meaning,
                }),*],
            }),
        };

        #[doc = concat!("The options of ", $name, ".")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        pub struct $values {
            $(#[doc = concat!($meaning, "; see [`", stringify!($row), "`].")] pub $field: $type,)*
        }

        impl $values {
            /// `given` has the spec's value of a key; defaults stand in for the rest.
            pub(super) fn with(given: impl Fn(&str) -> Option<u32>) -> $values {
                $values { $($field: OptionValue::of(given($key).or($default)),)* }
            }
        }

        impl Default for $values {
            fn default() -> $values {
                $values::with(|_| None)
            }
        }
    };
}

own_encoder! {
    /// rav1e, linked in.
    RAV1E, Rav1eOptions, "rav1e" {
        ffmpeg_name: Some("librav1e"),
        min_side: 1,
        summary: "built in; the same bytes on every machine",
    }
    speed: u8 = "speed" {
        range: 0..=10,
        ends: Some(("slowest, best", "fastest")),
        default: Some(9),
        example: 9,
        meaning: "how much time an encode takes",
    }
    // Never worked out from the machine: it changes the bytes.
    tiles: Option<u32> = "tiles" {
        range: 1..=64,
        ends: None,
        default: None,
        example: 4,
        meaning: "tiles of a frame: more of them cost a few bytes and let idle cores help with the last chunks",
    }
}

own_encoder! {
    /// SVT-AV1, through FFmpeg.
    SVT_AV1, SvtAv1Options, "svt-av1" {
        ffmpeg_name: Some("libsvtav1"),
        min_side: 64,
        summary: "where the installed FFmpeg has libsvtav1; ten times as fast as rav1e; the same bytes on every machine",
    }
    preset: u8 = "preset" {
        range: 0..=13,
        ends: Some(("slowest, best", "fastest")),
        default: Some(8),
        example: 8,
        meaning: "how much time an encode takes",
    }
}

own_encoder! {
    /// NVENC, through NVIDIA's driver.
    NVENC, NvencOptions, "nvenc" {
        ffmpeg_name: None,
        min_side: 1,
        summary: "NVIDIA GPUs that encode AV1, through the driver",
    }
    preset: u8 = "preset" {
        range: 1..=7,
        ends: Some(("fastest", "slowest, best")),
        default: Some(5),
        example: 5,
        meaning: "how much time an encode takes",
    }
}

/// Encoders that rivet has names of its own for.
pub const OWN: [&EncoderInfo; 3] = [&RAV1E, &SVT_AV1, &NVENC];

/// Encoders of FFmpeg's that are known by name, for suggestions and documents. A spec may name any other, too.
pub static OF_FFMPEG: [EncoderInfo; 9] = [
    of_ffmpeg("libaom-av1", "libaom, in software; the same bytes on CPUs with the same instruction sets"),
    of_ffmpeg("av1_qsv", "Intel GPUs, by Quick Sync Video"),
    of_ffmpeg("av1_vaapi", "Intel and AMD GPUs on Linux, by VA-API"),
    of_ffmpeg("av1_amf", "AMD GPUs, by AMF"),
    of_ffmpeg("av1_nvenc", "NVIDIA GPUs, by FFmpeg rather than rivet's own `nvenc`"),
    of_ffmpeg("av1_mf", "Windows, by Media Foundation"),
    of_ffmpeg("av1_mediacodec", "Android, by MediaCodec"),
    of_ffmpeg("av1_vulkan", "GPUs with Vulkan Video"),
    of_ffmpeg("av1_d3d12va", "GPUs on Windows, by Direct3D 12"),
];

const fn of_ffmpeg(name: &'static str, summary: &'static str) -> EncoderInfo {
    EncoderInfo { name, ffmpeg_name: None, min_side: 1, summary, own: None }
}

/// Options that `[video]` and a rung may set, too, for whichever encoder of the rung has them.
pub(super) const SHARED: &[Key] = &[key("speed", "speed = 9"), key("preset", "preset = 8")];

/// Every encoder that is known by name, rivet's own first.
pub fn all() -> impl Iterator<Item = &'static EncoderInfo> {
    OWN.into_iter().chain(&OF_FFMPEG)
}

/// Luma samples of the shortest side that an encoder encodes, as far as that is known without asking a device.
pub fn min_side(encoder: &str) -> u32 {
    all().find(|known| known.name == encoder).map_or(1, |known| known.min_side)
}

/// Whether rivet has this name for an encoder; others are FFmpeg's.
pub fn is_own(name: &str) -> bool {
    OWN.iter().any(|encoder| encoder.name == name)
}

/// rivet's name for an encoder that FFmpeg has another for.
pub fn own_name(ffmpegs: &str) -> Option<&'static str> {
    OWN.iter().find(|encoder| encoder.ffmpeg_name == Some(ffmpegs)).map(|encoder| encoder.name)
}

/// The encoders that have an option of rivet's by this name, each with it.
pub(super) fn owners(option: &str) -> impl Iterator<Item = (&'static EncoderInfo, &'static OwnOption)> {
    OWN.into_iter().filter_map(move |encoder| {
        let options = encoder.own.as_ref()?.options;
        options.iter().find(|one| one.key.name == option).map(|option| (encoder, option))
    })
}

/// The encoders with what they are, a line each, and the options that rivet names.
pub fn listing() -> String {
    let width = all().map(|encoder| encoder.name.len()).max().unwrap_or_default();
    let mut text =
        String::from("Encoders that a ladder may name, besides any other AV1 encoder of FFmpeg's:");
    for encoder in all() {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {:<width$}  {}", encoder.name, encoder.summary);
        for option in encoder.own.as_ref().map(|own| own.options).unwrap_or_default() {
            let default = option.default.map(|default| format!("; default {default}")).unwrap_or_default();
            let OwnOption { key, meaning, .. } = option;
            let _ =
                write!(text, "\n  {:<width$}  - {}: {meaning}, {}{default}", "", key.name, option.scale());
        }
    }
    text
}

/// Options of FFmpeg's encoders that are rivet's to set, and what sets them.
const SET_BY_RIVET: &[(&[&str], &str)] = &[
    (
        &[
            "crf",
            "qp",
            "qp_i",
            "qp_p",
            "qp_b",
            "cq",
            "q",
            "qscale",
            "global_quality",
            "qmin",
            "qmax",
            "qvbr_quality_level",
        ],
        "remove it: quality is constant, and `crf` in `[video]` or `[[rung]]` sets it on AV1's scale",
    ),
    (
        &["b", "bt", "maxrate", "minrate", "bufsize", "rc_init_occupancy", "rc", "rc_mode"],
        "remove it: quality is constant, and the bit rate follows from `crf` in `[video]` or `[[rung]]`",
    ),
    (
        &[
            "g",
            "keyint_min",
            "bf",
            "sc_threshold",
            "forced-idr",
            "forced_idr",
            "force_key_frames",
            "idr_interval",
            "intra-refresh",
            "still-picture",
            "adaptive_i",
            "flags",
            "flags2",
        ],
        "remove it: a chunk is one closed GOP with one key frame, and `[segments]` sets its length",
    ),
    (
        &["threads", "thread_type", "row-mt"],
        "remove it: each encoder has one thread, and chunks are encoded in parallel; `--jobs` sets how many",
    ),
    (
        &[
            "profile",
            "level",
            "tier",
            "s",
            "video_size",
            "pix_fmt",
            "r",
            "framerate",
            "time_base",
            "aspect",
            "color_primaries",
            "color_trc",
            "colorspace",
            "color_range",
            "chroma_sample_location",
            "header_insertion_mode",
        ],
        "remove it: it follows from the rung and the source",
    ),
];

/// What sets an option of FFmpeg's that is rivet's to set, as a hint.
pub fn set_by_rivet(option: &str) -> Option<&'static str> {
    if option.ends_with("-params") || option.ends_with("_params") {
        return Some("remove it: it could set what rivet sets; give each option by its own name");
    }
    SET_BY_RIVET.iter().find(|(options, _)| options.contains(&option)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sound() {
        let mut names: Vec<&str> =
            all().flat_map(|encoder| [Some(encoder.name), encoder.ffmpeg_name]).flatten().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands for one encoder");
        for option in OWN.iter().filter_map(|encoder| encoder.own.as_ref()).flat_map(|own| own.options) {
            let Some(default) = option.default else { continue };
            assert!(option.range.contains(&default), "{option:?}");
            assert_eq!(option.key.example, format!("{} = {default}", option.key.name));
        }
        for key in SHARED {
            assert!(owners(key.name).any(|(_, option)| option.key == *key), "{key:?}");
        }
        let defaults = (Rav1eOptions::default(), SvtAv1Options::default(), NvencOptions::default());
        assert_eq!(defaults.0, Rav1eOptions { speed: 9, tiles: None });
        assert_eq!((defaults.1.preset, defaults.2.preset), (8, 5));
    }

    #[test]
    fn the_documentation_has_every_encoder_and_option() {
        let documentation = include_str!("../../docs/spec.md");
        let has = |row: &str| assert!(documentation.contains(row), "docs/spec.md lacks the row\n{row}");
        for encoder in all() {
            let min = match encoder.min_side {
                1 => "any size".to_owned(),
                side => format!("{side}x{side} or larger"),
            };
            has(&format!("\n| `\"{}\"` | {} | {min} |\n", encoder.name, encoder.summary));
            let Some(own) = &encoder.own else { continue };
            let mut sections = documentation.split("\n## ");
            let section = sections.find(|text| text.lines().next().unwrap_or("").contains(own.table.header));
            let section = section.unwrap_or_else(|| panic!("no section {}", own.table.header));
            for option in own.options {
                let row = format!("\n| `{}` | {}, {} | ", option.key.name, option.meaning, option.scale());
                let rest = section.split_once(&row).map(|(_, rest)| rest.split('\n').next());
                let rest = rest.flatten().unwrap_or_else(|| panic!("docs/spec.md lacks the row\n{row}"));
                assert!(option.default.is_none_or(|default| rest == format!("{default} |")), "{row}{rest}");
            }
        }
    }
}
