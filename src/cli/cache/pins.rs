//! `rivet cache pin`, `unpin` and `pins`.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use rivet::housekeeping::Pin;
use rivet::{Access, Session};

use super::WhichArgs;
use crate::cli::{
    CacheDirArg, Exit, LadderArgs, complain, failed, load, on_interrupt, open_with_warnings, print,
    print_json,
};
use crate::report::count;

/// Pin what a spec needs, so that gc keeps it
///
/// All that its titles, as they are now, were built from stays in the cache until it is unpinned. After a
/// change to the spec or a source, build and pin again: the pin then holds only the new version.
#[derive(Args)]
pub struct PinArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    /// The name of the pin [default: the spec's path]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Unpin a spec
#[derive(Args)]
pub struct UnpinArgs {
    /// The pin's name, or the path of its spec
    #[arg(default_value = "ladder.toml", value_name = "NAME")]
    name: String,
    #[command(flatten)]
    cache: CacheDirArg,
}

/// List pins
#[derive(Args)]
pub struct PinsArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn pin(args: &PinArgs) -> Result<Exit, Exit> {
    let ladder = load(&args.ladder.ladder)?;
    let session = open_with_warnings(&ladder, args.ladder.cache.options())?;
    let pinned = session.pin(&ladder, args.name.as_deref(), &on_interrupt());
    let pinned = pinned.map_err(|error| failed(&error))?;
    let (pin, missing) = (&pinned.pin, pinned.missing);
    print(format_args!("{} pinned as {}", count(pin.titles.len() as u64, "title"), pin.name));
    if missing > 0 {
        print(format_args!(
            "not in the cache, so not pinned: {} that went into them, and their inputs; \
             `rivet cache pull` fetches what a remote cache has of them, then pin again",
            count(missing, "step"),
        ));
    }
    Ok(Exit::Done)
}

pub fn unpin(args: &UnpinArgs) -> Result<Exit, Exit> {
    // Where the name is a spec's, its cache is meant.
    let path = Path::new(&args.name);
    let ladder = path.is_file().then(|| path.to_owned());
    let house = WhichArgs { ladder, cache: args.cache.clone() }.open(Access::ReadWrite)?;
    for name in [args.name.clone(), Session::pin_name(path)] {
        if house.unpin(&name).map_err(|error| failed(&error))? {
            print(format_args!("unpinned {name}"));
            return Ok(Exit::Done);
        }
    }
    complain(format_args!("there is no pin {}", args.name), Some("`rivet cache pins` lists them"));
    Err(Exit::Failed)
}

pub fn list(args: &PinsArgs) -> Result<Exit, Exit> {
    let house = args.which.open(Access::ReadOnly)?;
    let pins = house.pins().map_err(|error| failed(&error))?;
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
