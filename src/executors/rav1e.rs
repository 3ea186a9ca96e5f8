//! rav1e, embedded: the encoder that is always there. One closed sequence a chunk; neither
//! threads nor the CPU change its bytes.

use rav1e::color::{
    ChromaSamplePosition, ColorDescription, ColorPrimaries, MatrixCoefficients, PixelRange,
    TransferCharacteristics,
};
use rav1e::config::{Config, EncoderConfig};
use rav1e::prelude::{EncoderStatus, FrameType, Pixel, Plane};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::collect::Collector;
use super::quality::base_q_idx;
use super::{
    EncodeJob, EncodeSettings, EncodeTask, EncodedChunk, EncoderSettings, Executor, Failure, FailureKind,
    RAV1E,
};
use crate::media::{Colour, Frame};

pub struct Rav1e {
    slots: usize,
}

impl Rav1e {
    /// One that does so many jobs at a time.
    pub fn new(slots: usize) -> Rav1e {
        Rav1e { slots: slots.max(1) }
    }
}

impl Executor for Rav1e {
    fn name(&self) -> &str {
        RAV1E
    }

    /// Of the library that is linked, so that another version makes other keys.
    fn identity(&self) -> String {
        format!("rav1e {}", rav1e::version::short())
    }

    fn encoder(&self) -> &'static str {
        RAV1E
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let EncodeTask { settings, contract } = job.task;
        configure(settings, contract.level_idx()).and_then(|config| {
            let pool = threads(job.threads.min(config.tiles))?;
            let config = Config::new().with_encoder_config(config);
            if settings.format.bit_depth > 8 {
                run::<u16>(job, &config, &pool)
            } else {
                run::<u8>(job, &config, &pool)
            }
        })
    }
}

/// The threads of one job. Those beyond its tiles would only look for work and find none, which takes
/// time from other jobs.
fn threads(count: usize) -> Result<ThreadPool, Failure> {
    ThreadPoolBuilder::new()
        .num_threads(count.max(1))
        .thread_name(|n| format!("rav1e-{n}"))
        .build()
        .map_err(|error| Failure::machine(format!("cannot start rav1e's threads: {error}")))
}

fn configure(settings: &EncodeSettings, level_idx: u8) -> Result<EncoderConfig, Failure> {
    let EncoderSettings::Rav1e { speed, tiles } = settings.encoder else {
        return Err(Failure::not_mine(RAV1E));
    };
    let mut config = EncoderConfig::with_speed_preset(speed);
    let format = &settings.format;
    config.width = format.width as usize;
    config.height = format.height as usize;
    config.bit_depth = usize::from(format.bit_depth);
    config.level_idx = Some(level_idx);
    config.tiles = tiles as usize;
    config.quantizer = usize::from(base_q_idx(settings.crf));
    // One closed sequence: no key frame but the first.
    config.set_key_frame_interval(0, 0);
    config.speed_settings.scene_detection_mode = rav1e::prelude::SceneDetectionSpeed::None;
    config.pixel_range = if format.colour.full_range { PixelRange::Full } else { PixelRange::Limited };
    config.chroma_sample_position = match format.colour.chroma_position {
        1 => ChromaSamplePosition::Vertical,
        2 => ChromaSamplePosition::Colocated,
        _ => ChromaSamplePosition::Unknown,
    };
    config.color_description = colour_description(&format.colour)?;
    Ok(config)
}

fn colour_description(colour: &Colour) -> Result<Option<ColorDescription>, Failure> {
    use ColorPrimaries as P;
    use MatrixCoefficients as M;
    use TransferCharacteristics as T;
    let unspecified = Colour::UNSPECIFIED;
    if (colour.primaries, colour.transfer, colour.matrix) == (unspecified, unspecified, unspecified) {
        return Ok(None);
    }
    let primaries = [
        P::BT709,
        P::Unspecified,
        P::BT470M,
        P::BT470BG,
        P::BT601,
        P::SMPTE240,
        P::GenericFilm,
        P::BT2020,
        P::XYZ,
        P::SMPTE431,
        P::SMPTE432,
        P::EBU3213,
    ];
    let transfers = [
        T::BT709,
        T::Unspecified,
        T::BT470M,
        T::BT470BG,
        T::BT601,
        T::SMPTE240,
        T::Linear,
        T::Log100,
        T::Log100Sqrt10,
        T::IEC61966,
        T::BT1361,
        T::SRGB,
        T::BT2020_10Bit,
        T::BT2020_12Bit,
        T::SMPTE2084,
        T::SMPTE428,
        T::HLG,
    ];
    let matrices = [
        M::BT709,
        M::Unspecified,
        M::FCC,
        M::BT470BG,
        M::BT601,
        M::SMPTE240,
        M::YCgCo,
        M::BT2020NCL,
        M::BT2020CL,
        M::SMPTE2085,
        M::ChromatNCL,
        M::ChromatCL,
        M::ICtCp,
    ];
    let unknown = |what: &str, code: u8| Failure {
        kind: FailureKind::Source,
        message: format!("AV1 has no {what} with the code {code} (ITU-T H.273)"),
    };
    Ok(Some(ColorDescription {
        color_primaries: primaries
            .into_iter()
            .find(|&value| value as u8 == colour.primaries)
            .ok_or_else(|| unknown("colour primaries", colour.primaries))?,
        transfer_characteristics: transfers
            .into_iter()
            .find(|&value| value as u8 == colour.transfer)
            .ok_or_else(|| unknown("transfer characteristics", colour.transfer))?,
        matrix_coefficients: matrices
            .into_iter()
            .find(|&value| value as u8 == colour.matrix)
            .ok_or_else(|| unknown("matrix coefficients", colour.matrix))?,
    }))
}

fn run<T: Pixel>(job: &EncodeJob<'_>, config: &Config, pool: &ThreadPool) -> Result<EncodedChunk, Failure> {
    let mut context = config.new_context::<T>().map_err(|error| Failure {
        kind: FailureKind::Spec,
        message: format!("rav1e does not take these settings: {error}"),
    })?;
    let mut frames = job.frames();
    let mut chunk = Collector::new(job, RAV1E, false);
    loop {
        if (job.cancelled)() {
            return Err(Failure { kind: FailureKind::Cancelled, message: "interrupted".to_owned() });
        }
        match pool.install(|| context.receive_packet()) {
            Ok(packet) => {
                chunk.take(&packet.data, packet.input_frameno, packet.frame_type == FrameType::KEY)?;
            }
            Err(EncoderStatus::NeedMoreData) => match frames.next().transpose()? {
                None => context.flush(),
                Some(frame) => {
                    let mut input = context.new_frame();
                    for (number, plane) in input.planes.iter_mut().enumerate() {
                        copy(&frame, number, plane);
                    }
                    pool.install(|| context.send_frame(input))
                        .map_err(|status| Failure::machine(format!("rav1e: {status}")))?;
                }
            },
            Err(EncoderStatus::Encoded) => {}
            Err(EncoderStatus::LimitReached) => break,
            Err(status) => return Err(Failure::machine(format!("rav1e: {status}"))),
        }
    }
    chunk.finish()
}

/// Copies a plane's samples: bytes, or 16 bits with the low ones first.
fn copy<T: Pixel>(frame: &Frame, number: usize, plane: &mut Plane<T>) {
    let stride = plane.cfg.stride.max(1);
    for (to, from) in plane.data_origin_mut().chunks_mut(stride).zip(frame.rows(number)) {
        if size_of::<T>() == 1 {
            to.iter_mut().zip(from).for_each(|(to, &sample)| *to = T::cast_from(sample));
        } else {
            let samples = from.as_chunks().0.iter().map(|&sample| u16::from_le_bytes(sample));
            to.iter_mut().zip(samples).for_each(|(to, sample)| *to = T::cast_from(sample));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All builds of one version of rivet have the same encoder, also those that pass over `Cargo.lock`.
    #[test]
    fn the_manifest_allows_the_locked_version_alone() {
        let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
        let allowed = manifest["dependencies"]["rav1e"]["version"].as_str().unwrap();
        let lock: toml::Table = include_str!("../../Cargo.lock").parse().unwrap();
        let packages = lock["package"].as_array().unwrap().iter();
        let locked = packages.filter(|package| package["name"].as_str() == Some("rav1e"));
        let locked: Vec<&str> = locked.map(|package| package["version"].as_str().unwrap()).collect();
        assert_eq!(locked.iter().map(|version| format!("={version}")).collect::<Vec<_>>(), [allowed]);
        assert_eq!(Rav1e::new(1).identity(), format!("rav1e {}", locked[0]));
    }
}
