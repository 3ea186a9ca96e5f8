//! The worker processes of a build: started when one is needed, kept for the next job, ended with
//! the build.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::process::{Loss, WorkerCommand, WorkerProcess};

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
    idle: Mutex<Vec<WorkerProcess>>,
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
    pub(super) fn take(&self) -> Result<WorkerProcess, Loss> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(process) => Ok(process),
            None => WorkerProcess::start(&self.options.command, &self.cancelled),
        }
    }

    /// One that has done its job.
    pub(super) fn give_back(&self, process: WorkerProcess) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
    }

    /// Ends those that have nothing to do.
    pub fn end_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
