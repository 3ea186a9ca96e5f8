//! Which decoder a track's audio goes through. Where FFmpeg has one that calculates in integers, its samples
//! are the same on every CPU. In floating point they are not: each instruction set has code of its own,
//! which rounds otherwise, and so has the way from there to integers.

use std::path::Path;

use ffmpeg::codec::{self, Id};
use ffmpeg_next as ffmpeg;

use super::{MediaError, ffi};

/// The decoder of a codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioDecoder {
    name: String,
    /// Whether its samples do not depend on the CPU.
    pub is_exact: bool,
}

impl AudioDecoder {
    /// The decoder of the codec of this name. For a codec without a decoder the result has no meaning.
    pub fn of(codec: &str) -> AudioDecoder {
        match ffi::codec_named(codec).and_then(find) {
            Some((decoder, is_exact)) => AudioDecoder { name: decoder.name().to_owned(), is_exact },
            None => AudioDecoder { name: codec.to_owned(), is_exact: false },
        }
    }

    /// With all that its samples depend on: the library, and the CPU where they do.
    pub fn identity(&self, library: &str, cpu: &str) -> String {
        let AudioDecoder { name, is_exact } = self;
        if *is_exact { format!("{library} {name}") } else { format!("{library} {name} on {cpu}") }
    }

    /// As it is in this process.
    pub fn identity_here(&self) -> String {
        self.identity(&ffi::decoder_library(), &super::cpu())
    }
}

/// A codec's decoder, and whether it is exact.
fn find(id: Id) -> Option<(ffmpeg::Codec, bool)> {
    let fixed = match id {
        Id::AAC => Some("aac_fixed"),
        Id::AC3 => Some("ac3_fixed"),
        Id::MP3 => Some("mp3"),
        Id::MP2 => Some("mp2"),
        _ => None,
    };
    if let Some(decoder) = fixed.and_then(codec::decoder::find_by_name) {
        return Some((decoder, true));
    }
    Some((codec::decoder::find(id)?, is_of_integers(id)))
}

/// Whether a codec gives back the very integers that went into it. Of one that is not known to, the CPU is in
/// the key for nothing.
fn is_of_integers(id: Id) -> bool {
    match id {
        Id::FLAC | Id::ALAC | Id::TRUEHD | Id::MLP | Id::TTA => true,
        _ => id.name().starts_with("pcm_") && !id.name().starts_with("pcm_f"),
    }
}

/// The decoder of a track, opened.
pub(super) fn open(path: &Path, stream: &ffmpeg::Stream<'_>) -> Result<codec::decoder::Audio, MediaError> {
    let context = codec::Context::from_parameters(stream.parameters())
        .map_err(|error| MediaError::library("setting up an audio decoder", error))?;
    let id = context.id();
    let (decoder, _) =
        find(id).ok_or_else(|| MediaError::NoDecoder { path: path.to_owned(), codec: format!("{id:?}") })?;
    let opened = context.decoder().open_as(decoder).and_then(|opened| opened.audio());
    opened.map_err(|error| MediaError::library("opening an audio decoder", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_in_floating_point_depends_on_the_cpu() {
        ffi::init();
        let exact = ["aac", "ac3", "mp2", "mp3", "flac", "alac", "truehd", "pcm_s16le", "pcm_s24be"];
        let others = ["eac3", "opus", "vorbis", "dts", "wavpack", "pcm_f32le", "no such codec"];
        for (codec, is_exact) in
            exact.map(|name| (name, true)).into_iter().chain(others.map(|name| (name, false)))
        {
            let decoder = AudioDecoder::of(codec);
            assert_eq!(decoder.is_exact, is_exact, "{codec}");
            let [one, other] = ["one", "other"].map(|cpu| decoder.identity("libavcodec 1", cpu));
            assert_eq!(one == other, is_exact, "{codec}");
            assert_ne!(one, decoder.identity("libavcodec 2", "one"));
        }
        assert_eq!(AudioDecoder::of("aac").identity("libavcodec 1", "a CPU"), "libavcodec 1 aac_fixed");
        assert_eq!(AudioDecoder::of("eac3").identity("libavcodec 1", "a CPU"), "libavcodec 1 eac3 on a CPU");
    }
}
