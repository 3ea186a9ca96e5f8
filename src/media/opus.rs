//! Sound to Opus packets, by libopus. Built without run-time CPU detection, so that it makes the
//! same bytes on every x86-64 machine.

use opus::{Application, Bitrate, Channels, Encoder};
use serde::{Deserialize, Serialize};

use super::MediaError;

/// Opus runs at 48 kHz; time stamps and durations of its packets are in these samples.
pub const OPUS_RATE: u32 = 48_000;
/// Samples of a packet: 20 ms.
pub const OPUS_FRAME: usize = 960;
/// The largest packet of one 20 ms frame (RFC 6716, 3.4: 1275 bytes and a two-byte header).
const LARGEST_PACKET: usize = 1277;

/// The encoding library and its version, for a key.
pub fn opus_library() -> &'static str {
    opus::version()
}

/// A whole track as packets of 960 samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpusTrack {
    /// Samples that a decoder drops at the start (RFC 7845, 4.2).
    pub pre_skip: u16,
    /// Samples of sound after those; the packets hold a little more.
    pub samples: u64,
    pub packets: Vec<Vec<u8>>,
}

pub struct OpusEncoder {
    encoder: Encoder,
    channels: usize,
    pre_skip: u16,
    samples: u64,
    pending: Vec<f32>,
    packets: Vec<Vec<u8>>,
}

fn failed(error: opus::Error) -> MediaError {
    MediaError::Library { operation: "encoding Opus", reason: error.to_string() }
}

impl OpusEncoder {
    /// `bitrate` in bits a second.
    pub fn new(channels: u8, bitrate: u32) -> Result<OpusEncoder, MediaError> {
        let layout = if channels == 1 { Channels::Mono } else { Channels::Stereo };
        let mut encoder = Encoder::new(OPUS_RATE, layout, Application::Audio).map_err(failed)?;
        encoder.set_bitrate(Bitrate::Bits(i32::try_from(bitrate).unwrap_or(i32::MAX))).map_err(failed)?;
        encoder.set_vbr(true).map_err(failed)?;
        encoder.set_complexity(10).map_err(failed)?;
        let pre_skip = u16::try_from(encoder.get_lookahead().map_err(failed)?).unwrap_or(0);
        let channels = if channels == 1 { 1 } else { 2 };
        Ok(OpusEncoder { encoder, channels, pre_skip, samples: 0, pending: Vec::new(), packets: Vec::new() })
    }

    /// Takes interleaved 32-bit samples.
    pub fn push(&mut self, samples: &[i32]) -> Result<(), MediaError> {
        self.samples += (samples.len() / self.channels) as u64;
        self.pending.extend(samples.iter().map(|&sample| sample as f32 / 2_147_483_648.0));
        let frame = OPUS_FRAME * self.channels;
        let whole = self.pending.len() / frame * frame;
        for samples in self.pending[..whole].chunks_exact(frame) {
            self.packets.push(self.encoder.encode_vec_float(samples, LARGEST_PACKET).map_err(failed)?);
        }
        self.pending.drain(..whole);
        Ok(())
    }

    /// Encodes what is left, filled up with silence until the last sample is out.
    pub fn finish(mut self) -> Result<OpusTrack, MediaError> {
        let samples = self.samples;
        let wanted = (samples + u64::from(self.pre_skip)).div_ceil(OPUS_FRAME as u64);
        let missing = wanted as usize * OPUS_FRAME - samples as usize;
        self.push(&vec![0; missing * self.channels])?;
        Ok(OpusTrack { pre_skip: self.pre_skip, samples, packets: self.packets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_hold_the_sound_and_the_pre_skip() {
        for samples in [1usize, 647, 648, 649, 960, 48_000] {
            let mut encoder = OpusEncoder::new(2, 96_000).unwrap();
            let tone: Vec<i32> = (0..samples * 2).map(|i| ((i / 2 % 109) as i32 - 54) << 24).collect();
            for part in tone.chunks(1402) {
                encoder.push(part).unwrap();
            }
            let track = encoder.finish().unwrap();
            assert_eq!((track.pre_skip, track.samples), (312, samples as u64));
            assert_eq!(track.packets.len(), (samples + 312).div_ceil(960));
        }
    }
}
