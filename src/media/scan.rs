//! One pass over a source's packets, which tells its tracks and where its frames can be
//! decoded from. It reads to the very end and says so when the file ends too early: FFmpeg's
//! libraries do not.

use std::path::Path;

use ffmpeg::codec::packet::side_data;
use ffmpeg::format::context::Input;
use ffmpeg::media::Type;
use ffmpeg::{Packet, codec, frame};
use ffmpeg_next as ffmpeg;
use rayon::prelude::*;

use super::ffi::{self, Parameters};
use super::index::{AudioTrack, Index, Span, SpanDigest, VideoTrack};
use super::{Colour, HdrMetadata, MediaError, Rational};

/// A random-access point this soon after the last one starts a span only if its content says
/// so (one in `ONE_IN`), so that a source of nothing but key frames is not cut into single frames,
/// while an edit still moves no span but its own.
const SHORT_SPAN: u64 = 8;
const ONE_IN: u8 = 8;

/// Containers that declare how long they last, and by how many microseconds one may end early
/// without being cut short: some muxers count differently.
const DECLARING: [(&str, i64); 3] = [("matroska,webm", 200_000), ("flv", 700_000), ("asf", 700_000)];
/// No frame is shown for longer than this many seconds: the stamps are broken.
const MAX_GAP_S: u64 = 3600;

/// Packets that are read, and then hashed, together.
const BATCH_PACKETS: usize = 512;
const BATCH_BYTES: usize = 32 << 20;

/// What is kept of one packet during the pass.
struct Seen {
    stamp: Option<i64>,
    /// When it is to be decoded; for packets without `stamp`.
    decode_stamp: Option<i64>,
    key: bool,
    flags: i32,
    digest: [u8; 32],
}

/// The tracks of a file as its head tells of them: none of their packets are read, so nothing of
/// what [`scan`] finds out by that is there.
pub fn probe(path: &Path) -> Result<(VideoTrack, Vec<AudioTrack>), MediaError> {
    let (_, video, audio) = tracks(path)?;
    Ok((video, audio.into_iter().map(|(track, _)| track).collect()))
}

/// An open file, its frames, and its audio.
type Tracks = (Input, VideoTrack, Vec<(AudioTrack, AudioHasher)>);

fn tracks(path: &Path) -> Result<Tracks, MediaError> {
    let input = ffi::open(path)?;
    let stream = input
        .streams()
        .best(Type::Video)
        .filter(|stream| !stream.disposition().contains(ffmpeg::format::stream::Disposition::ATTACHED_PIC))
        .ok_or_else(|| MediaError::NoVideo { path: path.to_owned() })?;
    let video_parameters = ffi::parameters(&stream);
    check_picture(path, &video_parameters)?;
    let track = describe(&stream, &video_parameters);
    let audio = input
        .streams()
        .filter(|stream| stream.parameters().medium() == Type::Audio)
        .filter_map(|stream| describe_audio(&stream))
        .collect();
    Ok((input, track, audio))
}

/// Containers may leave it to the frames to say how they were mastered: the first that can be
/// decoded tells. A source of which none of the first can is looked at in earnest later.
fn hdr_of_pictures(path: &Path, track: &VideoTrack) -> HdrMetadata {
    /// Packets that are tried.
    const MAX_PACKETS: usize = 64;
    let look = || -> Option<HdrMetadata> {
        let mut input = ffi::open(path).ok()?;
        let context = codec::Context::from_parameters(input.stream(track.stream)?.parameters()).ok()?;
        let mut decoder = context.decoder().video().ok()?;
        let mut frame = frame::Video::empty();
        let mut sent = 0;
        while sent < MAX_PACKETS {
            let mut packet = Packet::empty();
            let read = packet.read(&mut input);
            match read {
                Ok(()) if packet.stream() != track.stream => continue,
                Ok(()) => decoder.send_packet(&packet).ok()?,
                Err(_) => decoder.send_eof().ok()?,
            }
            sent += 1;
            if decoder.receive_frame(&mut frame).is_ok() {
                return Some(ffi::hdr::of_frame(&frame));
            }
            read.ok()?;
        }
        None
    };
    look().unwrap_or_default()
}

/// Reads the whole file and returns its index. `cancelled` is asked now and then.
pub fn scan(path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Index, MediaError> {
    let (mut input, mut track, mut audio) = tracks(path)?;
    let video = track.stream;
    if track.colour.transfer == Colour::PQ
        && (track.hdr.mastering.is_none() || track.hdr.content_light.is_none())
    {
        track.hdr = track.hdr.or(hdr_of_pictures(path, &track));
    }
    let damaged = |detail: String| MediaError::Damaged { path: path.to_owned(), detail };
    let file_size = std::fs::metadata(path).map(|meta| meta.len()).unwrap_or(0);
    if let Some(detail) = ffi::beyond_the_end(&mut input, file_size) {
        return Err(damaged(detail));
    }

    let wanted: Vec<usize> = audio.iter().map(|(track, _)| track.stream).chain([video]).collect();
    let mut packets: Vec<Seen> = Vec::new();
    let mut last_shown: Option<(i64, u64)> = None;
    let mut end_us = 0i64;
    let mut batch = next_batch(&mut input, &wanted, &mut end_us).map_err(damaged)?;
    while !batch.is_empty() {
        if cancelled() {
            return Err(MediaError::Cancelled);
        }
        // One core reads on while the others hash.
        let hash = || batch.par_iter_mut().map(|packet| digest(packet)).collect::<Vec<_>>();
        let (next, digests) = rayon::join(|| next_batch(&mut input, &wanted, &mut end_us), hash);
        for (mut packet, digest) in batch.into_iter().zip(digests) {
            if packet.stream() == video {
                let stamp = packet.pts();
                if let Some(stamp) = stamp
                    && last_shown.is_none_or(|(last, _)| stamp > last)
                {
                    last_shown = Some((stamp, u64::try_from(packet.duration()).unwrap_or(0)));
                }
                packets.push(Seen {
                    stamp,
                    decode_stamp: packet.dts(),
                    key: packet.is_key(),
                    flags: ffi::packet_flags(&mut packet),
                    digest,
                });
            } else if let Some((track, hasher)) =
                audio.iter_mut().find(|(track, _)| track.stream == packet.stream())
            {
                track.packets += 1;
                hasher.add(packet.pts(), &digest);
            }
        }
        batch = next.map_err(damaged)?;
    }
    if packets.is_empty() {
        return Err(damaged("its video track holds no frames".to_owned()));
    }
    // These declare their length and do not notice when the file ends before it.
    let slack = DECLARING.iter().find(|(name, _)| *name == input.format().name());
    if let Some((_, slack)) = slack
        && let Some(declared) = ffi::declared_duration_us(&input)
        && end_us + slack < declared
    {
        return Err(damaged(format!(
            "it should last {} and ends after {}",
            seconds(declared),
            seconds(end_us)
        )));
    }

    track.last_duration = last_shown.map_or(0, |(_, duration)| duration);
    find_spans(&mut track, packets);
    if let Some(gap) = longest_gap(&track)
        && gap > MAX_GAP_S
    {
        return Err(damaged(format!("its time stamps jump by {gap} s from one frame to the next")));
    }
    let audio = audio
        .into_iter()
        .filter(|(track, _)| track.packets > 0)
        .map(|(track, hasher)| AudioTrack { packets_digest: hasher.finish(), ..track })
        .collect();
    Ok(Index { container: input.format().name().to_owned(), video: track, audio })
}

/// The next packets of the wanted streams; none at the end. An error tells what is wrong with the
/// file. `end_us` is where the last of all packets ends so far.
fn next_batch(input: &mut Input, wanted: &[usize], end_us: &mut i64) -> Result<Vec<Packet>, String> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_PACKETS && bytes < BATCH_BYTES {
        let mut packet = Packet::empty();
        match packet.read(input) {
            Ok(()) => {}
            Err(ffmpeg::Error::Eof) => break,
            Err(error) => return Err(format!("reading stopped at {} ({error})", seconds(*end_us))),
        }
        *end_us = (*end_us).max(end_of(input, &packet));
        if !wanted.contains(&packet.stream()) {
            continue;
        }
        if packet.is_corrupt() {
            return Err(format!("the packet at {} is incomplete", seconds(*end_us)));
        }
        bytes += packet.size();
        batch.push(packet);
    }
    Ok(batch)
}

fn check_picture(path: &Path, parameters: &Parameters) -> Result<(), MediaError> {
    if parameters.width == 0
        || parameters.height == 0
        || parameters.pixel_format == ffmpeg::format::Pixel::None
    {
        return Err(MediaError::Damaged {
            path: path.to_owned(),
            detail: format!("nothing in it tells the size and format of its {} frames", parameters.codec),
        });
    }
    if parameters.width > 16_384 || parameters.height > 16_384 {
        return Err(MediaError::Unsupported {
            path: path.to_owned(),
            detail: format!(
                "frames of {}x{} are larger than 16384x16384",
                parameters.width, parameters.height
            ),
        });
    }
    Ok(())
}

fn describe(stream: &ffmpeg::Stream<'_>, parameters: &Parameters) -> VideoTrack {
    let rate = |r: ffmpeg::Rational| ffi::positive(r.numerator(), r.denominator());
    VideoTrack {
        stream: stream.index(),
        codec: parameters.codec.clone(),
        parameters: parameters.digest,
        width: parameters.width,
        height: parameters.height,
        sample_aspect: parameters.sample_aspect.unwrap_or(Rational { num: 1, den: 1 }),
        rotation: ffi::rotation(stream),
        pixel_format: parameters.pixel_format.descriptor().map_or("unknown", |d| d.name()).to_owned(),
        bit_depth: ffi::bit_depth(parameters.pixel_format),
        colour: parameters.colour,
        hdr: ffi::hdr::of_stream(stream),
        time_base: time_base(stream),
        claimed_rates: [stream.avg_frame_rate(), stream.rate()].into_iter().filter_map(rate).collect(),
        stamps: Vec::new(),
        last_duration: 0,
        packets: 0,
        sorted_stamps: Vec::new(),
        spans: Vec::new(),
        whole: SpanDigest([0; 32]),
    }
}

fn time_base(stream: &ffmpeg::Stream<'_>) -> Rational {
    let base = stream.time_base();
    ffi::positive(base.numerator(), base.denominator()).unwrap_or(Rational { num: 1, den: 90_000 })
}

fn describe_audio(stream: &ffmpeg::Stream<'_>) -> Option<(AudioTrack, AudioHasher)> {
    let parameters = ffi::parameters(stream);
    if parameters.sample_rate == 0 || parameters.channels == 0 {
        return None;
    }
    let hasher = AudioHasher::new(stream, &parameters);
    let track = AudioTrack {
        stream: stream.index(),
        codec: parameters.codec,
        packets_digest: [0; 32],
        packets: 0,
        sample_rate: parameters.sample_rate,
        channels: parameters.channels,
        language: stream
            .metadata()
            .get("language")
            .filter(|&language| language != "und")
            .unwrap_or("")
            .to_owned(),
        default: stream.disposition().contains(ffmpeg::format::stream::Disposition::DEFAULT),
    };
    Some((track, hasher))
}

/// Adds up an audio track's packets and their time stamps.
pub(super) struct AudioHasher(blake3::Hasher);

impl AudioHasher {
    pub(super) fn new(stream: &ffmpeg::Stream<'_>, parameters: &Parameters) -> AudioHasher {
        let mut hasher = blake3::Hasher::new_derive_key("rivet audio packets v1");
        hasher.update(&parameters.digest);
        let base = time_base(stream);
        hasher.update(&base.num.to_le_bytes()).update(&base.den.to_le_bytes());
        AudioHasher(hasher)
    }

    /// Adds a packet, by its presentation stamp and its [`digest`].
    pub(super) fn add(&mut self, stamp: Option<i64>, digest: &[u8; 32]) {
        self.0.update(&stamp.unwrap_or(i64::MIN).to_le_bytes());
        self.0.update(digest);
    }

    pub(super) fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Where a packet ends, in microseconds.
fn end_of(input: &Input, packet: &Packet) -> i64 {
    let Some(base) = input.stream(packet.stream()).map(|stream| time_base(&stream)) else {
        return 0;
    };
    let end = packet.pts().or(packet.dts()).unwrap_or(0).saturating_add(packet.duration());
    let us = i128::from(end) * 1_000_000 * i128::from(base.num) / i128::from(base.den);
    i64::try_from(us).unwrap_or(0)
}

fn seconds(us: i64) -> String {
    format!("{}.{:02} s", us / 1_000_000, us.rem_euclid(1_000_000) / 10_000)
}

/// BLAKE3 of a packet's bytes and of the side data that a decoder reads.
pub(super) fn digest(packet: &Packet) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(packet.data().unwrap_or(&[]));
    for side in packet.side_data() {
        if matches!(
            side.kind(),
            side_data::Type::NewExtraData | side_data::Type::Palette | side_data::Type::SkipSamples
        ) {
            hasher.update(side.data());
        }
    }
    *hasher.finalize().as_bytes()
}

/// Cuts the track into spans at its random-access points. Where its time stamps or key frames
/// cannot be trusted the whole track is one span, which is always right.
fn find_spans(track: &mut VideoTrack, packets: Vec<Seen>) {
    track.packets = packets.len() as u64;
    let stamps: Option<Vec<i64>> = packets.iter().map(|packet| packet.stamp).collect();
    track.stamps = stamps.filter(|stamps| all_different(stamps)).unwrap_or_default();
    if track.stamps.is_empty() {
        track.sorted_stamps = sorted_stamps(&packets);
    }
    let mut starts = vec![0u64];
    if !track.stamps.is_empty() && packets[0].key {
        // A span may start only where all that came before is also shown before.
        let mut latest = track.stamps[0];
        for (at, packet) in packets.iter().enumerate().skip(1) {
            let last = starts.last().copied().unwrap_or(0);
            let far = at as u64 - last >= SHORT_SPAN;
            if packet.key && track.stamps[at] > latest && (far || packet.digest[0].is_multiple_of(ONE_IN)) {
                starts.push(at as u64);
            }
            latest = latest.max(track.stamps[at]);
        }
    }
    // The earliest stamp from each packet on; it only grows towards the end.
    let mut earliest = track.stamps.clone();
    for at in (1..earliest.len()).rev() {
        earliest[at - 1] = earliest[at - 1].min(earliest[at]);
    }
    let digests: Vec<SpanPacket> =
        packets.iter().map(|p| SpanPacket { flags: p.flags, digest: p.digest }).collect();
    for (number, &first) in starts.iter().enumerate() {
        let end = match starts.get(number + 1) {
            None => track.packets,
            // Through the last packet that is shown before the next span starts.
            Some(&next) => {
                let bound = track.stamps[next as usize];
                next + earliest[next as usize..].partition_point(|&stamp| stamp < bound) as u64
            }
        };
        track.spans.push(Span { first, end, digest: SpanDigest([0; 32]) });
    }
    track.whole = span_digest(&track.as_one_span().ranks(0), &digests);
    let digest_of = |number: usize| {
        let span = track.spans[number];
        span_digest(&track.ranks(number), &digests[span.first as usize..span.end as usize])
    };
    let by_span: Vec<SpanDigest> = (0..track.spans.len()).into_par_iter().map(digest_of).collect();
    for (span, digest) in track.spans.iter_mut().zip(by_span) {
        span.digest = digest;
    }
}

/// One stamp a packet, strictly increasing: presentation stamps where all packets have one,
/// else decode stamps. A repeated one is moved on by a tick.
fn sorted_stamps(packets: &[Seen]) -> Vec<i64> {
    let shown: Option<Vec<i64>> = packets.iter().map(|packet| packet.stamp).collect();
    let decoded = || packets.iter().map(|packet| packet.decode_stamp).collect::<Option<Vec<i64>>>();
    let mut stamps = shown.or_else(decoded).unwrap_or_default();
    stamps.sort();
    for at in 1..stamps.len() {
        stamps[at] = stamps[at].max(stamps[at - 1].saturating_add(1));
    }
    stamps
}

/// The longest time that a frame stands, in whole seconds.
fn longest_gap(track: &VideoTrack) -> Option<u64> {
    let mut stamps = if track.stamps.is_empty() { track.sorted_stamps.clone() } else { track.stamps.clone() };
    stamps.sort();
    let ticks = stamps.windows(2).map(|pair| pair[1].abs_diff(pair[0])).max()?;
    let seconds = u128::from(ticks) * u128::from(track.time_base.num) / u128::from(track.time_base.den);
    u64::try_from(seconds).ok()
}

fn all_different(stamps: &[i64]) -> bool {
    let mut sorted = stamps.to_vec();
    sorted.sort();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// What a span's digest is made of, a packet.
pub(super) struct SpanPacket {
    pub flags: i32,
    pub digest: [u8; 32],
}

pub(super) fn span_digest(ranks: &[(Option<u32>, bool)], packets: &[SpanPacket]) -> SpanDigest {
    /// BLAKE3 is many times as fast on much at once.
    const AT_ONCE: usize = 64 * 1024;
    let mut hasher = blake3::Hasher::new_derive_key("rivet span v1");
    let mut pending = Vec::new();
    for (&(rank, own), packet) in ranks.iter().zip(packets) {
        pending.extend(rank.map_or(-1, i64::from).to_le_bytes());
        pending.push(u8::from(own));
        pending.extend(packet.flags.to_le_bytes());
        pending.extend(packet.digest);
        if pending.len() >= AT_ONCE {
            hasher.update(&pending);
            pending.clear();
        }
    }
    hasher.update(&pending);
    SpanDigest(*hasher.finalize().as_bytes())
}
