//! Finds the AV1 encoders of the installed FFmpeg that work here, and why others do not; checks an encoder's
//! options.

use std::collections::BTreeMap;

use ffmpeg::{Codec, codec};
use ffmpeg_next as ffmpeg;

use super::capabilities::Capabilities;
use super::device::Device;
use super::ffi::{self, OptionError};
use super::session::Session;
use super::{Ffmpeg, cpu, hardware};
use crate::executors::{EncodeSettings, EncoderSettings, OptionFault, ffi::library_version};
use crate::media::{self, Colour, FrameFormat, HdrMetadata, Rotation};
use crate::spec::catalog::own_name;
use crate::suggest;

/// An encoder's library.
struct Library {
    /// FFmpeg's name for the encoder.
    encoder: &'static str,
    /// The NUL-terminated name of a function `const char *f(void)` that returns its version.
    version: &'static [u8],
    /// Environment variables that select its code.
    variables: &'static [&'static str],
}

const LIBRARIES: [Library; 1] = [Library {
    encoder: "libaom-av1",
    version: b"aom_codec_version_str\0",
    variables: &["AOM_SIMD_CAPS", "AOM_SIMD_CAPS_MASK"],
}];

/// A device has an engine or two: more sessions only take its memory.
const MAX_DEVICE_SLOTS: usize = 2;

/// FFmpeg's names of the AV1 encoders that it was built with, without those that rivet has other names for.
pub fn known() -> Vec<&'static str> {
    media::init();
    let names = ffi::av1_encoders().into_iter().map(ffi::name);
    names.filter(|name| own_name(name).is_none()).collect()
}

fn find(name: &str) -> Option<Codec> {
    media::init();
    ffi::av1_encoders().into_iter().find(|&codec| ffi::name(codec) == name)
}

/// Whether the encoder of that name works on a device, by FFmpeg's tables.
pub fn is_hardware(name: &str) -> bool {
    find(name).is_some_and(ffi::is_hardware)
}

/// What is wrong with options of the encoder of that name; nothing where there is no such encoder.
pub fn faults_of(name: &str, options: &BTreeMap<String, String>) -> Vec<OptionFault> {
    find(name).map(|codec| faults(codec, options)).unwrap_or_default()
}

/// The encoder of that name, opened once as a trial; or why it is not available. `slots` never changes the
/// bytes.
pub fn named(name: &str, slots: usize) -> Result<Ffmpeg, String> {
    let codec = find(name).ok_or_else(|| unknown(name))?;
    let capabilities = Capabilities::of(codec);
    let device = capabilities.device().map(|kind| {
        Device::open(kind).map_err(|error| format!("no {} device can be opened: {error}", kind.name()))
    });
    let device = device.transpose()?;
    let (identity, place, slots) = match ffi::is_hardware(codec) || device.is_some() {
        true => {
            let kind = ffi::surfaces(codec).map(|(_, kind)| kind);
            (hardware::identity(kind, device.as_ref()), "GPU", slots.min(MAX_DEVICE_SLOTS))
        }
        false => (software_identity(ffi::name(codec)), "CPU", slots),
    };
    let identity = format!("{} {identity}, {}", ffi::name(codec), media::decoder_library());
    let mut found = Ffmpeg {
        name: ffi::name(codec),
        bit_depths: capabilities.bit_depths(),
        capabilities,
        device,
        identity,
        place: place.to_owned(),
        slots,
    };
    found.bit_depths = try_out(&found)?;
    Ok(found)
}

fn unknown(name: &str) -> String {
    let library = media::decoder_library();
    if codec::encoder::find_by_name(name).is_some() {
        return format!("in {library} it is no encoder of AV1");
    }
    match suggest::nearest(name, known()) {
        Some(near) => format!("{library} has no such encoder; did you mean `{near}`?"),
        None => format!("{library} has no such encoder"),
    }
}

/// The version of an encoder's own library, and what selects its code: CPU features and environment. Without
/// a version of its own, FFmpeg's stands for it.
fn software_identity(name: &str) -> String {
    let library = LIBRARIES.iter().find(|library| library.encoder == name);
    let version = library.and_then(|library| library_version(library.version));
    let mut identity = version.unwrap_or_else(|| "of unknown version".to_owned());
    identity += &format!(" on {}", cpu::instruction_sets());
    for variable in library.map(|library| library.variables).unwrap_or_default() {
        if let Some(value) = std::env::var_os(variable) {
            identity += &format!(" {variable}={}", value.to_string_lossy());
        }
    }
    identity
}

/// Opens the encoder at each depth that FFmpeg's tables list, and returns those that work: what a device
/// supports is not in the tables.
fn try_out(executor: &Ffmpeg) -> Result<Vec<u8>, String> {
    let colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 0 };
    let encoder = EncoderSettings::Ffmpeg { encoder: executor.name.to_owned(), options: BTreeMap::new() };
    let open = |bit_depth: u8| {
        let format = FrameFormat { width: 640, height: 360, bit_depth, rotation: Rotation::None, colour };
        let encoder = encoder.clone();
        let settings = EncodeSettings { format, hdr: HdrMetadata::default(), crf: 32, encoder };
        Session::open(executor, &settings, &[]).map(|_| bit_depth).map_err(|failure| failure.message)
    };
    let (mut taken, mut refused) = (Vec::new(), "it takes no frames in 4:2:0".to_owned());
    for outcome in executor.bit_depths.iter().rev().map(|&bit_depth| open(bit_depth)) {
        match outcome {
            Ok(bit_depth) => taken.insert(0, bit_depth),
            Err(why) => refused = why,
        }
    }
    if taken.is_empty() { Err(refused) } else { Ok(taken) }
}

/// What is wrong with an encoder's own options, as far as can be checked without encoding.
fn faults(codec: Codec, options: &BTreeMap<String, String>) -> Vec<OptionFault> {
    let name = ffi::name(codec);
    let all = || format!("`ffmpeg -h encoder={name}` lists its options");
    let fault = |(option, value): (&String, &String)| match ffi::try_option(codec, option, value) {
        Ok(()) => None,
        Err(OptionError::Unknown) => Some(OptionFault {
            option: option.clone(),
            message: format!("{name} has no such option"),
            hint: match suggest::nearest(option, ffi::own_options(codec)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => all(),
            },
        }),
        Err(OptionError::FreeText) => Some(OptionFault {
            option: option.clone(),
            message: format!("{name} takes any text for it, names of files to write among them"),
            hint: "leave it out: a build writes nothing but its output and its cache".to_owned(),
        }),
        Err(OptionError::Value { min, max, error }) => {
            let is_number = value.parse::<f64>().is_ok() && min < max;
            Some(OptionFault {
                option: option.clone(),
                message: match is_number {
                    true => format!("{name} takes {min} to {max}"),
                    false => format!("{name} does not take this ({error})"),
                },
                hint: all(),
            })
        }
    };
    options.iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(encoder: &str, option: &str, value: &str) -> Vec<String> {
        media::init();
        let codec = codec::encoder::find_by_name(encoder).unwrap_or_else(|| panic!("no {encoder}"));
        let options = [(option.to_owned(), value.to_owned())].into();
        faults(codec, &options).into_iter().map(|fault| fault.message).collect()
    }

    /// No AV1 encoder of FFmpeg's has such an option by now; those of other codecs have.
    #[test]
    fn an_option_that_may_name_a_file_to_write_is_refused() {
        for (encoder, option, value) in [
            ("libx264", "stats", "/tmp/stats"),
            ("libx264", "passlogfile", "/tmp/log"),
            ("libx265", "x265-params", "csv=/tmp/log"),
            ("libaom-av1", "aom-params", "partition-info-path=/tmp"),
        ] {
            let told = faults_of(encoder, option, value);
            let expected = format!("{encoder} takes any text for it, names of files to write among them");
            assert_eq!(told, [expected], "{option}");
        }
    }

    #[test]
    fn words_sizes_and_numbers_are_no_free_text() {
        for (option, value) in [("tune", "ssim"), ("tiles", "2x1"), ("enable-cdef", "auto"), ("refs", "3")] {
            assert_eq!(faults_of("libaom-av1", option, value), [] as [&str; 0], "{option}");
        }
    }

    #[test]
    fn what_is_here_for_other_codecs_is_no_encoder_of_av1() {
        let Err(why) = named("libx264", 1) else { panic!("libx264 encodes AV1") };
        assert!(why.ends_with("it is no encoder of AV1"), "{why}");
    }

    #[test]
    fn an_encoder_is_tried_at_every_depth() {
        let libaom = named("libaom-av1", 1).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(libaom.bit_depths, [8, 10]);
        let none = Ffmpeg { bit_depths: Vec::new(), ..libaom };
        assert_eq!(try_out(&none), Err("it takes no frames in 4:2:0".to_owned()));
    }
}
