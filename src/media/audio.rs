//! Audio as 48 kHz PCM, in integer arithmetic throughout (fixed-point decoders where FFmpeg has
//! them, resampling and mixing in 32 bits), so that the samples do not depend on the CPU.
//!
//! Where the audio starts against the video is handled in two parts. Whole 20 ms are padded or
//! cut here; the rest, at most 10 ms either way, is returned for the packager to express. PCM
//! thus stays the same when a container rounds its time stamps differently.

use std::path::Path;

use ffmpeg::format::sample::{Sample, Type};
use ffmpeg::software::resampling;
use ffmpeg::{ChannelLayout, Dictionary, Packet, frame};
use ffmpeg_next as ffmpeg;

use super::opus::{OPUS_FRAME, OPUS_RATE};
use super::scan::{AudioHasher, digest};
use super::{AudioTrack, MediaError, Rational, audio_decoder, ffi};

/// Audio that is this far from where it should be is moved, in 48 kHz samples (10 ms).
const SLACK: i64 = OPUS_FRAME as i64 / 2;
/// A hole in the audio longer than this is a broken time stamp (one hour).
const MAX_HOLE: i64 = OPUS_RATE as i64 * 3600;

/// One packet in this many may be lost, besides a single one.
const MAX_LOST: u64 = 50;
/// Audio that ends this much before its last packet does has broken off (half a second).
const TAIL: i64 = OPUS_RATE as i64 / 2;

/// Takes interleaved 32-bit samples at 48 kHz.
pub type AudioSink<'a> = dyn FnMut(&[i32]) -> Result<(), MediaError> + 'a;

/// Decodes a track to `channels` (1 or 2) and hands the samples to `sink`. `origin` is the start
/// of the video in units of its time base. Returns by how many samples the audio starts after
/// the video, between -480 and 480.
pub fn decode_audio(
    path: &Path,
    track: &AudioTrack,
    channels: u8,
    origin: (i64, Rational),
    cancelled: &dyn Fn() -> bool,
    sink: &mut AudioSink<'_>,
) -> Result<i64, MediaError> {
    let mut input = ffi::open(path)?;
    let changed = || MediaError::Changed { path: path.to_owned() };
    let stream = input.stream(track.stream).ok_or_else(changed)?;
    let base = stream.time_base();
    let base = ffi::positive(base.numerator(), base.denominator()).ok_or_else(changed)?;
    let parameters = ffi::parameters(&stream);
    let mut decoder = audio_decoder::open(path, &stream)?;
    decoder.set_packet_time_base(stream.time_base());
    ffi::keep_streams(&mut input, &[track.stream]);

    let mut hasher = AudioHasher::new(&input.stream(track.stream).ok_or_else(changed)?, &parameters);
    let mut placer = Placer {
        path,
        origin: to_samples(origin.0, origin.1),
        offset: None,
        position: 0,
        skip: 0,
        channels,
        sink,
    };
    let mut converter: Option<Converter> = None;
    let mut frame = frame::Audio::empty();
    let mut lost = 0;
    let mut end = i64::MIN;
    let mut ended = false;
    while !ended {
        if cancelled() {
            return Err(MediaError::Cancelled);
        }
        let mut packet = Packet::empty();
        let sent = match packet.read(&mut input) {
            Ok(()) if packet.stream() != track.stream => continue,
            Ok(()) => {
                hasher.add(packet.pts(), &digest(&packet));
                if let Some(stamp) = packet.pts() {
                    end = end.max(to_samples(stamp.saturating_add(packet.duration()), base));
                }
                decoder.send_packet(&packet)
            }
            Err(ffmpeg::Error::Eof) => {
                ended = true;
                decoder.send_eof()
            }
            Err(error) => return Err(MediaError::library("reading the audio", error)),
        };
        // A packet of noise is bridged, as players do: the frames around it keep their places.
        lost += u64::from(sent.is_err());
        loop {
            match decoder.receive_frame(&mut frame) {
                Ok(()) => {}
                Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN } | ffmpeg::Error::Eof) => {
                    break;
                }
                Err(_) => {
                    lost += 1;
                    break;
                }
            }
            if frame.samples() == 0 || frame.rate() == 0 {
                continue;
            }
            let stamp = frame.pts().map(|stamp| to_samples(stamp, base));
            let length = frame.samples() as i64 * i64::from(OPUS_RATE) / i64::from(frame.rate());
            if !placer.takes(stamp, length) {
                continue;
            }
            if frame.channel_layout().is_empty()
                || frame.channel_layout().channels() != i32::from(frame.channels())
            {
                frame.set_channel_layout(ChannelLayout::default(i32::from(frame.channels())));
            }
            if !converter.as_ref().is_some_and(|converter| converter.fits(&frame)) {
                if let Some(mut old) = converter.take() {
                    old.drain(&mut placer)?;
                }
                converter = Some(Converter::new(&frame, channels)?);
            }
            let Some(converter) = converter.as_mut() else { continue };
            placer.place(stamp, converter)?;
            converter.convert(&frame, &mut placer)?;
        }
    }
    if let Some(mut converter) = converter {
        converter.drain(&mut placer)?;
    }
    if hasher.finish() != track.packets_digest {
        return Err(changed());
    }
    let damaged = |detail: String| MediaError::Damaged { path: path.to_owned(), detail };
    let named = format!("its audio (stream {}, {})", track.stream, track.codec);
    if lost > 1 && lost * MAX_LOST > track.packets {
        return Err(damaged(format!("{lost} of {} packets of {named} could not be decoded", track.packets)));
    }
    let offset = placer.offset.ok_or_else(|| damaged(format!("{named} could not be decoded")))?;
    if end - placer.origin - placer.position > TAIL {
        return Err(damaged(format!("{named} breaks off before its end")));
    }
    Ok(offset)
}

/// A time stamp in 48 kHz samples, rounded to the nearest.
fn to_samples(stamp: i64, base: Rational) -> i64 {
    let scaled = i128::from(stamp) * i128::from(base.num) * i128::from(OPUS_RATE);
    let den = i128::from(base.den);
    i64::try_from((2 * scaled + den).div_euclid(2 * den)).unwrap_or(0)
}

/// Places converted samples by their time stamps.
struct Placer<'a, 's> {
    path: &'a Path,
    origin: i64,
    /// What remains of the distance to the video, known once audio has started.
    offset: Option<i64>,
    /// Samples that have come so far, and where the audio started, against `origin`.
    position: i64,
    skip: i64,
    channels: u8,
    sink: &'a mut AudioSink<'s>,
}

impl Placer<'_, '_> {
    /// Whether a frame is wanted: not when it ends before the video starts.
    fn takes(&self, stamp: Option<i64>, length: i64) -> bool {
        let tolerance = i64::from(OPUS_RATE) / 1000;
        self.offset.is_some() || stamp.is_none_or(|stamp| stamp - self.origin + length > tolerance)
    }

    fn place(&mut self, stamp: Option<i64>, converter: &mut Converter) -> Result<(), MediaError> {
        let Some(at) = stamp.map(|stamp| stamp - self.origin) else {
            self.offset.get_or_insert(0);
            return Ok(());
        };
        if self.offset.is_none() {
            let frames = (at + SLACK).div_euclid(OPUS_FRAME as i64);
            let whole = frames * OPUS_FRAME as i64;
            self.offset = Some(at - whole);
            self.position = at;
            return self.shift(whole);
        }
        let hole = at - (self.position + converter.pending());
        if hole.abs() > SLACK {
            converter.drain(self)?;
            let hole = at - self.position;
            self.position = at;
            self.shift(hole)?;
        }
        Ok(())
    }

    /// Adds silence, or notes how much of what comes next is dropped.
    fn shift(&mut self, samples: i64) -> Result<(), MediaError> {
        if samples.abs() > MAX_HOLE {
            return Err(MediaError::Damaged {
                path: self.path.to_owned(),
                detail: "the time stamps of its audio jump by more than an hour".to_owned(),
            });
        }
        if samples < 0 {
            self.skip += -samples;
            return Ok(());
        }
        let silence = vec![0; OPUS_RATE as usize * usize::from(self.channels)];
        let mut left = samples as usize * usize::from(self.channels);
        while left > 0 {
            let some = left.min(silence.len());
            (self.sink)(&silence[..some])?;
            left -= some;
        }
        Ok(())
    }

    fn push(&mut self, samples: &[i32]) -> Result<(), MediaError> {
        let channels = usize::from(self.channels);
        let count = (samples.len() / channels) as i64;
        self.position += count;
        let skip = self.skip.min(count);
        self.skip -= skip;
        (self.sink)(&samples[skip as usize * channels..])
    }
}

/// The library and the way it is used, for a key.
pub(super) fn resampler_identity() -> String {
    format!("{} s32p", ffi::resampler_library())
}

fn resampler(
    format: Sample,
    layout: ChannelLayout,
    rate: u32,
    channels: u8,
) -> Result<resampling::Context, MediaError> {
    let mut options = Dictionary::new();
    // 32-bit integers inside: floating point would differ between CPUs.
    options.set("internal_sample_fmt", "s32p");
    let to = (Sample::I32(Type::Packed), ChannelLayout::default(i32::from(channels)));
    resampling::Context::get_with(format, layout, rate, to.0, to.1, OPUS_RATE, options)
        .map_err(|error| MediaError::library("setting up the resampler", error))
}

/// Resamples and mixes one kind of input.
struct Converter {
    context: resampling::Context,
    channels: u8,
    /// 48 kHz samples that went in, in units of 1/rate, and samples that came out.
    fed: i64,
    made: i64,
    rate: u32,
}

impl Converter {
    fn new(frame: &frame::Audio, channels: u8) -> Result<Converter, MediaError> {
        let context = resampler(frame.format(), frame.channel_layout(), frame.rate(), channels)?;
        Ok(Converter { context, channels, fed: 0, made: 0, rate: frame.rate() })
    }

    fn fits(&self, frame: &frame::Audio) -> bool {
        let input = self.context.input();
        input.format == frame.format()
            && input.channel_layout == frame.channel_layout()
            && input.rate == frame.rate()
    }

    /// Samples that went in and have not come out yet.
    fn pending(&self) -> i64 {
        self.fed * i64::from(OPUS_RATE) / i64::from(self.rate) - self.made
    }

    fn convert(&mut self, frame: &frame::Audio, placer: &mut Placer<'_, '_>) -> Result<(), MediaError> {
        self.fed += frame.samples() as i64;
        let mut output = self.output(frame.samples());
        self.context.run(frame, &mut output).map_err(|error| MediaError::library("resampling", error))?;
        self.hand_over(&output, placer)
    }

    fn drain(&mut self, placer: &mut Placer<'_, '_>) -> Result<(), MediaError> {
        loop {
            let mut output = self.output(0);
            self.context.flush(&mut output).map_err(|error| MediaError::library("resampling", error))?;
            if output.samples() == 0 {
                break;
            }
            self.hand_over(&output, placer)?;
        }
        // FFmpeg's resampler keeps its tail after a flush and would play it again.
        let ffmpeg::software::resampling::context::Definition { format, channel_layout, rate } =
            *self.context.input();
        self.context = resampler(format, channel_layout, rate, self.channels)?;
        self.fed = 0;
        self.made = 0;
        Ok(())
    }

    /// An output frame with room for `samples` of input and all that is held back.
    fn output(&self, samples: usize) -> frame::Audio {
        let room = samples as u64 * u64::from(OPUS_RATE) / u64::from(self.rate) + 8192;
        frame::Audio::new(
            Sample::I32(Type::Packed),
            room as usize,
            ChannelLayout::default(i32::from(self.channels)),
        )
    }

    fn hand_over(&mut self, output: &frame::Audio, placer: &mut Placer<'_, '_>) -> Result<(), MediaError> {
        let count = output.samples() * usize::from(self.channels);
        self.made += output.samples() as i64;
        let samples: Vec<i32> = output
            .data(0)
            .chunks_exact(4)
            .take(count)
            .map(|bytes| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        placer.push(&samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_round_to_the_nearest_sample() {
        let millis = Rational { num: 1, den: 1000 };
        assert_eq!(to_samples(1, millis), 48);
        assert_eq!(to_samples(-21, millis), -1008);
        assert_eq!(to_samples(1, Rational { num: 1, den: 44_100 }), 1);
        assert_eq!(to_samples(-1, Rational { num: 1, den: 96_000 }), 0);
    }
}
