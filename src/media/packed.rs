//! A span's packets as plain data, so that another process can decode them. What the container says
//! of the codec is not carried: that process opens the file for it, and makes sure that it is the
//! same.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ffi::{self, carry};
use super::{MediaError, SpanPackets};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackedSpan {
    pub path: PathBuf,
    /// The stream's number in the container.
    pub stream: usize,
    /// BLAKE3 of what a decoder is opened with.
    pub parameters: [u8; 32],
    packets: Vec<PackedPacket>,
    ranks: Vec<(Option<u32>, bool)>,
    is_first: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PackedPacket {
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
    /// FFmpeg's raw flags.
    flags: i32,
    side_data: Vec<(u8, Vec<u8>)>,
}

/// What a decoder of a track is opened with, kept from span to span.
pub struct TrackParameters {
    path: PathBuf,
    stream: usize,
    digest: [u8; 32],
    parameters: ffmpeg_next::codec::Parameters,
}

impl TrackParameters {
    /// Those of the span's track.
    pub fn of(span: &PackedSpan) -> Result<TrackParameters, MediaError> {
        let changed = || MediaError::Changed { path: span.path.clone() };
        let input = ffi::open(&span.path)?;
        let stream = input.stream(span.stream).ok_or_else(changed)?;
        if ffi::parameters(&stream).digest != span.parameters {
            return Err(changed());
        }
        Ok(TrackParameters {
            path: span.path.clone(),
            stream: span.stream,
            digest: span.parameters,
            parameters: stream.parameters(),
        })
    }

    pub fn are_of(&self, span: &PackedSpan) -> bool {
        (&self.path, self.stream, self.digest) == (&span.path, span.stream, span.parameters)
    }
}

impl SpanPackets {
    pub fn pack(mut self) -> PackedSpan {
        let packed = self.packets.iter_mut().map(|packet| PackedPacket {
            data: packet.data().unwrap_or_default().to_vec(),
            flags: ffi::packet_flags(packet),
            side_data: carry::side_data_of(packet),
        });
        PackedSpan {
            packets: packed.collect(),
            path: self.path,
            stream: self.stream,
            parameters: self.parameters_digest,
            ranks: self.ranks,
            is_first: self.is_first,
        }
    }
}

impl PackedSpan {
    /// Packets in it.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets again. `parameters` are those of this span's track.
    pub fn unpack(self, parameters: &TrackParameters) -> Result<SpanPackets, MediaError> {
        let garbled = || MediaError::Changed { path: self.path.clone() };
        if !parameters.are_of(&self) || self.ranks.len() != self.packets.len() {
            return Err(garbled());
        }
        let packets = self
            .packets
            .iter()
            .map(|packed| carry::packet(&packed.data, packed.flags, &packed.side_data).ok_or_else(garbled));
        Ok(SpanPackets {
            packets: packets.collect::<Result<_, _>>()?,
            path: self.path.clone(),
            stream: self.stream,
            parameters: parameters.parameters.clone(),
            parameters_digest: self.parameters,
            ranks: self.ranks.clone(),
            is_first: self.is_first,
        })
    }
}
