//! `rivet plan`.

use clap::Args;
use rivet::graph;

use super::{Exit, LadderArgs, complain, load, on_interrupt, open_cache, print};
use crate::report;

/// Show what a build would run and what it would reuse
///
/// Nothing is decoded, encoded or published. For a source that was built before it tells exactly
/// which segments would be encoded; of one never seen, only the first steps are known. Steps that
/// follow from what would run are counted as far as they are known.
#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    ladder: LadderArgs,
}

pub fn run(args: &PlanArgs) -> Exit {
    match try_run(args) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn try_run(args: &PlanArgs) -> Result<Exit, Exit> {
    let ladder = load(&args.ladder.ladder)?;
    let cache = open_cache(&args.ladder.cache, Some(&ladder))?;
    let cancelled = on_interrupt();
    let options = graph::Options { jobs: graph::default_jobs(), memory: u64::MAX, keep_going: true };
    let plan = graph::plan(&ladder, cache, &options, cancelled).map_err(|error| {
        complain(&error, error.hint().as_deref());
        Exit::Failed
    })?;
    for failure in &plan.failures {
        complain(
            format_args!("{}: {}: {}", failure.title, failure.node, failure.message),
            failure.hint.as_deref(),
        );
    }
    print(report::plan(&plan).trim_end());
    Ok(match (plan.interrupted, plan.failures.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}
