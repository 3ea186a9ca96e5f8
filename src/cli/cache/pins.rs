//! `rivet cache pin`, `unpin` and `pins`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use rivet::cache::{Cache, LocalCache, Pin, PinnedTitle, Tiers};
use rivet::graph;

use super::{WhichArgs, check_built};
use crate::cli::{
    CacheDirArg, Exit, LadderArgs, cache_failed, complain, failed, load, looking, on_interrupt, open_cache,
    print, print_json,
};
use crate::report::count;

/// Keep what a spec needs, whatever its age
///
/// What its titles were built of, as they are now, stays until they are unpinned. After a change to the
/// spec or a source, build and pin again: the pin then holds the new version alone.
#[derive(Args)]
pub struct PinArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    /// What to unpin it by [default: the spec's path]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Let go of what was pinned
#[derive(Args)]
pub struct UnpinArgs {
    /// The pin's name, or the path of its spec
    #[arg(default_value = "ladder.toml", value_name = "NAME")]
    name: String,
    #[command(flatten)]
    cache: CacheDirArg,
}

/// List what is pinned
#[derive(Args)]
pub struct PinsArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The name of a spec's pin where it was given none.
fn default_name(spec: &Path) -> String {
    let absolute = std::path::absolute(spec).unwrap_or_else(|_| spec.to_owned());
    std::fs::canonicalize(&absolute).unwrap_or(absolute).display().to_string()
}

pub fn pin(args: &PinArgs) -> Result<Exit, Exit> {
    let spec = &args.ladder.ladder;
    let ladder = load(spec)?;
    let cache = open_cache(&args.ladder.cache, Some(&ladder))?;
    // Nothing of it may be cleaned away before it is pinned.
    let _running = cache.announce().map_err(|error| cache_failed(&error))?;
    let cancelled = on_interrupt();
    let here = Arc::new(Tiers::from(Arc::clone(&cache)));
    let keys = graph::title_keys(&ladder, &here, &looking(), &cancelled).map_err(|error| failed(&error))?;
    check_built(&keys, &cancelled, |key| Ok(cache.action(key)?.is_some()))?;
    let titles = keys.into_iter().map(|graph::TitleKey { name, key }| PinnedTitle { name, key });
    let pin = Pin {
        name: args.name.clone().unwrap_or_else(|| default_name(spec)),
        spec: PathBuf::from(default_name(spec)),
        pinned_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        titles: titles.collect(),
    };
    let missing = cache.pin(&pin).map_err(|error| cache_failed(&error))?;
    print(format_args!("{} pinned as {}", count(pin.titles.len() as u64, "title"), pin.name));
    if missing > 0 {
        print(format_args!(
            "not here, and not kept: {} that went into them, and what those were made of; \
             `rivet cache pull` brings what a remote cache has of it, to be pinned again",
            count(missing, "step"),
        ));
    }
    Ok(Exit::Done)
}

pub fn unpin(args: &UnpinArgs) -> Result<Exit, Exit> {
    // Where the name is a spec's, its cache is meant.
    let path = Path::new(&args.name);
    let ladder = path.is_file().then(|| path.to_owned());
    let caches = WhichArgs { ladder, cache: args.cache.clone() }.all(LocalCache::open)?;
    for name in [args.name.clone(), default_name(path)] {
        if caches.unpin(&name).map_err(|error| cache_failed(&error))? {
            print(format_args!("{name} is no longer pinned"));
            return Ok(Exit::Done);
        }
    }
    complain(format_args!("nothing is pinned as {}", args.name), Some("`rivet cache pins` lists what is"));
    Err(Exit::Failed)
}

pub fn list(args: &PinsArgs) -> Result<Exit, Exit> {
    let caches = args.which.all(LocalCache::open_read_only)?;
    let pins = caches.pins().map_err(|error| cache_failed(&error))?;
    if args.json {
        let pins: Vec<_> = pins.iter().map(json).collect();
        print_json(&pins);
        return Ok(Exit::Done);
    }
    for pin in &pins {
        let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(pin.pinned_at));
        let titles: Vec<&str> = pin.titles.iter().map(|title| title.name.as_str()).collect();
        print(format_args!("{}  {at}  {}", pin.name, titles.join(", ")));
        if pin.spec.display().to_string() != pin.name {
            print(format_args!("  {}", pin.spec.display()));
        }
    }
    Ok(Exit::Done)
}

fn json(pin: &Pin) -> serde_json::Value {
    let titles = pin
        .titles
        .iter()
        .map(|title| serde_json::json!({ "name": title.name, "key": title.key.to_string() }));
    serde_json::json!({
        "name": pin.name,
        "spec": pin.spec,
        "pinned_at": pin.pinned_at,
        "titles": titles.collect::<Vec<_>>(),
    })
}
