//! An executor whose encodes run in worker processes, so that one that crashes or hangs costs an
//! attempt and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::executors::{Blame, EncodeJob, EncodedChunk, Executor, Failure, OptionFault, Report};

use super::carrier::{Parcel, Sender};
use super::pool::{Role, WorkerPool};
use super::process::{Loss, UNEXPECTED, WorkerProcess};
use super::protocol::{EncodeRequest, Reply, Request};

pub struct WorkerExecutor {
    /// What it is here; a worker process has one of its own that does the work.
    inner: Arc<dyn Executor>,
    pool: Arc<WorkerPool>,
    threads: usize,
}

impl WorkerExecutor {
    /// `threads` are those that each worker may use.
    pub fn new(inner: Arc<dyn Executor>, pool: Arc<WorkerPool>, threads: usize) -> WorkerExecutor {
        WorkerExecutor { inner, pool, threads }
    }

    fn role(&self) -> Role {
        if self.inner.is_device() { Role::Device(self.inner.name().to_owned()) } else { Role::Cpu }
    }

    fn run(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let mut process = self.pool.take(&self.role()).map_err(|loss| self.failure(loss))?;
        let outcome = self.converse(&mut process, job)?;
        self.pool.give_back(self.role(), process);
        let chunk = outcome?;
        // Whoever made it.
        job.contract.check(&chunk.sequence_header).map_err(|error| Failure::contract(self.name(), &error))?;
        if chunk.units.len() != job.pictures.count() {
            let (made, count) = (chunk.units.len(), job.pictures.count());
            return Err(Failure::machine(format!("{} made {made} packets of {count} frames", self.name())));
        }
        Ok(chunk)
    }

    /// Gives the job to a worker and feeds it. An error means that the worker is of no more use.
    fn converse(
        &self,
        process: &mut WorkerProcess,
        job: &EncodeJob<'_>,
    ) -> Result<Result<EncodedChunk, Failure>, Failure> {
        let patience = self.pool.patience();
        let request = Request::Encode(Box::new(EncodeRequest {
            executor: self.inner.name().to_owned(),
            identity: self.inner.identity(),
            threads: self.threads,
            settings: job.settings.clone(),
            contract: job.contract.clone(),
            count: job.pictures.count(),
        }));
        process.send(&request, &[], patience).map_err(|loss| self.failure(loss))?;
        let mut pictures = job.pictures.open();
        let mut sender = Sender::new(process.shares());
        loop {
            match process.answer(patience).map_err(|loss| self.failure(loss))?.0 {
                Reply::Want(count) => {
                    let mut parcel = Parcel::default();
                    for frame in pictures.by_ref().take(count as usize) {
                        let added = sender.add(&*frame?, &mut parcel);
                        added.ok_or_else(|| Failure::machine("there is no memory for pictures"))?;
                    }
                    let carried = std::mem::take(&mut parcel.pictures);
                    let sent = process.send(&Request::Pictures(carried), &parcel.handles(), patience);
                    sent.map_err(|loss| self.failure(loss))?;
                }
                Reply::Encoded(outcome) => return Ok(outcome),
                _ => return Err(self.failure(Loss::Gone(UNEXPECTED.to_owned()))),
            }
        }
    }

    fn failure(&self, loss: Loss) -> Failure {
        match loss {
            Loss::Cancelled => Failure { blame: Blame::Cancelled, message: "interrupted".to_owned() },
            Loss::Gone(what) => Failure::machine(format!("{}: {what}", self.name())),
        }
    }
}

impl Executor for WorkerExecutor {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn encoder(&self) -> &'static str {
        self.inner.encoder()
    }

    fn slots(&self) -> usize {
        self.inner.slots()
    }

    fn is_device(&self) -> bool {
        self.inner.is_device()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn bit_depths(&self) -> Vec<u8> {
        self.inner.bit_depths()
    }

    fn check(&self, options: &BTreeMap<String, String>) -> Vec<OptionFault> {
        self.inner.check(options)
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Report {
        let start = Instant::now();
        Report { outcome: self.run(job), wall: start.elapsed(), executor: self.name().to_owned() }
    }
}
