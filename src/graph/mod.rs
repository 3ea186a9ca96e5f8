//! From a ladder to steps, and from steps to a published stream: the graph of a build, its keys,
//! its scheduling.
//!
//! Every step is a function from digests to digests. When its inputs are done its
//! [`Recipe`](recipe::Recipe) gives its key; what is filed under that key in the cache is its
//! result, and only what is not there runs. Results tell of more steps: the [`scheduler`] lets
//! the graph grow, title by title ([`title`]), as the source is indexed and the film is cut.
//!
//! ```text
//! source ─ index ─┬─ decode ─┐
//!                 ├─ decode ─┴─ chunk ─┬─ encode ─┬─ mux ─┬─ manifest ─ publish
//!                 │                    │  …       └─ contract ─ mux (init) ─┤
//!                 │                    └─ decode (sound) ─ audio ─ mux ─────┘
//! ```

mod chunking;
mod error;
mod event;
mod film;
mod frames;
mod limits;
mod memo;
mod packaging;
mod prepare;
mod ready;
mod recipe;
mod rung;
mod scheduler;
mod step;
mod title;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::cache::LocalCache;
use crate::executors::{Executor, Rav1e};
use crate::media::{self, Scaler};
use crate::spec::Ladder;

pub use error::StepError;
pub use event::{
    Counts, EncodeWork, Event, FailureReport, Kind, Origin, Summary, TitleSummary, TrackSummary,
};
pub use limits::{default_jobs, default_memory};
pub use packaging::ENTRY;
pub use scheduler::{RungOutlook, TitleOutcome};

use scheduler::{Outcome, Scheduler, Settings};

/// How to run a build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Steps that run at a time. Never changes a byte.
    pub jobs: usize,
    /// Bytes for frames in flight and encoders. Never changes a byte.
    pub memory: u64,
    /// After a failure go on with what does not depend on it.
    pub keep_going: bool,
}

/// Builds every title of the ladder. What happens is told to `observe`, on the calling thread;
/// its last event is the summary that is also returned. `cancelled` may be set from anywhere.
pub fn build(
    ladder: &Ladder,
    cache: Arc<LocalCache>,
    options: &Options,
    cancelled: Arc<AtomicBool>,
    observe: &dyn Fn(&Event),
) -> Result<Summary, StepError> {
    let start = Instant::now();
    let outcome = run(ladder, cache, options, cancelled, observe, false)?;
    let mut nodes: std::collections::BTreeMap<Kind, Counts> =
        Kind::ALL.into_iter().map(|kind| (kind, Counts::default())).collect();
    nodes.extend(outcome.counts);
    let summary = Summary {
        nodes,
        wall_seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: limits::cpu_seconds(),
        titles: outcome.titles.into_iter().filter_map(|title| title.summary).collect(),
        failures: outcome.failures,
        interrupted: outcome.interrupted,
    };
    observe(&Event::Summary(Box::new(summary.clone())));
    Ok(summary)
}

/// What a build would do.
pub struct Plan {
    /// Of each kind: steps that would run (as far as they are known), and that would not.
    pub kinds: Vec<(Kind, u64, u64)>,
    pub titles: Vec<TitleOutcome>,
    pub failures: Vec<FailureReport>,
    pub interrupted: bool,
}

/// Looks what a build would run and reuse. Nothing is decoded or built; a source that has
/// never been seen is read once, for its digest.
pub fn plan(
    ladder: &Ladder,
    cache: Arc<LocalCache>,
    options: &Options,
    cancelled: Arc<AtomicBool>,
) -> Result<Plan, StepError> {
    let outcome = run(ladder, cache, options, cancelled, &|_| {}, true)?;
    let kinds = Kind::ALL.into_iter().map(|kind| {
        let would_run = outcome.would_run.get(&kind).copied().unwrap_or(0);
        let counts = outcome.counts.get(&kind).copied().unwrap_or_default();
        // A source that was hashed just now is read, not rebuilt.
        (kind, would_run, counts.cached + counts.ran)
    });
    Ok(Plan {
        kinds: kinds.collect(),
        titles: outcome.titles,
        failures: outcome.failures,
        interrupted: outcome.interrupted,
    })
}

fn run(
    ladder: &Ladder,
    cache: Arc<LocalCache>,
    options: &Options,
    cancelled: Arc<AtomicBool>,
    observe: &dyn Fn(&Event),
    dry_run: bool,
) -> Result<Outcome, StepError> {
    media::init();
    let jobs = options.jobs.max(1);
    let executor = Rav1e::new(jobs).map_err(StepError::Encode)?;
    let tools = prepare::Tools {
        demuxer: media::demuxer_library(),
        decoder: media::decoder_library(),
        scaler: Scaler::identity(),
        resampler: media::resampler_identity(),
        encoder: executor.identity(),
        opus: media::opus_library().to_owned(),
    };
    let worker = Arc::new(work::Worker { cache, executor: Arc::new(executor), cancelled });
    let settings = Settings { jobs, memory: options.memory, keep_going: options.keep_going, dry_run };
    Ok(Scheduler::new(ladder, worker, tools, settings, observe)?.run())
}
