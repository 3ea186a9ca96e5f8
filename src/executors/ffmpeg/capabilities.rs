//! Which pixel formats an encoder of FFmpeg's accepts, and the options for what every chunk needs: constant
//! quality and one closed sequence. Derived from FFmpeg's tables, so that unknown encoders work as well.

use ffmpeg::Codec;
use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::device::DeviceKind;
use super::{ffi, frames};
use crate::executors::quality::{base_q_idx, on_scale};

/// FFmpeg's `FF_QP2LAMBDA`: the unit of `global_quality` where it stands for a quantizer.
const QUALITY_UNIT: u32 = ffmpeg::ffi::FF_QP2LAMBDA as u32;

/// Options for every encoder: key frames as far apart as all encoders accept (some count in 16 bits), none at
/// scene changes, no B frames, no bit rate, one thread.
const ALWAYS: [(&str, &str); 5] =
    [("g", "65535"), ("keyint_min", "65535"), ("bf", "0"), ("b", "0"), ("threads", "1")];

/// Options for encoders that have them, with values for encoders that have these: no threads within a frame;
/// a constant quantizer; the sequence header in the stream.
const WHERE_KNOWN: [(&str, &str); 5] =
    [("row-mt", "0"), ("rc_mode", "CQP"), ("rc", "cqp"), ("rc", "constqp"), ("header_insertion_mode", "gop")];

/// The form in which an encoder takes frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// In memory.
    Memory(Pixel),
    /// On a device: the device's own format, and the format of the frames that are uploaded.
    Device { surface: Pixel, samples: Pixel },
}

/// The options that set the quality.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Quality {
    /// Options that all take the same number, and its maximum.
    Options(Vec<&'static str>, u32),
    /// FFmpeg's option for all codecs, as a quantizer index.
    Global,
}

/// How an encoder is used.
pub struct Capabilities {
    pub codec: Codec,
    formats: Vec<Pixel>,
    /// The device format, for an encoder that takes no frames from memory.
    surfaces: Option<(Pixel, DeviceKind)>,
    quality: Quality,
    /// Options that are the same for every chunk.
    fixed: Vec<(&'static str, &'static str)>,
}

impl Capabilities {
    pub fn of(codec: Codec) -> Capabilities {
        let known = WHERE_KNOWN.into_iter().filter(|&(option, value)| {
            ffi::own_option(codec, option).is_some()
                && (value.parse::<i64>().is_ok() || ffi::has_word(codec, option, value))
        });
        Capabilities::with(codec, ALWAYS.into_iter().chain(known).collect())
    }

    /// Those of an encoder with these options for every chunk.
    pub fn with(codec: Codec, fixed: Vec<(&'static str, &'static str)>) -> Capabilities {
        let formats: Vec<Pixel> =
            codec.video().ok().and_then(|video| video.formats()).map(Iterator::collect).unwrap_or_default();
        let from_memory = [8, 10].into_iter().flat_map(frames::formats).any(|pixel| formats.contains(&pixel));
        let surfaces = ffi::surfaces(codec).filter(|_| !from_memory);
        Capabilities { codec, formats, surfaces, quality: quality(codec), fixed }
    }

    /// The form in which it takes frames of this depth; `None` where FFmpeg's tables list none.
    pub fn input(&self, bit_depth: u8) -> Option<Input> {
        if let Some((surface, _)) = self.surfaces {
            return Some(Input::Device { surface, samples: frames::on_device(bit_depth) });
        }
        let formats = frames::formats(bit_depth).into_iter();
        formats
            .map(Input::Memory)
            .find(|input| matches!(input, Input::Memory(pixel) if self.formats.contains(pixel)))
    }

    /// Bits per sample, of those that rungs have, that FFmpeg's tables list.
    pub fn bit_depths(&self) -> Vec<u8> {
        [8, 10].into_iter().filter(|&depth| self.input(depth).is_some()).collect()
    }

    /// The kind of device that it takes its frames from.
    pub fn device(&self) -> Option<DeviceKind> {
        self.surfaces.map(|(_, device)| device)
    }

    /// The options that ask for constant quality, on AV1's scale of 0 (best) to 63, and for one closed
    /// sequence.
    pub fn options(&self, crf: u8) -> Vec<(&'static str, String)> {
        let mut options: Vec<(&'static str, String)> =
            self.fixed.iter().map(|&(option, value)| (option, value.to_owned())).collect();
        match &self.quality {
            Quality::Options(names, most) => {
                options.extend(names.iter().map(|&name| (name, on_scale(crf, *most).to_string())));
            }
            Quality::Global => {
                let quality = u32::from(base_q_idx(crf)) * QUALITY_UNIT;
                options.extend([("global_quality", quality.to_string()), ("flags", "+qscale".to_owned())]);
            }
        }
        options
    }
}

/// The quality option of an encoder: the first of `crf`, `qp`, `qp_i` and the like, and `global_quality`.
fn quality(codec: Codec) -> Quality {
    // A larger maximum than any quantizer has means that the option counts something else.
    let most = |name: &str| ffi::own_option(codec, name).map(|(_, most)| most).filter(|&most| most <= 255.0);
    if let Some(most) = most("crf").filter(|&most| most >= 1.0) {
        // An AV1 encoder's `crf` is on AV1's scale, though some go on a little beyond it.
        return Quality::Options(vec!["crf"], most.min(63.0) as u32);
    }
    for names in [&["qp"][..], &["qp_i", "qp_p", "qp_b"]] {
        let found: Vec<&'static str> = names.iter().copied().filter(|name| most(name).is_some()).collect();
        if let Some(most) = found.first().and_then(|name| most(name)).filter(|&most| most >= 1.0) {
            return Quality::Options(found, most as u32);
        }
    }
    Quality::Global
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Capabilities {
        crate::media::init();
        Capabilities::of(ffmpeg::encoder::find_by_name(name).unwrap_or_else(|| panic!("no {name}")))
    }

    fn option(capabilities: &Capabilities, crf: u8, name: &str) -> Option<String> {
        let mut options = capabilities.options(crf).into_iter();
        options.find(|(option, _)| *option == name).map(|(_, value)| value)
    }

    #[test]
    fn an_encoder_with_crf_takes_it_as_it_is() {
        let libaom = of("libaom-av1");
        assert_eq!(option(&libaom, 32, "crf").as_deref(), Some("32"));
        assert_eq!(option(&libaom, 32, "row-mt").as_deref(), Some("0"));
        assert_eq!(option(&libaom, 32, "rc"), None);
        assert_eq!(libaom.input(8), Some(Input::Memory(Pixel::YUV420P)));
        assert_eq!(libaom.input(10), Some(Input::Memory(Pixel::YUV420P10LE)));
        assert_eq!(libaom.device(), None);
    }

    #[test]
    fn an_encoder_with_a_quantizer_takes_its_index() {
        assert_eq!(option(&of("librav1e"), 32, "qp").as_deref(), Some("128"));
    }

    /// No AV1 encoder for hardware is in every FFmpeg; those of other codecs have the same tables.
    #[test]
    fn encoders_on_devices_are_known_by_their_tables() {
        let vaapi = of("vp9_vaapi");
        assert_eq!(vaapi.device(), Some(DeviceKind::VAAPI));
        let input = Input::Device { surface: Pixel::VAAPI, samples: Pixel::P010LE };
        assert_eq!(vaapi.input(10), Some(input));
        assert_eq!(option(&vaapi, 32, "rc_mode").as_deref(), Some("CQP"));
        assert_eq!(option(&vaapi, 32, "global_quality").as_deref(), Some("15104"));
        assert_eq!(option(&vaapi, 32, "flags").as_deref(), Some("+qscale"));
        // This one takes frames from memory, too.
        let nvenc = of("hevc_nvenc");
        assert_eq!(nvenc.input(8), Some(Input::Memory(Pixel::YUV420P)));
        assert_eq!(nvenc.input(10), Some(Input::Memory(Pixel::P010LE)));
        assert_eq!(option(&nvenc, 63, "rc").as_deref(), Some("constqp"));
        assert_eq!(option(&nvenc, 63, "qp").as_deref(), Some("51"));
    }

    #[test]
    fn an_encoder_without_a_format_for_a_depth_has_no_input_for_it() {
        let xvid = of("libxvid");
        assert_eq!(xvid.input(8), Some(Input::Memory(Pixel::YUV420P)));
        assert_eq!(xvid.input(10), None);
    }
}
