//! `rivet plan`.

use clap::Args;

use super::remote::{RemoteArgs, warn_of_doubts};
use super::{Exit, LadderArgs, complain, failed, load, on_interrupt, open_read_only, print, print_json};
use crate::report;

/// Show what a build will run, what is cached, and why
///
/// Steps that depend on others which will run are listed as those that may run.
///
/// Nothing is decoded, encoded or published. The plan of a source that was analyzed before is exact;
/// of a new source only the first steps are known. Reasons compare with the last finished
/// build of the spec, or of a copy of the project, which is named.
#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with status 3 if a build has anything to run
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
    let session = open_read_only(&ladder, &args.ladder.cache, &args.remote, &cancelled)?;
    let plan = session.plan(&ladder, cancelled).map_err(|error| failed(&error))?;
    warn_of_doubts(&session);
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
        (false, true) if args.exit_code && plan.has_to_run() => Exit::MayRun,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}
