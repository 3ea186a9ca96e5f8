//! A span's packets and codec parameters as plain data, so that another process decodes them without
//! the file.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ffi::{self, transfer};
use super::{CodecParameters, MediaError, SpanPackets};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackedSpan {
    /// The file that the packets were read from, for messages only.
    pub path: PathBuf,
    pub parameters: CodecParameters,
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

impl SpanPackets {
    pub fn pack(mut self) -> PackedSpan {
        let packed = self.packets.iter_mut().map(|packet| PackedPacket {
            data: packet.data().unwrap_or_default().to_vec(),
            flags: ffi::packet_flags(packet),
            side_data: transfer::side_data_of(packet),
        });
        PackedSpan {
            packets: packed.collect(),
            path: self.path,
            parameters: Arc::unwrap_or_clone(self.parameters),
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

    /// The packets again.
    pub fn unpack(self) -> Result<SpanPackets, MediaError> {
        let garbled = || MediaError::Library {
            operation: "unpacking a span".into(),
            reason: "its packets make no sense".to_owned(),
        };
        if self.ranks.len() != self.packets.len() {
            return Err(garbled());
        }
        let packets = self.packets.iter().map(|packed| {
            transfer::packet(&packed.data, packed.flags, &packed.side_data).ok_or_else(garbled)
        });
        Ok(SpanPackets {
            packets: packets.collect::<Result<_, _>>()?,
            path: self.path,
            parameters: Arc::new(self.parameters),
            ranks: self.ranks,
            is_first: self.is_first,
        })
    }
}
