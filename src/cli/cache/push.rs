//! `rivet cache push` and `rivet cache pull`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use rivet::cache::{Cache, Carried, LocalCache, Tiers};
use rivet::graph::{self, TitleKey};
use rivet::spec::Ladder;

use crate::cli::remote::RemoteArgs;
use crate::cli::{
    Exit, LadderArgs, cache_failed, complain, failed, load, looking, on_interrupt, print, print_json,
};
use crate::report::{self, Bar, bytes, count};

/// Store in the remote cache what a spec was built of here
///
/// A build stores what it makes; this stores what was made before, or without a remote.
#[derive(Args)]
pub struct PushArgs {
    #[command(flatten)]
    carry: CarryArgs,
}

/// Bring from the remote cache all that a spec was built of
///
/// A build fetches only what it publishes. After this it needs the remote cache for nothing, also when
/// a part of the film changes.
#[derive(Args)]
pub struct PullArgs {
    #[command(flatten)]
    carry: CarryArgs,
}

#[derive(Args)]
struct CarryArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is to be carried, and between what.
struct Cargo {
    cache: Arc<Tiers>,
    titles: Vec<TitleKey>,
    cancelled: Arc<AtomicBool>,
}

impl CarryArgs {
    fn open(&self) -> Result<Cargo, Exit> {
        let ladder = load(&self.ladder.ladder)?;
        let cancelled = on_interrupt();
        let cache = self.remote.tiers(LocalCache::open, &self.ladder.cache, &ladder, &cancelled)?;
        if !cache.has_remote() {
            complain(
                "there is no remote cache to carry anything to or from",
                Some("name one with --remote-cache, or as `remote` in the spec's `[cache]`"),
            );
            return Err(Exit::Usage);
        }
        let cache = Arc::new(cache);
        let titles = keys(&ladder, &cache, &cancelled)?;
        Ok(Cargo { cache, titles, cancelled })
    }
}

fn keys(ladder: &Ladder, cache: &Arc<Tiers>, cancelled: &Arc<AtomicBool>) -> Result<Vec<TitleKey>, Exit> {
    graph::title_keys(ladder, cache, &looking(), cancelled).map_err(|error| failed(&error))
}

pub fn push(args: &PushArgs) -> Result<Exit, Exit> {
    let Cargo { cache, titles, cancelled } = args.carry.open()?;
    let is_cancelled = || cancelled.load(Ordering::Relaxed);
    // A build may do without storing anything; this has nothing else to do.
    if let Some(why) = cache.report().and_then(|report| report.read_only) {
        complain(format_args!("nothing can be stored in the remote cache: {why}"), None);
        return Err(Exit::Usage);
    }
    for title in &titles {
        if cache.local().action(&title.key).map_err(|error| cache_failed(&error))?.is_none() {
            complain(
                format_args!("{}: nothing of it as it is now was built with this cache", title.name),
                Some("build it first: rivet build"),
            );
            return Err(Exit::Failed);
        }
    }
    let roots: Vec<_> = titles.iter().map(|title| title.key).collect();
    let carried = cache.push_all(&roots, &is_cancelled).map_err(|error| cache_failed(&error))?;
    let bar = Bar::new();
    let all = carried.entries.max(1) as f64;
    cache.finish(&is_cancelled, &|left| {
        bar.show(Some(1.0 - left as f64 / all), &format!("{} left", count(left as u64, "result")));
    });
    bar.end();
    args.carry.tell("stored in", &cache, carried, is_cancelled())
}

pub fn pull(args: &PullArgs) -> Result<Exit, Exit> {
    let Cargo { cache, titles, cancelled } = args.carry.open()?;
    let is_cancelled = || cancelled.load(Ordering::Relaxed);
    for title in &titles {
        if cache.action(&title.key).map_err(|error| cache_failed(&error))?.is_none() {
            return Err(nothing_of(title, &cache, is_cancelled()));
        }
    }
    let roots: Vec<_> = titles.iter().map(|title| title.key).collect();
    let bar = Bar::new();
    let show = |so_far: Carried| {
        bar.show(None, &format!("{}, {}", count(so_far.entries, "result"), bytes(so_far.bytes)));
    };
    let carried = cache.pull_all(&roots, &is_cancelled, &show);
    bar.end();
    args.carry.tell("here from", &cache, carried.map_err(|error| cache_failed(&error))?, is_cancelled())
}

/// Tells why a title cannot be pulled.
fn nothing_of(title: &TitleKey, cache: &Tiers, interrupted: bool) -> Exit {
    for notice in cache.take_notices() {
        complain(notice, None);
    }
    if interrupted {
        return Exit::Interrupted;
    }
    if cache.report().is_some_and(|report| report.errors > 0) {
        complain(
            format_args!("{}: the remote cache did not say whether it has anything of it", title.name),
            Some("`rivet -vv cache pull` tells more of what failed"),
        );
    } else {
        complain(
            format_args!("{}: the remote cache has nothing of it as it is now", title.name),
            Some("it is there after a build, by somebody whose key you trust, that stores there"),
        );
    }
    Exit::Failed
}

impl CarryArgs {
    /// Says what came of it.
    fn tell(&self, what: &str, cache: &Tiers, carried: Carried, interrupted: bool) -> Result<Exit, Exit> {
        for notice in cache.take_notices() {
            complain(notice, None);
        }
        let report = cache.report().unwrap_or_default();
        if self.json {
            print_json(&serde_json::json!({ "carried": carried, "remote": report }));
        } else {
            // What did not arrive was not carried.
            let all = count(carried.entries, "result");
            match carried.entries.saturating_sub(report.not_stored) {
                arrived if arrived < carried.entries => {
                    print(format_args!("{arrived} of {all} {what} {}", report.remote));
                }
                _ => print(format_args!("{all} ({}) {what} {}", bytes(carried.bytes), report.remote)),
            }
            if carried.missing > 0 {
                print(format_args!("{} not there, or not whole", count(carried.missing, "result")));
            }
            print(report::remote(&report).trim_end());
        }
        let whole = carried.missing == 0 && report.not_stored == 0 && report.went_on_without.is_none();
        Ok(match (interrupted || carried.interrupted, whole) {
            (true, _) => Exit::Interrupted,
            (false, true) => Exit::Done,
            (false, false) => Exit::Failed,
        })
    }
}
