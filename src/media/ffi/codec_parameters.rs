//! FFmpeg's `AVCodecParameters` to plain data and back.

use std::ffi::{CStr, c_int};

use ffmpeg::{codec, ffi};
use ffmpeg_next as ffmpeg;

use crate::media::CodecParameters;

/// Those of a stream of video.
pub(in crate::media) fn of_stream(stream: &ffmpeg::Stream<'_>) -> CodecParameters {
    let parameters = stream.parameters();
    // SAFETY: `parameters` keeps the format context alive; FFmpeg guarantees that `codecpar` is valid while
    // it is, and that `extradata` has `extradata_size` bytes or is null. avcodec_get_name returns a static
    // string for every number. Enumerations are read as the numbers that they are in C: a newer FFmpeg may
    // have values that are none of the binding's.
    unsafe {
        let par = parameters.as_ptr();
        let extradata: &[u8] = match ((*par).extradata.is_null(), usize::try_from((*par).extradata_size)) {
            (false, Ok(size)) => std::slice::from_raw_parts((*par).extradata, size),
            _ => &[],
        };
        CodecParameters {
            codec: CStr::from_ptr(ffi::avcodec_get_name((*par).codec_id)).to_string_lossy().into_owned(),
            codec_tag: (*par).codec_tag,
            extradata: extradata.to_vec(),
            format: (*par).format,
            width: (*par).width,
            height: (*par).height,
            profile: (*par).profile,
            level: (*par).level,
            bit_rate: (*par).bit_rate,
            bits_per_coded_sample: (*par).bits_per_coded_sample,
            bits_per_raw_sample: (*par).bits_per_raw_sample,
            sample_aspect_ratio: ((*par).sample_aspect_ratio.num, (*par).sample_aspect_ratio.den),
            field_order: (&raw const (*par).field_order).cast::<c_int>().read(),
            color_range: (&raw const (*par).color_range).cast::<c_int>().read(),
            color_primaries: (&raw const (*par).color_primaries).cast::<c_int>().read(),
            color_trc: (&raw const (*par).color_trc).cast::<c_int>().read(),
            color_space: (&raw const (*par).color_space).cast::<c_int>().read(),
            chroma_location: (&raw const (*par).chroma_location).cast::<c_int>().read(),
            video_delay: (*par).video_delay,
        }
    }
}

/// FFmpeg's own; `None` where it knows no such codec or has no memory.
pub(in crate::media) fn to_ffmpeg(plain: &CodecParameters) -> Option<codec::Parameters> {
    let mut parameters = codec::Parameters::new();
    // SAFETY: the parameters are ours and, unless null, set to their defaults. `extradata` gets memory of
    // FFmpeg's, as many bytes as it is told to have and the zeroes behind them that FFmpeg asks for; freeing
    // the parameters frees it. Enumerations are written as the numbers that they are in C, and only FFmpeg
    // reads them.
    unsafe {
        let par = parameters.as_mut_ptr();
        if par.is_null() {
            return None;
        }
        (*par).codec_type = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
        (*par).codec_id = super::codec_named(&plain.codec)?.into();
        (*par).codec_tag = plain.codec_tag;
        if !plain.extradata.is_empty() {
            let size = c_int::try_from(plain.extradata.len()).ok()?;
            let padded = plain.extradata.len() + ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;
            let memory = ffi::av_mallocz(padded).cast::<u8>();
            if memory.is_null() {
                return None;
            }
            memory.copy_from_nonoverlapping(plain.extradata.as_ptr(), plain.extradata.len());
            (*par).extradata = memory;
            (*par).extradata_size = size;
        }
        (*par).format = plain.format;
        (*par).width = plain.width;
        (*par).height = plain.height;
        (*par).profile = plain.profile;
        (*par).level = plain.level;
        (*par).bit_rate = plain.bit_rate;
        (*par).bits_per_coded_sample = plain.bits_per_coded_sample;
        (*par).bits_per_raw_sample = plain.bits_per_raw_sample;
        let (num, den) = plain.sample_aspect_ratio;
        (*par).sample_aspect_ratio = ffi::AVRational { num, den };
        (&raw mut (*par).field_order).cast::<c_int>().write(plain.field_order);
        (&raw mut (*par).color_range).cast::<c_int>().write(plain.color_range);
        (&raw mut (*par).color_primaries).cast::<c_int>().write(plain.color_primaries);
        (&raw mut (*par).color_trc).cast::<c_int>().write(plain.color_trc);
        (&raw mut (*par).color_space).cast::<c_int>().write(plain.color_space);
        (&raw mut (*par).chroma_location).cast::<c_int>().write(plain.chroma_location);
        (*par).video_delay = plain.video_delay;
    }
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// All that FFmpeg copies from the parameters to a decoder's context, extradata included.
    fn of_a_decoder(parameters: codec::Parameters) -> CodecParameters {
        let context = codec::Context::from_parameters(parameters).unwrap();
        let mut again = codec::Parameters::new();
        // SAFETY: context and parameters are live; the function fills the parameters in, extradata as above.
        unsafe {
            assert!(ffi::avcodec_parameters_from_context(again.as_mut_ptr(), context.as_ptr()) >= 0);
            let par = again.as_mut_ptr();
            assert!(!(*par).extradata.is_null());
            let extradata = std::slice::from_raw_parts((*par).extradata, (*par).extradata_size as usize);
            CodecParameters {
                codec: format!("{:?}", again.id()),
                codec_tag: (*par).codec_tag,
                extradata: extradata.to_vec(),
                format: (*par).format,
                width: (*par).width,
                height: (*par).height,
                profile: (*par).profile,
                level: (*par).level,
                bit_rate: (*par).bit_rate,
                bits_per_coded_sample: (*par).bits_per_coded_sample,
                bits_per_raw_sample: (*par).bits_per_raw_sample,
                sample_aspect_ratio: ((*par).sample_aspect_ratio.num, (*par).sample_aspect_ratio.den),
                field_order: (*par).field_order as i32,
                color_range: (*par).color_range as i32,
                color_primaries: (*par).color_primaries as i32,
                color_trc: (*par).color_trc as i32,
                color_space: (*par).color_space as i32,
                chroma_location: (*par).chroma_location as i32,
                video_delay: (*par).video_delay,
            }
        }
    }

    #[test]
    fn a_decoder_gets_the_same_from_plain_data_as_from_the_file() {
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/flower_960x540_2997_aac.mp4");
        let input = super::super::open(Path::new(clip)).unwrap();
        let stream = input.streams().best(ffmpeg::media::Type::Video).unwrap();
        let plain = of_stream(&stream);
        assert_eq!((plain.codec.as_str(), plain.width, plain.height), ("h264", 960, 540));
        let sent: CodecParameters = postcard::from_bytes(&postcard::to_stdvec(&plain).unwrap()).unwrap();
        let rebuilt = of_a_decoder(to_ffmpeg(&sent).unwrap());
        assert_eq!(rebuilt, of_a_decoder(stream.parameters()));
        assert!(to_ffmpeg(&CodecParameters { codec: "no such codec".to_owned(), ..plain }).is_none());
    }
}
