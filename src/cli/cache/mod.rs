//! `rivet cache`: one file a subcommand.

mod clear;
mod gc;
mod keygen;
mod keys;
mod pins;
mod push;
mod stats;
mod trust;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use rivet::cache::LocalCache;

use super::{CacheDirArg, Exit, load, look_at_cache, open_cache};

/// Look after the cache
#[derive(Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Subcommand)]
enum CacheCommand {
    Stats(stats::StatsArgs),
    Gc(gc::GcArgs),
    Pin(pins::PinArgs),
    Unpin(pins::UnpinArgs),
    Pins(pins::PinsArgs),
    Verify(verify::VerifyArgs),
    Clear(clear::ClearArgs),
    Push(push::PushArgs),
    Pull(push::PullArgs),
    Keygen(keygen::KeygenArgs),
    Trust(trust::TrustArgs),
    Keys(keys::KeysArgs),
}

/// Which cache.
#[derive(Args)]
struct WhichArgs {
    /// A spec, for its `cache.dir`
    #[arg(value_name = "LADDER")]
    ladder: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheDirArg,
}

impl WhichArgs {
    /// To change something there.
    fn open(&self) -> Result<Arc<LocalCache>, Exit> {
        let ladder = self.ladder.as_deref().map(load).transpose()?;
        open_cache(&self.cache, ladder.as_ref())
    }

    /// For a command that only looks.
    fn look(&self) -> Result<Arc<LocalCache>, Exit> {
        let ladder = self.ladder.as_deref().map(load).transpose()?;
        look_at_cache(&self.cache, ladder.as_ref())
    }
}

pub fn run(args: &CacheArgs) -> Exit {
    let ended = match &args.command {
        CacheCommand::Stats(args) => stats::run(args),
        CacheCommand::Gc(args) => gc::run(args),
        CacheCommand::Pin(args) => pins::pin(args),
        CacheCommand::Unpin(args) => pins::unpin(args),
        CacheCommand::Pins(args) => pins::list(args),
        CacheCommand::Verify(args) => verify::run(args),
        CacheCommand::Clear(args) => clear::run(args),
        CacheCommand::Push(args) => push::push(args),
        CacheCommand::Pull(args) => push::pull(args),
        CacheCommand::Keygen(args) => keygen::run(args),
        CacheCommand::Trust(args) => trust::run(args),
        CacheCommand::Keys(args) => keys::run(args),
    };
    match ended {
        Ok(exit) | Err(exit) => exit,
    }
}
