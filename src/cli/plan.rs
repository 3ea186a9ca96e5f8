//! `rivet plan`.

use std::sync::Arc;

use clap::Args;
use rivet::cache::LocalCache;
use rivet::graph;

use super::remote::{RemoteArgs, warn_of_doubts};
use super::{Exit, LadderArgs, complain, failed, load, on_interrupt, print, print_json};
use crate::report;

/// Show what a build would run, what it would reuse, and why
///
/// Nothing is decoded, encoded or published. For a source that was built before it is exact; of
/// one never seen, only the first steps are known. Reasons are given against the last build of
/// the spec that got to its end.
#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with status 3 if a build would do anything
    #[arg(long)]
    exit_code: bool,
}

pub fn run(args: &PlanArgs) -> Exit {
    match try_run(args) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn try_run(args: &PlanArgs) -> Result<Exit, Exit> {
    let ladder = load(&args.ladder.ladder)?;
    let cancelled = on_interrupt();
    let cache =
        Arc::new(args.remote.tiers(LocalCache::open_read_only, &args.ladder.cache, &ladder, &cancelled)?);
    let plan = graph::plan(&ladder, &cache, &super::looking(), cancelled).map_err(|error| failed(&error))?;
    warn_of_doubts(&cache);
    for failure in &plan.failures {
        complain(failure, failure.hint.as_deref());
    }
    if args.json {
        print_json(&plan);
    } else {
        print(report::plan(&plan).trim_end());
    }
    Ok(match (plan.interrupted, plan.failures.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) if args.exit_code && plan.would_run() => Exit::WouldRun,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}
