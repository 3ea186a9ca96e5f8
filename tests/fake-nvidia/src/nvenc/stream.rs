//! AV1 of pictures, by rav1e. It plays the engine: it sees pictures, and knows nothing of sessions.

use std::collections::VecDeque;

use num_traits::FromPrimitive;
use rav1e::color::{ChromaSamplePosition, ColorDescription, ColorPrimaries, PixelRange};
use rav1e::config::{Config, EncoderConfig};
use rav1e::prelude::{
    Context, EncoderStatus, FrameParameters, FrameType, FrameTypeOverride, Pixel, SceneDetectionSpeed,
};

use crate::settings::Fault;

/// What the whole stream is like. Codes are those of AV1's sequence header.
pub struct Format {
    pub width: u32,
    pub height: u32,
    pub bit_depth: u8,
    pub quantizer: u32,
    pub level_idx: u8,
    pub primaries: u32,
    pub transfer: u32,
    pub matrix: u32,
    pub full_range: bool,
    pub chroma_position: u32,
}

/// A temporal unit.
pub struct Packet {
    pub bytes: Vec<u8>,
    pub is_key: bool,
}

pub struct Stream {
    encoder: Encoder,
    fault: Option<Fault>,
    /// Those that are made and were not taken.
    packets: VecDeque<Packet>,
    made: u64,
}

enum Encoder {
    Eight(Context<u8>),
    Ten(Context<u16>),
}

impl Stream {
    /// `None` for a format that AV1 does not know.
    pub fn new(format: &Format, fault: Option<Fault>) -> Option<Stream> {
        let mut config = EncoderConfig::with_speed_preset(10);
        config.width = format.width as usize;
        config.height = format.height as usize;
        config.bit_depth = usize::from(format.bit_depth);
        config.quantizer = format.quantizer as usize;
        config.level_idx = Some(match fault {
            Some(Fault::Level(other)) => other,
            _ => format.level_idx,
        });
        config.pixel_range = if format.full_range { PixelRange::Full } else { PixelRange::Limited };
        config.chroma_sample_position = ChromaSamplePosition::from_u32(format.chroma_position)?;
        let mut colours = ColorDescription {
            color_primaries: FromPrimitive::from_u32(format.primaries)?,
            transfer_characteristics: FromPrimitive::from_u32(format.transfer)?,
            matrix_coefficients: FromPrimitive::from_u32(format.matrix)?,
        };
        if fault == Some(Fault::OtherColour) {
            colours.color_primaries = ColorPrimaries::BT470M;
        }
        config.color_description = Some(colours);
        // Pictures come out soon after they went in, in the order in which they went in.
        config.low_latency = true;
        config.speed_settings.rdo_lookahead_frames = 1;
        config.speed_settings.scene_detection_mode = SceneDetectionSpeed::None;
        config.set_key_frame_interval(0, 0);
        let config = Config::new().with_encoder_config(config).with_threads(1);
        let encoder = match format.bit_depth {
            8 => Encoder::Eight(config.new_context().ok()?),
            _ => Encoder::Ten(config.new_context().ok()?),
        };
        Some(Stream { encoder, fault, packets: VecDeque::new(), made: 0 })
    }

    /// Takes a picture: planes without padding, samples of 8 bits in a byte and of 10 in two.
    pub fn send(&mut self, planes: &[Vec<u8>; 3], is_key: bool) {
        match &mut self.encoder {
            Encoder::Eight(context) => send(context, planes, is_key),
            Encoder::Ten(context) => send(context, planes, is_key),
        }
        self.collect();
    }

    /// Says that no more pictures come: all packets are then made.
    pub fn end(&mut self) {
        match &mut self.encoder {
            Encoder::Eight(context) => context.flush(),
            Encoder::Ten(context) => context.flush(),
        }
        self.collect();
    }

    /// Packets that were made in all.
    pub fn made(&self) -> u64 {
        self.made
    }

    pub fn take(&mut self) -> Option<Packet> {
        self.packets.pop_front()
    }

    fn collect(&mut self) {
        let mut packets = match &mut self.encoder {
            Encoder::Eight(context) => receive(context),
            Encoder::Ten(context) => receive(context),
        };
        if self.fault == Some(Fault::HighTier) {
            packets
                .iter_mut()
                .filter(|packet| packet.is_key)
                .for_each(|packet| set_high_tier(&mut packet.bytes));
        }
        self.made += packets.len() as u64;
        self.packets.extend(packets);
    }
}

fn send<T: Pixel>(context: &mut Context<T>, planes: &[Vec<u8>; 3], is_key: bool) {
    let mut frame = context.new_frame();
    let size = size_of::<T>();
    for (plane, samples) in frame.planes.iter_mut().zip(planes) {
        let stride = plane.cfg.width * size;
        plane.copy_from_raw_u8(samples, stride, size);
    }
    let frame_type_override = if is_key { FrameTypeOverride::Key } else { FrameTypeOverride::No };
    let parameters = FrameParameters { frame_type_override, ..FrameParameters::default() };
    context.send_frame((frame, parameters)).expect("rav1e takes pictures until it is flushed");
}

fn receive<T: Pixel>(context: &mut Context<T>) -> Vec<Packet> {
    let mut packets = Vec::new();
    loop {
        match context.receive_packet() {
            Ok(packet) => {
                let is_key = packet.frame_type == FrameType::KEY;
                packets.push(Packet { bytes: packet.data, is_key });
            }
            Err(EncoderStatus::Encoded) => {}
            Err(EncoderStatus::NeedMoreData | EncoderStatus::LimitReached) => return packets,
            Err(status) => panic!("rav1e: {status}"),
        }
    }
}

/// Sets the bit `seq_tier` of a sequence header as rav1e writes it at level 4.0 and above: behind a
/// temporal delimiter, an OBU header and a size of one byte each, and 29 bits.
fn set_high_tier(unit: &mut [u8]) {
    assert_eq!(unit[..3], [0x12, 0x00, 0x0a], "the unit begins with a sequence header");
    unit[4 + 29 / 8] |= 0x80 >> (29 % 8);
}
