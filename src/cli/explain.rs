//! `rivet explain`.

use std::path::PathBuf;

use std::sync::Arc;

use clap::Args;
use rivet::cache::LocalCache;
use rivet::graph;

use super::remote::{RemoteArgs, warn_of_doubts};
use super::{CacheDirArg, Exit, failed, load, on_interrupt, print, print_json};
use crate::report;

/// Explain a step: what its key is made of, what differs from the last build, where its result is from
///
/// A step is named as in `rivet build --events`, `rivet graph` and `rivet log`: `720p/12` (a
/// segment's encode), `720p/12/mux`, `audio/main/3`, `decode/5`, `chunk`, `720p/playlist`,
/// `manifest`. The beginning of a name, like `720p`, explains all steps below it; with several
/// titles put `TITLE:` in front. Fields marked `*` differ from the last build of the spec that
/// got to its end. Nothing is run; a source never seen is read once, for its digest.
#[derive(Args)]
pub struct ExplainArgs {
    /// The ladder spec
    #[arg(value_name = "LADDER")]
    ladder: PathBuf,
    /// The step
    #[arg(value_name = "STEP")]
    selector: String,
    #[command(flatten)]
    cache: CacheDirArg,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ExplainArgs) -> Exit {
    match try_run(args) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn try_run(args: &ExplainArgs) -> Result<Exit, Exit> {
    let ladder = load(&args.ladder)?;
    let cancelled = on_interrupt();
    let cache = Arc::new(args.remote.tiers(LocalCache::open_read_only, &args.cache, &ladder, &cancelled)?);
    let options = super::looking();
    let steps = graph::explain(&ladder, &cache, &options, &cancelled, &args.selector)
        .map_err(|error| failed(&error))?;
    warn_of_doubts(&cache);
    if args.json {
        print_json(&steps);
    } else {
        let several = ladder.titles.len() > 1;
        let texts: Vec<String> = steps.iter().map(|step| report::explanation(step, several)).collect();
        print(texts.join("\n").trim_end());
    }
    Ok(Exit::Done)
}
