//! `rivet cache`.

use clap::{Args, Subcommand};

use super::{CacheDirArg, Exit, complain, load, look_at_cache, print};
use crate::report;

/// Look at the cache
#[derive(Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Subcommand)]
enum CacheCommand {
    Stats(StatsArgs),
}

/// Say where the cache is and how much it holds
#[derive(Args)]
struct StatsArgs {
    /// A spec, for its `cache.dir`
    #[arg(value_name = "LADDER")]
    ladder: Option<std::path::PathBuf>,
    #[command(flatten)]
    cache: CacheDirArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &CacheArgs) -> Exit {
    let CacheCommand::Stats(args) = &args.command;
    match stats(args) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn stats(args: &StatsArgs) -> Result<Exit, Exit> {
    let ladder = args.ladder.as_deref().map(load).transpose()?;
    let cache = look_at_cache(&args.cache, ladder.as_ref())?;
    let stats = cache.stats().map_err(|error| {
        complain(&error, error.hint());
        Exit::Failed
    })?;
    if args.json {
        let mut json = serde_json::json!(stats);
        json["folder"] = serde_json::json!(cache.folder());
        print(json);
    } else {
        print(format_args!("{}", cache.folder().display()));
        print(format_args!("  results  {:>8}  {}", stats.blobs, report::bytes(stats.blob_bytes)));
        print(format_args!("  entries  {:>8}  {}", stats.actions, report::bytes(stats.action_bytes)));
    }
    Ok(Exit::Done)
}
