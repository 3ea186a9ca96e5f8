//! The machine's slots, memory and workers, the caches and whom they trust: what a program decides once, for
//! all that it does with a ladder. It prints nothing.
//!
//! ```text
//! options    what a program says          budget     slots and memory, shared by builds
//! storage    which cache, whom it trusts  workers    where worker processes come from
//! house      looking after the caches     carry      push, pull, pin
//! ```

mod budget;
mod carry;
mod error;
mod house;
mod options;
mod storage;
mod workers;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

pub use budget::{Budget, Share};
pub use carry::{MissingStep, Pinned, Transfer};
pub use error::SessionError;
pub use house::Housekeeping;
pub use options::{Access, BuildOptions, RemoteChoice, SessionOptions};
pub use workers::Workers;

use crate::build::{self, Event, Options, StepError, Summary};
use crate::cache::{RemoteReport, Tiers};
use crate::insight::{self, Check, Explanation, GraphView, Plan};
use crate::spec::Ladder;
use crate::workers::WorkerOptions;

/// A cache that was opened for a ladder, and the part of the machine to build with.
///
/// The ladder that it was opened for says which cache is used and whose keys count besides the user's; what
/// another ladder's `[cache]` says changes neither. Results that count only because a spec names a key go
/// into a cache of their own, which no build of the user's reads without that spec.
///
/// Builds may run at once, on threads of their own: see [`Share`]. What the remote cache told is remembered as
/// long as the session is there, and its report counts for the session.
pub struct Session {
    options: SessionOptions,
    cache: Arc<Tiers>,
    /// How workers are started; found out by the first build.
    workers: OnceLock<Result<Option<WorkerOptions>, String>>,
    warnings: Vec<String>,
}

impl Session {
    /// Opens the cache that `ladder` and `options` name. Whether a remote cache answers shows when it is first
    /// asked.
    pub fn open(ladder: &Ladder, options: SessionOptions) -> Result<Session, SessionError> {
        let mut warnings = Vec::new();
        let cache = storage::open(ladder, &options, &mut warnings)?;
        Ok(Session { options, cache, workers: OnceLock::new(), warnings })
    }

    /// The folder of the cache.
    pub fn cache_folder(&self) -> &Path {
        self.cache.local().folder()
    }

    /// Slots and memory of its builds.
    pub fn budget(&self) -> &Budget {
        &self.options.budget
    }

    /// What a person should know of how it was opened. Each build tells them, too, as events.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What came of the remote cache so far, if there is one that is asked.
    pub fn remote_report(&self) -> Option<RemoteReport> {
        self.cache.report()
    }

    /// What there is to tell a person of the remote cache since the last call. Builds tell it as events.
    pub fn take_notices(&self) -> Vec<String> {
        self.cache.take_notices()
    }

    /// Calls `tell`, once, on the thread that waits, when the remote cache keeps somebody waiting.
    pub fn on_wait(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        self.cache.on_wait(tell);
    }

    /// Builds every title of the ladder, and publishes it. Events go to `observe`, on the calling thread; the
    /// last one is the summary that is also returned. A failure of a step is in the summary; an error is what
    /// kept the build from beginning. Waits while other builds have too much of the session's budget.
    /// `cancelled` may be set from anywhere.
    pub fn build(
        &self,
        ladder: &Ladder,
        options: &BuildOptions,
        cancelled: Arc<AtomicBool>,
        observe: &dyn Fn(&Event),
    ) -> Result<Summary, SessionError> {
        let (_held, engine) = self.engine(options, &cancelled)?;
        for message in self.warnings.iter().cloned().chain(self.lack_of_workers()) {
            observe(&Event::Warning { title: String::new(), message });
        }
        Ok(build::build(ladder, Arc::clone(&self.cache), &engine, cancelled, observe)?)
    }

    /// Builds every step again, in a cache that goes away afterwards, and compares each result with the one in
    /// the cache. Publishes nothing. Waits as [`Session::build`] does.
    pub fn check(
        &self,
        ladder: &Ladder,
        options: &BuildOptions,
        cancelled: Arc<AtomicBool>,
        observe: &dyn Fn(&Event),
    ) -> Result<Check, SessionError> {
        let (_held, engine) = self.engine(options, &cancelled)?;
        Ok(insight::check(ladder, &self.cache, &engine, cancelled, observe)?)
    }

    /// What a build would run and reuse, and why. Nothing is decoded; a source that was never seen is read
    /// once, for its digest.
    pub fn plan(&self, ladder: &Ladder, cancelled: Arc<AtomicBool>) -> Result<Plan, SessionError> {
        Ok(insight::plan(ladder, &self.cache, &self.options.looking(), cancelled)?)
    }

    /// Takes steps apart: what their keys are made of, and what differs from the last build. `selector` names
    /// a step as events do (`720p/12`), or the beginning of several (`720p`); with several titles `TITLE:`
    /// stands before it.
    pub fn explain(
        &self,
        ladder: &Ladder,
        selector: &str,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Vec<Explanation>, SessionError> {
        Ok(insight::explain(ladder, &self.cache, &self.options.looking(), cancelled, selector)?)
    }

    /// The graph of a build, and what each step would do, without running any.
    pub fn view(&self, ladder: &Ladder, cancelled: &Arc<AtomicBool>) -> Result<GraphView, SessionError> {
        Ok(insight::view(ladder, &self.cache, &self.options.looking(), cancelled)?)
    }

    /// A part of the budget, held as long as the reservation is there, and what the engine is to be told.
    fn engine(
        &self,
        options: &BuildOptions,
        cancelled: &AtomicBool,
    ) -> Result<(budget::Reservation, Options), SessionError> {
        if self.options.access == Access::ReadOnly {
            return Err(SessionError::ReadOnly);
        }
        let held = self.options.budget.take(options.share, cancelled).ok_or(StepError::Cancelled)?;
        let engine = Options {
            jobs: held.slots,
            memory: held.memory,
            keep_going: options.keep_going,
            gauges: options.gauges,
            executors: self.options.executors.clone(),
            workers: self.workers().clone().unwrap_or(None),
            gpu_decoding: self.options.gpu_decoding,
            ..Options::default()
        };
        Ok((held, engine))
    }

    fn workers(&self) -> &Result<Option<WorkerOptions>, String> {
        let options = &self.options;
        self.workers.get_or_init(|| workers::choose(&options.workers, options.worker_timeout))
    }

    /// What a person should know where workers are wanted, and none can be started.
    fn lack_of_workers(&self) -> Option<String> {
        let why = self.workers().as_ref().err()?;
        Some(format!(
            "decoding and encoding in this process, as there are no workers: {why}. A decoder or encoder that \
             crashes takes the process with it, and no GPU decodes"
        ))
    }
}
