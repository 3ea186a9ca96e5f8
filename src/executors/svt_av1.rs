//! SVT-AV1, through FFmpeg's `libsvtav1`: an order of magnitude faster than rav1e. It is there where
//! the installed FFmpeg has it. One closed sequence a chunk; neither threads nor the CPU change its
//! bytes.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg::{Dictionary, Packet, codec};
use ffmpeg_next as ffmpeg;

use super::collect::Collector;
use super::{Blame, EncodeJob, EncodeSettings, EncodedChunk, EncoderSettings, Executor, Failure, Report};
use crate::media::{self, Colour, PictureFormat, Scaler};

const NAME: &str = "svt-av1";
/// FFmpeg's name for it.
const CODEC: &str = "libsvtav1";
/// Frames a second, as the encoder is told. It sees no times: at constant quality they change
/// nothing but the level that it names, and for this one it names the lowest that the size allows.
const RATE: i32 = 1;

pub struct SvtAv1 {
    identity: String,
    slots: usize,
}

impl SvtAv1 {
    /// `None` where the installed FFmpeg has no SVT-AV1. `slots` never changes the bytes.
    pub fn find(slots: usize) -> Option<SvtAv1> {
        media::init();
        codec::encoder::find_by_name(CODEC)?;
        // Its own version where it tells it; the wrapper's version counts, too.
        let version = super::ffi::svt_av1_version().unwrap_or_else(|| "of unknown version".to_owned());
        Some(SvtAv1 { identity: format!("SVT-AV1 {version}, {}", media::decoder_library()), slots })
    }
}

impl Executor for SvtAv1 {
    fn name(&self) -> &str {
        NAME
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn encoder(&self) -> &'static str {
        NAME
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Report {
        let start = Instant::now();
        Report { outcome: run(job), wall: start.elapsed(), executor: NAME.to_owned() }
    }
}

fn run(job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
    let picture = &job.settings.picture;
    let mut encoder = Encoder::open(job.settings)?;
    let encoder = encoder.video()?;
    let mut scaler = Scaler::new(*picture);
    let mut chunk = Collector::new(job, NAME, true);
    let failed = |error: ffmpeg::Error| Failure::machine(format!("{NAME}: {error}"));
    for (number, frame) in job.pictures.open().enumerate() {
        if (job.cancelled)() {
            return Err(Failure { blame: Blame::Cancelled, message: "interrupted".to_owned() });
        }
        let frame = frame?;
        let scaled = scaler.picture(&frame).map_err(|error| Failure::machine(error.to_string()))?;
        let mut frame = as_frame(&scaled.planes, picture);
        frame.set_pts(i64::try_from(number).ok());
        encoder.send_frame(&frame).map_err(failed)?;
        take_packets(encoder, &mut chunk)?;
    }
    encoder.send_eof().map_err(failed)?;
    take_packets(encoder, &mut chunk)?;
    chunk.finish()
}

/// SVT-AV1 1.4 keeps a table of processors that every encoder makes when it is opened and takes away
/// when it is closed, without a lock: two at once make it crash.
static OPENING: Mutex<()> = Mutex::new(());

/// An open encoder. All of it but opening and closing may go on beside others.
struct Encoder(Option<codec::encoder::Video>);

impl Encoder {
    fn open(settings: &EncodeSettings) -> Result<Encoder, Failure> {
        let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        open(settings).map(|encoder| Encoder(Some(encoder)))
    }

    fn video(&mut self) -> Result<&mut codec::encoder::Video, Failure> {
        self.0.as_mut().ok_or_else(|| Failure::machine("internal error: the encoder is closed"))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        self.0 = None;
    }
}

/// Takes what the encoder has ready.
fn take_packets(encoder: &mut codec::encoder::Video, chunk: &mut Collector<'_>) -> Result<(), Failure> {
    let mut packet = Packet::empty();
    loop {
        match encoder.receive_packet(&mut packet) {
            Ok(()) => {
                let number = packet.pts().and_then(|pts| u64::try_from(pts).ok()).unwrap_or(u64::MAX);
                chunk.take(packet.data().unwrap_or_default(), number, packet.is_key())?;
            }
            Err(ffmpeg::Error::Eof) => return Ok(()),
            Err(ffmpeg::Error::Other { errno }) if errno == ffmpeg::error::EAGAIN => return Ok(()),
            Err(error) => return Err(Failure::machine(format!("{NAME}: {error}"))),
        }
    }
}

fn pixel(picture: &PictureFormat) -> Pixel {
    if picture.bit_depth > 8 { Pixel::YUV420P10LE } else { Pixel::YUV420P }
}

fn open(settings: &EncodeSettings) -> Result<codec::encoder::Video, Failure> {
    let EncoderSettings::SvtAv1 { preset } = settings.encoder else {
        return Err(Failure::not_mine(NAME));
    };
    let codec = codec::encoder::find_by_name(CODEC)
        .ok_or_else(|| Failure::machine(format!("this FFmpeg has no {CODEC}")))?;
    let picture = &settings.picture;
    let refused = |error: ffmpeg::Error| Failure {
        blame: Blame::Spec,
        message: format!(
            "{NAME} takes no pictures of {}x{} with preset {preset} ({error})",
            picture.width, picture.height
        ),
    };
    let mut video = codec::Context::new_with_codec(codec).encoder().video().map_err(refused)?;
    video.set_width(picture.width);
    video.set_height(picture.height);
    video.set_format(pixel(picture));
    video.set_time_base((1, RATE));
    video.set_frame_rate(Some((RATE, 1)));
    let mut options = Dictionary::new();
    options.set("preset", &preset.to_string());
    options.set("crf", &settings.crf.to_string());
    // No key frame but the first, no search for scenes, and one thread: chunks run side by side.
    options.set("svtav1-params", "keyint=-1:scd=0:lp=1");
    for (name, value) in colour_options(&picture.colour) {
        options.set(name, &value.to_string());
    }
    video.open_as_with(codec, options).map_err(refused)
}

/// What FFmpeg calls these; its numbers are those of ITU-T H.273 but for the last.
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

/// The planes as a frame of FFmpeg's.
fn as_frame(planes: &[Vec<u8>; 3], picture: &PictureFormat) -> Video {
    let mut frame = Video::new(pixel(picture), picture.width, picture.height);
    for (number, samples) in planes.iter().enumerate() {
        let row_bytes = picture.plane_size(number).0 * picture.bytes_per_sample();
        let stride = frame.stride(number);
        let rows = frame.data_mut(number).chunks_mut(stride.max(1));
        for (row, samples) in rows.zip(samples.chunks(row_bytes.max(1))) {
            row[..samples.len()].copy_from_slice(samples);
        }
    }
    frame
}
