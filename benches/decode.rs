//! How fast a build gets its pictures, from processes of their own in which each picture is digested and
//! looked at for cuts. All of a film is measured in one run, and quoted as ratios.
//!
//! Of software, on one thread and on two side by side, to what the bare decoder makes. Of a GPU to a bare
//! loop that has it decode the same packets and looks at none of its pictures: with 1 decoder, 2, and so on
//! to as many as there are engines, and with twice as many; besides, what reaches the host, and what is
//! digested there.
//!
//! `cargo bench --bench decode -- FILM…` with H.264 or HEVC in MP4, Matroska or MPEG-TS. `RIVET` names the
//! program that is to be the processes, where the one that was built with this is elsewhere.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use ffmpeg_next as ffmpeg;
use rivet::testing::media::{
    self, Codecs, CodecsHere, DecodeOptions, GpuDecoder, OnGpu, PacketReader, SpanDecoder, VideoTrack,
};
use rivet::testing::nvidia::{
    self, Codec, FrameSink, MappedFrame, Nvdec, NvidiaError, VideoDecoder, VideoFormat,
};
use rivet::testing::workers::{WorkerCodecs, WorkerCommand, WorkerOptions, WorkerPool};

const DEFAULT: &str = "tests/media/bbb_854x480_24_30s.mp4";
/// Each decoder goes through the film as often as it takes to make so many frames.
const FRAMES: usize = 500;

fn main() {
    let arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let mut films: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if films.is_empty() {
        films.push(DEFAULT.into());
    }
    let (gpus, _) = media::gpu_decoders();
    for film in films {
        let track = Arc::new(media::scan(&film, &|| false).expect("a film").video);
        println!("{}: {} {}x{}, frames a second", film.display(), track.codec, track.width, track.height);
        software(&film, &track);
        match gpus.first() {
            Some(gpu) => hardware(&film, &track, gpu),
            None => println!("there is no GPU that decodes on this machine"),
        }
    }
}

/// How often a decoder goes through a film, and how many frames it makes then.
fn rounds(track: &VideoTrack) -> (usize, usize) {
    let rounds = FRAMES.div_ceil(track.packets as usize);
    (rounds, rounds * track.packets as usize)
}

fn percent(rate: f64, bare: f64) -> f64 {
    100.0 * rate / bare
}

fn software(film: &Path, track: &Arc<VideoTrack>) {
    println!("software      bare   and looked at  of bare   in a build  of bare");
    let (rounds, frames) = rounds(track);
    let (here, apart) = (CodecsHere, workers());
    let bare = || spans(film, track, None, false, rounds);
    let looked_at = || spans_of_a_build(film, track, None, &here, rounds);
    let built = || spans_of_a_build(film, track, None, &apart, rounds);
    rate(frames, 1, &bare);
    for decoders in 1..=2 {
        let (bare, looked_at) = (rate(frames, decoders, &bare), rate(frames, decoders, &looked_at));
        // Processes start with their first span, and are kept.
        rate(frames, decoders, &built);
        let built = rate(frames, decoders, &built);
        println!(
            "{decoders:>8} {bare:>9.0} {looked_at:>15.0} {:>7.0}% {built:>12.0} {:>7.0}%",
            percent(looked_at, bare),
            percent(built, bare)
        );
    }
}

fn hardware(film: &Path, track: &Arc<VideoTrack>, gpu: &GpuDecoder) {
    println!("{}, {} engines", gpu.name, gpu.engines);
    let stream = Stream::read(film, track);
    let nvdec = nvidia::gpus()
        .and_then(|gpus| Nvdec::open(gpus.iter().find(|other| other.uuid == gpu.uuid).unwrap_or(&gpus[0])))
        .expect("the GPU");
    let (rounds, frames) = rounds(track);
    println!("decoders      bare   on the host  of bare   and digested  of bare   in a build  of bare");
    let codecs = workers();
    let bare = || -> Work<'_> { Box::new(|| (0..rounds).for_each(|_| stream.decode(&nvdec))) };
    let fetched = || spans(film, track, Some(gpu), false, rounds);
    let digested = || spans(film, track, Some(gpu), true, rounds);
    let built = || spans_of_a_build(film, track, Some(gpu), &codecs, rounds);
    // Decoders are made the first time, and kept.
    rate(frames, 1, &bare);
    let engines = gpu.engines as usize;
    for decoders in (1..=engines).chain([2 * engines]) {
        let bare = rate(frames, decoders, &bare);
        let (fetched, digested) = (rate(frames, decoders, &fetched), rate(frames, decoders, &digested));
        // The processes open the GPU with their first span, and are kept.
        rate(frames, decoders, &built);
        let built = rate(frames, decoders, &built);
        println!(
            "{decoders:>8} {bare:>9.0} {fetched:>13.0} {:>7.0}% {digested:>14.0} {:>7.0}% {built:>12.0} {:>7.0}%",
            percent(fetched, bare),
            percent(digested, bare),
            percent(built, bare)
        );
    }
}

/// What is measured, readied.
type Work<'a> = Box<dyn FnOnce() + 'a>;

/// Frames a second of so many decoders side by side, of which each makes so many frames.
fn rate<'a>(frames: usize, decoders: usize, ready: &(dyn Fn() -> Work<'a> + Sync)) -> f64 {
    let start = Barrier::new(decoders + 1);
    let seconds = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..decoders)
            .map(|_| {
                scope.spawn(|| {
                    let work = ready();
                    start.wait();
                    work();
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        workers.into_iter().for_each(|worker| worker.join().expect("the work is done"));
        began.elapsed().as_secs_f64()
    });
    (frames * decoders) as f64 / seconds
}

/// What rivet does: every span of the film, one after the other.
fn spans<'a>(
    film: &Path,
    track: &'a Arc<VideoTrack>,
    gpu: Option<&'a GpuDecoder>,
    digests: bool,
    rounds: usize,
) -> Work<'a> {
    let mut reader = PacketReader::open(film, Arc::clone(track)).expect("the film");
    let numbers = (0..rounds).flat_map(|_| 0..track.spans.len());
    Box::new(move || {
        for number in numbers {
            let span = reader.read_span(number).expect("a span");
            let mut decoder = match gpu {
                Some(gpu) => SpanDecoder::on_gpu(span, 1, gpu, None),
                None => SpanDecoder::new(span, 1),
            }
            .expect("a decoder");
            while let Some(decoded) = decoder.next_frame().expect("a frame") {
                if digests {
                    std::hint::black_box(decoded.frame.digest());
                }
            }
            assert_eq!(decoder.gpu_trouble(), None);
        }
    })
}

/// Decoding in processes, as a build does it.
fn workers() -> WorkerCodecs {
    let program = std::env::var_os("RIVET").unwrap_or_else(|| env!("CARGO_BIN_EXE_rivet").into());
    let command = WorkerCommand {
        program: program.into(),
        arguments: vec!["worker".into(), "--shared-memory".into()],
        shares_memory: true,
    };
    let options = WorkerOptions { command, timeout: Duration::from_secs(60) };
    WorkerCodecs::new(Arc::new(WorkerPool::new(options, Arc::default())))
}

/// What a build does: each picture is digested, looked at for cuts, and handed over.
fn spans_of_a_build<'a>(
    film: &Path,
    track: &'a Arc<VideoTrack>,
    gpu: Option<&'a GpuDecoder>,
    codecs: &'a dyn Codecs,
    rounds: usize,
) -> Work<'a> {
    let mut reader = PacketReader::open(film, Arc::clone(track)).expect("the film");
    let numbers = (0..rounds).flat_map(|_| 0..track.spans.len());
    let options =
        DecodeOptions { threads: 1, frames: true, at_once: true, gpu: gpu.map(|gpu| gpu.uuid.clone()) };
    Box::new(move || {
        for number in numbers {
            let span = reader.read_span(number).expect("a span");
            let mut decoding = codecs.open(span, &options).expect("a worker");
            while decoding.next_frame().expect("a picture").is_some() {}
            assert_eq!(decoding.on_gpu(), gpu.map(|_| OnGpu::Did));
        }
    })
}

/// The film as a byte stream, in memory.
struct Stream {
    codec: Codec,
    /// Each with its picture's rank in presentation order: a parser mends stamps that do not grow.
    packets: Vec<(i64, Vec<u8>)>,
}

impl Stream {
    fn read(film: &Path, track: &VideoTrack) -> Stream {
        let codec = match track.codec.as_str() {
            "h264" => Codec::H264,
            "hevc" => Codec::Hevc,
            other => panic!("{other} is not measured here"),
        };
        let mut input = ffmpeg::format::input(film).expect("a film");
        let parameters = input.stream(track.stream).expect("a video track").parameters();
        // SAFETY: live parameters have so many bytes of extradata, or none.
        let extradata = unsafe {
            let parameters = &*parameters.as_ptr();
            match parameters.extradata.is_null() {
                true => &[],
                false => std::slice::from_raw_parts(parameters.extradata, parameters.extradata_size as usize),
            }
        };
        let stored = extradata.first() == Some(&1);
        // They are part of the first packet: each stands for a picture.
        let mut headers = if stored { headers(codec, extradata) } else { Vec::new() };
        let mut packets = Vec::new();
        let mut stamps = Vec::new();
        let mut packet = ffmpeg::Packet::empty();
        while packet.read(&mut input).is_ok() {
            if packet.stream() == track.stream {
                let data = packet.data().unwrap_or_default();
                let data = if stored { byte_stream(data) } else { data.to_vec() };
                packets.push([std::mem::take(&mut headers), data].concat());
                stamps.push(packet.pts().expect("a time stamp"));
            }
        }
        let mut shown = stamps.clone();
        shown.sort_unstable();
        let ranks = stamps.iter().map(|stamp| shown.partition_point(|earlier| earlier < stamp) as i64);
        Stream { codec, packets: ranks.zip(packets).collect() }
    }

    fn decode(&self, nvdec: &Arc<Nvdec>) {
        let mut decoder = VideoDecoder::new(nvdec, self.codec, Blind).expect("a decoder");
        for (rank, packet) in &self.packets {
            decoder.decode(packet, *rank, false).expect("a picture");
        }
        decoder.finish().expect("the last pictures");
    }
}

/// Takes every picture and looks at none.
struct Blind;

impl FrameSink for Blind {
    fn format(&mut self, _: &VideoFormat) -> Result<(), NvidiaError> {
        Ok(())
    }

    fn wants(&self, _: i64) -> bool {
        true
    }

    fn frame(&mut self, _: MappedFrame<'_>) -> Result<(), NvidiaError> {
        Ok(())
    }
}

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The parameter sets of `avcC` or `hvcC` (ISO/IEC 14496-15) as a byte stream.
fn headers(codec: Codec, mut stored: &[u8]) -> Vec<u8> {
    let mut take = |count: usize| {
        let (taken, rest) = stored.split_at(count);
        stored = rest;
        taken.iter().fold(0, |value, &byte| value << 8 | usize::from(byte)).min(1 << 16)
    };
    let mut sizes = Vec::new();
    let fixed = if codec == Codec::H264 { 5 } else { 22 };
    (0..fixed).for_each(|_| {
        take(1);
    });
    let arrays = if codec == Codec::H264 { 2 } else { take(1) };
    for array in 0..arrays {
        let units = match (codec, array) {
            (Codec::H264, 0) => take(1) & 0x1f,
            (Codec::H264, _) => take(1),
            _ => {
                take(1);
                take(2)
            }
        };
        for _ in 0..units {
            let size = take(2);
            sizes.push((0..size).map(|_| take(1) as u8).collect::<Vec<u8>>());
        }
    }
    sizes.into_iter().flat_map(|unit| START_CODE.into_iter().chain(unit)).collect()
}

/// Start codes in place of sizes of four bytes.
fn byte_stream(mut stored: &[u8]) -> Vec<u8> {
    let mut stream = Vec::with_capacity(stored.len());
    while let Some((size, rest)) = stored.split_first_chunk::<4>() {
        let (unit, rest) = rest.split_at(rest.len().min(u32::from_be_bytes(*size) as usize));
        stream.extend(START_CODE);
        stream.extend_from_slice(unit);
        stored = rest;
    }
    stream
}
