//! The build's side of a worker process: it is started, sent requests, and killed when it times out.

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
    /// Whether the worker runs on this machine with `--shared-memory`: frames are then passed as handles of
    /// shared memory. Otherwise their samples are part of the messages.
    pub shares_memory: bool,
}

/// Why a request has no reply.
#[derive(Debug)]
pub(super) enum Loss {
    /// The build was cancelled.
    Cancelled,
    /// The worker was lost, for this reason.
    Gone(String),
}

/// How often a wait checks for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes from the end of a worker's standard error that an error message repeats.
const MAX_STDERR: u64 = 400;
/// How long a worker may take to exit after it has closed its connection, or after it was killed.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct WorkerProcess {
    /// `None` once it was killed.
    child: Option<Child>,
    channel: Channel,
    /// Its standard error, in memory.
    stderr: File,
    cancelled: Arc<AtomicBool>,
    /// Numbers of its slabs that are free to be reused.
    returns: Returns,
}

impl WorkerProcess {
    /// Starts a worker and checks its version. `timeout`: how long to wait for its greeting.
    pub(super) fn start(
        command: &WorkerCommand,
        timeout: Duration,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<WorkerProcess, Loss> {
        let started = WorkerProcess::spawn(command, cancelled).map_err(|error| {
            Loss::Gone(format!("cannot start worker `{}`: {error}", command.program.display()))
        });
        let mut process = started?;
        match process.receive(timeout.min(GREETING_TIMEOUT))? {
            (Reply::Greeting(greeting), _) => match Greeting::here().difference(&greeting) {
                None => Ok(process),
                Some(what) => Err(Loss::Gone(format!("worker version mismatch: {what}"))),
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

    /// Whether frames can be passed as handles of shared memory.
    pub(super) fn shares(&self) -> bool {
        self.channel.shares()
    }

    /// `timeout`: how long the worker may take to read the request.
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

    /// Where the numbers of its slabs go once their frames have been dropped.
    pub(super) fn returns(&self) -> &Returns {
        &self.returns
    }

    /// Returns slabs to the worker for reuse.
    pub(super) fn return_slabs(&mut self, timeout: Duration) -> Result<(), Loss> {
        let slabs = self.returns.take();
        if slabs.is_empty() { Ok(()) } else { self.send(&Request::Returned(slabs), &[], timeout) }
    }

    /// The next message. `timeout`: how long it may take to come.
    pub(super) fn receive(&mut self, timeout: Duration) -> Result<(Reply, Vec<OwnedFd>), Loss> {
        let wait = self.waiting(timeout);
        let received = self.channel.receive(&wait);
        match received {
            Ok(Some(received)) => Ok(received),
            Ok(None) => Err(self.lost(&io::ErrorKind::UnexpectedEof.into(), timeout)),
            Err(error) => Err(self.lost(&error, timeout)),
        }
    }

    /// The next message that is no heartbeat; each heartbeat starts the timeout anew.
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

    /// What an error of the connection means. The worker is killed: its state is unknown.
    fn lost(&mut self, error: &io::Error, timeout: Duration) -> Loss {
        if self.cancelled.load(Ordering::Relaxed) {
            return Loss::Cancelled;
        }
        let what = match error.kind() {
            io::ErrorKind::TimedOut => {
                format!("worker timed out after {}", humantime::format_duration(timeout))
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                match self.child.as_mut().and_then(|child| ended_within(child, GRACE)) {
                    Some(status) => format!("worker {}", ended(status)),
                    None => "worker closed its connection without exiting".to_owned(),
                }
            }
            _ => format!("worker sent an invalid message ({error})"),
        };
        let stderr = self.end_of_stderr();
        self.end();
        Loss::Gone(if stderr.is_empty() { what } else { format!("{what}: {stderr}") })
    }

    /// The end of its standard error, as one line.
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
        // Control characters could drive the terminal that shows this.
        lines.collect::<Vec<_>>().join("; ").chars().filter(|letter| !letter.is_control()).collect()
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // It may have exited by itself. A command that runs the worker on another machine has children: they
        // are in its process group.
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

/// How long a worker may take to start: it loads libraries and sends its greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// A reply of a kind that does not belong to the request.
pub(super) const UNEXPECTED: &str = "worker sent an unexpected reply";

/// The exit status of a process, if it exits within that time.
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

/// Leaves a killed process that has not exited to a thread that waits for it: a process that hangs in a
/// driver exits when the driver returns, if ever.
fn leave(mut child: Child) {
    let pid = child.id();
    let wait = move || child.wait();
    if let Err(error) = std::thread::Builder::new().name("left".to_owned()).spawn(wait) {
        tracing::info!("cannot wait for process {pid} to exit: {error}");
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
        (Some(signal), _) => format!("was killed by signal {signal}{}", name(signal)),
        (None, Some(code)) => format!("exited with status {code}"),
        (None, None) => "exited".to_owned(),
    }
}

/// Waits until a deadline, or until the build is cancelled.
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

    /// What comes of starting a worker that sends this greeting and nothing else.
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
            Err(Loss::Cancelled) => unreachable!("it is not cancelled"),
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
            let told = format!("worker version mismatch: {ours}0, expected {ours}");
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
        // A process that is not waited for stays in /proc as a zombie.
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
