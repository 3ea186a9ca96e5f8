//! A worker process as a build sees it: started, spoken to, and ended when it says nothing any more.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};

use super::channel::{Channel, Wait};
use super::protocol::{Greeting, Reply, Request};
use crate::media::Returns;

/// How a worker is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Whether it runs on this machine and was told so: frames then lie in memory that both see.
    /// Otherwise they are part of the messages.
    pub shares_memory: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Loss {
    /// The build is to stop.
    Cancelled,
    /// The worker is gone, as told.
    Gone(String),
}

/// How often a waiting build looks whether it is to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of what a worker last said on its standard error that are told.
const MAX_STDERR: u64 = 400;
/// How long one that has closed the conversation may take to end, and one that was killed to be gone.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct WorkerProcess {
    /// `None` once it was ended.
    child: Option<Child>,
    channel: Channel,
    /// What it says on its standard error.
    stderr: File,
    cancelled: Arc<AtomicBool>,
    /// Its slabs that nobody sees any more.
    returns: Returns,
}

impl WorkerProcess {
    /// `timeout`: how long it may say nothing.
    pub(super) fn start(
        command: &WorkerCommand,
        timeout: Duration,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<WorkerProcess, Loss> {
        let started = WorkerProcess::spawn(command, cancelled).map_err(|error| {
            Loss::Gone(format!(
                "a worker process could not be started ({}): {error}",
                command.program.display()
            ))
        });
        let mut process = started?;
        match process.receive(timeout.min(GREETING_TIMEOUT))? {
            (Reply::Greeting(greeting), _) => match Greeting::here().difference(&greeting) {
                None => Ok(process),
                Some(what) => Err(Loss::Gone(format!("a worker process is another rivet: it has {what}"))),
            },
            _ => Err(Loss::Gone(UNEXPECTED.to_owned())),
        }
    }

    fn spawn(command: &WorkerCommand, cancelled: &Arc<AtomicBool>) -> io::Result<WorkerProcess> {
        let stderr = File::from(rustix::fs::memfd_create("rivet worker", MemfdFlags::CLOEXEC)?);
        let mut start = Command::new(&command.program);
        // In a group of its own, so that Ctrl-C reaches the build alone, which ends its workers.
        start.args(&command.arguments).stderr(stderr.try_clone()?).process_group(0);
        let (child, channel) = if command.shares_memory {
            let (ours, theirs) = UnixStream::pair()?;
            start.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs));
            ours.set_nonblocking(true)?;
            (start.spawn()?, Channel::new(ours.try_clone()?.into(), ours.into(), true))
        } else {
            start.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = start.spawn()?;
            let missing = || io::Error::other("it has no pipes");
            let input = OwnedFd::from(child.stdout.take().ok_or_else(missing)?);
            let output = OwnedFd::from(child.stdin.take().ok_or_else(missing)?);
            for handle in [&input, &output] {
                rustix::io::ioctl_fionbio(handle, true)?;
            }
            (child, Channel::new(input, output, false))
        };
        let (cancelled, returns) = (Arc::clone(cancelled), Returns::default());
        Ok(WorkerProcess { child: Some(child), channel, stderr, cancelled, returns })
    }

    /// Whether frames can be left in memory that both sides see.
    pub(super) fn shares(&self) -> bool {
        self.channel.shares()
    }

    /// `timeout`: how long it may take to listen.
    pub(super) fn send(
        &mut self,
        request: &Request,
        handles: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> Result<(), Loss> {
        let wait = self.waiting(timeout);
        let sent = self.channel.send(request, handles, &wait);
        sent.map_err(|error| self.lost(&error, timeout))
    }

    /// Where its slabs go once nobody sees them any more.
    pub(super) fn returns(&self) -> &Returns {
        &self.returns
    }

    /// Tells it of slabs that it can fill again.
    pub(super) fn return_slabs(&mut self, timeout: Duration) -> Result<(), Loss> {
        let slabs = self.returns.take();
        if slabs.is_empty() { Ok(()) } else { self.send(&Request::Returned(slabs), &[], timeout) }
    }

    /// `timeout`: how long it may say nothing.
    pub(super) fn receive(&mut self, timeout: Duration) -> Result<(Reply, Vec<OwnedFd>), Loss> {
        let wait = self.waiting(timeout);
        let received = self.channel.receive(&wait);
        match received {
            Ok(Some(received)) => Ok(received),
            Ok(None) => Err(self.lost(&io::ErrorKind::UnexpectedEof.into(), timeout)),
            Err(error) => Err(self.lost(&error, timeout)),
        }
    }

    /// As [`WorkerProcess::receive`], passing over that it is alive.
    pub(super) fn answer(&mut self, timeout: Duration) -> Result<(Reply, Vec<OwnedFd>), Loss> {
        loop {
            match self.receive(timeout)? {
                (Reply::Heartbeat, _) => {}
                answer => return Ok(answer),
            }
        }
    }

    fn waiting(&self, timeout: Duration) -> Waiting {
        Waiting { cancelled: Arc::clone(&self.cancelled), until: Instant::now() + timeout }
    }

    /// What an error means. The process is ended: nothing of it can be relied on any more.
    fn lost(&mut self, error: &io::Error, timeout: Duration) -> Loss {
        if self.cancelled.load(Ordering::Relaxed) {
            return Loss::Cancelled;
        }
        let what = match error.kind() {
            io::ErrorKind::TimedOut => {
                format!("its worker process did not answer for {}", humantime::format_duration(timeout))
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                match self.child.as_mut().and_then(|child| ended_within(child, GRACE)) {
                    Some(status) => format!("its worker process {}", ended(status)),
                    None => "its worker process closed the conversation and did not end".to_owned(),
                }
            }
            _ => format!("its worker process cannot be understood ({error})"),
        };
        let stderr = self.end_of_stderr();
        self.end();
        Loss::Gone(if stderr.is_empty() { what } else { format!("{what}: {stderr}") })
    }

    /// The end of what it said on its standard error, as one line.
    fn end_of_stderr(&mut self) -> String {
        let mut text = Vec::new();
        let length = self.stderr.metadata().map_or(0, |meta| meta.len());
        let from = SeekFrom::Start(length.saturating_sub(MAX_STDERR));
        if self.stderr.seek(from).is_err() || (&self.stderr).take(MAX_STDERR).read_to_end(&mut text).is_err()
        {
            return String::new();
        }
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        // Not what a terminal would take for anything but text.
        lines.collect::<Vec<_>>().join("; ").chars().filter(|letter| !letter.is_control()).collect()
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // It may have ended by itself. What it has started, as a command that runs it elsewhere
        // does, is in its group.
        if let Ok(None) = child.try_wait() {
            let _ = rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.kill();
        }
        if ended_within(&mut child, GRACE).is_none() {
            leave(child);
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Until a worker has started, at most: it loads libraries and greets.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// A reply that does not belong to what was asked.
pub(super) const UNEXPECTED: &str = "its worker process said something unexpected";

/// How a process has ended, if it does within that time.
fn ended_within(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    const MAX_PAUSE: Duration = Duration::from_millis(50);
    let until = Instant::now() + time;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < until => std::thread::sleep(pause),
            status => return status.ok().flatten(),
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Goes on without a process that was killed and is still there: one that a driver keeps in the kernel ends
/// when that lets go of it, if ever.
fn leave(mut child: Child) {
    let pid = child.id();
    let wait = move || child.wait();
    if let Err(error) = std::thread::Builder::new().name("left".to_owned()).spawn(wait) {
        tracing::warn!("nobody waits for process {pid} to end: {error}");
    }
}

fn ended(status: ExitStatus) -> String {
    let name = |signal: i32| match signal {
        4 => " (illegal instruction)",
        6 => " (aborted)",
        7 => " (bus error)",
        8 => " (arithmetic error)",
        9 => " (killed)",
        11 => " (segmentation fault)",
        _ => "",
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was ended by signal {signal}{}", name(signal)),
        (None, Some(code)) => format!("ended with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Waits with timeout, and not at all once the build is to stop.
struct Waiting {
    cancelled: Arc<AtomicBool>,
    until: Instant,
}

impl Wait for Waiting {
    fn until(&self, handle: BorrowedFd<'_>, what: PollFlags) -> io::Result<()> {
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let step = left.min(POLL_INTERVAL);
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(step.subsec_nanos()) };
            let mut polled = [PollFd::from_borrowed_fd(handle, what)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::channel::Blocks;
    use super::*;
    use crate::media::Libraries;

    /// What comes of a worker that greets like this and says no more.
    fn greeted(greeting: Greeting) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("greeting");
        let file = File::create(&path).unwrap();
        let channel = Channel::new(file.try_clone().unwrap().into(), file.into(), false);
        channel.send(&Reply::Greeting(greeting), &[], &Blocks).unwrap();
        let command =
            WorkerCommand { program: "cat".into(), arguments: vec![path.into()], shares_memory: false };
        match WorkerProcess::start(&command, GREETING_TIMEOUT, &Arc::default()) {
            Ok(_) => Ok(()),
            Err(Loss::Gone(what)) => Err(what),
            Err(Loss::Cancelled) => unreachable!("nobody cancels it"),
        }
    }

    #[test]
    fn a_worker_with_another_library_is_refused() {
        assert_eq!(greeted(Greeting::here()), Ok(()));
        let libraries: [fn(&mut Libraries) -> &mut String; 5] = [
            |libraries| &mut libraries.demuxer,
            |libraries| &mut libraries.decoder,
            |libraries| &mut libraries.scaler,
            |libraries| &mut libraries.resampler,
            |libraries| &mut libraries.opus,
        ];
        for library in libraries {
            let mut other = Greeting::here();
            let ours = library(&mut other.libraries).clone();
            library(&mut other.libraries).push('0');
            let told = format!("a worker process is another rivet: it has {ours}0, not {ours}");
            assert_eq!(greeted(other), Err(told));
        }
    }

    #[test]
    fn one_that_does_not_end_is_left_and_still_waited_for() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(ended_within(&mut child, Duration::from_millis(10)), None);
        let pid = Pid::from_child(&child);
        leave(child);
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        // What nobody waits for stays there when it has ended.
        let place = format!("/proc/{}", pid.as_raw_nonzero());
        for _ in 0..600 {
            if !Path::new(&place).exists() {
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        panic!("{place} is still there");
    }
}
