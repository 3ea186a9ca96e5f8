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
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use rivet::cache::{ActionKey, CacheError, Caches, LocalCache};
use rivet::graph::TitleKey;

use super::{
    CacheDirArg, Exit, Open, cache_failed, cache_folder, complain, load, look_at_cache, open_cache_with,
};

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
    /// A spec: the cache that its builds use is meant [default: the one in the cache's folder]
    #[arg(value_name = "LADDER")]
    ladder: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheDirArg,
}

impl WhichArgs {
    /// With a spec its own cache; without one, that in the folder and all that lie apart there.
    fn all(&self, open: Open) -> Result<Caches, Exit> {
        let Some(spec) = &self.ladder else {
            let folder = cache_folder(&self.cache, None)?;
            return Caches::in_folder(&folder, open).map_err(|error| cache_failed(&error));
        };
        let ladder = load(spec)?;
        open_cache_with(open, &self.cache, Some(&ladder), &super::trust(Some(&ladder))?).map(Caches::from)
    }

    /// For a command that only looks.
    fn look(&self) -> Result<Arc<LocalCache>, Exit> {
        let ladder = self.ladder.as_deref().map(load).transpose()?;
        look_at_cache(&self.cache, ladder.as_ref())
    }
}

/// JSON of what was done, with the folders that it was done in.
fn with_folders(caches: &Caches, done: impl serde::Serialize) -> serde_json::Value {
    let mut json = serde_json::json!(done);
    json["folders"] = serde_json::json!(caches.folders().collect::<Vec<_>>());
    json
}

/// Sees that titles were built as they are now.
fn check_built(
    titles: &[TitleKey],
    cancelled: &AtomicBool,
    is_built: impl Fn(&ActionKey) -> Result<bool, CacheError>,
) -> Result<(), Exit> {
    for title in titles {
        let is_built = is_built(&title.key).map_err(|error| cache_failed(&error))?;
        // Who was interrupted has not looked everywhere.
        if cancelled.load(Ordering::Relaxed) {
            return Err(Exit::Interrupted);
        }
        if !is_built {
            complain(
                format_args!("{}: nothing of it as it is now was built with this cache", title.name),
                Some("build it first: rivet build"),
            );
            return Err(Exit::Failed);
        }
    }
    Ok(())
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
