//! The engine: runs any graph of steps, and knows no kind of them. Every step is a function from digests to
//! digests. When its inputs are done its recipe gives its key; what is stored under that key in the cache is
//! its result, and only what is not there runs. Which steps there are follows from what the titles know
//! (`title`, `steps`); [`engine`] keeps the graph that.
//!
//! `graph` has the states of steps, `lookup` finds results, `queue` and `slots` say what runs next and where,
//! `dispatch` hands it out, `threads` run it, `sync` takes in what results tell, `repair` deals with what does not
//! hold, `leases` with what other processes run.

mod dispatch;
pub(crate) mod engine;
pub(crate) mod event;
pub(crate) mod graph;
mod leases;
pub(crate) mod limits;
mod lookup;
pub(crate) mod outcome;
mod queue;
pub(crate) mod record;
mod repair;
mod slots;
mod sync;
mod threads;
pub(crate) mod title_cache;
pub(crate) mod title_plan;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::cache::Tiers;
use crate::executors::{self, Executor, Found, Wanted};
use crate::media::{self, Codecs, CodecsHere, Libraries};
use crate::notices::Notices;
use crate::spec::Ladder;
use crate::workers::{WorkerCodecs, WorkerExecutor, WorkerOptions, WorkerPool};

use crate::steps::context::StepContext;
use crate::steps::tools::Tools;
use crate::title::rung;

pub use crate::steps::{EncodeWork, Kind, StandsFor, StepError};
pub use event::{Counts, Event, FailureReport, Origin, Run, Summary, TitleSummary, TrackSummary};
pub use limits::{default_jobs, default_memory};
pub use record::{BuildRecord, Ending, PathRecord, RanRecord, StepsRecord, TitleRecord};
pub use title_cache::title_of;
pub use title_plan::{TitlePlan, TrackPlan};

use engine::{Engine, Settings};

/// How to run a build.
#[derive(Clone)]
pub struct Options {
    /// Steps that run at a time. Never changes a byte.
    pub jobs: usize,
    /// Bytes for frames in flight and encoders. Never changes a byte.
    pub memory: u64,
    /// After a failure go on with what does not depend on it.
    pub keep_going: bool,
    /// Tell how busy the build is, too, as [`Event::Gauges`].
    pub gauges: bool,
    /// What encodes, in place of what this machine has. Their identities are in the keys.
    pub executors: Option<Vec<Arc<dyn Executor>>>,
    /// Processes to encode and decode in; `None`: this one.
    pub workers: Option<WorkerOptions>,
    /// Whether GPUs may decode, which they only do in processes of their own. Never changes a byte.
    pub gpu_decoding: bool,
    /// How long a device that has no room for a job is left alone: at first, the second time in a row,
    /// and so on. One that has none after the last of these is given up.
    pub cooling: Vec<Duration>,
}

impl Default for Options {
    /// All of this machine.
    fn default() -> Options {
        Options {
            jobs: default_jobs(),
            memory: default_memory(),
            keep_going: false,
            gauges: false,
            executors: None,
            workers: None,
            gpu_decoding: true,
            // A minute in all: others' work may end, and what is full for good is not waited for long.
            cooling: [1, 2, 4, 8, 16, 30].map(Duration::from_secs).to_vec(),
        }
    }
}

/// Builds every title of the ladder. What happens is told to `observe`, on the calling thread;
/// its last event is the summary that is also returned. `cancelled` may be set from anywhere.
pub fn build(
    ladder: &Ladder,
    cache: Arc<Tiers>,
    options: &Options,
    cancelled: Arc<AtomicBool>,
    observe: &dyn Fn(&Event),
) -> Result<Summary, StepError> {
    let (start, started) = (Instant::now(), SystemTime::now());
    // One that cannot be announced, in a folder that is only read, is in no danger from a cleaning.
    let _running = cache.local().announce().inspect_err(|error| tracing::debug!("{error}")).ok();
    let tiers = Arc::clone(&cache);
    let is_cancelled = Arc::clone(&cancelled);
    let settings = settings(options);
    let mut engine = open_engine(ladder, cache, settings, cancelled, observe)?;
    for message in check_encoders(ladder, &engine)? {
        observe(&Event::Warning { title: String::new(), message });
    }
    engine.run();
    engine.end_workers();
    tiers.finish(&|| is_cancelled.load(Ordering::Relaxed), &|left| observe(&Event::Storing { left }));
    for message in engine.context.take_notices() {
        observe(&Event::Warning { title: String::new(), message });
    }
    let outcome = std::mem::take(&mut engine.outcome);
    let mut nodes: BTreeMap<Kind, Counts> =
        Kind::ALL.into_iter().map(|kind| (kind, Counts::default())).collect();
    nodes.extend(outcome.counts);
    let summary = Summary {
        nodes,
        wall_seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: limits::cpu_seconds(),
        decoded_frames: engine.decoded_frames(),
        spans_on_gpus: outcome.spans_on_gpus,
        remote: tiers.report(),
        titles: outcome.summaries,
        failures: outcome.failures,
        interrupted: outcome.interrupted,
    };
    if let Err(error) = record::keep(tiers.local(), ladder, &engine, &outcome.runs, &summary, started) {
        observe(&Event::Warning {
            title: String::new(),
            message: format!("this build is not in the log: {error}"),
        });
    }
    observe(&Event::Summary(Box::new(summary.clone())));
    Ok(summary)
}

/// Whether every rung has an encoder on this machine; warnings of those that are passed over.
pub(crate) fn check_encoders(ladder: &Ladder, engine: &Engine<'_>) -> Result<Vec<String>, StepError> {
    let context = &engine.context;
    if context.is_cancelled() {
        // The search for them may have been cut short, too.
        return Ok(Vec::new());
    }
    Ok(rung::check_encoders(ladder, &rung::who_is_here(&engine.tools.encoders, &context.unusable))?)
}

pub(crate) fn settings(options: &Options) -> Settings {
    let options = Options { jobs: options.jobs.max(1), ..options.clone() };
    Settings { options, ..Settings::default() }
}

pub(crate) fn open_engine<'a>(
    ladder: &'a Ladder,
    cache: Arc<Tiers>,
    settings: Settings,
    cancelled: Arc<AtomicBool>,
    observe: &'a dyn Fn(&Event),
) -> Result<Engine<'a>, StepError> {
    open_engine_with(ladder, cache, settings, cancelled, observe, None)
}

/// `tools` stand for those that are here: keys are then those of a build that had them.
pub(crate) fn open_engine_with<'a>(
    ladder: &'a Ladder,
    cache: Arc<Tiers>,
    settings: Settings,
    cancelled: Arc<AtomicBool>,
    observe: &'a dyn Fn(&Event),
    tools: Option<Tools>,
) -> Result<Engine<'a>, StepError> {
    media::init();
    let pool = settings.options.workers.clone();
    let pool = pool.map(|options| Arc::new(WorkerPool::new(options, Arc::clone(&cancelled))));
    let wanted: BTreeSet<&str> =
        ladder.rungs.iter().flat_map(|rung| &rung.encoders).map(|encoder| encoder.name()).collect();
    if tools.is_none() {
        rung::check_options(ladder)?;
    }
    let Found { executors, unusable } = match (&settings.options.executors, &pool) {
        (Some(executors), _) => Found { executors: executors.clone(), unusable: Vec::new() },
        (None, None) => {
            executors::found_here(settings.options.jobs, Wanted::Named(&wanted)).map_err(StepError::Encode)?
        }
        (None, Some(pool)) => {
            WorkerExecutor::find(pool, settings.options.jobs, &wanted).map_err(StepError::Encode)?
        }
    };
    let codecs: Arc<dyn Codecs> = match &pool {
        Some(pool) => Arc::new(WorkerCodecs::new(Arc::clone(pool))),
        None => Arc::new(CodecsHere),
    };
    let mut encoders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for executor in &executors {
        let (known, identity) =
            (encoders.entry(executor.encoder().to_owned()).or_default(), executor.identity());
        if !known.contains(&identity) {
            known.push(identity);
        }
    }
    let tools = tools.unwrap_or_else(|| Tools { libraries: Libraries::here(), cpu: media::cpu(), encoders });
    let host = limits::host_name();
    let decoded = Arc::default();
    let context = Arc::new(StepContext {
        cache,
        executors,
        unusable,
        codecs,
        decoded,
        pool,
        host,
        cancelled,
        notices: Notices::default(),
    });
    Engine::new(ladder, context, tools, settings, observe)
}
