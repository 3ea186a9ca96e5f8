//! `rivet cache gc`.

use std::time::Duration;

use clap::Args;
use rivet::Access;
use rivet::housekeeping::{Collected, GcRules, Tally};

use super::{WhichArgs, with_folders};
use crate::cli::size::size;
use crate::cli::{Exit, failed, on_interrupt, print, print_json};
use crate::report::{self, Bar, count};

/// Remove what has not been used for long, or exceeds a size
///
/// The least recently used is removed first. What a pin or a running build needs stays, so it is safe at
/// any time. Without a size or an age only leftovers are removed: results without an entry older than a
/// day, and build records and source digests older than 90 days. Without a spec, the isolated caches of
/// specs that trust further keys are cleaned, too.
#[derive(Args)]
pub struct GcArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Keep at most this much on disk, e.g. 200G or 800M; 200Gi is in powers of 1024
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Remove what has not been used for this long, e.g. 30d or 12h
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    max_age: Option<Duration>,
    /// Only show what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &GcArgs) -> Result<Exit, Exit> {
    let house = args.which.open(Access::ReadWrite)?;
    let cancelled = on_interrupt();
    let rules = GcRules { max_bytes: args.max_size, max_age: args.max_age, dry_run: args.dry_run };
    let bar = Bar::new();
    let progress = |gone: Tally| {
        bar.show(None, &format!("{} removed, {}", count(gone.files, "file"), report::bytes(gone.bytes)))
    };
    let collected = house.collect(&rules, &cancelled, &progress);
    bar.end();
    let collected = collected.map_err(|error| failed(&error))?;
    if args.json {
        print_json(&with_folders(&house, &collected));
    } else {
        print(text(&collected).trim_end());
    }
    Ok(if collected.interrupted { Exit::Interrupted } else { Exit::Done })
}

fn text(collected: &Collected) -> String {
    let row = |name: &str, gone: Tally, kept: Tally| {
        let (removed, stays) = (report::bytes(gone.bytes), report::bytes(kept.bytes));
        format!("  {name:<8}  {:>8} {removed:>8}  {:>8} {stays:>8}\n", gone.files, kept.files)
    };
    let verb = if collected.dry_run { "would remove" } else { "removed" };
    let mut text = format!("  {:<8}  {verb:>17}  {:>17}\n", "", "kept");
    let (removed, kept) = (&collected.removed, &collected.kept);
    text += &row("results", removed.blobs, kept.blobs);
    text += &row("entries", removed.entries, kept.entries);
    text += &row("sources", removed.stats, kept.stats);
    text += &row("builds", removed.log, kept.log);
    text += &row("all", removed.total(), kept.total());
    if collected.damaged > 0 {
        text += &format!("{} entries could not be read\n", collected.damaged);
    }
    for old in &collected.old_layouts {
        let what = match (old.in_use, collected.dry_run) {
            (true, _) => "stays while an older rivet builds",
            (false, true) => "would go",
            (false, false) => "removed",
        };
        let (files, bytes) = (count(old.content.files, "file"), report::bytes(old.content.bytes));
        text += &format!("older layout {}: {files}, {bytes}, {what}\n", old.folder.display());
    }
    if let Some(most) = collected.max_bytes.filter(|_| collected.is_over()) {
        let builds = count(collected.running_builds, "running build");
        let held = [
            (collected.pinned, "is pinned".to_owned()),
            (collected.in_use, format!("was used or written since the first of {builds} started")),
            (collected.young, "are results of the last day without an entry".to_owned()),
        ];
        let why: Vec<String> = held
            .into_iter()
            .filter(|(tally, _)| tally.files > 0)
            .map(|(tally, why)| format!("{} {why}", report::bytes(tally.bytes)))
            .collect();
        let why = if why.is_empty() {
            "the rest is the build log and source digests".to_owned()
        } else {
            why.join(", ")
        };
        text += &format!("more than {} is kept: {why}\n", report::bytes(most));
    }
    if collected.interrupted {
        text += "interrupted: more may have to be removed\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_cleaning_says_so() {
        let whole = Collected::default();
        let cut = Collected { interrupted: true, ..Collected::default() };
        assert!(text(&cut).contains("interrupted") && !text(&whole).contains("interrupted"));
    }
}
