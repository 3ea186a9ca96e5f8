//! `rivet cache`.

mod keygen;
mod keys;
mod trust;

use clap::{Args, Subcommand};

use super::{CacheDirArg, Exit, complain, load, open_cache, print};
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
    Keygen(keygen::KeygenArgs),
    Trust(trust::TrustArgs),
    Keys(keys::KeysArgs),
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
    let exit = match &args.command {
        CacheCommand::Stats(args) => stats(args),
        CacheCommand::Keygen(args) => keygen::run(args),
        CacheCommand::Trust(args) => trust::run(args),
        CacheCommand::Keys(args) => keys::run(args),
    };
    match exit {
        Ok(exit) | Err(exit) => exit,
    }
}

fn stats(args: &StatsArgs) -> Result<Exit, Exit> {
    let ladder = args.ladder.as_deref().map(load).transpose()?;
    let cache = open_cache(&args.cache, ladder.as_ref())?;
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
