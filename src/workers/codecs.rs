//! Codecs in worker processes. The job of a lost worker is retried by another; results that have been handed
//! out already are skipped the second time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::media::{
    AudioDecoder, AudioSink, AudioSource, AudioWindow, Codecs, DecodeOptions, DecodedFrame, Decoding, Index,
    MediaError, OnGpu, PackedSpan, SpanPackets,
};

use super::frame_batch::FrameReceiver;
use super::pool::{Role, WorkerPool};
use super::process::{Loss, UNEXPECTED, WorkerProcess};
use super::protocol::{AudioRequest, DecodeRequest, DecodedFrameHandle, Reply, Request};

/// Frames that are requested at a time, unless the caller takes all at once.
const PREFETCH: u32 = 8;
/// Workers that may be lost over one job before it fails.
const MAX_ATTEMPTS: u32 = 3;

pub struct WorkerCodecs {
    pool: Arc<WorkerPool>,
}

impl WorkerCodecs {
    pub fn new(pool: Arc<WorkerPool>) -> WorkerCodecs {
        WorkerCodecs { pool }
    }

    /// Has a worker do a job, and another if that one is lost. `take` is given each reply, and whether it is
    /// the first of an attempt.
    fn call<T>(
        &self,
        operation: &'static str,
        request: &Request,
        take: &mut dyn FnMut(Reply, bool) -> ReplyOutcome<T>,
    ) -> Result<T, MediaError> {
        let mut reason = String::new();
        for _ in 0..MAX_ATTEMPTS {
            match self.attempt(request, take) {
                Ok(outcome) => return outcome,
                Err(Loss::Cancelled) => return Err(MediaError::Cancelled),
                Err(Loss::Gone(what)) => {
                    self.pool.notice(format!("retrying {operation}: {what}"));
                    reason = what;
                }
            }
        }
        Err(MediaError::Library { operation: operation.into(), reason })
    }

    fn attempt<T>(
        &self,
        request: &Request,
        take: &mut dyn FnMut(Reply, bool) -> ReplyOutcome<T>,
    ) -> Result<Result<T, MediaError>, Loss> {
        let timeout = self.pool.timeout(&Role::Cpu);
        let mut process = self.pool.take(&Role::Cpu)?;
        process.send(request, &[], timeout)?;
        let mut first = true;
        loop {
            let (reply, _) = process.answer(timeout)?;
            match take(reply, first) {
                ReplyOutcome::Continue => first = false,
                ReplyOutcome::Done(outcome) => {
                    self.pool.give_back(Role::Cpu, process);
                    return Ok(outcome);
                }
                // The worker may be sending more, so it is not reused.
                ReplyOutcome::Abort(error) => return Ok(Err(error)),
                ReplyOutcome::Unexpected => return Err(unexpected()),
            }
        }
    }
}

/// What to do after a reply.
enum ReplyOutcome<T> {
    /// More replies follow.
    Continue,
    /// It was the last reply.
    Done(Result<T, MediaError>),
    /// The caller wants no more replies.
    Abort(MediaError),
    Unexpected,
}

impl Codecs for WorkerCodecs {
    fn scan(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Index, MediaError> {
        if cancelled() {
            return Err(MediaError::Cancelled);
        }
        self.call("reading the source", &Request::Scan(path.to_owned()), &mut |reply, _| match reply {
            Reply::Scanned(index) => ReplyOutcome::Done(index.map(|index| *index)),
            _ => ReplyOutcome::Unexpected,
        })
    }

    fn open(&self, span: SpanPackets, options: &DecodeOptions) -> Result<Box<dyn Decoding>, MediaError> {
        Ok(Box::new(WorkerDecoding {
            pool: Arc::clone(&self.pool),
            span: span.pack(),
            options: options.clone(),
            on_gpu: None,
            attempts: 0,
            handed_out: 0,
            session: None,
            ended: false,
        }))
    }

    fn decode_audio(
        &self,
        audio: &AudioSource,
        cancelled: &dyn Fn() -> bool,
        sink: &mut AudioSink<'_>,
    ) -> Result<i64, MediaError> {
        // Samples that were handed on, and how many of them this attempt has yet to repeat.
        let (mut handed_out, mut to_pass) = (0usize, 0usize);
        let decoder = AudioDecoder::of(&audio.track.codec).identity_here();
        let request = Request::DecodeAudio(Box::new(AudioRequest { source: audio.clone(), decoder }));
        self.call("decoding audio", &request, &mut |reply, first| {
            if first {
                to_pass = handed_out;
            }
            match reply {
                Reply::Samples(_) if cancelled() => ReplyOutcome::Abort(MediaError::Cancelled),
                Reply::Samples(samples) => {
                    let passed = to_pass.min(samples.len());
                    to_pass -= passed;
                    handed_out += samples.len() - passed;
                    match sink(&samples[passed..]) {
                        Ok(()) => ReplyOutcome::Continue,
                        Err(error) => ReplyOutcome::Abort(error),
                    }
                }
                Reply::AudioEnded(offset) => ReplyOutcome::Done(offset),
                _ => ReplyOutcome::Unexpected,
            }
        })
    }

    fn encode_audio(&self, window: AudioWindow) -> Result<Vec<Vec<u8>>, MediaError> {
        let request = Request::EncodeAudio(Box::new(window));
        self.call("encoding audio", &request, &mut |reply, _| match reply {
            Reply::AudioEncoded(packets) => ReplyOutcome::Done(packets),
            _ => ReplyOutcome::Unexpected,
        })
    }
}

struct WorkerDecoding {
    pool: Arc<WorkerPool>,
    span: PackedSpan,
    options: DecodeOptions,
    /// The outcome on the GPU that the span was given to.
    on_gpu: Option<OnGpu>,
    attempts: u32,
    /// Frames that were handed out.
    handed_out: u64,
    session: Option<Session>,
    ended: bool,
}

/// A span in one worker.
struct Session {
    process: WorkerProcess,
    receiver: FrameReceiver,
    /// Frames that were requested and have not come.
    due: u32,
    /// Frames still to come that another worker had already delivered.
    to_pass: u64,
    frames: VecDeque<DecodedFrame>,
}

enum Next {
    Frame(DecodedFrame),
    End(Result<(), MediaError>, Option<OnGpu>),
}

impl Decoding for WorkerDecoding {
    fn next_frame(&mut self) -> Result<Option<DecodedFrame>, MediaError> {
        while !self.ended {
            match self.attempt() {
                Ok(Next::Frame(frame)) => {
                    self.handed_out += 1;
                    return Ok(Some(frame));
                }
                Ok(Next::End(result, on_gpu)) => {
                    self.ended = true;
                    let (role, has_failed) = (self.role(), matches!(on_gpu, Some(OnGpu::Failed(_))));
                    self.on_gpu = self.on_gpu.take().or(on_gpu);
                    // A driver that has failed once may keep failing in that process.
                    if let Some(session) = self.session.take().filter(|_| !has_failed) {
                        self.pool.give_back(role, session.process);
                    }
                    result?;
                }
                Err(Loss::Cancelled) => return Err(MediaError::Cancelled),
                Err(Loss::Gone(what)) => {
                    self.session = None;
                    if self.options.gpu.take().is_some() {
                        // A fault of the GPU is no attempt at the span.
                        self.on_gpu = Some(OnGpu::Failed(what));
                        continue;
                    }
                    self.attempts += 1;
                    if self.attempts == MAX_ATTEMPTS {
                        return Err(MediaError::Library { operation: "decoding".into(), reason: what });
                    }
                    self.pool.notice(format!("{}: retrying decode: {what}", self.span.path.display()));
                }
            }
        }
        Ok(None)
    }

    fn on_gpu(&self) -> Option<OnGpu> {
        self.on_gpu.clone()
    }
}

impl WorkerDecoding {
    fn role(&self) -> Role {
        self.options.gpu.clone().map_or(Role::Cpu, Role::Device)
    }

    fn attempt(&mut self) -> Result<Next, Loss> {
        let role = self.role();
        let timeout = self.pool.timeout(&role);
        let session = match &mut self.session {
            Some(session) => session,
            empty => {
                let mut process = self.pool.take(&role)?;
                let request = DecodeRequest {
                    span: self.span.clone(),
                    threads: self.options.threads,
                    frames: self.options.frames,
                    gpu: self.options.gpu.clone(),
                };
                process.return_slabs(timeout)?;
                process.send(&Request::Decode(Box::new(request)), &[], timeout)?;
                let receiver = FrameReceiver::returning(process.returns().clone());
                let frames = VecDeque::new();
                empty.insert(Session { process, receiver, due: 0, to_pass: self.handed_out, frames })
            }
        };
        loop {
            if let Some(frame) = session.frames.pop_front() {
                return Ok(Next::Frame(frame));
            }
            if session.due == 0 {
                session.due = if self.options.at_once { u32::MAX } else { PREFETCH };
                session.process.send(&Request::More(session.due), &[], timeout)?;
            }
            match session.process.answer(timeout)? {
                (Reply::Decoded(frames), handles) => {
                    session.take(frames, handles)?;
                    session.process.return_slabs(timeout)?;
                }
                (Reply::DecodeEnded(result, gpu), _) => return Ok(Next::End(result, gpu)),
                _ => return Err(unexpected()),
            }
        }
    }
}

impl Session {
    fn take(&mut self, frames: Vec<DecodedFrameHandle>, handles: Vec<OwnedFd>) -> Result<(), Loss> {
        let mut handles = handles.into_iter();
        for DecodedFrameHandle { rank, digest, fingerprint, frame } in frames {
            let frame = match frame {
                Some(handle) => Some(self.receiver.frame(&handle, &mut handles).map_err(not_taken)?),
                None => None,
            };
            self.due = self.due.saturating_sub(1);
            if self.to_pass > 0 {
                self.to_pass -= 1;
            } else {
                self.frames.push_back(DecodedFrame { rank, digest, fingerprint, frame });
            }
        }
        Ok(())
    }
}

/// A frame could not be received.
fn not_taken(error: io::Error) -> Loss {
    match error.kind() {
        io::ErrorKind::InvalidData => unexpected(),
        _ => Loss::Gone(format!("cannot receive frames: {error}")),
    }
}

fn unexpected() -> Loss {
    Loss::Gone(UNEXPECTED.to_owned())
}
