//! `rivet cache stats`.

use clap::Args;
use rivet::cache::{CacheStats, isolated_namespaces};

use super::WhichArgs;
use crate::cli::{Exit, cache_failed, print, print_json};
use crate::report;

/// Say where the cache is and what it holds: by kind of step, by title, by when it was last used
///
/// What several titles share is counted for each of them. Results are given as long as they are, and
/// as they lie on the disk.
#[derive(Args)]
pub struct StatsArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &StatsArgs) -> Result<Exit, Exit> {
    let cache = args.which.look()?;
    let stats = cache.stats(&|_, entry| rivet::graph::title_of(&*cache, entry));
    let stats = stats.map_err(|error| cache_failed(&error))?;
    if args.json {
        let mut json = serde_json::json!(stats);
        json["folder"] = serde_json::json!(cache.folder());
        print_json(&json);
    } else {
        print(cache.folder().display());
        print(text(&stats).trim_end());
        for folder in isolated_namespaces(cache.folder()) {
            print(format_args!("apart, for specs that trust other keys: {}", folder.display()));
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
        stats.actions,
        "",
        report::bytes(stats.action_bytes)
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
    let groups = |groups: &[rivet::cache::GroupStats]| {
        groups.iter().map(|of| (of.name.clone(), of.entries, of.bytes, of.disk_bytes)).collect()
    };
    section("by kind of step", groups(&stats.kinds));
    section("by title", groups(&stats.titles));
    let ages = stats.ages.iter().filter(|age| age.entries > 0).map(|age| {
        let name = match age.within_days {
            Some(1) => "within a day".to_owned(),
            Some(days) => format!("within {days} days"),
            None => "before that".to_owned(),
        };
        (name, age.entries, age.bytes, age.disk_bytes)
    });
    section("by last use", ages.collect());
    text
}
