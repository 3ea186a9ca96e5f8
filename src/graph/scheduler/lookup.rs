//! Looking steps up: what is in the cache is done, what is not is queued, or, in a dry run, noted.

use std::sync::Arc;
use std::time::Duration;

use petgraph::graph::NodeIndex;

use crate::cache::{ActionResult, BlobRef, Cache};

use super::Scheduler;
use crate::graph::error::StepError;
use crate::graph::event::Origin;
use crate::graph::prepare::{self, Prepared, PreparedJob, outside_job, prepare};
use crate::graph::step::{Node, State, Step};
use crate::graph::work::{self, EncodeFacts, Job, Made, Payload, facts};

impl Scheduler<'_> {
    /// Looks a step up, and queues it if its result is not there.
    pub(super) fn look_up(&mut self, id: NodeIndex) {
        let Node { title, step, .. } = self.graph[id];
        // It may have been skipped, or an input lost, since it became fresh.
        if !matches!(self.graph[id].state, State::Waiting) || self.graph[id].missing > 0 {
            return;
        }
        let looked_up = match step {
            Step::Source => self.look_up_source(id),
            Step::Publish => self.look_up_publish(id),
            _ => self.look_up_cached(id),
        };
        if let Err(error) = looked_up {
            self.fail(id, error);
            return;
        }
        if let State::Queued(_) = self.graph[id].state {
            if self.settings.dry_run && step != Step::Source {
                self.mark_would_run(id, true);
                return;
            }
            match step {
                Step::Encode { chunk, .. } => {
                    let work = self.encode_work(title, step).map_or(0, |work| work.samples);
                    self.ready.push_encode((title, chunk), work, id);
                }
                _ => self.ready.push_step(self.graph[id].path, id),
            }
        }
    }

    pub(super) fn look_up_source(&mut self, id: NodeIndex) -> Result<(), StepError> {
        let title = self.graph[id].title;
        match work::known_source(&self.worker.cache, &self.titles[title].source) {
            Some(digest) => {
                let result = ActionResult { facts: digest.0.to_vec(), blobs: Vec::new() };
                self.complete(
                    id,
                    Made { result, payload: Payload::Source(digest) },
                    Origin::Cached,
                    Duration::ZERO,
                );
            }
            None => {
                let job = outside_job(&self.graph, &self.titles[title], Step::Source)?;
                self.graph[id].state = State::Queued(job);
            }
        }
        Ok(())
    }

    pub(super) fn look_up_publish(&mut self, id: NodeIndex) -> Result<(), StepError> {
        let title = &self.titles[self.graph[id].title];
        if crate::package::is_current(&title.output, &title.files(&self.graph)?) {
            let made = Made { result: ActionResult::default(), payload: Payload::Published };
            self.complete(id, made, Origin::Cached, Duration::ZERO);
        } else {
            let job = outside_job(&self.graph, title, Step::Publish)?;
            self.graph[id].state = State::Queued(job);
        }
        Ok(())
    }

    pub(super) fn look_up_cached(&mut self, id: NodeIndex) -> Result<(), StepError> {
        let Node { title, step, repairs, .. } = self.graph[id];
        let Prepared { recipe, job } =
            prepare(&self.graph, &self.titles[title], step, &self.tools, self.settings.jobs)?;
        let key = recipe.key();
        tracing::debug!(node = self.titles[title].label(step), kind = recipe.kind(), %key, fields = ?recipe.fields());
        self.graph[id].key = Some(key);
        if let Some(&owner) = self.in_flight.get(&key) {
            self.graph[id].state = State::Following;
            self.followers.entry(owner).or_default().push(id);
            return Ok(());
        }
        // What was lost once is not looked up again: its entry may still be there.
        if repairs == 0
            && let Some(entry) = self.worker.cache.action(&key)?
            && let Some(payload) = self.accept(title, step, &entry.result)?
        {
            self.complete(id, Made { result: entry.result, payload }, Origin::Cached, Duration::ZERO);
            return Ok(());
        }
        if self.settings.dry_run {
            if !self.would_run_keys.insert(key) {
                // Another step makes it: this one would find it in the cache.
                self.outcome.counts.entry(step.kind()).or_default().cached += 1;
                self.mark_would_run(id, false);
                return Ok(());
            }
        } else {
            self.in_flight.insert(key, id);
        }
        let job: Job = match job {
            PreparedJob::Ready(job) => job,
            // Its frames are found when it is dispatched.
            PreparedJob::Encode => Box::new(|_| Err(StepError::internal("an encode without frames"))),
        };
        self.graph[id].state = State::Queued(job);
        Ok(())
    }

    /// Looks over a cached result before it is believed: `None` makes it a miss.
    pub(super) fn accept(
        &self,
        title: usize,
        step: Step,
        result: &ActionResult,
    ) -> Result<Option<Payload>, StepError> {
        let title = &self.titles[title];
        let found =
            |blob: Result<BlobRef, StepError>| blob.and_then(|blob| Ok(self.worker.cache.blob(&blob)?));
        Ok(match step {
            Step::Index => found(prepare::blob(result))?
                .and_then(|bytes| postcard::from_bytes(&bytes).ok())
                .map(|index| Payload::Index(Arc::new(index))),
            Step::Chunk => found(prepare::blob(result))?
                .and_then(|bytes| postcard::from_bytes(&bytes).ok())
                .map(|film| Payload::Film(Arc::new(film))),
            Step::Encode { rung, chunk } => {
                let plan = title.rung(rung)?;
                let frames = title.film()?.chunks.get(chunk).map(|chunk| chunk.frames);
                let checked = facts::<EncodeFacts>(result).and_then(|facts| {
                    plan.contract
                        .check(&facts.sequence_header)
                        .map_err(|error| StepError::Spec(error.to_string()))?;
                    Ok(Some(facts.frames) == frames)
                });
                match checked {
                    Ok(true) => Some(Payload::None),
                    Ok(false) => None,
                    Err(error) => {
                        tracing::warn!("{}: a cached segment is not used: {error}", title.label(step));
                        None
                    }
                }
            }
            _ => Some(Payload::None),
        })
    }
}
