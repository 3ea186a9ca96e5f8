//! An executor whose encodes run in worker processes, so that one that crashes or hangs costs an
//! attempt and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::executors::{
    self, About, EncodeJob, EncodedChunk, Executor, Failure, FailureKind, Found, Unusable, Wanted,
};

use super::frame_batch::{FrameBatch, FrameSender};
use super::pool::{Role, WorkerPool};
use super::process::{Loss, UNEXPECTED, WorkerProcess};
use super::protocol::{EncodeRequest, Reply, Request};

pub struct WorkerExecutor {
    about: About,
    pool: Arc<WorkerPool>,
}

impl WorkerExecutor {
    /// Those of the wanted encoders that this machine has, each with as many slots. A worker looks for
    /// devices, so that a driver that hangs or crashes does so outside the build.
    pub fn find(pool: &Arc<WorkerPool>, slots: usize, wanted: &BTreeSet<&str>) -> Result<Found, Failure> {
        let (devices, others): (BTreeSet<&str>, BTreeSet<&str>) =
            wanted.iter().partition(|encoder| executors::is_on_device(encoder));
        let apart = |about| Arc::new(WorkerExecutor { about, pool: Arc::clone(pool) }) as Arc<dyn Executor>;
        let here = executors::found_here(slots, Wanted::Named(&others))?;
        let mut found = Found {
            executors: here.executors.iter().map(|one| apart(About::of(&**one))).collect(),
            unusable: here.unusable,
        };
        if devices.is_empty() {
            return Ok(found);
        }
        match pool.find(slots, &devices) {
            Ok((there, unusable)) => {
                found.executors.extend(there.into_iter().map(apart));
                found.unusable.extend(unusable);
            }
            Err(reason) => {
                let unusable =
                    |encoder: &&str| Unusable { encoder: (*encoder).to_owned(), reason: reason.clone() };
                found.unusable.extend(devices.iter().map(unusable));
            }
        }
        Ok(found)
    }

    fn role(&self) -> Role {
        if self.about.is_device { Role::Device(self.about.name.clone()) } else { Role::Cpu }
    }

    fn run(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let mut process = self.pool.take(&self.role()).map_err(|loss| self.failure(loss))?;
        let outcome = self.converse(&mut process, job)?.and_then(|chunk| self.checked(chunk, job));
        // A driver that has failed once may keep failing in that process, and work in another.
        if !matches!(outcome, Err(Failure { kind: FailureKind::Machine, .. })) {
            self.pool.give_back(self.role(), process);
        }
        outcome
    }

    /// Checks what a worker made: it may be on another machine, and wrong.
    fn checked(&self, chunk: EncodedChunk, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        let contract = &job.task.contract;
        contract.check(&chunk.sequence_header).map_err(|error| Failure::contract(self.name(), &error))?;
        if chunk.units.len() != job.count() {
            let (made, count) = (chunk.units.len(), job.count());
            return Err(Failure::machine(format!("{} made {made} packets of {count} frames", self.name())));
        }
        Ok(chunk)
    }

    /// Sends the job to a worker, and its frames as they are asked for. After an error the worker is not
    /// reused.
    fn converse(
        &self,
        process: &mut WorkerProcess,
        job: &EncodeJob<'_>,
    ) -> Result<Result<EncodedChunk, Failure>, Failure> {
        let timeout = self.pool.timeout(&self.role());
        let request = Request::Encode(Box::new(EncodeRequest {
            executor: self.about.name.clone(),
            identity: self.about.identity.clone(),
            threads: job.threads,
            task: job.task.clone(),
            count: job.count(),
        }));
        // It may have decoded before: slabs that it gets back now are freed.
        process.return_slabs(timeout).map_err(|loss| self.failure(loss))?;
        process.send(&request, &[], timeout).map_err(|loss| self.failure(loss))?;
        let mut frames = job.decoded.open();
        let mut sender = FrameSender::new(process.shares(), job.decoded.is_retained());
        loop {
            match process.answer(timeout).map_err(|loss| self.failure(loss))?.0 {
                Reply::Want(count) => {
                    let mut batch = FrameBatch::default();
                    for frame in frames.by_ref().take(count as usize) {
                        let added = sender.add(&*frame?, &mut batch);
                        added.map_err(|error| Failure::machine(format!("cannot send frames: {error}")))?;
                    }
                    let handles = std::mem::take(&mut batch.frames);
                    let sent = process.send(&Request::Frames(handles), &batch.handles(), timeout);
                    sent.map_err(|loss| self.failure(loss))?;
                }
                Reply::Encoded(outcome) => return Ok(outcome),
                _ => return Err(self.failure(Loss::Gone(UNEXPECTED.to_owned()))),
            }
        }
    }

    fn failure(&self, loss: Loss) -> Failure {
        match loss {
            Loss::Cancelled => Failure { kind: FailureKind::Cancelled, message: "interrupted".to_owned() },
            Loss::Gone(what) => Failure::machine(format!("{}: {what}", self.name())),
        }
    }
}

impl Executor for WorkerExecutor {
    fn name(&self) -> &str {
        &self.about.name
    }

    fn identity(&self) -> String {
        self.about.identity.clone()
    }

    fn encoder(&self) -> &str {
        &self.about.encoder
    }

    fn slots(&self) -> usize {
        self.about.slots
    }

    fn is_device(&self) -> bool {
        self.about.is_device
    }

    fn place(&self) -> String {
        self.about.place.clone()
    }

    fn bit_depths(&self) -> Vec<u8> {
        self.about.bit_depths.clone()
    }

    fn encode(&self, job: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
        self.run(job)
    }
}
