//! The worker processes of a build: started on demand, reused from job to job, killed at the end of the
//! build.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::process::{Loss, UNEXPECTED, WorkerCommand, WorkerProcess};
use super::protocol::{Encoders, Reply, Request};
use crate::media::GpuAbout;
use crate::notices::Notices;

/// A device that takes longer than this over a few frames hangs.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(60);

/// How workers are started, and how long to wait for them.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    pub command: WorkerCommand,
    /// How long a worker may send neither reply nor heartbeat before it is killed. Software encoders may take
    /// long over a large frame.
    pub timeout: Duration,
}

pub struct WorkerPool {
    options: WorkerOptions,
    cancelled: Arc<AtomicBool>,
    idle: Mutex<Vec<(Role, WorkerProcess)>>,
    notices: Notices,
}

/// What a process is used for. A process that has opened a device is reused for that device only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Cpu,
    /// The name of an executor or a GPU.
    Device(String),
}

impl WorkerPool {
    /// Setting `cancelled` ends every wait for a worker.
    pub fn new(options: WorkerOptions, cancelled: Arc<AtomicBool>) -> WorkerPool {
        WorkerPool { options, cancelled, idle: Mutex::default(), notices: Notices::default() }
    }

    /// Warnings since the last call, for the user.
    pub fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }

    pub(super) fn notice(&self, message: String) {
        self.notices.add(message);
    }

    /// How long a worker of this role may send nothing.
    pub(super) fn timeout(&self, role: &Role) -> Duration {
        match role {
            Role::Cpu => self.options.timeout,
            Role::Device(_) => self.options.timeout.min(DEVICE_TIMEOUT),
        }
    }

    /// An idle worker, or a new one. There are never more workers than jobs that run at a time.
    pub(super) fn take(&self, role: &Role) -> Result<WorkerProcess, Loss> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.iter().rposition(|(other, _)| other == role);
        let taken = fits.map(|place| idle.swap_remove(place));
        drop(idle);
        match taken {
            Some((_, process)) => Ok(process),
            None => self.start(),
        }
    }

    fn start(&self) -> Result<WorkerProcess, Loss> {
        WorkerProcess::start(&self.options.command, self.options.timeout, &self.cancelled)
    }

    /// Puts an idle worker back.
    pub(super) fn give_back(&self, role: Role, process: WorkerProcess) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((role, process));
    }

    /// The GPUs that decode, as a worker finds them, and what is wrong with others: the build itself loads no
    /// driver. An error tells why they are not known.
    pub fn gpus(&self) -> Result<(Vec<GpuAbout>, Vec<String>), String> {
        match self.started(&Request::Gpus)?.1 {
            Reply::Gpus(found, problems) => Ok((found, problems)),
            _ => Err(UNEXPECTED.to_owned()),
        }
    }

    /// Starts one more worker that has initialized the GPU with this UUID for decoding, which takes up to a
    /// second. An error tells why that failed.
    pub fn open_gpu(&self, uuid: &str) -> Result<(), String> {
        let (process, reply) = self.started(&Request::OpenGpu(uuid.to_owned()))?;
        match reply {
            Reply::GpuOpened(opened) => opened?,
            _ => return Err(UNEXPECTED.to_owned()),
        }
        self.give_back(Role::Device(uuid.to_owned()), process);
        Ok(())
    }

    /// Has a worker look for these encoders.
    pub(super) fn find(&self, slots: usize, encoders: &BTreeSet<&str>) -> Result<Encoders, String> {
        let names = encoders.iter().map(|&name| name.to_owned()).collect();
        match self.started(&Request::Find(slots, names))?.1 {
            Reply::Found(found) => found.map_err(|failure| failure.message),
            _ => Err(UNEXPECTED.to_owned()),
        }
    }

    /// Starts a worker and sends it a request. A worker that lists devices has opened them all, so the caller
    /// drops it.
    fn started(&self, request: &Request) -> Result<(WorkerProcess, Reply), String> {
        let timeout = self.options.timeout.min(DEVICE_TIMEOUT);
        let ask = || {
            let mut process = self.start()?;
            process.send(request, &[], timeout)?;
            let (reply, _) = process.answer(timeout)?;
            Ok((process, reply))
        };
        ask().map_err(|loss| match loss {
            Loss::Cancelled => "interrupted".to_owned(),
            Loss::Gone(what) => what,
        })
    }

    /// Kills the idle workers.
    pub fn end_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
