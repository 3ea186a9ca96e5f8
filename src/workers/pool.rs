//! The worker processes of a build: started when one is needed, kept for the next job, ended with
//! the build.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::process::{Loss, UNEXPECTED, WorkerCommand, WorkerProcess};
use super::protocol::{Encoders, Reply, Request};
use crate::media::GpuAbout;

/// A device that says nothing for so long does not work.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where workers are to run, and how long to wait for them.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    pub command: WorkerCommand,
    /// How long one may say nothing before it is ended. An encoder on a CPU takes its time over a
    /// large frame.
    pub timeout: Duration,
}

pub struct WorkerPool {
    options: WorkerOptions,
    cancelled: Arc<AtomicBool>,
    idle: Mutex<Vec<(Role, WorkerProcess)>>,
}

/// What a process is used for. One that has opened a device is kept for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Cpu,
    /// The executor or GPU of this name.
    Device(String),
}

impl WorkerPool {
    /// When `cancelled` is set, whatever waits for a worker stops waiting.
    pub fn new(options: WorkerOptions, cancelled: Arc<AtomicBool>) -> WorkerPool {
        WorkerPool { options, cancelled, idle: Mutex::default() }
    }

    /// How long a worker may say nothing. A device that takes a minute over a few frames hangs.
    pub(super) fn timeout(&self, role: &Role) -> Duration {
        match role {
            Role::Cpu => self.options.timeout,
            Role::Device(_) => self.options.timeout.min(DEVICE_TIMEOUT),
        }
    }

    /// A worker with nothing to do. There are never more than jobs that run at a time.
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

    /// One that has done its job.
    pub(super) fn give_back(&self, role: Role, process: WorkerProcess) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((role, process));
    }

    /// The GPUs that decode, as a worker sees them, and what is wrong with others: this process does
    /// not touch their driver. An error tells why that is not known.
    pub fn gpus(&self) -> Result<(Vec<GpuAbout>, Vec<String>), String> {
        match self.started(&Request::Gpus)?.1 {
            Reply::Gpus(found, problems) => Ok((found, problems)),
            _ => Err(UNEXPECTED.to_owned()),
        }
    }

    /// Has one more worker ready itself for decoding on the GPU with this UUID, which takes a good part of a
    /// second. An error tells why none does.
    pub fn open_gpu(&self, uuid: &str) -> Result<(), String> {
        let (process, reply) = self.started(&Request::OpenGpu(uuid.to_owned()))?;
        match reply {
            Reply::GpuOpened(opened) => opened?,
            _ => return Err(UNEXPECTED.to_owned()),
        }
        self.give_back(Role::Device(uuid.to_owned()), process);
        Ok(())
    }

    /// Which of these encoders a worker finds.
    pub(super) fn find(&self, slots: usize, encoders: &BTreeSet<&str>) -> Result<Encoders, String> {
        let names = encoders.iter().map(|&name| name.to_owned()).collect();
        match self.started(&Request::Find(slots, names))?.1 {
            Reply::Found(found) => found.map_err(|failure| failure.message),
            _ => Err(UNEXPECTED.to_owned()),
        }
    }

    /// A new worker, and what it says to this. What opens devices to find out what there is, is not kept.
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

    /// Ends those that have nothing to do.
    pub fn end_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
