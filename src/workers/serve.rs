//! The worker's side: it does one job after the other until the build closes the connection, and exits at
//! once when that happens in the middle of a job.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::executors::{self, About, EncodeJob, EncodedChunk, Executor, Failure, Found, FrameSupply, Wanted};
use crate::media::{
    self, AudioDecoder, Codecs, CodecsHere, DecodedFrame, Decoding, DecodingHere, Frame, GpuDecoder,
    MediaError, OnGpu, SpanDecoder,
};

use super::channel::{Blocks, Channel};
use super::frame_arena::{FrameArena, SLAB};
use super::frame_batch::{FrameBatch, FrameReceiver, FrameSender};
use super::protocol::{
    AudioRequest, DecodeRequest, DecodedFrameHandle, EncodeRequest, Greeting, Reply, Request,
};

/// Frames in one message, unless fewer fill a slab.
const BATCH: u32 = 16;
/// Audio samples in one message, about.
const SAMPLES: usize = 1 << 18;
/// How often a long job sends a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Sends heartbeats whenever a job asks whether it is cancelled. It never is: a build that is cancelled kills
/// this process.
struct Heartbeat<'a> {
    channel: &'a Channel,
    last: Mutex<Instant>,
}

impl Heartbeat<'_> {
    fn new(channel: &Channel) -> Heartbeat<'_> {
        Heartbeat { channel, last: Mutex::new(Instant::now()) }
    }

    /// Whether the job is cancelled.
    fn beat(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= HEARTBEAT_INTERVAL {
            *last = Instant::now();
            // When the build is gone, the thread that watches the connection ends this process.
            let _ = self.channel.send(&Reply::Heartbeat, &[], &Blocks);
        }
        false
    }
}

/// Serves the build at the other end of standard input and output. With `shares_memory` both are one Unix
/// socket, and frames are passed in shared memory.
pub fn serve(shares_memory: bool) -> io::Result<()> {
    let input = rustix::stdio::stdin().try_clone_to_owned()?;
    let output = rustix::stdio::stdout().try_clone_to_owned()?;
    // What a library prints to standard output must not mix with messages.
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    end_with(input.try_clone()?)?;
    media::init();
    Server::new(Channel::new(input, output, shares_memory)).run()
}

/// Ends this process when the other end of the connection has closed, whatever this process is doing.
fn end_with(input: OwnedFd) -> io::Result<()> {
    let watch = move || {
        loop {
            // Without events to wait for, only a hang-up or an error returns.
            let mut polled = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::empty())];
            match rustix::event::poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => {}
                _ => std::process::exit(0),
            }
        }
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(watch).map(|_| ())
}

fn out_of_turn() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message out of turn")
}

struct Server {
    channel: Channel,
    arena: FrameArena,
    /// The executors that were opened.
    executors: Vec<Arc<dyn Executor>>,
    /// The GPU that was initialized last.
    gpu: Option<GpuDecoder>,
}

impl Server {
    fn new(channel: Channel) -> Server {
        Server { channel, arena: FrameArena::default(), executors: Vec::new(), gpu: None }
    }

    /// Greets, and does one job after the other until the other end closes.
    fn run(mut self) -> io::Result<()> {
        self.reply(&Reply::Greeting(Greeting::here()), &FrameBatch::default())?;
        while let Some((request, _)) = self.channel.receive(&Blocks)? {
            match request {
                Request::Encode(request) => {
                    self.arena.clear();
                    let outcome = self.encode(&request);
                    self.reply(&Reply::Encoded(outcome), &FrameBatch::default())?;
                }
                Request::Decode(request) => {
                    let (outcome, on_gpu) = self.decode(*request)?;
                    self.reply(&Reply::DecodeEnded(outcome, on_gpu), &FrameBatch::default())?;
                }
                Request::Gpus => {
                    let (found, problems) = media::gpu_decoders();
                    let found = found.iter().map(GpuDecoder::about).collect();
                    let problems = problems.iter().map(ToString::to_string).collect();
                    self.reply(&Reply::Gpus(found, problems), &FrameBatch::default())?;
                }
                Request::OpenGpu(uuid) => {
                    let opened = self.open_gpu(&uuid);
                    self.reply(&Reply::GpuOpened(opened), &FrameBatch::default())?;
                }
                Request::Find(slots, names) => {
                    let wanted = names.iter().map(String::as_str).collect();
                    let found = executors::found_here(slots, Wanted::Named(&wanted));
                    let about = |found: Found| {
                        (found.executors.iter().map(|one| About::of(&**one)).collect(), found.unusable)
                    };
                    self.reply(&Reply::Found(found.map(about)), &FrameBatch::default())?;
                }
                Request::Scan(path) => {
                    let heartbeat = Heartbeat::new(&self.channel);
                    let index = CodecsHere.scan(&path, &|| heartbeat.beat());
                    self.reply(&Reply::Scanned(index.map(Box::new)), &FrameBatch::default())?;
                }
                Request::DecodeAudio(audio) => {
                    let outcome = self.decode_audio(&audio)?;
                    self.reply(&Reply::AudioEnded(outcome), &FrameBatch::default())?;
                }
                Request::EncodeAudio(window) => {
                    let packets = CodecsHere.encode_audio(*window);
                    self.reply(&Reply::AudioEncoded(packets), &FrameBatch::default())?;
                }
                Request::Returned(slabs) => self.arena.take_back(&slabs),
                // They were requested before the build knew that the span cannot be opened.
                Request::More(_) => {}
                Request::Frames(_) => return Err(out_of_turn()),
            }
        }
        Ok(())
    }

    fn reply(&self, reply: &Reply, batch: &FrameBatch) -> io::Result<()> {
        self.channel.send(reply, &batch.handles(), &Blocks)
    }

    fn executor(&mut self, request: &EncodeRequest) -> Result<Arc<dyn Executor>, Failure> {
        let executor = match self.executors.iter().find(|executor| executor.name() == request.executor) {
            Some(executor) => Arc::clone(executor),
            None => {
                let opened = executors::open(&request.executor)?;
                self.executors.push(Arc::clone(&opened));
                opened
            }
        };
        if executor.identity() != request.identity {
            let (here, wanted) = (executor.identity(), &request.identity);
            return Err(Failure::machine(format!("worker version mismatch: {here}, expected {wanted}")));
        }
        Ok(executor)
    }

    fn encode(&mut self, request: &EncodeRequest) -> Result<EncodedChunk, Failure> {
        let executor = self.executor(request)?;
        let heartbeat = Heartbeat::new(&self.channel);
        let frames = Sent { channel: &self.channel, count: request.count };
        let job = EncodeJob {
            task: &request.task,
            decoded: &frames,
            threads: request.threads,
            cancelled: &|| heartbeat.beat(),
        };
        executor.encode(&job)
    }

    /// The outer error is one of the connection, the inner one of the audio.
    fn decode_audio(&self, request: &AudioRequest) -> io::Result<Result<i64, MediaError>> {
        let (audio, here) = (&request.source, AudioDecoder::of(&request.source.track.codec).identity_here());
        if here != request.decoder {
            let reason = format!("worker version mismatch: {here}, expected {}", request.decoder);
            return Ok(Err(MediaError::Library { operation: "decoding audio".into(), reason }));
        }
        let mut told = Ok(());
        let mut room: Vec<i32> = Vec::with_capacity(SAMPLES);
        let mut send = |samples: Vec<i32>| {
            told = self.channel.send(&Reply::Samples(samples), &[], &Blocks);
            if told.is_ok() { Ok(()) } else { Err(MediaError::Cancelled) }
        };
        let heartbeat = Heartbeat::new(&self.channel);
        let outcome = CodecsHere.decode_audio(audio, &|| heartbeat.beat(), &mut |samples| {
            room.extend_from_slice(samples);
            if room.len() >= SAMPLES { send(std::mem::take(&mut room)) } else { Ok(()) }
        });
        let outcome = outcome.and_then(|offset| send(room).map(|()| offset));
        told.map(|()| outcome)
    }

    /// Initializes a GPU for decoding, unless that was done before.
    fn open_gpu(&mut self, uuid: &str) -> Result<(), String> {
        if self.gpu.as_ref().is_none_or(|gpu| gpu.uuid != uuid) {
            self.gpu = media::gpu_decoder(uuid).map_err(|error| error.to_string())?;
        }
        self.gpu.as_ref().map(|_| ()).ok_or_else(|| format!("there is no GPU {uuid} that decodes"))
    }

    /// The outer error is one of the connection, the inner one of the span.
    fn decode(&mut self, request: DecodeRequest) -> io::Result<(Result<(), MediaError>, Option<OnGpu>)> {
        let DecodeRequest { span, threads, frames, gpu } = request;
        let failure = gpu.as_ref().and_then(|uuid| self.open_gpu(uuid).err()).map(OnGpu::Failed);
        let gpu = self.gpu.as_ref().filter(|found| gpu.as_ref() == Some(&found.uuid));
        let count = span.len();
        let opened = span.unpack().and_then(|span| match gpu {
            Some(gpu) => {
                let shows = frames && self.channel.shares();
                SpanDecoder::on_gpu(span, threads, gpu, shows.then(|| Arc::new(self.arena.clone()) as _))
            }
            None => SpanDecoder::new(span, threads),
        });
        let mut decoding = match opened {
            Ok(decoder) => DecodingHere { decoder, frames, given_to_gpu: gpu.is_some() },
            Err(error) => return Ok((Err(error), failure)),
        };
        let end = self.send_frames(&mut decoding, count)?;
        let on_gpu = failure.or_else(|| decoding.on_gpu());
        // A GPU's thread may write frames to the arena until it is dropped.
        drop(decoding);
        self.arena.close();
        Ok((end, on_gpu))
    }

    /// Sends a span's frames, at most `count`, as they are requested.
    fn send_frames(
        &mut self,
        decoding: &mut DecodingHere,
        count: usize,
    ) -> io::Result<Result<(), MediaError>> {
        // They lie in slabs of the arena, which keeps them until the build has returned them.
        let mut sender = FrameSender::new(self.channel.shares(), true);
        let arena = self.channel.shares().then(|| self.arena.clone());
        let mut to_come = count;
        loop {
            let mut wanted = match self.channel.receive(&Blocks)? {
                Some((Request::More(wanted), _)) => wanted,
                Some((Request::Returned(slabs), _)) => {
                    self.arena.take_back(&slabs);
                    continue;
                }
                _ => return Err(out_of_turn()),
            };
            while wanted > 0 {
                let mut batch = FrameBatch::default();
                let mut frames = Vec::new();
                let mut end = None;
                while frames.len() < wanted.min(BATCH) as usize && batch.bytes < SLAB && end.is_none() {
                    match decoding.next_frame() {
                        Ok(Some(frame)) => {
                            frames.push(carry(arena.as_ref(), frame, to_come, &mut sender, &mut batch)?);
                            to_come = to_come.saturating_sub(1);
                        }
                        Ok(None) => end = Some(Ok(())),
                        Err(error) => end = Some(Err(error)),
                    }
                }
                wanted -= frames.len() as u32;
                self.reply(&Reply::Decoded(frames), &batch)?;
                if let Some(end) = end {
                    return Ok(end);
                }
                // After the last frame that was requested the next request may be there already.
                if wanted > 0 {
                    self.take_returned()?;
                }
            }
        }
    }

    /// Takes back the slabs that the build has returned meanwhile.
    fn take_returned(&mut self) -> io::Result<()> {
        while self.channel.has_input()? {
            match self.channel.receive(&Blocks)? {
                Some((Request::Returned(slabs), _)) => self.arena.take_back(&slabs),
                _ => return Err(out_of_turn()),
            }
        }
        Ok(())
    }
}

/// Adds a frame to a message; it is one of the last `left` of its span. With shared memory it is copied to
/// the arena unless it was decoded there.
fn carry(
    arena: Option<&FrameArena>,
    frame: DecodedFrame,
    left: usize,
    sender: &mut FrameSender,
    batch: &mut FrameBatch,
) -> io::Result<DecodedFrameHandle> {
    let DecodedFrame { rank, digest, fingerprint, frame } = frame;
    let frame = match frame {
        Some(frame) => {
            let frame = match arena.filter(|_| frame.place().is_none()) {
                Some(arena) => arena.place(&frame, left)?,
                None => frame,
            };
            sender.add(&frame, batch)?;
            batch.frames.pop()
        }
        None => None,
    };
    Ok(DecodedFrameHandle { rank, digest, fingerprint, frame })
}

/// The frames of an encode, requested from the build as they are needed.
struct Sent<'a> {
    channel: &'a Channel,
    count: usize,
}

impl FrameSupply for Sent<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn open(&self) -> Box<dyn Iterator<Item = Result<Arc<Frame>, Failure>> + '_> {
        let mut receiver = FrameReceiver::default();
        let mut batch = Vec::new().into_iter();
        let mut left = self.count;
        Box::new(std::iter::from_fn(move || {
            if let Some(frame) = batch.next() {
                return Some(Ok(frame));
            }
            let wanted = left.min(BATCH as usize);
            if wanted == 0 {
                return None;
            }
            match self.fetch(wanted as u32, &mut receiver) {
                Ok(frames) => {
                    left = if frames.len() == wanted { left - wanted } else { 0 };
                    batch = frames.into_iter();
                    batch.next().map(Ok)
                }
                Err(error) => {
                    left = 0;
                    Some(Err(Failure::machine(format!("cannot receive frames: {error}"))))
                }
            }
        }))
    }
}

impl Sent<'_> {
    fn fetch(&self, wanted: u32, receiver: &mut FrameReceiver) -> io::Result<Vec<Arc<Frame>>> {
        self.channel.send(&Reply::Want(wanted), &[], &Blocks)?;
        let Some((Request::Frames(frames), handles)) = self.channel.receive(&Blocks)? else {
            return Err(out_of_turn());
        };
        let mut handles = handles.into_iter();
        let frames = frames.iter().map(|handle| receiver.frame(handle, &mut handles).map(Arc::new));
        frames.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioSource, AudioTrack, PackedSpan, PacketReader, Rational};

    /// Its samples would be stored under a key that names another decoder.
    #[test]
    fn audio_that_another_decoder_shall_decode_is_refused() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let server = Server::new(Channel::new(here.try_clone().unwrap().into(), here.into(), true));
        let decoder = "libavcodec 1.2.3 vorbis on another CPU".to_owned();
        let track = AudioTrack {
            stream: 1,
            codec: "vorbis".to_owned(),
            packets_digest: [0; 32],
            packets: 1,
            sample_rate: 48_000,
            channels: 2,
            language: String::new(),
            default: true,
        };
        let origin = (0, Rational { num: 1, den: 1 });
        let source = AudioSource { path: "no such source".into(), track, channels: 2, origin };
        let told = server.decode_audio(&AudioRequest { source, decoder }).unwrap().unwrap_err().to_string();
        let here = AudioDecoder::of("vorbis").identity_here();
        let expected =
            format!("worker version mismatch: {here}, expected libavcodec 1.2.3 vorbis on another CPU");
        assert_eq!(told, format!("decoding audio failed: {expected}"));
    }

    /// What was asked for before it was known that the span cannot be opened must not reach the next job.
    #[test]
    fn a_span_that_cannot_be_opened_costs_no_other_job() {
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media/flower_960x540_2997_aac.mp4");
        let track = Arc::new(media::scan(clip.as_ref(), &|| false).unwrap().video);
        let good = PacketReader::open(clip.as_ref(), track).unwrap().read_span(0).unwrap().pack();
        let mut bad = good.clone();
        bad.parameters.codec = "no such codec".to_owned();
        let frames = good.len();

        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let channel = |end: std::os::unix::net::UnixStream| {
            Channel::new(end.try_clone().unwrap().into(), end.into(), false)
        };
        let server = std::thread::spawn({
            let channel = channel(theirs);
            || Server::new(channel).run()
        });
        let build = channel(ours);
        let decode = |span: PackedSpan| {
            let request = DecodeRequest { span, threads: 1, frames: false, gpu: None };
            build.send(&Request::Decode(Box::new(request)), &[], &Blocks).unwrap();
            build.send(&Request::More(u32::MAX), &[], &Blocks).unwrap();
            let mut came = 0;
            loop {
                match build.receive(&Blocks).unwrap().unwrap().0 {
                    Reply::Greeting(_) => {}
                    Reply::Decoded(frames) => came += frames.len(),
                    Reply::DecodeEnded(outcome, _) => return (outcome, came),
                    _ => panic!("no reply to a decode request"),
                }
            }
        };
        assert!(matches!(decode(bad), (Err(MediaError::NoDecoder { .. }), 0)));
        assert!(matches!(decode(good), (Ok(()), came) if came > 0 && came <= frames));
        drop(build);
        assert!(server.join().unwrap().is_ok());
    }
}
