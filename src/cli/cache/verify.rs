//! `rivet cache verify`.

use std::time::Instant;

use clap::Args;
use rivet::cache::{Found, Tally, Verified};

use super::WhichArgs;
use crate::cli::{Exit, cache_failed, on_interrupt, print, print_json};
use crate::report::{self, Bar, count};

/// Read all of the cache and say what is damaged
///
/// Builds verify what they use, so this is for knowing of a failing disk early. The exit status is 1
/// if anything is damaged and stays so.
#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Remove what is damaged; the next build makes it again
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &VerifyArgs) -> Result<Exit, Exit> {
    let cache = if args.repair { args.which.open()? } else { args.which.look()? };
    let cancelled = on_interrupt();
    let (bar, start) = (Bar::new(), Instant::now());
    let progress = |read: Tally, part: f64| bar.show(Some(part), &speed(read, start));
    let verified = cache.verify(args.repair, &cancelled, &progress);
    bar.end();
    let verified = verified.map_err(|error| cache_failed(&error))?;
    if args.json {
        print_json(&verified);
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
            Found::Blob => "a result",
            Found::Entry => "an entry",
            Found::Stat => "the digest of a source",
            Found::Record => "the record of a build",
            Found::Pin => "a pin",
            Found::Misplaced => "in the wrong folder",
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
        damaged if repair => format!("; {damaged} damaged, which the next build makes again"),
        damaged => format!("; {damaged} damaged: `rivet cache verify --repair` removes them"),
    };
    if verified.incomplete > 0 {
        text += &format!("; {} lack a result, and will be made again if need be", verified.incomplete);
    }
    text
}
