//! Any AV1 encoder of the installed FFmpeg, software or hardware, through one executor. What differs between
//! encoders is data, derived from FFmpeg's tables ([`capabilities`]) or, for SVT-AV1, built in. One closed
//! sequence a chunk.

mod capabilities;
mod cpu;
mod device;
mod ffi;
mod find;
mod frames;
mod hardware;
mod session;

use ffmpeg_next as ffmpeg;

use super::collect::Collector;
use super::{EncodeJob, EncodedChunk, EncoderSettings, Executor, Failure, FailureKind};

pub use capabilities::Capabilities;
pub use find::{faults_of, is_hardware, known, named};

/// An encoder that is available here.
pub struct Ffmpeg {
    /// Its name in the spec.
    name: &'static str,
    capabilities: Capabilities,
    /// The device that it takes frames from, where that is not memory.
    device: Option<device::Device>,
    /// Bits of a sample.
    bit_depths: Vec<u8>,
    identity: String,
    place: String,
    slots: usize,
}

impl Ffmpeg {
    /// A software encoder that needs no trial. `slots` never changes the bytes.
    pub fn software(
        name: &'static str,
        capabilities: Capabilities,
        identity: String,
        slots: usize,
    ) -> Ffmpeg {
        let bit_depths = capabilities.bit_depths();
        Ffmpeg { name, capabilities, device: None, bit_depths, identity, place: "CPU".to_owned(), slots }
    }

    /// The settings as the encoder's own options.
    fn own_options(&self, settings: &EncoderSettings) -> Result<Vec<(String, String)>, Failure> {
        match settings {
            EncoderSettings::SvtAv1 { preset } if settings.name() == self.name => {
                Ok(vec![("preset".to_owned(), preset.to_string())])
            }
            EncoderSettings::Ffmpeg { options, .. } if settings.name() == self.name => {
                Ok(options.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
            }
            _ => Err(Failure::not_mine(self.name)),
        }
    }

    /// What it means that an encoder does not open: software rejects its settings, a device may also be busy
    /// or gone, and both may be out of memory.
    fn failure_kind(&self, error: ffmpeg::Error) -> FailureKind {
        use ffmpeg::error::{EINVAL, ENOMEM, ENOSYS};
        match (error, self.is_device()) {
            (ffmpeg::Error::Other { errno: EINVAL | ENOSYS }, _) => FailureKind::Spec,
            (ffmpeg::Error::Other { errno: ENOMEM }, true) => FailureKind::ResourceExhausted,
            (ffmpeg::Error::Other { errno: ENOMEM }, false) | (_, true) => FailureKind::Machine,
            (_, false) => FailureKind::Spec,
        }
    }

    fn run(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let failed = |error: ffmpeg::Error| Failure::machine(format!("{}: {error}", self.name));
        let settings = &job.task.settings;
        let options = self.own_options(&settings.encoder)?;
        let mut session = session::Session::open(self, settings, &options)?;
        let mut chunk = Collector::new(job, self.name, true);
        let mut packet = ffmpeg::Packet::empty();
        // Also between packets: an encoder with a long lookahead does most of its work at the end.
        let go_on = || match (job.cancelled)() {
            true => Err(Failure { kind: FailureKind::Cancelled, message: "interrupted".to_owned() }),
            false => Ok(()),
        };
        let mut take = |session: &mut session::Session| {
            while session.receive(&mut packet).map_err(failed)? {
                go_on()?;
                let number = packet.pts().and_then(|pts| u64::try_from(pts).ok()).unwrap_or(u64::MAX);
                chunk.take(packet.data().unwrap_or_default(), number, packet.is_key())?;
            }
            Ok(())
        };
        for frame in job.frames() {
            go_on()?;
            session.send(&*frame?).map_err(failed)?;
            take(&mut session)?;
        }
        session.finish().map_err(failed)?;
        take(&mut session)?;
        chunk.finish()
    }
}

impl Executor for Ffmpeg {
    fn name(&self) -> &str {
        self.name
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn encoder(&self) -> &'static str {
        self.name
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn is_device(&self) -> bool {
        ffi::is_hardware(self.capabilities.codec)
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn bit_depths(&self) -> Vec<u8> {
        self.bit_depths.clone()
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        self.run(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_from_what_is_short() {
        use ffmpeg::error::{EINVAL, EIO, ENOMEM};
        crate::media::init();
        let kind = |encoder: &str, errno: i32| {
            let codec = ffmpeg::encoder::find_by_name(encoder).unwrap_or_else(|| panic!("no {encoder}"));
            let one = Ffmpeg::software("one", Capabilities::of(codec), String::new(), 1);
            one.failure_kind(ffmpeg::Error::Other { errno })
        };
        let of = |encoder: &str| [EINVAL, ENOMEM, EIO].map(|errno| kind(encoder, errno));
        assert_eq!(of("libaom-av1"), [FailureKind::Spec, FailureKind::Machine, FailureKind::Spec]);
        assert_eq!(
            of("vp9_vaapi"),
            [FailureKind::Spec, FailureKind::ResourceExhausted, FailureKind::Machine]
        );
    }
}
