//! The worker processes of a build: started when one is needed, kept for the next job, ended with
//! the build.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::process::{Loss, UNEXPECTED, WorkerCommand, WorkerProcess};
use super::protocol::{Reply, Request};
use crate::media::GpuAbout;

/// Where workers are to run, and how long to wait for them.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    pub command: WorkerCommand,
    /// How long one may say nothing before it is ended. An encoder on a CPU takes its time over a
    /// large picture.
    pub patience: Duration,
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

    pub(super) fn patience(&self) -> Duration {
        self.options.patience
    }

    /// A worker with nothing to do. There are never more than jobs that run at a time.
    pub(super) fn take(&self, role: &Role) -> Result<WorkerProcess, Loss> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.iter().rposition(|(other, _)| other == role);
        let taken = fits.map(|place| idle.swap_remove(place));
        drop(idle);
        match taken {
            Some((_, process)) => Ok(process),
            None => WorkerProcess::start(&self.options.command, &self.cancelled),
        }
    }

    /// One that has done its job.
    pub(super) fn give_back(&self, role: Role, process: WorkerProcess) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((role, process));
    }

    /// The GPUs that decode, as a worker sees them: this process does not touch their driver. An
    /// error tells why that is not known.
    pub fn gpus(&self) -> Result<Vec<GpuAbout>, String> {
        let ask = || {
            // It has opened every GPU, and is not kept.
            let mut process = WorkerProcess::start(&self.options.command, &self.cancelled)?;
            process.send(&Request::Gpus, &[], self.options.patience)?;
            process.answer(self.options.patience)
        };
        match ask() {
            Ok((Reply::Gpus(found), _)) => found.map_err(|error| error.to_string()),
            Ok(_) => Err(UNEXPECTED.to_owned()),
            Err(Loss::Cancelled) => Ok(Vec::new()),
            Err(Loss::Gone(what)) => Err(what),
        }
    }

    /// Ends those that have nothing to do.
    pub fn end_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
