//! `rivet explain`.

use std::path::PathBuf;

use clap::Args;

use super::remote::{RemoteArgs, warn_of_doubts};
use super::{CacheDirArg, Exit, failed, load, on_interrupt, open_read_only, print, print_json};
use crate::report;

/// Explain a step: its key, what changed, where its result comes from
///
/// Steps have the names that `rivet build --events`, `rivet graph` and `rivet log` print: `720p/12`
/// (an encode), `720p/12/mux`, `audio/main/3`, `decode/5`, `chunk`, `720p/playlist`, `multivariant`. Of `source` it
/// tells whether the file has to be read, of `publish` which files of the output folder change. A
/// prefix like `720p` explains all steps below it; with several titles put `TITLE:` in front. Fields
/// marked `*` differ from the last successful build of the spec. Nothing runs; a new source is read
/// once, for its digest.
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
    let session = open_read_only(&ladder, &args.cache, &args.remote, &cancelled)?;
    let steps = session.explain(&ladder, &args.selector, &cancelled).map_err(|error| failed(&error))?;
    warn_of_doubts(&session);
    if args.json {
        print_json(&steps);
    } else {
        let several = ladder.titles.len() > 1;
        let texts: Vec<String> = steps.iter().map(|step| report::explanation(step, several)).collect();
        print(texts.join("\n").trim_end());
    }
    Ok(Exit::Done)
}
