//! Reads the packets of a span from the file, forward or by seeking, and verifies that they are those of the
//! index.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ffmpeg::Packet;
use ffmpeg::format::context::Input;
use ffmpeg_next as ffmpeg;

use super::scan::{SpanPacket, digest, span_digest};
use super::{CodecParameters, MediaError, VideoTrack, ffi};

/// Reading on through this many packets is cheaper than a seek.
const WORTH_SEEKING: u64 = 500;

/// The verified packets of one span, and what their decoder is opened with.
pub struct SpanPackets {
    pub(super) path: PathBuf,
    pub(super) parameters: Arc<CodecParameters>,
    pub(super) packets: Vec<Packet>,
    pub(super) ranks: Vec<(Option<u32>, bool)>,
    /// Whether the span is the track's first, which need not start at a random-access point.
    pub(super) is_first: bool,
}

/// An open source, reading the packets of its video track.
pub struct PacketReader {
    path: PathBuf,
    track: Arc<VideoTrack>,
    input: Input,
    parameters: Arc<CodecParameters>,
    /// Packets in decode order, without gaps, the first being number `first`.
    window: VecDeque<Packet>,
    first: u64,
    /// Whether `first` was derived from a seek, which is wrong in some containers.
    sought: bool,
}

impl PacketReader {
    pub fn open(path: &Path, track: Arc<VideoTrack>) -> Result<PacketReader, MediaError> {
        let (input, parameters) = open(path, &track)?;
        Ok(PacketReader {
            path: path.to_owned(),
            track,
            input,
            parameters: Arc::new(parameters),
            window: VecDeque::new(),
            first: 0,
            sought: false,
        })
    }

    /// The number, in decode order, of the packet that comes next from the file.
    fn position(&self) -> u64 {
        self.first + self.window.len() as u64
    }

    /// The earliest packet that can be read without seeking back.
    pub fn start(&self) -> u64 {
        self.first
    }

    /// Reads a span. Spans read in order cost one pass over the file.
    pub fn read_span(&mut self, number: usize) -> Result<SpanPackets, MediaError> {
        match self.try_read_span(number) {
            Err(MediaError::Changed { .. }) if self.sought => {
                self.restart()?;
                self.try_read_span(number)
            }
            result => result,
        }
    }

    fn try_read_span(&mut self, number: usize) -> Result<SpanPackets, MediaError> {
        let track = Arc::clone(&self.track);
        let changed = || MediaError::Changed { path: self.path.clone() };
        let span = *track.spans.get(number).ok_or_else(changed)?;
        if span.first < self.first || span.first > self.position() + WORTH_SEEKING {
            self.go_to(span.first)?;
        }
        while self.position() < span.end {
            let packet = self.next_packet()?;
            self.window.push_back(packet);
            self.drop_before(span.first);
        }
        self.drop_before(span.first);
        // Packets that the next span does not share are moved rather than cloned.
        let next = track.spans.get(number + 1).map_or(span.end, |next| next.first.min(span.end));
        let own = (next - span.first) as usize;
        let mut packets: Vec<Packet> = self.window.drain(..own.min(self.window.len())).collect();
        self.first += packets.len() as u64;
        packets.extend(self.window.iter().take((span.end - next) as usize).cloned());
        let ranks = track.ranks(number);
        let seen: Vec<SpanPacket> = packets
            .iter_mut()
            .map(|p| SpanPacket { flags: ffi::packet_flags(p), digest: digest(p) })
            .collect();
        if seen.len() != ranks.len() || span_digest(&ranks, &seen) != span.digest {
            return Err(MediaError::Changed { path: self.path.clone() });
        }
        Ok(SpanPackets {
            path: self.path.clone(),
            parameters: Arc::clone(&self.parameters),
            packets,
            ranks,
            is_first: number == 0,
        })
    }

    fn drop_before(&mut self, number: u64) {
        while self.first < number && self.window.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn next_packet(&mut self) -> Result<Packet, MediaError> {
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() == self.track.stream => return Ok(packet),
                Ok(()) => {}
                // The file has fewer packets than the index.
                Err(ffmpeg::Error::Eof) => {
                    return Err(MediaError::Changed { path: self.path.clone() });
                }
                Err(error) => return Err(MediaError::library("reading the source", error)),
            }
        }
    }

    /// Goes to packet `target`, by a seek where that lands at or before it (in MPEG-TS it may
    /// not), otherwise from the start.
    fn go_to(&mut self, target: u64) -> Result<(), MediaError> {
        self.window.clear();
        let stamp = self.track.stamps.get(target as usize).copied();
        if let Some(stamp) = stamp
            && ffi::seek(&mut self.input, self.track.stream, stamp)
            && let Ok(packet) = self.next_packet()
        {
            let number = packet.pts().and_then(|stamp| self.track.stamps.iter().position(|&s| s == stamp));
            if let Some(number) = number.map(|number| number as u64)
                && number <= target
            {
                self.first = number;
                self.window.push_back(packet);
                self.sought = true;
                return Ok(());
            }
        }
        self.restart()
    }

    fn restart(&mut self) -> Result<(), MediaError> {
        self.window.clear();
        (self.input, _) = open(&self.path, &self.track)?;
        self.first = 0;
        self.sought = false;
        Ok(())
    }
}

/// Opens the file, which must have the track of the index, and returns what the track's decoder is opened
/// with.
fn open(path: &Path, track: &VideoTrack) -> Result<(Input, CodecParameters), MediaError> {
    let changed = || MediaError::Changed { path: path.to_owned() };
    let mut input = ffi::open(path)?;
    let stream = input.stream(track.stream).ok_or_else(changed)?;
    if ffi::parameters(&stream).digest != track.parameters {
        return Err(changed());
    }
    let parameters = ffi::codec_parameters::of_stream(&stream);
    ffi::keep_streams(&mut input, &[track.stream]);
    Ok((input, parameters))
}
