//! Decoding one span: its packets in, its own frames out, in presentation order, each with the
//! rank of the packet that it came from. Time stamps do not reach the decoder, so that the same
//! packets give the same result at every position in a source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use ffmpeg::{Packet, codec};
use ffmpeg_next as ffmpeg;

use super::gpu::{GpuDecoder, GpuTrouble};
use super::nvdec::GpuSpan;
use super::reader::SpanPackets;
use super::software::{SoftwareDecoder, Source};
use super::{Frame, FrameMemory, MediaError, ffi};

/// A frame and its rank in presentation order among the packets of its span.
pub struct RankedFrame {
    pub rank: u32,
    pub frame: Frame,
}

/// A decoder of one span.
pub struct SpanDecoder {
    backend: Backend,
    path: PathBuf,
    /// The input of the software decoder, kept in case the GPU fails.
    reserve: Option<Source>,
    trouble: Option<GpuTrouble>,
    /// Frames of lower ranks were handed out before software took over.
    handed_out: u32,
    /// Ranks of frames that are the span's own; `None` when its packets have no time stamps.
    own: Option<BTreeSet<u32>>,
    /// Whether frames are shown before the first packet's.
    begins_with_leading: bool,
    /// Until the first of the span's own frames, errors are expected: leading frames refer to frames of the
    /// span before.
    has_leading: bool,
    next_rank: u32,
    /// Whether every packet of the codec shows a frame, second fields aside.
    every_packet_shows: bool,
    /// Frames of a lower rank may be missing before the first one: a source may begin with frames whose
    /// references it does not contain.
    forgiven: u32,
    /// The number of packets that show a frame, for tracks without ranks.
    expected: usize,
    /// Ranks of packets whose frames the container says not to show.
    discarded: BTreeSet<u32>,
    /// Ranks of the frames that came, and whether each is interlaced.
    came: BTreeMap<u32, bool>,
}

/// The decoder in use.
enum Backend {
    Software(SoftwareDecoder),
    Gpu(GpuSpan),
    /// A scripted GPU, for tests without one.
    #[cfg(test)]
    Scripted(std::vec::IntoIter<tests::Message>),
}

/// The next output of a decoder.
enum Next {
    Frame(RankedFrame),
    /// A frame of another span.
    Foreign,
    End,
}

/// Why a decoder has no next output.
enum Fault {
    Media(MediaError),
    Gpu(GpuTrouble),
}

impl From<MediaError> for Fault {
    fn from(error: MediaError) -> Fault {
        Fault::Media(error)
    }
}

/// Codecs in which a packet without a frame means that a frame is lost. In others, such as VP8 and VP9,
/// packets may hold frames that are only referred to.
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
        let path = span.path.clone();
        let (source, rules) = prepare(span, threads);
        let backend = Backend::Software(SoftwareDecoder::open(source, &path)?);
        Ok(SpanDecoder::with(backend, path, rules))
    }

    /// Decodes on a GPU, and falls back to software when the GPU fails or declines: frames and errors are the
    /// same. [`SpanDecoder::gpu_trouble`] tells why. The GPU's frames are written to `memory`, or without one
    /// to a pool of the GPU's own.
    pub fn on_gpu(
        span: SpanPackets,
        threads: usize,
        gpu: &GpuDecoder,
        memory: Option<Arc<dyn FrameMemory>>,
    ) -> Result<SpanDecoder, MediaError> {
        let path = span.path.clone();
        let (source, rules) = prepare(span, threads);
        // Decoders differ in how they conceal missing references.
        let enters_cleanly = rules.starts_with_key && (!rules.is_first || rules.first_rank == Some(0));
        let started = match &rules.own {
            Some(own) if enters_cleanly => {
                let wanted = own.difference(&rules.discarded).copied().collect();
                GpuSpan::start(gpu, &source, wanted, memory)
            }
            _ => Err(GpuTrouble::Unsupported("it has no known random-access point".to_owned())),
        };
        let (backend, reserve, trouble) = match started {
            Ok(span) => (Backend::Gpu(span), Some(source), None),
            Err(trouble) => (Backend::Software(SoftwareDecoder::open(source, &path)?), None, Some(trouble)),
        };
        Ok(SpanDecoder { reserve, trouble, ..SpanDecoder::with(backend, path, rules) })
    }

    fn with(backend: Backend, path: PathBuf, rules: Rules) -> SpanDecoder {
        let begins_with_leading = rules.first_rank.is_some_and(|first| first > 0);
        SpanDecoder {
            backend,
            path,
            reserve: None,
            trouble: None,
            handed_out: 0,
            begins_with_leading,
            has_leading: begins_with_leading,
            every_packet_shows: rules.every_packet_shows,
            forgiven: if !rules.is_first {
                0
            } else if rules.starts_with_key {
                rules.first_rank.unwrap_or(0)
            } else {
                u32::MAX
            },
            expected: rules.expected,
            discarded: rules.discarded,
            came: BTreeMap::new(),
            own: rules.own,
            next_rank: 0,
        }
    }

    /// Why the span is decoded in software though a GPU was given; `None` while the GPU decodes it.
    pub fn gpu_trouble(&self) -> Option<&GpuTrouble> {
        self.trouble.as_ref()
    }

    /// The next of the span's own frames; `None` after the last.
    pub fn next_frame(&mut self) -> Result<Option<RankedFrame>, MediaError> {
        loop {
            match self.advance() {
                Ok(Next::Frame(decoded)) if decoded.rank >= self.handed_out => return Ok(Some(decoded)),
                Ok(Next::Frame(_) | Next::Foreign) => {}
                Ok(Next::End) => return Ok(None),
                Err(fault) => self.fall_back(fault)?,
            }
        }
    }

    fn advance(&mut self) -> Result<Next, Fault> {
        let next = match &mut self.backend {
            Backend::Software(decoder) => {
                let next = decoder.next(self.has_leading).map_err(|detail| self.damaged(&detail))?;
                next.map(Frame::new)
            }
            Backend::Gpu(span) => span.next().map_err(Fault::Gpu)?,
            #[cfg(test)]
            Backend::Scripted(messages) => messages.next().unwrap_or(Ok(None)).map_err(Fault::Gpu)?,
        };
        Ok(match next {
            Some(frame) => self.take(frame)?,
            None => {
                self.check_complete()?;
                Next::End
            }
        })
    }

    fn take(&mut self, frame: Frame) -> Result<Next, MediaError> {
        let video = frame.video();
        let rank = match (&self.own, video.pts()) {
            (None, _) => Some(self.next_rank),
            (Some(own), Some(stamp)) => u32::try_from(stamp).ok().filter(|rank| own.contains(rank)),
            (Some(_), None) => {
                return Err(self.damaged("a frame came without its time stamp"));
            }
        };
        let Some(rank) = rank else { return Ok(Next::Foreign) };
        if ffi::is_damaged(video) {
            return Err(self.damaged("a frame could not be decoded without errors"));
        }
        if self.own.is_some() && rank < self.next_rank {
            return Err(self.damaged("frames came out of order"));
        }
        self.next_rank = rank + 1;
        self.has_leading = false;
        self.came.insert(rank, video.is_interlaced());
        Ok(Next::Frame(RankedFrame { rank, frame }))
    }

    /// Falls back to the software decoder, which starts at the beginning of the span and reports the span's
    /// own errors. Frames that were returned before are skipped.
    fn fall_back(&mut self, fault: Fault) -> Result<(), MediaError> {
        let Some(source) = self.reserve.take() else {
            return Err(match fault {
                Fault::Media(error) => error,
                Fault::Gpu(trouble) => self.damaged(&trouble.to_string()),
            });
        };
        self.trouble = Some(match fault {
            Fault::Media(error) => GpuTrouble::Anomaly(error.to_string()),
            Fault::Gpu(trouble) => trouble,
        });
        self.backend = Backend::Software(SoftwareDecoder::open(source, &self.path)?);
        self.handed_out = self.next_rank;
        self.next_rank = 0;
        self.has_leading = self.begins_with_leading;
        self.came.clear();
        Ok(())
    }

    /// Checks that no frame is missing. A span whose first frame is not that of its first packet starts at no
    /// random-access point.
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
                // The second field of a frame may have a packet of its own.
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

    fn damaged(&self, detail: &str) -> MediaError {
        MediaError::Damaged { path: self.path.clone(), detail: detail.to_owned() }
    }
}

/// The frames that a span must decode to, as far as its packets tell.
struct Rules {
    own: Option<BTreeSet<u32>>,
    first_rank: Option<u32>,
    starts_with_key: bool,
    is_first: bool,
    every_packet_shows: bool,
    expected: usize,
    discarded: BTreeSet<u32>,
}

/// Stamps the packets with their ranks, and derives the frames that they must decode to.
fn prepare(span: SpanPackets, threads: usize) -> (Source, Rules) {
    let SpanPackets { parameters, mut packets, ranks, is_first, .. } = span;
    let starts_with_key = packets.first().is_some_and(|packet| packet.is_key());
    // Packed MPEG-4 streams have packets of a few bytes without a frame.
    let mut expected = 0;
    for packet in &mut packets {
        expected += usize::from(packet.size() > 7 && !ffi::is_discarded(packet));
    }
    let discarded = packets.iter_mut().map(ffi::is_discarded).zip(&ranks);
    let discarded = discarded.filter_map(|(discarded, &(rank, _))| rank.filter(|_| discarded)).collect();
    let timed = ranks.iter().all(|(rank, _)| rank.is_some());
    let own: BTreeSet<u32> = ranks.iter().filter(|&&(_, own)| own).filter_map(|&(rank, _)| rank).collect();
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
    let rules = Rules {
        own: timed.then_some(own),
        first_rank: ranks.first().and_then(|&(rank, _)| rank),
        starts_with_key,
        is_first,
        every_packet_shows: shows_every_packet(parameters.codec_id()),
        expected,
        discarded,
    };
    (Source { parameters, packets, threads }, rules)
}

/// Of the codecs that sources commonly have, those that a decoder was found for.
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

#[cfg(test)]
mod tests;
