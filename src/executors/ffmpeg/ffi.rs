//! FFmpeg's tables of encoders and their options, read through raw structures. Each function takes and
//! returns safe values, and changes nothing.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use ffmpeg::Codec;
use ffmpeg::codec::Context;
use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::device::DeviceKind;

/// The AV1 encoders that this FFmpeg was built with, in its own order.
pub fn av1_encoders() -> Vec<Codec> {
    let mut found = Vec::new();
    let mut state: *mut c_void = ptr::null_mut();
    loop {
        // SAFETY: the state is what the function left there, null at first; a codec that it returns
        // is a static table.
        let codec = unsafe { ffi::av_codec_iterate(&mut state) };
        if codec.is_null() {
            return found;
        }
        // SAFETY: as above; null was ruled out.
        let (is_encoder, id, codec) =
            unsafe { (ffi::av_codec_is_encoder(codec) != 0, (*codec).id, Codec::wrap(codec)) };
        if is_encoder && id == ffi::AVCodecID::AV_CODEC_ID_AV1 {
            found.push(codec);
        }
    }
}

/// FFmpeg's name for a codec.
pub fn name(codec: Codec) -> &'static str {
    // SAFETY: codecs are static tables, and so are the strings that they point to.
    static_text(unsafe { (*codec.as_ptr()).name }).unwrap_or("")
}

/// Whether a codec runs on a device, or may.
pub fn is_hardware(codec: Codec) -> bool {
    let bits = ffi::AV_CODEC_CAP_HARDWARE | ffi::AV_CODEC_CAP_HYBRID;
    // SAFETY: codecs are static tables.
    unsafe { (*codec.as_ptr()).capabilities as u32 & bits != 0 }
}

/// The frames of devices that an encoder takes, and the kind of device that has them.
pub fn surfaces(codec: Codec) -> Option<(Pixel, DeviceKind)> {
    let takes_frames = ffi::AV_CODEC_HW_CONFIG_METHOD_HW_FRAMES_CTX as c_int;
    (0..)
        .map_while(|number| {
            // SAFETY: the codec is a static table; the function returns null behind the last entry.
            unsafe { ffi::avcodec_get_hw_config(codec.as_ptr(), number).as_ref() }
        })
        .find(|config| config.methods & takes_frames != 0)
        .map(|config| (Pixel::from(config.pix_fmt), DeviceKind(config.device_type)))
}

/// The lowest and the highest value of an option that the encoder has beside those of all codecs.
/// `None` where it has no such option.
pub fn own_option(codec: Codec, option: &str) -> Option<(f64, f64)> {
    find(codec, option, None).map(|option| (option.min, option.max))
}

/// Whether `word` is a value of such an option.
pub fn has_word(codec: Codec, option: &str, word: &str) -> bool {
    let Some(unit) = find(codec, option, None).map(|option| option.unit).filter(|unit| !unit.is_null())
    else {
        return false;
    };
    find(codec, word, Some(unit)).is_some()
}

/// The names of all such options.
pub fn own_options(codec: Codec) -> Vec<&'static str> {
    // SAFETY: codecs are static tables.
    let class = unsafe { (*codec.as_ptr()).priv_class };
    let mut names = Vec::new();
    let mut option: *const ffi::AVOption = ptr::null();
    while !class.is_null() {
        // SAFETY: the function only reads the class that its first argument points to, which is
        // static, and takes the option that it returned before.
        option = unsafe { ffi::av_opt_next((&raw const class).cast(), option) };
        // SAFETY: an option is an entry of a static table.
        let Some(found) = (unsafe { option.as_ref() }) else { break };
        // A word for a value stands at no place of its own.
        if found.offset > 0 {
            names.extend(static_text(found.name));
        }
    }
    names
}

/// Looks for an option, or for a word of the `unit` of one.
fn find(codec: Codec, name: &str, unit: Option<*const c_char>) -> Option<&'static ffi::AVOption> {
    let name = CString::new(name).ok()?;
    // SAFETY: codecs are static tables; a class stands for an object of that class where the flag says
    // so, and is only read. The option that is returned is an entry of a static table.
    unsafe {
        let class = (*codec.as_ptr()).priv_class;
        if class.is_null() {
            return None;
        }
        let object = (&raw const class).cast_mut().cast();
        let unit = unit.unwrap_or(ptr::null());
        ffi::av_opt_find(object, name.as_ptr(), unit, 0, ffi::AV_OPT_SEARCH_FAKE_OBJ).as_ref()
    }
}

/// What is wrong with an option that was to be set.
pub enum OptionError {
    Unknown,
    /// It takes any text, which an encoder's library may take for the name of a file to write.
    FreeText,
    /// The option is there, with this range; the value is not for it.
    Value {
        min: f64,
        max: f64,
        error: ffmpeg::Error,
    },
}

/// Tries whether the encoder takes an option, one of its own or one of all encoders'.
pub fn try_option(codec: Codec, option: &str, value: &str) -> Result<(), OptionError> {
    let (Ok(name), Ok(value)) = (CString::new(option), CString::new(value)) else {
        return Err(OptionError::Unknown);
    };
    let mut context = Context::new_with_codec(codec);
    // SAFETY: the context is live, is ours alone, and begins with its class, as all contexts do; both
    // strings outlive the calls, and the option is an entry of a static table.
    unsafe {
        let object: *mut c_void = context.as_mut_ptr().cast();
        if object.is_null() {
            return Err(OptionError::Unknown);
        }
        let children = ffi::AV_OPT_SEARCH_CHILDREN;
        let encoding = ffi::AV_OPT_FLAG_ENCODING_PARAM as c_int;
        let Some(found) = ffi::av_opt_find(object, name.as_ptr(), ptr::null(), encoding, children).as_ref()
        else {
            return Err(OptionError::Unknown);
        };
        if is_free_text(found) {
            return Err(OptionError::FreeText);
        }
        match ffi::av_opt_set(object, name.as_ptr(), value.as_ptr(), children) {
            error if error < 0 => {
                Err(OptionError::Value { min: found.min, max: found.max, error: ffmpeg::Error::from(error) })
            }
            _ => Ok(()),
        }
    }
}

/// Whether an option's value is text that only the encoder reads, or a list of such texts.
fn is_free_text(option: &ffi::AVOption) -> bool {
    use ffi::AVOptionType::*;
    /// A newer FFmpeg adds this to the type of what may be given several times.
    const ARRAY: u32 = 1 << 16;
    // SAFETY: the field is one number of 32 bits; it is read as such, since a newer FFmpeg has values that
    // are none of the enumeration's.
    let kind = unsafe { (&raw const option.type_).cast::<u32>().read() } & !ARRAY;
    [AV_OPT_TYPE_STRING, AV_OPT_TYPE_BINARY, AV_OPT_TYPE_DICT].iter().any(|&text| text as u32 == kind)
}

/// The text of one of FFmpeg's tables.
fn static_text(text: *const c_char) -> Option<&'static str> {
    // SAFETY: callers hand in a pointer from a static table, which is null or a C string.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().ok()).flatten()
}
