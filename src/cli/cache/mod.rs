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

use clap::{Args, Subcommand};
use rivet::Access;
use rivet::housekeeping::Housekeeping;

use super::{CacheDirArg, Exit, failed, load};

/// Manage the cache
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
    /// A spec, for the cache that its builds use [default: all caches in the cache folder]
    #[arg(value_name = "LADDER")]
    ladder: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheDirArg,
}

impl WhichArgs {
    /// With a spec its own cache; without one, all in the folder.
    fn open(&self, access: Access) -> Result<Housekeeping, Exit> {
        let ladder = self.ladder.as_deref().map(load).transpose()?;
        let mut options = self.cache.options();
        options.access = access;
        Housekeeping::open(ladder.as_ref(), &options).map_err(|error| failed(&error))
    }
}

/// JSON of what was done, with the folders that it was done in.
fn with_folders(house: &Housekeeping, done: impl serde::Serialize) -> serde_json::Value {
    let mut json = serde_json::json!(done);
    json["folders"] = serde_json::json!(house.folders());
    json
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
