//! `rivet cache verify`.

use std::time::Instant;

use clap::Args;
use rivet::cache::{FileKind, LocalCache, Tally, Verified};

use super::{WhichArgs, with_folders};
use crate::cli::{Exit, cache_failed, on_interrupt, print, print_json};
use crate::report::{self, Bar, count};

/// Read all of the cache and say what is damaged
///
/// Builds verify what they use, so this is for knowing of a failing disk early. The exit status is 1
/// if anything is damaged and stays so. Without a spec caches that lie apart, of specs that trust further
/// keys, are verified with the one in the folder.
#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Remove what is damaged; builds make again what they need of it
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &VerifyArgs) -> Result<Exit, Exit> {
    let caches = args.which.all(if args.repair { LocalCache::open } else { LocalCache::open_read_only })?;
    let cancelled = on_interrupt();
    let (bar, start) = (Bar::new(), Instant::now());
    let progress = |read: Tally, part: f64| bar.show(Some(part), &speed(read, start));
    let verified = caches.verify(args.repair, &cancelled, &progress);
    bar.end();
    let verified = verified.map_err(|error| cache_failed(&error))?;
    if args.json {
        print_json(&with_folders(&caches, &verified));
    } else {
        print(text(&verified, args.repair, start).trim_end());
    }
    Ok(if verified.damaged.iter().any(|damage| !damage.removed) {
        Exit::Failed
    } else if verified.interrupted {
        Exit::Interrupted
    } else {
        Exit::Done
    })
}

fn speed(read: Tally, start: Instant) -> String {
    let second = start.elapsed().as_secs_f64().max(0.001);
    let rate = report::bytes((read.bytes as f64 / second) as u64);
    format!("{} read, {}, {rate}/s", count(read.files, "file"), report::bytes(read.bytes))
}

fn text(verified: &Verified, repair: bool, start: Instant) -> String {
    let mut text = String::new();
    for damage in &verified.damaged {
        let what = match damage.what {
            FileKind::Blob => "a result",
            FileKind::Entry => "an entry",
            FileKind::Stat => "the digest of a source",
            FileKind::Record => "the record of a build",
            FileKind::Pin => "a pin",
            FileKind::Misplaced => "in the wrong folder",
        };
        let removed = if damage.removed { ", removed" } else { "" };
        text += &format!("damaged: {} ({what}){removed}\n", damage.path.display());
    }
    for path in &verified.foreign {
        text += &format!("not rivet's: {}\n", path.display());
    }
    text += &speed(verified.read, start);
    text += &match verified.damaged.len() as u64 {
        0 if verified.interrupted => "; interrupted, with nothing damaged so far".to_owned(),
        0 => "; nothing is damaged".to_owned(),
        damaged if repair => repaired(verified, damaged),
        damaged => format!("; {damaged} damaged: `rivet cache verify --repair` removes them"),
    };
    if verified.incomplete > 0 {
        text += &format!("; {} lack a result, and will be made again if need be", verified.incomplete);
    }
    text
}

/// What became of so many damaged files, and what that costs.
fn repaired(verified: &Verified, damaged: u64) -> String {
    let removed = |of: &dyn Fn(FileKind) -> bool| {
        verified.damaged.iter().filter(|damage| damage.removed && of(damage.what)).count() as u64
    };
    let mut text = format!("; {damaged} damaged, {} removed", removed(&|_| true));
    if removed(&|what| matches!(what, FileKind::Blob | FileKind::Entry)) > 0 {
        text += "; builds make again what they need";
    }
    match removed(&|what| what == FileKind::Pin) {
        0 => {}
        pins => text += &format!("; {} lost: pin again what is to stay", count(pins, "pin")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivet::cache::Damage;

    #[test]
    fn what_repairing_costs_is_told() {
        let told = |what: FileKind, removed: bool| {
            let damage = Damage { path: "x".into(), what, removed };
            text(&Verified { damaged: vec![damage], ..Verified::default() }, true, Instant::now())
        };
        assert!(told(FileKind::Blob, true).contains("1 damaged, 1 removed; builds make again"));
        let stays = told(FileKind::Blob, false);
        assert!(stays.contains("1 damaged, 0 removed") && !stays.contains("again"), "{stays}");
        let pin = told(FileKind::Pin, true);
        assert!(pin.contains("1 pin lost") && !pin.contains("builds make"), "{pin}");
    }
}
