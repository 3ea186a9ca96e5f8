//! `rivet log`.

use clap::Args;
use rivet::housekeeping::Housekeeping;
use rivet::{Access, BuildRecord};

use super::{CacheDirArg, Exit, complain, failed, print, print_json};
use crate::report;

/// List the builds that used this cache, or show one
///
/// Of one build it shows what ran, what failed, and the critical path; of one that failed or was interrupted,
/// also which titles were wanted, and how much of each kind of step was done and left.
#[derive(Args)]
pub struct LogArgs {
    /// A build: its name in the list, the end of its name, or `last`
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
    let mut options = args.cache.options();
    options.access = Access::ReadOnly;
    let end = args.build.as_deref().filter(|&wanted| wanted != "last").unwrap_or_default();
    let house = Housekeeping::open(None, &options).map_err(|error| failed(&error))?;
    let most = if args.build.is_some() { 1 } else { args.number };
    let records = house.builds(end, most).map_err(|error| failed(&error))?;
    let Some(wanted) = &args.build else {
        if args.json {
            print_json(&records.iter().map(as_json).collect::<Vec<_>>());
        } else if records.is_empty() {
            print("no build has used this cache yet");
        } else {
            print(report::history(&records).trim_end());
        }
        return Ok(Exit::Done);
    };
    let Some(record) = records.first() else {
        complain(format_args!("the log has no build {wanted}"), Some("`rivet log` lists them"));
        return Err(Exit::Usage);
    };
    if args.json {
        print_json(&as_json(record));
    } else {
        print(report::build(record).trim_end());
    }
    Ok(Exit::Done)
}

/// With its name, which is not part of the record.
fn as_json(record: &BuildRecord) -> serde_json::Value {
    let mut json = serde_json::json!(record);
    json["name"] = serde_json::json!(record.name);
    json
}
