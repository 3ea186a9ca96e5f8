//! Whole builds of one clip, with codecs and devices that do what a test wants of them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::Options;
use super::engine::{Engine, Settings};
use super::event::Event;
use super::outcome::Outcome;
use crate::cache::{Digest, LocalCache, Tiers};
use crate::executors::{EncodeJob, EncodedChunk, EncoderSettings, Executor, Failure, FailureKind, Rav1e};
use crate::media::{
    self, AudioSink, AudioSource, AudioWindow, Codecs, CodecsHere, DecodeOptions, DecodedFrame, Decoding,
    GpuAbout, GpuCodec, Index, Libraries, MediaError, OnGpu, PacketReader, SpanPackets,
};
use crate::steps::Kind;
use crate::steps::context::StepContext;
use crate::steps::frames::{ChunkFrames, FrameSource, RetainedFrame};
use crate::steps::memory::Memory;
use crate::steps::tools::Tools;
use crate::title::chunk::Chunk;
use crate::title::ids::{ChunkId, TitleId};

/// Six spans, all but the last as long as each other.
const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/friday_640x480_30_aac.mp4");
const SPANS: usize = 6;
/// Builds and what they wait for take a few seconds; what takes this long hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Keeps others waiting until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().unwrap();
        let waited = self.opened.wait_timeout_while(is_open, TIMEOUT, |is_open| !*is_open).unwrap();
        assert!(!waited.1.timed_out(), "a gate that nobody opens");
    }
}

/// A device that is rav1e, but for what `before` says of an attempt, by its number from 0.
struct Device<F> {
    rav1e: Rav1e,
    attempts: AtomicUsize,
    before: F,
}

fn device(before: impl Fn(usize) -> Result<(), Failure> + Send + Sync + 'static) -> Vec<Arc<dyn Executor>> {
    vec![Arc::new(Device { rav1e: Rav1e::new(1), attempts: AtomicUsize::new(0), before })]
}

fn refused() -> Failure {
    Failure { kind: FailureKind::ResourceExhausted, message: "no session".to_owned() }
}

impl<F: Fn(usize) -> Result<(), Failure> + Send + Sync> Executor for Device<F> {
    fn name(&self) -> &str {
        "device"
    }

    fn encoder(&self) -> &str {
        "nvenc"
    }

    fn identity(&self) -> String {
        "a device".to_owned()
    }

    fn slots(&self) -> usize {
        1
    }

    fn is_device(&self) -> bool {
        true
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let mut task = job.task.clone();
        task.settings.encoder = EncoderSettings::Rav1e { speed: 10, tiles: 1 };
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        (self.before)(attempt).and_then(|()| self.rav1e.encode(&EncodeJob { task: &task, ..*job }))
    }
}

/// How a span is decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Play {
    Well,
    /// Every two pictures change places.
    Otherwise,
    /// It does not decode by itself.
    Damaged,
    /// Not by the GPU.
    Declined,
}

/// The codecs of this process, but for what `play` says of each span that a decode step opens, by the
/// number of those before it.
struct Player<F> {
    opened: AtomicUsize,
    play: F,
}

fn player(play: impl Fn(usize, &DecodeOptions) -> Play + Send + Sync + 'static) -> Arc<dyn Codecs> {
    Arc::new(Player { opened: AtomicUsize::new(0), play })
}

impl<F: Fn(usize, &DecodeOptions) -> Play + Send + Sync> Codecs for Player<F> {
    fn scan(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Index, MediaError> {
        CodecsHere.scan(path, cancelled)
    }

    fn open(&self, span: SpanPackets, options: &DecodeOptions) -> Result<Box<dyn Decoding>, MediaError> {
        let play = match options.at_once {
            true => (self.play)(self.opened.fetch_add(1, Ordering::SeqCst), options),
            false => Play::Well,
        };
        let on_gpu = options.gpu.is_some();
        Ok(Box::new(Playing { inner: CodecsHere.open(span, options)?, play, on_gpu, second: None }))
    }

    fn decode_audio(
        &self,
        sound: &AudioSource,
        cancelled: &dyn Fn() -> bool,
        sink: &mut AudioSink<'_>,
    ) -> Result<i64, MediaError> {
        CodecsHere.decode_audio(sound, cancelled, sink)
    }

    fn encode_audio(&self, window: AudioWindow) -> Result<Vec<Vec<u8>>, MediaError> {
        CodecsHere.encode_audio(window)
    }
}

struct Playing {
    inner: Box<dyn Decoding>,
    play: Play,
    on_gpu: bool,
    /// Of two pictures that have changed places, the one that comes second.
    second: Option<DecodedFrame>,
}

impl Decoding for Playing {
    fn next_frame(&mut self) -> Result<Option<DecodedFrame>, MediaError> {
        match self.play {
            Play::Well | Play::Declined => self.inner.next_frame(),
            Play::Damaged => {
                Err(MediaError::Damaged { path: CLIP.into(), detail: "it cannot be entered here".to_owned() })
            }
            Play::Otherwise => {
                if let Some(second) = self.second.take() {
                    return Ok(Some(second));
                }
                let Some(mut first) = self.inner.next_frame()? else { return Ok(None) };
                if let Some(mut second) = self.inner.next_frame()? {
                    std::mem::swap(&mut first, &mut second);
                    std::mem::swap(&mut first.rank, &mut second.rank);
                    self.second = Some(second);
                }
                Ok(Some(first))
            }
        }
    }

    fn on_gpu(&self) -> Option<OnGpu> {
        let became = match self.play {
            Play::Declined => OnGpu::Declined("not for a GPU".to_owned()),
            _ => OnGpu::Did,
        };
        self.on_gpu.then_some(became)
    }
}

/// Gives a build a GPU with one decoder that is ready, which decodes the clip.
fn with_gpu(engine: &mut Engine<'_>) {
    let codec = GpuCodec { name: "H.264".into(), bit_depth: 8, max: (4096, 4096) };
    let (name, uuid) = ("a GPU".to_owned(), "GPU-1".to_owned());
    engine.take_gpus(Ok((vec![GpuAbout { name, uuid, engines: 1, codecs: vec![codec] }], Vec::new())));
    engine.take_decoder(0, Ok(()));
}

/// The media files of a build, which are named by their content.
fn published(folder: &Path) -> BTreeSet<OsString> {
    fs::read_dir(folder.join("out/a")).unwrap().map(|file| file.unwrap().file_name()).collect()
}

/// What a build has, besides one slot of the CPUs.
struct Parts {
    codecs: Arc<dyn Codecs>,
    executors: Vec<Arc<dyn Executor>>,
    /// What is done to the engine before it runs.
    before: Box<dyn FnOnce(&mut Engine<'_>) + Send>,
    /// Spans for which there is memory, of which half is for frames.
    spans: u64,
    keep_going: bool,
    cooling: Vec<Duration>,
    cancelled: Arc<AtomicBool>,
    told: Box<dyn Fn(&Event) + Send>,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            codecs: Arc::new(CodecsHere),
            executors: vec![Arc::new(Rav1e::new(1))],
            before: Box::new(|_| ()),
            spans: 100,
            keep_going: false,
            cooling: vec![Duration::from_millis(10); 10],
            cancelled: Arc::default(),
            told: Box::new(|_| ()),
        }
    }
}

struct Built {
    outcome: Outcome,
    decoded_frames: u64,
    /// Bytes that are counted as taken in the end.
    taken: u64,
}

impl Built {
    fn ran(&self, kind: Kind) -> u64 {
        self.outcome.counts.get(&kind).map_or(0, |counts| counts.ran)
    }

    fn assert_well(&self) {
        let failures: Vec<_> = self.outcome.failures.iter().map(|failure| &failure.message).collect();
        assert!(failures.is_empty() && self.outcome.summaries.len() == 1, "{failures:?}");
        assert_eq!(self.taken, 0);
    }
}

/// Builds the clip for one rung. A build that does not come to an end fails the test.
fn build(folder: &Path, parts: Parts) -> Built {
    fs::copy(CLIP, folder.join("clip.mp4")).unwrap();
    let encoder = parts.executors[0].encoder().to_owned();
    let spec = format!(
        "[title]\nsource = \"clip.mp4\"\noutput = \"out\"\n[encoder.rav1e]\nspeed = 10\n\
         [segments]\nmode = \"fixed\"\ntarget = \"500ms\"\n\
         [[rung]]\nname = \"a\"\nheight = 36\nencoder = \"{encoder}\"\n"
    );
    fs::write(folder.join("ladder.toml"), spec).unwrap();
    let folder = folder.to_owned();
    let (sender, built) = channel();
    std::thread::spawn(move || {
        // Nobody waits for it any more where this fails.
        let _ = sender.send(run(&folder, parts));
    });
    built.recv_timeout(TIMEOUT).expect("the build ends")
}

fn run(folder: &Path, parts: Parts) -> Built {
    media::init();
    let ladder = crate::spec::load(&folder.join("ladder.toml")).unwrap();
    let track = media::scan(&folder.join("clip.mp4"), &|| false).unwrap().video;
    assert_eq!(track.spans.len(), SPANS);
    let frames = track.spans.iter().map(|span| span.end - span.first).max().unwrap();
    let tools = Tools {
        libraries: Libraries::here(),
        cpu: media::cpu(),
        encoders: parts
            .executors
            .iter()
            .map(|one| (one.encoder().to_owned(), vec![one.identity()]))
            .collect(),
    };
    let context = StepContext {
        cache: Arc::new(Tiers::from(LocalCache::open(&folder.join("cache")).unwrap())),
        executors: parts.executors,
        unusable: Vec::new(),
        codecs: parts.codecs,
        decoded: Arc::default(),
        pool: None,
        host: String::new(),
        cancelled: parts.cancelled,
        notices: crate::notices::Notices::default(),
    };
    let options = Options {
        jobs: 1,
        memory: parts.spans * frames * track.frame_bytes(),
        keep_going: parts.keep_going,
        gauges: true,
        gpu_decoding: false,
        cooling: parts.cooling,
        ..Options::default()
    };
    let settings = Settings { options, ..Settings::default() };
    let mut engine = Engine::new(&ladder, Arc::new(context), tools, settings, &*parts.told).unwrap();
    (parts.before)(&mut engine);
    engine.run();
    Built {
        decoded_frames: engine.decoded_frames(),
        taken: engine.queue.used(),
        outcome: std::mem::take(&mut engine.outcome),
    }
}

/// Opens a gate when so many spans have been decoded.
fn when_decoded(spans: usize, gate: &Arc<Gate>) -> Box<dyn Fn(&Event) + Send> {
    let (gate, decoded) = (Arc::clone(gate), AtomicUsize::new(0));
    Box::new(move |event| {
        if matches!(event, Event::Finished { kind: Kind::Decode, .. })
            && decoded.fetch_add(1, Ordering::SeqCst) + 1 == spans
        {
            gate.open();
        }
    })
}

/// Encodes whose device is asked again later have all the memory that there is for frames: there is nothing
/// to do until then.
#[test]
fn a_device_is_waited_for_while_memory_is_full() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let told = when_decoded(2, &gate);
    let executors = device(move |attempt| {
        gate.pass();
        if attempt == 0 { Err(refused()) } else { Ok(()) }
    });
    build(folder.path(), Parts { executors, told, spans: 4, ..Parts::default() }).assert_well();
}

/// What a device that is given up was to encode makes room for what does not depend on it.
#[test]
fn frames_that_nobody_can_encode_are_let_go() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let told = when_decoded(2, &gate);
    let executors = device(move |_| {
        gate.pass();
        Err(refused())
    });
    let cooling = Vec::new();
    let parts = Parts { executors, told, spans: 4, keep_going: true, cooling, ..Parts::default() };
    let built = build(folder.path(), parts);
    assert!(
        built.outcome.failures.iter().all(|failure| failure.message.contains("no encoder is left")
            || failure.message.contains("no session"))
    );
    assert_eq!(built.ran(Kind::Decode), SPANS as u64, "all of it was decoded");
}

/// A GPU that has decoded as far ahead as there is memory for lets the CPUs encode: what it has decoded is
/// not decoded again.
#[test]
fn a_gpu_that_is_ahead_waits_for_the_cpus() {
    let folder = tempfile::tempdir().unwrap();
    let parts =
        Parts { codecs: player(|_, _| Play::Well), before: Box::new(with_gpu), spans: 4, ..Parts::default() };
    let built = build(folder.path(), parts);
    built.assert_well();
    assert!(built.outcome.spans_on_gpus > 0);
    let frames = media::scan(Path::new(CLIP), &|| false).unwrap().video.packets;
    assert_eq!(built.decoded_frames, frames, "each once");
}

/// A GPU that declines a film's spans is given no more of them: software decodes those in slots of the CPUs.
#[test]
fn a_gpu_that_declines_a_film_is_left_alone() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let (told, on_gpu) = (when_decoded(3, &gate), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&on_gpu);
    let codecs = player(move |_, options| {
        match options.gpu {
            Some(_) => drop(count.fetch_add(1, Ordering::SeqCst)),
            // The CPU takes long over its first.
            None => gate.pass(),
        }
        Play::Declined
    });
    build(folder.path(), Parts { codecs, told, before: Box::new(with_gpu), ..Parts::default() })
        .assert_well();
    assert_eq!(on_gpu.load(Ordering::SeqCst), 3);
}

/// The CPUs wait for a device, and for nothing that runs, when the build is told to stop.
#[test]
fn a_build_that_waits_can_be_stopped() {
    let (folder, cancelled) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&cancelled);
    let parts = Parts {
        executors: device(|_| Err(refused())),
        cooling: vec![Duration::from_secs(3600)],
        // Told after slots have been filled.
        told: Box::new(move |event| {
            if matches!(event, Event::Gauges { queued: 1.., running: 0, .. }) {
                stop.store(true, Ordering::SeqCst);
            }
        }),
        cancelled,
        ..Parts::default()
    };
    let built = build(folder.path(), parts);
    assert!(built.outcome.interrupted && built.outcome.failures.is_empty());
}

/// The clip's third span does not decode by itself, so it is decoded as a whole, and comes out otherwise than
/// its first spans did by themselves. Their encodes wait for a device, which is at the first of them until
/// `is_time`. Returns what was built.
fn build_cut_anew(
    folder: &Path,
    spans: u64,
    is_time: impl Fn(&Event) -> bool + Send + 'static,
) -> BTreeSet<OsString> {
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let parts = Parts {
        codecs: player(|number, _| match number {
            0 | 1 => Play::Otherwise,
            2 => Play::Damaged,
            _ => Play::Well,
        }),
        executors: device(move |attempt| {
            if attempt == 0 {
                gate.pass();
            }
            Ok(())
        }),
        told: Box::new(move |event| {
            if is_time(event) {
                opened.open();
            }
        }),
        spans,
        ..Parts::default()
    };
    build(folder, parts).assert_well();
    published(folder)
}

/// What an undamaged build makes of it.
fn build_plainly() -> BTreeSet<OsString> {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), Parts { executors: device(|_| Ok(())), ..Parts::default() }).assert_well();
    published(folder.path())
}

/// Frames of a cut that was given up are no frames of the one that came after it.
#[test]
fn a_film_that_is_cut_anew_is_encoded_anew() {
    let folder = tempfile::tempdir().unwrap();
    // There is memory for the frames of three spans, but not to keep the whole.
    let is_time = |event: &Event| matches!(event, Event::Chunked { .. });
    assert_eq!(build_cut_anew(folder.path(), 8, is_time), build_plainly());
}

/// The same where the new cut has its chunks from the frames of the decode.
#[test]
fn a_film_may_be_cut_anew_while_a_chunk_of_it_is_encoded() {
    let (folder, films) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
    // The first is what the container says, the second the cut that is given up.
    let is_time = move |event: &Event| {
        matches!(event, Event::Totals { .. }) && films.fetch_add(1, Ordering::SeqCst) == 2
    };
    assert_eq!(build_cut_anew(folder.path(), 100, is_time), build_plainly());
}

/// A span that nobody wants any more when it has been decoded leaves no frames behind.
#[test]
fn frames_that_come_too_late_take_no_memory() {
    let (folder, gate, begun) = (tempfile::tempdir().unwrap(), Gate::default(), Gate::default());
    let codecs = player(move |number, options| match (number, &options.gpu) {
        (0 | 1, Some(_)) => {
            begun.pass();
            Play::Damaged
        }
        (0 | 1, None) => {
            begun.open();
            gate.pass();
            Play::Well
        }
        // The whole, on the GPU.
        _ => {
            gate.open();
            Play::Well
        }
    });
    build(folder.path(), Parts { codecs, before: Box::new(with_gpu), ..Parts::default() }).assert_well();
}

/// Whatever went wrong before: nothing is filed that was made of other frames than its key names.
#[test]
fn frames_of_another_chunk_are_never_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let parts = Parts {
        executors: device(|_| Ok(())),
        before: Box::new(|engine| {
            let track = Arc::new(media::scan(Path::new(CLIP), &|| false).unwrap().video);
            let codecs: Arc<dyn Codecs> = Arc::new(CodecsHere);
            let span = PacketReader::open(Path::new(CLIP), Arc::clone(&track)).unwrap().read_span(0).unwrap();
            let options = DecodeOptions { threads: 1, frames: true, ..DecodeOptions::default() };
            let mut decoding = codecs.open(span, &options).unwrap();
            let pictures = std::iter::from_fn(|| decoding.next_frame().unwrap()).take(15);
            let kept = pictures.map(|picture| RetainedFrame {
                frame: Arc::new(picture.frame.unwrap()),
                memory: Memory::default().keep(0),
            });
            let kept = kept.collect();
            let source = FrameSource::new(Path::new(CLIP), track, (codecs, Arc::default()), &[15], 1);
            let (durations, identity) = (vec![(15, 1)], Digest::of(b"another"));
            let piece = Chunk { first: 0, frames: 15, start: 0, durations, identity };
            engine.queue.settle(
                (TitleId::new(0), ChunkId::new(0)),
                Arc::new(ChunkFrames::eager(Arc::new(source), piece, kept)),
            );
        }),
        // No span's frames are kept, so that nothing takes their place.
        spans: 3,
        ..Parts::default()
    };
    let built = build(folder.path(), parts);
    let told = &built.outcome.failures[0].message;
    assert_eq!(told, "internal error: the frames at hand are those of another chunk");
}
