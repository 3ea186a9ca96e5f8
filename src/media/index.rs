//! The result of one pass over a source's packets: plain data, small enough to keep, without paths or
//! anything else that a copy of the file would not have.

use serde::{Deserialize, Serialize};

use super::{Colour, HdrMetadata, Rational, ffi};

/// The tracks of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// FFmpeg's name of the container, e.g. `mov,mp4,m4a,3gp,3g2,mj2`.
    pub container: String,
    pub video: VideoTrack,
    pub audio: Vec<AudioTrack>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoTrack {
    /// The stream's number in the container.
    pub stream: usize,
    /// FFmpeg's name of the codec, e.g. `h264`.
    pub codec: String,
    /// BLAKE3 of what a decoder is opened with (codec, extradata, coded size).
    pub parameters: [u8; 32],
    /// Coded frame size in samples.
    pub width: u32,
    pub height: u32,
    /// Sample aspect ratio, width over height.
    pub sample_aspect: Rational,
    /// How a player rotates the frame before showing it.
    pub rotation: Rotation,
    /// FFmpeg's name of the pixel format, e.g. `yuv420p10le`.
    pub pixel_format: String,
    /// Bits of a sample, 8 to 16.
    pub bit_depth: u8,
    pub colour: Colour,
    pub hdr: HdrMetadata,
    pub time_base: Rational,
    /// Frame rates that the container declares, best first; time stamps take precedence.
    pub claimed_rates: Vec<Rational>,
    /// Presentation time stamps in decode order, in units of `time_base`, all different. Empty
    /// when the container has none that can be trusted.
    pub stamps: Vec<i64>,
    /// Where `stamps` is empty: the stamps that there are, sorted, one a packet, for frames in decode order.
    /// Empty when there are none at all; then frames come at the declared rate.
    pub sorted_stamps: Vec<i64>,
    /// Duration of the packet that is shown last, in units of `time_base`; 0 if unknown.
    pub last_duration: u64,
    /// All packets, in decode order.
    pub packets: u64,
    pub spans: Vec<Span>,
    /// The digest of the track as one span.
    pub whole: SpanDigest,
}

/// Clockwise rotation in degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rotation {
    #[default]
    None,
    Rotate90,
    Rotate180,
    Rotate270,
}

impl Rotation {
    pub fn swaps_sides(self) -> bool {
        matches!(self, Rotation::Rotate90 | Rotation::Rotate270)
    }
}

/// BLAKE3 of a span's packets: for each its place in presentation order within the span, its
/// flags, and its bytes; no time stamp and no position in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanDigest(pub [u8; 32]);

/// A stretch of the video track that decodes by itself: the packets `first..end` in decode
/// order, of which the frames shown from `first`'s time stamp to the next span's are its own.
/// With open groups of pictures neighbouring spans overlap: leading pictures after the next
/// random-access point are shown before it, and need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub first: u64,
    pub end: u64,
    pub digest: SpanDigest,
}

impl VideoTrack {
    /// How long the track is by its time stamps, or, without any, by the rate that the container claims.
    pub fn claimed_seconds(&self) -> f64 {
        let stamps = if self.stamps.is_empty() { &self.sorted_stamps } else { &self.stamps };
        let ratio = |ratio: &Rational| ratio.num as f64 / ratio.den.max(1) as f64;
        match (stamps.iter().min(), stamps.iter().max(), self.claimed_rates.first()) {
            (Some(first), Some(last), _) => {
                (last.abs_diff(*first) + self.last_duration) as f64 * ratio(&self.time_base)
            }
            (_, _, Some(rate)) if rate.num > 0 => self.packets as f64 / ratio(rate),
            _ => 0.0,
        }
    }

    /// The track as one span, which decodes correctly even if its random-access points are wrong.
    pub fn as_one_span(&self) -> VideoTrack {
        let span = Span { first: 0, end: self.packets, digest: self.whole };
        VideoTrack { spans: vec![span], ..self.clone() }
    }

    /// The display aspect ratio, after rotation: width over height.
    pub fn display_aspect(&self) -> Rational {
        let wide = u64::from(self.width) * self.sample_aspect.num;
        let high = u64::from(self.height) * self.sample_aspect.den;
        let (across, down) = if self.rotation.swaps_sides() { (high, wide) } else { (wide, high) };
        Rational::new(across, down).unwrap_or(Rational { num: 1, den: 1 })
    }

    /// Bytes that a decoded frame takes in memory, about: decoders pad a little.
    pub fn frame_bytes(&self) -> u64 {
        ffi::image_bytes(&self.pixel_format, self.width, self.height).unwrap_or_else(|| {
            // 4:4:4 at worst.
            u64::from(self.width) * u64::from(self.height) * if self.bit_depth > 8 { 6 } else { 3 }
        })
    }

    /// Time stamps of the frames that belong to a span, in order.
    pub fn shown_by(&self, span: usize) -> Vec<i64> {
        let Some(&Span { first, end, .. }) = self.spans.get(span) else {
            return Vec::new();
        };
        let own = self.own_stamps(span);
        let packets = self.stamps.get(first as usize..end as usize).unwrap_or_default();
        let mut stamps: Vec<i64> = packets.iter().copied().filter(|stamp| own.contains(stamp)).collect();
        stamps.sort();
        stamps
    }

    /// The height of the frame in samples, after rotation.
    pub fn display_height(&self) -> u32 {
        if self.rotation.swaps_sides() { self.width } else { self.height }
    }

    /// The presentation ranks of the packets that a span feeds: for each packet in decode
    /// order its place in presentation order, and whether its frame belongs to the span.
    /// `None` for each rank where the track has no time stamps.
    pub fn ranks(&self, span: usize) -> Vec<(Option<u32>, bool)> {
        let Some(&Span { first, end, .. }) = self.spans.get(span) else {
            return Vec::new();
        };
        if self.stamps.is_empty() {
            return vec![(None, true); (end - first) as usize];
        }
        let stamps = &self.stamps[first as usize..end as usize];
        let own = self.own_stamps(span);
        let mut order: Vec<usize> = (0..stamps.len()).collect();
        order.sort_by_key(|&packet| stamps[packet]);
        let mut ranks = vec![(None, false); stamps.len()];
        for (rank, packet) in order.into_iter().enumerate() {
            ranks[packet] = (Some(rank as u32), own.contains(&stamps[packet]));
        }
        ranks
    }

    /// Time stamps of the frames that belong to a span.
    fn own_stamps(&self, span: usize) -> std::ops::Range<i64> {
        let at = |span: &Span| self.stamps.get(span.first as usize).copied();
        let from = if span == 0 { i64::MIN } else { self.spans.get(span).and_then(at).unwrap_or(i64::MIN) };
        from..self.spans.get(span + 1).and_then(at).unwrap_or(i64::MAX)
    }

    /// The time stamps of a span's packets by presentation rank.
    pub fn stamps_by_rank(&self, span: usize) -> Vec<i64> {
        let Some(&Span { first, end, .. }) = self.spans.get(span) else {
            return Vec::new();
        };
        let mut stamps = self.stamps.get(first as usize..end as usize).unwrap_or_default().to_vec();
        stamps.sort();
        stamps
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioTrack {
    pub stream: usize,
    pub codec: String,
    /// BLAKE3 of what a decoder is opened with and of all packets with their time stamps.
    pub packets_digest: [u8; 32],
    pub packets: u64,
    pub sample_rate: u32,
    pub channels: u32,
    /// As the container has it, e.g. an ISO 639-2 code; empty if there is none.
    pub language: String,
    /// Whether the container marks it as the default track.
    pub default: bool,
}
