//! `rivet log`.

use clap::Args;
use rivet::cache::{LocalCache, isolated_namespaces};
use rivet::graph::BuildRecord;

use super::{CacheDirArg, Exit, complain, look_at_cache, print, print_json};
use crate::report;

/// List the builds that used this cache, or tell of one: what ran, and the longest path
#[derive(Args)]
pub struct LogArgs {
    /// A build: its name in the list, the end of one, or `last`
    #[arg(value_name = "BUILD")]
    build: Option<String>,
    #[command(flatten)]
    cache: CacheDirArg,
    /// How many builds to list, the newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    number: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &LogArgs) -> Exit {
    match try_run(args) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn try_run(args: &LogArgs) -> Result<Exit, Exit> {
    let cache = look_at_cache(&args.cache, None)?;
    let apart = isolated_namespaces(cache.folder())
        .into_iter()
        .filter_map(|folder| LocalCache::open_read_only(&folder).ok());
    let caches: Vec<LocalCache> = apart.collect();
    let caches: Vec<&LocalCache> = caches.iter().chain([&*cache]).collect();
    let end = args.build.as_deref().filter(|&wanted| wanted != "last").unwrap_or_default();
    let mut records = BuildRecord::all(&caches, end).map_err(|error| {
        complain(&error, error.hint().as_deref());
        Exit::Failed
    })?;
    let Some(wanted) = &args.build else {
        let listed: Vec<BuildRecord> = records.take(args.number).collect();
        if args.json {
            print_json(&listed.iter().map(as_json).collect::<Vec<_>>());
        } else if listed.is_empty() {
            print("no build has used this cache yet");
        } else {
            print(report::history(&listed).trim_end());
        }
        return Ok(Exit::Done);
    };
    let Some(record) = records.next() else {
        complain(format_args!("the log has no build {wanted}"), Some("`rivet log` lists them"));
        return Err(Exit::Usage);
    };
    if args.json {
        print_json(&as_json(&record));
    } else {
        print(report::build(&record).trim_end());
    }
    Ok(Exit::Done)
}

/// With its name, which is not part of the record.
fn as_json(record: &BuildRecord) -> serde_json::Value {
    let mut json = serde_json::json!(record);
    json["name"] = serde_json::json!(record.name);
    json
}
