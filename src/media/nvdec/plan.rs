//! Whether a GPU decodes a span, and which frames must come out: decided before decoding, from its codec
//! parameters and its packets.

use std::collections::BTreeSet;

use ffmpeg::Packet;
use ffmpeg::codec::{self, packet::side_data};
use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::ffi::{self, AnnexB};
use super::shows::Shows;
use crate::media::gpu::GpuTrouble;
use crate::media::software::Source;
use crate::media::{self, CodecParameters};
use crate::nvidia::{Codec, DecoderCaps, VideoFormat};

/// A span that the GPU decodes.
pub(super) struct Plan {
    pub codec: Codec,
    /// In decode order, stamped with their ranks.
    pub packets: Vec<Packet>,
    /// Converts the container's format of a codec to the byte stream that the GPU's parser reads.
    pub filter: Option<AnnexB>,
    pub expected: Expected,
    /// Ranks of the frames that must come.
    pub wanted: BTreeSet<u32>,
}

/// The format of libavcodec's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub format: Pixel,
    pub width: u32,
    pub height: u32,
    pub bit_depth: u8,
}

impl Plan {
    pub fn new(
        can: &[(Codec, u8, DecoderCaps)],
        source: &Source,
        mut wanted: BTreeSet<u32>,
    ) -> Result<Plan, GpuTrouble> {
        let unsupported = |what: &str| GpuTrouble::Unsupported(what.to_owned());
        let parameters = &source.parameters;
        let codec =
            codec_of(parameters.codec_id()).ok_or_else(|| unsupported("its codec is not for a GPU"))?;
        let expected = Expected::of(parameters).ok_or_else(|| unsupported("its chroma is not 4:2:0"))?;
        let allowed = can.iter().any(|&(able, bit_depth, caps)| {
            (able, bit_depth) == (codec, expected.bit_depth) && caps.allows(expected.width, expected.height)
        });
        if !allowed {
            return Err(unsupported("the GPU does not decode its codec at this depth and size"));
        }
        let has_new_headers =
            |packet: &Packet| packet.side_data().any(|side| side.kind() == side_data::Type::NewExtraData);
        if source.packets.iter().any(has_new_headers) {
            return Err(unsupported("its headers change"));
        }
        let failed =
            |error: ffmpeg::Error| GpuTrouble::Unsupported(format!("its packets make no sense ({error})"));
        let filter = match codec {
            Codec::H264 => Some(c"h264_mp4toannexb"),
            Codec::Hevc => Some(c"hevc_mp4toannexb"),
            Codec::Vp9 | Codec::Av1 => None,
        };
        let filter = filter.map(|name| {
            let parameters = media::ffi::codec_parameters::to_ffmpeg(parameters);
            AnnexB::open(name, &parameters.ok_or(ffmpeg::Error::Bug)?)
        });
        let filter = filter.transpose().map_err(failed)?;
        for packet in &source.packets {
            match Shows::of(codec, packet.data().unwrap_or_default()) {
                Shows::Several => return Err(unsupported("a packet of it shows several frames")),
                // The GPU's parser skips such packets.
                Shows::Existing if codec == Codec::Vp9 => {
                    return Err(unsupported("a packet of it shows an earlier frame"));
                }
                Shows::Nothing => wanted.retain(|&rank| Some(i64::from(rank)) != packet.pts()),
                Shows::New | Shows::Existing => {}
            }
        }
        // Frames of HEVC that lead a random-access point refer to what is not there, no other refers
        // to them (ITU-T H.265 8.3.2), and all of them are another span's.
        let first = source.packets.first().and_then(Packet::pts);
        let needed = source.packets.iter().filter(|packet| codec != Codec::Hevc || packet.pts() >= first);
        let packets = needed.map(ffi::share).collect::<Result<_, _>>().map_err(failed)?;
        Ok(Plan { codec, packets, filter, expected, wanted })
    }
}

fn codec_of(id: codec::Id) -> Option<Codec> {
    match id {
        codec::Id::H264 => Some(Codec::H264),
        codec::Id::HEVC => Some(Codec::Hevc),
        codec::Id::VP9 => Some(Codec::Vp9),
        codec::Id::AV1 => Some(Codec::Av1),
        _ => None,
    }
}

impl Expected {
    /// The format by the codec parameters, which were read from the stream itself.
    fn of(parameters: &CodecParameters) -> Option<Expected> {
        let format = parameters.pixel_format();
        let (width, height) = (parameters.width.try_into().ok()?, parameters.height.try_into().ok()?);
        let bit_depth = match format {
            Pixel::YUV420P | Pixel::YUVJ420P => 8,
            Pixel::YUV420P10LE => 10,
            Pixel::YUV420P12LE => 12,
            _ => return None,
        };
        Some(Expected { format, width, height, bit_depth })
    }

    /// Checks the format that the GPU's parser has read; an error names what differs.
    pub fn check(&self, found: &VideoFormat) -> Result<(), String> {
        if found.visible != (self.width, self.height) {
            let (width, height) = found.visible;
            return Err(format!(
                "its frames are {width}x{height}, expected {}x{} by the container",
                self.width, self.height
            ));
        }
        if found.bit_depth != self.bit_depth {
            return Err(format!(
                "its samples have {} bits, expected {} by the container",
                found.bit_depth, self.bit_depth
            ));
        }
        // For these two codecs libavcodec has a pixel format of its own for full range.
        let has_own = matches!(found.codec, Codec::H264 | Codec::Hevc) && self.bit_depth == 8;
        if (self.format == Pixel::YUVJ420P) != (has_own && found.full_range) {
            return Err("its sample range is not that of the container".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::nal;
    use super::*;
    use crate::media::{PacketReader, scan};

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/flower_960x540_2997_aac.mp4");
    const CAPS: DecoderCaps =
        DecoderCaps { engines: 1, min: (48, 16), max: (4096, 4096), max_macroblocks: 65_536 };

    /// A span of H.264 from an MP4.
    fn source() -> Source {
        let track = Arc::new(scan(Path::new(CLIP), &|| false).unwrap().video);
        let span = PacketReader::open(Path::new(CLIP), track).unwrap().read_span(1).unwrap();
        Source { parameters: span.parameters, packets: span.packets, threads: 1 }
    }

    fn refused(can: &[(Codec, u8, DecoderCaps)]) -> bool {
        matches!(Plan::new(can, &source(), BTreeSet::new()), Err(GpuTrouble::Unsupported(_)))
    }

    #[test]
    fn a_span_goes_to_a_gpu_that_decodes_its_codec_depth_and_size() {
        let plan = Plan::new(&[(Codec::H264, 8, CAPS)], &source(), [0, 1, 2].into()).unwrap();
        assert_eq!((plan.codec, plan.wanted), (Codec::H264, [0, 1, 2].into()));
        let expected = Expected { format: Pixel::YUV420P, width: 960, height: 540, bit_depth: 8 };
        assert_eq!((plan.expected, plan.packets.len()), (expected, source().packets.len()));
        assert!(refused(&[(Codec::Hevc, 8, CAPS)]) && refused(&[(Codec::H264, 10, CAPS)]));
        assert!(refused(&[(Codec::H264, 8, DecoderCaps { max: (640, 640), ..CAPS })]));
    }

    #[test]
    fn packets_of_an_mp4_become_a_byte_stream() {
        let plan = Plan::new(&[(Codec::H264, 8, CAPS)], &source(), BTreeSet::new()).unwrap();
        let mut filter = plan.filter.unwrap();
        let parameter_set = |headers: &[u8]| headers.starts_with(&[0, 0, 0, 1]) && headers[4] & 0x1f == 7;
        assert!(parameter_set(&filter.headers()));
        let packets: Vec<Packet> =
            plan.packets.into_iter().map(|packet| filter.convert(packet).unwrap()).collect();
        assert!(packets.iter().all(|packet| packet.data().unwrap().starts_with(&[0, 0])));
        assert!(nal::h264_enters_at_once(packets[0].data().unwrap()));
        assert!(!nal::h264_enters_at_once(packets[1].data().unwrap()));
    }

    #[test]
    fn what_the_gpus_parser_reads_must_be_what_the_container_says() {
        let found = VideoFormat {
            codec: Codec::H264,
            bit_depth: 8,
            coded: (960, 544),
            visible: (960, 540),
            full_range: false,
            surfaces: 8,
        };
        let said = |format| Expected { format, width: 960, height: 540, bit_depth: 8 };
        assert_eq!(said(Pixel::YUV420P).check(&found), Ok(()));
        assert!(said(Pixel::YUVJ420P).check(&found).is_err());
        assert!(said(Pixel::YUV420P).check(&VideoFormat { visible: (960, 544), ..found }).is_err());
        assert!(said(Pixel::YUV420P).check(&VideoFormat { bit_depth: 10, ..found }).is_err());
        let full = VideoFormat { full_range: true, ..found };
        assert_eq!(said(Pixel::YUVJ420P).check(&full), Ok(()));
        assert!(said(Pixel::YUV420P).check(&full).is_err());
        // VP9 has no format of its own for it.
        assert_eq!(said(Pixel::YUV420P).check(&VideoFormat { codec: Codec::Vp9, ..full }), Ok(()));
    }
}
