//! `rivet cache stats`.

use clap::Args;
use rivet::Access;
use rivet::housekeeping::CacheStats;

use super::WhichArgs;
use crate::cli::{Exit, failed, print, print_json};
use crate::report;

/// Show where the cache is and what it holds
///
/// Sums are given by kind of step, by title and by last use. What several titles share is counted for each of them. Sizes are given in bytes and as allocated on
/// disk.
#[derive(Args)]
pub struct StatsArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &StatsArgs) -> Result<Exit, Exit> {
    let house = args.which.open(Access::ReadOnly)?;
    let stats = house.stats().map_err(|error| failed(&error))?;
    if args.json {
        let mut json = serde_json::json!(stats);
        json["folder"] = serde_json::json!(house.folder());
        print_json(&json);
    } else {
        print(house.folder().display());
        print(text(&stats).trim_end());
        for folder in house.isolated_folders() {
            print(format_args!("isolated, for specs that trust further keys: {}", folder.display()));
        }
    }
    Ok(Exit::Done)
}

fn text(stats: &CacheStats) -> String {
    let row = |name: &str, files: u64, bytes: u64, disk: u64| {
        let (bytes, disk) = (report::bytes(bytes), report::bytes(disk));
        format!("  {name:<24}  {files:>8}  {bytes:>8}  {disk:>8} on disk\n")
    };
    let mut text = row("results", stats.blobs, stats.blob_bytes, stats.blob_disk_bytes);
    text += &format!(
        "  {:<24}  {:>8}  {:>8}  {:>8} on disk\n",
        "entries",
        stats.entries,
        "",
        report::bytes(stats.entry_bytes)
    );
    if stats.orphans.blobs > 0 {
        text += &row(
            "results without an entry",
            stats.orphans.blobs,
            stats.orphans.bytes,
            stats.orphans.disk_bytes,
        );
    }
    let mut section = |heading: &str, rows: Vec<(String, u64, u64, u64)>| {
        if !rows.is_empty() {
            text += &format!("{heading}\n");
        }
        for (name, entries, bytes, disk) in rows {
            text += &row(&name, entries, bytes, disk);
        }
    };
    let groups = |groups: &[rivet::housekeeping::GroupStats]| {
        groups.iter().map(|of| (of.name.clone(), of.entries, of.bytes, of.disk_bytes)).collect()
    };
    section("by kind of step", groups(&stats.kinds));
    section("by title", groups(&stats.titles));
    let ages = stats.ages.iter().filter(|age| age.entries > 0).map(|age| {
        let name = match age.within_days {
            Some(1) => "within a day".to_owned(),
            Some(days) => format!("within {days} days"),
            None => "earlier".to_owned(),
        };
        (name, age.entries, age.bytes, age.disk_bytes)
    });
    section("by last use", ages.collect());
    text
}
