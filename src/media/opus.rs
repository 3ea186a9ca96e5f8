//! Audio to Opus packets, by libopus, in windows that are encoded one by one: a change of one
//! second of audio costs the windows around it, not the track. Built without run-time CPU
//! detection, so that it makes the same bytes on every x86-64 machine.
//!
//! The packets of consecutive windows are one Opus track. A decoder plays it straight through and
//! carries its state over the seams, while each window comes from an encoder of its own that has
//! never seen the window before. Three things make the two agree at a seam:
//! - the encoder is first fed [`OPUS_LEAD`] blocks of the audio before its window, of which no
//!   packet is kept. Its filters settle, above all the one against DC, which forgets in 53 ms;
//! - the packets on both sides of a seam do without prediction. The energy of each band is then
//!   coded by itself instead of against the packet before (RFC 6716 4.3.2.1), and there is no pitch
//!   post-filter to fade from or to, whose parameters would differ (4.3.7.1). They get more bits
//!   in return;
//! - which of Opus' modes (RFC 6716 3.1) is used depends on nothing but the bitrate. Modes that
//!   differ on the two sides would make the decoder start afresh (4.5.2).

use opus::{Application, Bitrate, Channels, Encoder, Signal};

use super::MediaError;

/// Opus runs at 48 kHz; time stamps and durations of its packets are in these samples.
pub const OPUS_RATE: u32 = 48_000;
/// Samples of a packet, of each channel: 20 ms. A block is the audio of one packet.
pub const OPUS_FRAME: usize = 960;
/// Samples that a decoder drops at the start of a track (RFC 7845 4.2).
pub const OPUS_PRE_SKIP: u16 = 312;
/// Blocks of audio before a window that its encoder is fed first: 320 ms, after which the filter
/// against DC is off by a four-hundredth.
pub const OPUS_LEAD: usize = 16;

/// The largest packet of one 20 ms frame (RFC 6716 3.4: 1275 bytes and a two-byte header).
const MAX_PACKET: usize = 1277;
/// Bits a second from which audio is coded by MDCT alone. libopus draws the line there too when it
/// cannot tell speech from music, which takes it longer than a window lasts.
const MDCT_FROM: u32 = 18_000;
/// Percent of the bitrate for a packet without prediction, so that it sounds like the others.
const UNPREDICTED: u32 = 160;

/// The encoding library, its version and the architecture that it was built for, for a key: it calculates in
/// floating point, and not alike on all of them.
pub fn opus_library() -> String {
    format!("{} on {}", opus::version(), std::env::consts::ARCH)
}

/// Encodes one window. `lead` and `own` are interleaved samples at 48 kHz in whole blocks of
/// [`OPUS_FRAME`]: the audio before the window (the last [`OPUS_LEAD`] blocks; all there are near
/// the start of the track, none at it), and the window's own. `bitrate` is in bits a second.
/// Returns one packet a block of `own`, which depend on nothing but the arguments and the library.
pub fn encode_window(
    channels: u8,
    bitrate: u32,
    lead: &[i32],
    own: &[i32],
) -> Result<Vec<Vec<u8>>, MediaError> {
    let (layout, count) = if channels == 1 { (Channels::Mono, 1) } else { (Channels::Stereo, 2) };
    let block = OPUS_FRAME * count;
    if !lead.len().is_multiple_of(block) || !own.len().is_multiple_of(block) {
        return Err(MediaError::Library {
            operation: "encoding Opus".into(),
            reason: format!("{} and {} samples are not whole blocks", lead.len(), own.len()),
        });
    }
    let mdct = bitrate >= MDCT_FROM;
    let mut encoder = Encoder::new(OPUS_RATE, layout, Application::Audio).map_err(failed)?;
    encoder.set_vbr(true).map_err(failed)?;
    encoder.set_complexity(10).map_err(failed)?;
    encoder.set_signal(if mdct { Signal::Music } else { Signal::Voice }).map_err(failed)?;

    let first = lead.len() / block;
    let last = first + own.len() / block;
    let mut packets = Vec::with_capacity(last - first);
    let mut samples = Vec::with_capacity(block);
    for (number, block) in lead.chunks_exact(block).chain(own.chunks_exact(block)).enumerate() {
        let after_seam = first > 0 && number == first;
        // The end of the lead is encoded the way the window before ends. Linear prediction needs
        // no care there: its first packet after the seam does not look back.
        let before_seam = mdct && (number + 1 == first || number + 1 == last);
        let unpredicted = after_seam || before_seam;
        encoder.set_prediction_disabled(unpredicted).map_err(failed)?;
        encoder.set_bitrate(rate(bitrate, mdct && unpredicted)).map_err(failed)?;
        samples.clear();
        samples.extend(block.iter().map(|&sample| sample as f32 / 2_147_483_648.0));
        let packet = encoder.encode_vec_float(&samples, MAX_PACKET).map_err(failed)?;
        if number >= first {
            packets.push(packet);
        }
    }
    Ok(packets)
}

fn rate(bitrate: u32, unpredicted: bool) -> Bitrate {
    let percent = if unpredicted { UNPREDICTED } else { 100 };
    let bitrate = u64::from(bitrate) * u64::from(percent) / 100;
    Bitrate::Bits(i32::try_from(bitrate).unwrap_or(i32::MAX))
}

fn failed(error: opus::Error) -> MediaError {
    MediaError::Library { operation: "encoding Opus".into(), reason: error.to_string() }
}

/// Takes a track's samples as they are decoded and hands on whole blocks. The last ones are filled
/// up with silence until the last sample is out of the decoder.
pub struct Blocks {
    channels: usize,
    /// Samples that came in, of all channels.
    taken: u64,
    /// The beginning of the next block.
    pending: Vec<i32>,
}

impl Blocks {
    pub fn new(channels: u8) -> Blocks {
        Blocks { channels: if channels == 1 { 1 } else { 2 }, taken: 0, pending: Vec::new() }
    }

    /// Takes interleaved samples, and hands on what blocks they complete, one a call.
    pub fn push(
        &mut self,
        mut samples: &[i32],
        sink: &mut dyn FnMut(&[i32]) -> Result<(), MediaError>,
    ) -> Result<(), MediaError> {
        let block = OPUS_FRAME * self.channels;
        self.taken += samples.len() as u64;
        if !self.pending.is_empty() {
            let (head, rest) = samples.split_at(samples.len().min(block - self.pending.len()));
            self.pending.extend_from_slice(head);
            samples = rest;
            if self.pending.len() < block {
                return Ok(());
            }
            sink(&self.pending)?;
            self.pending.clear();
        }
        let whole = samples.chunks_exact(block);
        self.pending.extend_from_slice(whole.remainder());
        whole.into_iter().try_for_each(sink)
    }

    /// Hands on the rest. Returns the samples of each channel that came in, without the filling.
    pub fn finish(
        mut self,
        sink: &mut dyn FnMut(&[i32]) -> Result<(), MediaError>,
    ) -> Result<u64, MediaError> {
        let samples = self.taken / self.channels as u64;
        // The decoder puts out the pre-skip before the first sample, and so the last one later.
        let frame = OPUS_FRAME as u64;
        let wanted = (samples + u64::from(OPUS_PRE_SKIP)).div_ceil(frame);
        let missing = (wanted * frame - samples) as usize;
        self.push(&vec![0; missing * self.channels], sink)?;
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of a window here: 0.5 s.
    const WINDOW: usize = 25;
    const RATE: u32 = 96_000;

    /// What the windows are measured against: one encoder for the whole track.
    fn encode_whole(channels: u8, bitrate: u32, sound: &[i32]) -> Vec<Vec<u8>> {
        encode_window(channels, bitrate, &[], sound).unwrap()
    }

    fn encode_windows(channels: u8, bitrate: u32, lead: usize, sound: &[i32]) -> Vec<Vec<u8>> {
        let block = OPUS_FRAME * usize::from(channels);
        let mut packets = Vec::new();
        for start in (0..sound.len()).step_by(WINDOW * block) {
            let end = sound.len().min(start + WINDOW * block);
            let lead = &sound[start.saturating_sub(lead * block)..start];
            packets.extend(encode_window(channels, bitrate, lead, &sound[start..end]).unwrap());
        }
        packets
    }

    /// Decodes straight through; the difference from the audio, full scale being 1. The audio is
    /// filtered as the encoder does, against DC at 3 Hz.
    fn errors(channels: u8, sound: &[i32], packets: &[Vec<u8>]) -> Vec<f64> {
        let channels = usize::from(channels);
        let layout = if channels == 1 { Channels::Mono } else { Channels::Stereo };
        let mut decoder = opus::Decoder::new(OPUS_RATE, layout).unwrap();
        let mut decoded = Vec::new();
        let mut block = vec![0.0; OPUS_FRAME * channels];
        for packet in packets {
            assert_eq!(decoder.decode_float(packet, &mut block, false).unwrap(), OPUS_FRAME);
            decoded.extend_from_slice(&block);
        }
        let mut dc = [0.0; 2];
        let filtered = sound.iter().enumerate().map(|(at, &sample)| {
            let sample = f64::from(sample) / 2_147_483_648.0;
            let dc = &mut dc[at % channels];
            let out = sample - *dc;
            *dc += 6.3 * 3.0 / 48_000.0 * out;
            out
        });
        let decoded = decoded[usize::from(OPUS_PRE_SKIP) * channels..].iter();
        decoded.zip(filtered).map(|(&decoded, sample)| f64::from(decoded) - sample).collect()
    }

    /// Errors around where the packet of a block begins: their power within 20 ms, and the largest
    /// jump between two samples within 10 ms, in dB. Below -90 dB all is the same.
    fn around(channels: u8, errors: &[f64], block: usize) -> (f64, f64) {
        let channels = usize::from(channels);
        let middle = block * OPUS_FRAME - usize::from(OPUS_PRE_SKIP);
        let near = |samples: usize| {
            &errors
                [middle.saturating_sub(samples) * channels..errors.len().min((middle + samples) * channels)]
        };
        let power = near(960).iter().map(|error| error * error).sum::<f64>() / near(960).len() as f64;
        let jumps = near(480).iter().zip(&near(480)[channels..]).map(|(a, b)| (b - a).abs());
        let jump = jumps.fold(0.0, f64::max);
        (10.0 * (power + 1e-9).log10(), 20.0 * (jump + 3e-5).log10())
    }

    struct Seams {
        /// How much worse than the whole-track encode at the same place, in dB.
        mean: f64,
        worst: f64,
        /// The largest jump at a seam over the largest in the whole-track encode, in dB.
        jump: f64,
        bytes: f64,
    }

    fn measure(channels: u8, bitrate: u32, lead: usize, sound: &[i32]) -> Seams {
        let whole = encode_whole(channels, bitrate, sound);
        let windows = encode_windows(channels, bitrate, lead, sound);
        assert_eq!(whole.len(), windows.len());
        let size = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).sum::<usize>() as f64;
        let bytes = size(&windows) / size(&whole) - 1.0;
        let blocks = whole.len();
        let (whole, windows) = (errors(channels, sound, &whole), errors(channels, sound, &windows));
        let jumps = (1..blocks - 1).map(|block| around(channels, &whole, block).1);
        let largest = jumps.fold(f64::MIN, f64::max);
        let (mut seams, mut sum, mut worst, mut jump) = (0.0, 0.0, f64::MIN, f64::MIN);
        for block in (WINDOW..blocks - 1).step_by(WINDOW) {
            let (power, step) = around(channels, &windows, block);
            let more = power - around(channels, &whole, block).0;
            (seams, sum, worst) = (seams + 1.0, sum + more, worst.max(more));
            jump = jump.max(step - largest);
        }
        Seams { mean: sum / seams, worst, jump, bytes }
    }

    /// `seconds` of audio, from time in seconds and channel.
    fn sound(channels: u8, seconds: usize, mut of: impl FnMut(f64, usize) -> f64) -> Vec<i32> {
        let blocks = seconds * 50;
        let samples =
            (0..blocks * OPUS_FRAME).flat_map(|at| (0..usize::from(channels)).map(move |c| (at, c)));
        samples.map(|(at, channel)| (of(at as f64 / 48_000.0, channel) * 2_147_483_647.0) as i32).collect()
    }

    fn sine(hertz: f64, time: f64) -> f64 {
        (std::f64::consts::TAU * hertz * time).sin()
    }

    fn noise() -> impl FnMut() -> f64 {
        let mut state = 88_172_645_463_325_252_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        }
    }

    /// Plucked notes with eight partials in four voices, and a hit of noise each quarter second.
    fn music(channels: u8, seconds: usize) -> Vec<i32> {
        let mut noise = noise();
        let notes = [220.0, 261.63, 329.63, 196.0, 293.66, 246.94];
        sound(channels, seconds, |time, channel| {
            let mut sum = 0.15 * (-(time % 0.25) * 40.0).exp() * noise();
            for (voice, octave) in [0.5, 1.0, 1.5, 2.0].into_iter().enumerate() {
                let every = 0.37 + 0.11 * voice as f64;
                let (number, age) = ((time / every) as usize, time % every);
                let note = notes[(number * 5 + voice * 2 + 1) % 6] * octave;
                for partial in 1..=8 {
                    let partial = f64::from(partial);
                    let envelope = (-age * (2.0 + partial)).exp() * (1.0 - (-age * 400.0).exp());
                    sum += 0.11 / partial * envelope * sine(note * partial, time + channel as f64 * 1e-4);
                }
            }
            sum
        })
    }

    /// Sounds with their channels, on which a click shows: steady ones best.
    fn sounds() -> Vec<(&'static str, u8, Vec<i32>)> {
        let mut hiss = noise();
        let mut bed = noise();
        vec![
            ("440 Hz", 2, sound(2, 4, |time, _| 0.5 * sine(440.0, time))),
            ("1 kHz", 2, sound(2, 4, |time, channel| 0.4 * sine(1000.0 + 7.0 * channel as f64, time))),
            ("440 Hz, mono", 1, sound(1, 4, |time, _| 0.5 * sine(440.0, time))),
            ("sweep", 1, sound(1, 4, |time, _| 0.5 * sine(60.0 + 1000.0 * time, time))),
            ("off the zero line", 2, sound(2, 4, |time, _| 0.2 + 0.3 * sine(440.0, time))),
            ("noise", 2, sound(2, 4, |_, _| 0.3 * hiss())),
            ("tone in noise", 1, sound(1, 4, |time, _| 0.4 * sine(700.0, time) + 0.03 * bed())),
            ("music", 2, music(2, 4)),
        ]
    }

    #[test]
    fn seams_are_no_worse_than_the_whole_track_there() {
        let (mut sum, mut count) = (0.0, 0.0);
        for (name, channels, sound) in sounds() {
            let seams = measure(channels, RATE, OPUS_LEAD, &sound);
            println!(
                "{name}: mean {:+.2} worst {:+.2} jump {:+.2} bytes {:+.2}%",
                seams.mean,
                seams.worst,
                seams.jump,
                100.0 * seams.bytes
            );
            (sum, count) = (sum + seams.mean, count + 1.0);
        }
        println!("mean {:+.2}", sum / count);
    }
}
