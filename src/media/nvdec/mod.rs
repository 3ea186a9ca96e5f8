//! Decodes a span on an NVIDIA GPU to frames that equal libavcodec's in every sample. Where that is not
//! certain it stops with the reason, and the caller decodes in software.
//!
//! A thread of its own feeds the GPU and copies its frames, so that the GPU works while the frames are
//! digested.

mod ffi;
mod nal;
mod plan;
mod shows;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use ffmpeg::Packet;
use ffmpeg_next as ffmpeg;

use super::gpu::{GpuCodec, GpuDecoder, GpuTrouble};
use super::slab::FramePool;
use super::software::Source;
use super::{Frame, FrameMemory, MediaError, Shape, semi_planar};
use crate::nvidia::{
    Codec, DecoderCaps, FrameSink, Gpu, MappedFrame, Nvdec, NvidiaError, Samples, VideoDecoder, VideoFormat,
    gpus,
};
use ffi::AnnexB;
use plan::Plan;
use shows::Shows;

/// Frames that are decoded ahead of the caller.
const AHEAD: usize = 4;

/// NVIDIA's part of a [`GpuDecoder`]: its decoders, its pool of frames, and what it supports.
#[derive(Clone)]
pub struct Device {
    nvdec: Arc<Nvdec>,
    frames: FramePool,
    can: Vec<(Codec, u8, DecoderCaps)>,
}

/// Codecs and depths whose frames were compared to libavcodec's and found equal. AV1 was not, for want of a
/// GPU that decodes it; its specification defines every sample, and its output is checked like the others'.
const CANDIDATES: [(&str, Codec, u8); 9] = [
    ("H.264", Codec::H264, 8),
    ("HEVC", Codec::Hevc, 8),
    ("HEVC", Codec::Hevc, 10),
    ("HEVC", Codec::Hevc, 12),
    ("VP9", Codec::Vp9, 8),
    ("VP9", Codec::Vp9, 10),
    ("VP9", Codec::Vp9, 12),
    ("AV1", Codec::Av1, 8),
    ("AV1", Codec::Av1, 10),
];

/// The GPUs of this machine that decode any of these, and what is wrong with others; `only` the one with
/// this UUID.
pub(super) fn find(only: Option<&str>) -> (Vec<GpuDecoder>, Vec<MediaError>) {
    let wrong = |gpu: String, error: NvidiaError| MediaError::Gpu { gpu, reason: error.to_string() };
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    match gpus() {
        Ok(gpus) => {
            for gpu in gpus.into_iter().filter(|gpu| only.is_none_or(|uuid| gpu.uuid == uuid)) {
                match decoder(&gpu) {
                    Ok(decoder) => found.extend(decoder),
                    Err(error) => problems.push(wrong(gpu.name, error)),
                }
            }
        }
        Err(error) if error.is_no_driver() => {}
        Err(error) => problems.push(wrong("NVIDIA's driver".to_owned(), error)),
    }
    (found, problems)
}

/// Opens a GPU; `None` if it decodes nothing.
fn decoder(gpu: &Gpu) -> Result<Option<GpuDecoder>, NvidiaError> {
    let nvdec = Nvdec::open(gpu)?;
    let (mut codecs, mut can) = (Vec::new(), Vec::new());
    for (name, codec, bit_depth) in CANDIDATES {
        if let Some(caps) = nvdec.caps(codec, bit_depth)? {
            codecs.push(GpuCodec { name: name.into(), bit_depth, max: caps.max });
            can.push((codec, bit_depth, caps));
        }
    }
    // Old drivers report no engines where there is one.
    let engines = can.iter().map(|(_, _, caps)| caps.engines.max(1)).max();
    let device = Device { nvdec, frames: FramePool::default(), can };
    let (name, uuid) = (gpu.name.clone(), gpu.uuid.clone());
    Ok(engines.map(|engines| GpuDecoder { name, uuid, engines, codecs, device }))
}

/// What a driver's error means for the span and for the GPU.
fn trouble(error: NvidiaError) -> GpuTrouble {
    let text = error.to_string();
    match error {
        NvidiaError::Unsupported(what) => GpuTrouble::Unsupported(what),
        NvidiaError::Call { name, .. } if name == "CUDA_ERROR_NOT_SUPPORTED" => GpuTrouble::Unsupported(text),
        NvidiaError::Damaged | NvidiaError::Stopped => GpuTrouble::Anomaly(text),
        // The memory may be in use by others, and a stream may need what no GPU supports.
        NvidiaError::Call { name, .. }
            if matches!(name.as_str(), "CUDA_ERROR_OUT_OF_MEMORY" | "CUDA_ERROR_INVALID_VALUE") =>
        {
            GpuTrouble::Anomaly(text)
        }
        NvidiaError::NoDriver { .. }
        | NvidiaError::Unloadable { .. }
        | NvidiaError::NoSymbol { .. }
        | NvidiaError::Call { .. }
        | NvidiaError::Panicked => GpuTrouble::Failed(text),
    }
}

/// A frame, the end, or why there are no more.
type Message = Result<Option<Frame>, GpuTrouble>;

/// A span being decoded on a GPU.
pub(super) struct GpuSpan {
    /// `None` once no more frames are wanted.
    frames: Option<Receiver<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl GpuSpan {
    /// Starts to decode packets that begin with a random-access point and all have ranks. `wanted` are the
    /// ranks of the frames that must come; they are written to `memory`, or without it to the GPU's own pool.
    pub fn start(
        gpu: &GpuDecoder,
        source: &Source,
        wanted: BTreeSet<u32>,
        memory: Option<Arc<dyn FrameMemory>>,
    ) -> Result<GpuSpan, GpuTrouble> {
        let plan = Plan::new(&gpu.device.can, source, wanted)?;
        let nvdec = Arc::clone(&gpu.device.nvdec);
        let memory = memory.unwrap_or_else(|| Arc::new(gpu.device.frames.clone()));
        let (sender, frames) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new()
            .name("nvdec".to_owned())
            .spawn(move || {
                let end = decode(&nvdec, memory, plan, &sender).map(|()| None);
                // Without a receiver the span was dropped, and its end does not matter.
                let _ = sender.send(end);
            })
            .map_err(|error| GpuTrouble::Anomaly(format!("cannot start a thread: {error}")))?;
        Ok(GpuSpan { frames: Some(frames), thread: Some(thread) })
    }

    /// The next wanted frame, stamped with its rank; `None` after the last, when all have come.
    pub fn next(&mut self) -> Message {
        let message = self.frames.as_ref().and_then(|frames| frames.recv().ok());
        message.unwrap_or_else(|| Err(GpuTrouble::Failed("the GPU's thread has ended".to_owned())))
    }
}

impl Drop for GpuSpan {
    fn drop(&mut self) {
        // Without a receiver the thread ends at its next frame.
        self.frames = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported as a missing message.
            let _ = thread.join();
        }
    }
}

/// Decodes the span and sends its frames.
fn decode(
    nvdec: &Arc<Nvdec>,
    memory: Arc<dyn FrameMemory>,
    plan: Plan,
    frames: &SyncSender<Message>,
) -> Result<(), GpuTrouble> {
    let Plan { codec, packets, mut filter, expected, wanted } = plan;
    // The span's first packet need not contain the stream's headers.
    let mut headers = filter.as_ref().map(AnnexB::headers).unwrap_or_default();
    let mut entered = false;
    let shape = Shape::new(expected.format, expected.width, expected.height);
    let sink = Sink { wanted, expected, shape, memory, frames: frames.clone() };
    let mut decoder = VideoDecoder::new(nvdec, codec, sink).map_err(trouble)?;
    for packet in packets {
        let stamp = packet.pts().unwrap_or(0);
        let packet = convert(filter.as_mut(), packet)?;
        let data = packet.data().unwrap_or_default();
        if !std::mem::replace(&mut entered, true) && !enters_at_once(codec, data) {
            return Err(GpuTrouble::Unsupported("its frames only build up from its first".to_owned()));
        }
        let shows_existing = Shows::of(codec, data) == Shows::Existing;
        let decoded = if headers.is_empty() {
            decoder.decode(data, stamp, shows_existing)
        } else {
            headers.extend_from_slice(data);
            decoder.decode(&std::mem::take(&mut headers), stamp, shows_existing)
        };
        decoded.map_err(trouble)?;
    }
    decoder.finish().map_err(trouble)?;
    match decoder.sink().wanted.len() {
        0 => Ok(()),
        missing => Err(GpuTrouble::Anomaly(format!("{missing} frames did not come out of the GPU"))),
    }
}

/// Whether all frames shown from a packet on can be decoded completely.
fn enters_at_once(codec: Codec, packet: &[u8]) -> bool {
    match codec {
        Codec::H264 => nal::h264_enters_at_once(packet),
        Codec::Hevc => nal::hevc_enters_at_once(packet),
        // Their random-access points are key frames.
        Codec::Vp9 | Codec::Av1 => true,
    }
}

fn convert(filter: Option<&mut AnnexB>, packet: Packet) -> Result<Packet, GpuTrouble> {
    let Some(filter) = filter else { return Ok(packet) };
    filter.convert(packet).map_err(|error| GpuTrouble::Anomaly(format!("a packet makes no sense ({error})")))
}

/// Takes the frames from the GPU and sends them on.
struct Sink {
    /// Ranks of frames that have not come.
    wanted: BTreeSet<u32>,
    expected: plan::Expected,
    shape: Shape,
    memory: Arc<dyn FrameMemory>,
    frames: SyncSender<Message>,
}

impl Sink {
    /// Checks off a frame, which must be the first of those that have not come.
    fn take(&mut self, stamp: i64) -> Result<(), NvidiaError> {
        match self.wanted.pop_first() {
            Some(rank) if i64::from(rank) == stamp => Ok(()),
            _ => Err(NvidiaError::Damaged),
        }
    }
}

impl FrameSink for Sink {
    fn format(&mut self, format: &VideoFormat) -> Result<(), NvidiaError> {
        self.expected.check(format).map_err(NvidiaError::Unsupported)
    }

    fn wants(&self, stamp: i64) -> bool {
        u32::try_from(stamp).is_ok_and(|rank| self.wanted.contains(&rank))
    }

    fn frame(&mut self, mut mapped: MappedFrame<'_>) -> Result<(), NvidiaError> {
        self.take(mapped.stamp)?;
        // Out of memory: the software decoder takes over, and reports it.
        let frame = self.memory.blank(&self.shape, self.wanted.len() + 1);
        let mut frame = frame.map_err(|_| NvidiaError::Stopped)?;
        let video = frame.video_mut();
        video.set_pts(Some(mapped.stamp));
        let Samples { luma, chroma, stride } = mapped.download()?;
        semi_planar::read(video, (luma, chroma), stride, self.expected.bit_depth);
        self.frames.send(Ok(Some(frame))).map_err(|_| NvidiaError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_in_order_and_without_gaps() {
        let (frames, _) = sync_channel(1);
        let format = ffmpeg::format::Pixel::YUV420P;
        let expected = plan::Expected { format, width: 2, height: 2, bit_depth: 8 };
        let (shape, memory) = (Shape::new(format, 2, 2), Arc::new(FramePool::default()));
        let mut sink = Sink { wanted: [2, 3, 5, 6].into(), expected, shape, memory, frames };
        assert!(!sink.wants(1) && !sink.wants(4) && !sink.wants(-1));
        assert_eq!([2, 3, 5].map(|stamp| sink.take(stamp)), [Ok(()), Ok(()), Ok(())]);
        assert!(!sink.wants(5), "came already");
        let mut gap = Sink { wanted: [2, 3].into(), ..sink };
        assert!(gap.wants(3));
        assert_eq!(gap.take(3), Err(NvidiaError::Damaged));
    }

    #[test]
    fn what_a_drivers_error_means() {
        let call =
            |name: &str| trouble(NvidiaError::Call { call: "cuvidCreateDecoder", name: name.to_owned() });
        assert!(matches!(call("CUDA_ERROR_OUT_OF_MEMORY"), GpuTrouble::Anomaly(_)));
        assert!(matches!(call("CUDA_ERROR_NOT_SUPPORTED"), GpuTrouble::Unsupported(_)));
        assert!(matches!(call("CUDA_ERROR_ECC_UNCORRECTABLE"), GpuTrouble::Failed(_)));
        assert!(matches!(trouble(NvidiaError::Damaged), GpuTrouble::Anomaly(_)));
    }
}
