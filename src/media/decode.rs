//! Decoding one span: its packets in, its own frames out, in presentation order, each with the
//! rank of the packet that it came from. Time stamps do not reach the decoder, so that the same
//! packets give the same result wherever they stand in a film.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ffmpeg::codec::{self, threading};
use ffmpeg::{Packet, frame};
use ffmpeg_next as ffmpeg;

use super::reader::SpanPackets;
use super::{Frame, MediaError, VideoTrack, ffi};

/// A frame and its rank in presentation order among the packets of its span.
pub struct DecodedFrame {
    pub rank: u32,
    pub frame: Frame,
}

/// The name of the decoder that this track gets, for a decode step's key.
pub fn video_decoder_name(track: &VideoTrack) -> String {
    format!("{} {}", ffi::decoder_library(), track.codec)
}

/// A decoder working its way through one span.
pub struct SpanDecoder {
    decoder: codec::decoder::Opened,
    path: PathBuf,
    packets: std::vec::IntoIter<Packet>,
    /// Ranks of frames that are the span's own; `None` when its packets have no time stamps.
    own: Option<BTreeSet<u32>>,
    /// Until its first own frame has come, a decoder rightly complains of leading pictures whose
    /// references it was not given.
    has_leading: bool,
    next_rank: u32,
    sent_end: bool,
    /// Whether the codec has no packets without a picture of their own, but for second fields.
    every_packet_shows: bool,
    /// Pictures of a lower rank may be missing before the first that came: a film may begin with
    /// pictures that refer to what is not there.
    forgiven: u32,
    /// Packets that should show a picture, for tracks without ranks.
    expected: usize,
    /// Ranks of packets whose pictures the container says not to show.
    discarded: BTreeSet<u32>,
    /// Ranks of the frames that came, and whether each is interlaced.
    came: BTreeMap<u32, bool>,
}

/// Codecs in which a packet without a picture means that one is lost. In others, as in VP8 and
/// VP9, packets may hold pictures that are only referred to.
fn shows_every_packet(id: codec::Id) -> bool {
    use codec::Id;
    matches!(
        id,
        Id::H264
            | Id::HEVC
            | Id::AV1
            | Id::MPEG1VIDEO
            | Id::MPEG2VIDEO
            | Id::PRORES
            | Id::FFV1
            | Id::DNXHD
            | Id::MJPEG
    )
}

impl SpanDecoder {
    /// `threads` never changes the frames, only how soon they come.
    pub fn new(span: SpanPackets, threads: usize) -> Result<SpanDecoder, MediaError> {
        let SpanPackets { path, parameters, mut packets, ranks, is_first, .. } = span;
        let starts_with_key = packets.first().is_some_and(|packet| packet.is_key());
        // Packed MPEG-4 streams hold packets of a few bytes that stand for no picture.
        let mut expected = 0;
        for packet in &mut packets {
            expected += usize::from(packet.size() > 7 && !ffi::is_discarded(packet));
        }
        let discarded = packets.iter_mut().map(ffi::is_discarded).zip(&ranks);
        let discarded = discarded.filter_map(|(discarded, &(rank, _))| rank.filter(|_| discarded)).collect();
        let mut context = codec::Context::from_parameters(parameters)
            .map_err(|error| MediaError::library("setting up a decoder", error))?;
        context.set_threading(threading::Config {
            count: threads.max(1),
            ..threading::Config::kind(threading::Type::Frame)
        });
        let id = context.id();
        let decoder = codec::decoder::find(id)
            .ok_or_else(|| MediaError::NoDecoder { path: path.clone(), codec: format!("{id:?}") })?;
        let opened = context
            .decoder()
            .open_as(decoder)
            .map_err(|error| MediaError::library("opening a decoder", error))?;
        let timed = ranks.iter().all(|(rank, _)| rank.is_some());
        let own: BTreeSet<u32> =
            ranks.iter().filter(|&&(_, own)| own).filter_map(|&(rank, _)| rank).collect();
        let packets: Vec<Packet> = packets
            .into_iter()
            .zip(&ranks)
            .enumerate()
            .map(|(order, (mut packet, &(rank, _)))| {
                packet.set_pts(rank.map(i64::from));
                packet.set_dts(rank.map(|_| order as i64));
                packet.set_duration(0);
                packet
            })
            .collect();
        let first = ranks.first().and_then(|&(rank, _)| rank);
        Ok(SpanDecoder {
            decoder: opened,
            path,
            packets: packets.into_iter(),
            has_leading: first.is_some_and(|first| first > 0),
            every_packet_shows: shows_every_packet(id),
            forgiven: if !is_first {
                0
            } else if starts_with_key {
                first.unwrap_or(0)
            } else {
                u32::MAX
            },
            expected,
            discarded,
            came: BTreeMap::new(),
            own: timed.then_some(own),
            next_rank: 0,
            sent_end: false,
        })
    }

    /// The next of the span's own frames; `None` after the last.
    pub fn next_frame(&mut self) -> Result<Option<DecodedFrame>, MediaError> {
        loop {
            let mut video = frame::Video::empty();
            match self.decoder.receive_frame(&mut video) {
                Ok(()) => {
                    let rank = match (&self.own, video.pts()) {
                        (None, _) => Some(self.next_rank),
                        (Some(own), Some(stamp)) => {
                            u32::try_from(stamp).ok().filter(|rank| own.contains(rank))
                        }
                        (Some(_), None) => {
                            return Err(self.damaged("a picture came without its time stamp"));
                        }
                    };
                    let Some(rank) = rank else { continue };
                    if ffi::is_damaged(&video) {
                        return Err(self.damaged("a picture could not be decoded without errors"));
                    }
                    if self.own.is_some() && rank < self.next_rank {
                        return Err(self.damaged("pictures came out of order"));
                    }
                    self.next_rank = rank + 1;
                    self.has_leading = false;
                    self.came.insert(rank, video.is_interlaced());
                    return Ok(Some(DecodedFrame { rank, frame: Frame::new(video) }));
                }
                Err(ffmpeg::Error::Eof) => return self.check_complete().map(|()| None),
                Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => self.feed()?,
                Err(ffmpeg::Error::InvalidData) if self.has_leading => {}
                Err(error) => {
                    return Err(self.damaged(&format!("a picture could not be decoded ({error})")));
                }
            }
        }
    }

    /// Makes sure that no picture was swallowed. A span that does not begin with the picture of
    /// its first packet was cut where the stream cannot be entered.
    fn check_complete(&self) -> Result<(), MediaError> {
        let Some(own) = &self.own else {
            let missing = self.expected.saturating_sub(self.came.len());
            let interlaced = self.came.values().any(|&interlaced| interlaced);
            if missing == 0 || !self.every_packet_shows || interlaced || self.forgiven == u32::MAX {
                return Ok(());
            }
            return Err(MediaError::Incomplete { path: self.path.clone(), missing, all: self.expected });
        };
        let first_came = self.came.keys().next().copied();
        let missing = own
            .iter()
            .filter(|rank| !self.came.contains_key(rank) && !self.discarded.contains(rank))
            .filter(|&&rank| {
                let before_all = first_came.is_none_or(|first| rank < first);
                // The second field of a picture may have a packet of its own.
                let second_field = || {
                    let before = rank.checked_sub(1).and_then(|before| self.came.get(&before));
                    before.is_some_and(|&interlaced| interlaced)
                };
                if before_all { rank >= self.forgiven } else { self.every_packet_shows && !second_field() }
            })
            .count();
        if missing == 0 {
            return Ok(());
        }
        Err(MediaError::Incomplete { path: self.path.clone(), missing, all: own.len() })
    }

    fn feed(&mut self) -> Result<(), MediaError> {
        let result = match self.packets.next() {
            Some(packet) => self.decoder.send_packet(&packet),
            None if self.sent_end => return Err(self.damaged("the decoder does not finish")),
            None => {
                self.sent_end = true;
                self.decoder.send_eof()
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(ffmpeg::Error::InvalidData) if self.has_leading => Ok(()),
            Err(error) => Err(self.damaged(&format!("a packet could not be decoded ({error})"))),
        }
    }

    fn damaged(&self, detail: &str) -> MediaError {
        MediaError::Damaged { path: self.path.clone(), detail: detail.to_owned() }
    }
}

/// Of the codecs that people have films in, those that a decoder was found for.
pub fn decodable_codecs() -> Vec<&'static str> {
    use codec::Id;
    ffi::init();
    let codecs = [
        ("H.264", Id::H264),
        ("HEVC", Id::HEVC),
        ("AV1", Id::AV1),
        ("VP9", Id::VP9),
        ("VP8", Id::VP8),
        ("MPEG-2", Id::MPEG2VIDEO),
        ("MPEG-4", Id::MPEG4),
        ("ProRes", Id::PRORES),
        ("DNxHD", Id::DNXHD),
        ("FFV1", Id::FFV1),
    ];
    codecs.into_iter().filter(|&(_, id)| codec::decoder::find(id).is_some()).map(|(name, _)| name).collect()
}
