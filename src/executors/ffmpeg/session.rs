//! One open encoder of FFmpeg's: frames in, packets out.

use std::sync::{Mutex, PoisonError};

use ffmpeg::Dictionary;
use ffmpeg::codec::{self, encoder::video};
use ffmpeg_next as ffmpeg;

use super::Ffmpeg;
use super::capabilities::Input;
use super::device::Surfaces;
use super::frames::in_format;
use crate::executors::{EncodeSettings, Failure, FailureKind};
use crate::media::{Colour, Frame};

/// The frame rate that the encoder is given. At constant quality it changes nothing but the level that the
/// encoder signals: at this rate the lowest that the size allows.
const RATE: i32 = 1;

/// SVT-AV1 1.4 has a table of processors that every encoder allocates when it is opened and frees when it is
/// closed, without a lock: two threads that do so at once crash. Other encoders lose nothing by waiting.
static OPENING: Mutex<()> = Mutex::new(());

/// An open encoder. Everything but opening and closing may run in parallel with others.
pub struct Session {
    /// `None` only while it is being dropped.
    encoder: Option<video::Encoder>,
    input: Input,
    surfaces: Option<Surfaces>,
    frames: i64,
}

impl Session {
    /// `options` are the encoder's own.
    pub fn open(
        executor: &Ffmpeg,
        settings: &EncodeSettings,
        options: &[(String, String)],
    ) -> Result<Session, Failure> {
        let (name, format) = (executor.name, settings.format);
        let shown: String = options.iter().map(|(option, value)| format!(" {option} {value}")).collect();
        let refused = |why: &dyn std::fmt::Display, kind: FailureKind| Failure {
            kind,
            message: format!(
                "{name} takes no frames of {}x{}{}{shown} ({why})",
                format.width,
                format.height,
                if shown.is_empty() { "" } else { " with" },
            ),
        };
        let input = executor.capabilities.input(format.bit_depth).ok_or_else(|| {
            refused(&format_args!("it takes none of {} bits", format.bit_depth), FailureKind::Spec)
        })?;
        let failed = |error: ffmpeg::Error| refused(&error, executor.failure_kind(error));
        let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let codec = executor.capabilities.codec;
        let mut video = codec::Context::new_with_codec(codec).encoder().video().map_err(failed)?;
        video.set_width(format.width);
        video.set_height(format.height);
        video.set_time_base((1, RATE));
        video.set_frame_rate(Some((RATE, 1)));
        let surfaces = match (input, &executor.device) {
            (Input::Memory(pixel), _) => {
                video.set_format(pixel);
                None
            }
            (Input::Device { .. }, None) => {
                return Err(refused(&"it has no device to take them from", FailureKind::Machine));
            }
            (Input::Device { surface, samples }, Some(device)) => {
                let size = (format.width, format.height);
                let surfaces = Surfaces::new(device, surface, samples, size).map_err(failed)?;
                video.set_format(surface);
                surfaces.feed(&mut video);
                Some(surfaces)
            }
        };
        let mut all = Dictionary::new();
        for (option, value) in options {
            all.set(option, value);
        }
        for (option, value) in executor.capabilities.options(settings.crf) {
            all.set(option, &value);
        }
        for (option, value) in colour_options(&format.colour) {
            all.set(option, &value.to_string());
        }
        let encoder = video.open_as_with(codec, all).map_err(failed)?;
        Ok(Session { encoder: Some(encoder), input, surfaces, frames: 0 })
    }

    /// Sends the next frame; frames are numbered from 0.
    pub fn send(&mut self, frame: &Frame) -> Result<(), ffmpeg::Error> {
        let mut sent = match (self.input, &self.surfaces) {
            (Input::Device { samples, .. }, Some(surfaces)) => surfaces.upload(&in_format(frame, samples))?,
            (Input::Memory(pixel) | Input::Device { samples: pixel, .. }, _) => in_format(frame, pixel),
        };
        sent.set_pts(Some(self.frames));
        self.frames += 1;
        self.encoder()?.send_frame(&sent)
    }

    /// Ends the stream: there are no more frames.
    pub fn finish(&mut self) -> Result<(), ffmpeg::Error> {
        self.encoder()?.send_eof()
    }

    /// The next packet that is ready, if any.
    pub fn receive(&mut self, packet: &mut ffmpeg::Packet) -> Result<bool, ffmpeg::Error> {
        match self.encoder()?.receive_packet(packet) {
            Ok(()) => Ok(true),
            Err(ffmpeg::Error::Eof) => Ok(false),
            Err(ffmpeg::Error::Other { errno }) if errno == ffmpeg::error::EAGAIN => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn encoder(&mut self) -> Result<&mut video::Encoder, ffmpeg::Error> {
        self.encoder.as_mut().ok_or(ffmpeg::Error::Bug)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        self.encoder = None;
    }
}

/// FFmpeg's options for colour; the numbers are those of ITU-T H.273, but for range and chroma location.
fn colour_options(colour: &Colour) -> [(&'static str, u8); 5] {
    /// `AVCOL_RANGE_MPEG`, `AVCOL_RANGE_JPEG`.
    const RANGES: [u8; 2] = [1, 2];
    /// `AVCHROMA_LOC_UNSPECIFIED`, `AVCHROMA_LOC_LEFT`, `AVCHROMA_LOC_TOPLEFT`.
    const PLACES: [u8; 3] = [0, 1, 3];
    [
        ("color_primaries", colour.primaries),
        ("color_trc", colour.transfer),
        ("colorspace", colour.matrix),
        ("color_range", RANGES[usize::from(colour.full_range)]),
        ("chroma_sample_location", PLACES.get(usize::from(colour.chroma_position)).copied().unwrap_or(0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::capabilities::Capabilities;
    use super::*;
    use crate::spec::catalog::set_by_rivet;

    /// A spec that set one of them would be overruled in silence.
    #[test]
    fn what_is_set_here_a_spec_cannot_set() {
        crate::media::init();
        let colour = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false, chroma_position: 0 };
        let mut set: Vec<&str> = colour_options(&colour).map(|(option, _)| option).into();
        for encoder in ["libaom-av1", "librav1e", "vp9_vaapi", "hevc_nvenc"] {
            let codec = ffmpeg::encoder::find_by_name(encoder).unwrap_or_else(|| panic!("no {encoder}"));
            set.extend(Capabilities::of(codec).options(32).into_iter().map(|(option, _)| option));
        }
        assert!(set.contains(&"crf") && set.contains(&"rc_mode"), "{set:?}");
        for option in set {
            assert!(set_by_rivet(option).is_some(), "a spec can set `{option}`");
        }
    }
}
