//! `rivet cache push` and `rivet cache pull`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use rivet::cache::{ActionKey, Cache, LocalCache, RemoteReport, Tiers, TransferStats};
use rivet::graph::{self, TitleKey};
use rivet::spec::Ladder;

use super::check_built;
use crate::cli::remote::RemoteArgs;
use crate::cli::{
    Exit, LadderArgs, cache_failed, complain, failed, load, looking, on_interrupt, print, print_json,
};
use crate::report::{self, Bar, bytes, count};

/// Store in the remote cache what a spec was built of here
///
/// A build stores what it makes; this stores what was made before, or without a remote. What is there
/// already, signed by anybody, stays as it is.
#[derive(Args)]
pub struct PushArgs {
    #[command(flatten)]
    carry: CarryArgs,
    /// Put results in the place of those that somebody signed whose key is not trusted here. Whoever
    /// trusts that key and not yours then finds them no more
    #[arg(long, conflicts_with = "insecure_unsigned")]
    replace: bool,
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

/// How it is told what came of it.
struct Words {
    arrived: &'static str,
    absent: &'static str,
    hint: Option<&'static str>,
}

const PUSHED: Words = Words {
    arrived: "in",
    absent: "neither here nor there, or not whole",
    hint: Some(
        "`rivet cache pull` brings them from a remote that has them; `rivet build` makes what it needs of them",
    ),
};
const PULLED: Words = Words { arrived: "here from", absent: "not there, or not whole", hint: None };

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
        args.carry.tell_nothing(&cache);
        return Err(Exit::Usage);
    }
    let is_built = |key: &ActionKey| Ok(cache.local().entry(key)?.is_some() || cache.action(key)?.is_some());
    check_built(&titles, &cancelled, is_built).inspect_err(|_| args.carry.tell_nothing(&cache))?;
    let roots: Vec<_> = titles.iter().map(|title| title.key).collect();
    let carried =
        cache.push_all(&roots, args.replace, &is_cancelled).map_err(|error| cache_failed(&error))?;
    let bar = Bar::new();
    let all = carried.entries.max(1) as f64;
    cache.finish(&is_cancelled, &|left| {
        bar.show(Some(1.0 - left as f64 / all), &format!("{} left", count(left as u64, "result")));
    });
    bar.end();
    args.carry.tell(&PUSHED, &cache, &titles, &carried, is_cancelled())
}

pub fn pull(args: &PullArgs) -> Result<Exit, Exit> {
    let Cargo { cache, titles, cancelled } = args.carry.open()?;
    let is_cancelled = || cancelled.load(Ordering::Relaxed);
    for title in &titles {
        if cache.action(&title.key).map_err(|error| cache_failed(&error))?.is_none() {
            let exit = nothing_of(title, &cache, is_cancelled());
            args.carry.tell_nothing(&cache);
            return Err(exit);
        }
    }
    let roots: Vec<_> = titles.iter().map(|title| title.key).collect();
    let bar = Bar::new();
    let show = |so_far: &TransferStats| {
        bar.show(None, &format!("{}, {}", count(so_far.entries, "result"), bytes(so_far.bytes)));
    };
    let carried = cache.pull_all(&roots, &is_cancelled, &show);
    bar.end();
    let carried = carried.map_err(|error| cache_failed(&error))?;
    args.carry.tell(&PULLED, &cache, &titles, &carried, is_cancelled())
}

/// Tells why a title cannot be pulled.
fn nothing_of(title: &TitleKey, cache: &Tiers, interrupted: bool) -> Exit {
    for notice in cache.take_notices() {
        complain(notice, None);
    }
    if interrupted {
        return Exit::Interrupted;
    }
    let report = cache.report().unwrap_or_default();
    let name = &title.name;
    if report.errors > 0 {
        let why = report.last_error.map(|error| format!(": {error}")).unwrap_or_default();
        complain(
            format_args!("{name}: the remote cache did not say whether it has anything of it{why}"),
            Some("`rivet -vv cache pull` tells more of what failed"),
        );
    } else if let Some(why) = report::not_believed(&report) {
        let hint = report::unknown_key(&report);
        let hint =
            hint.unwrap_or_else(|| "it counts once somebody whose key you trust has stored it".to_owned());
        complain(format_args!("{name}: what the remote cache has of it is not believed: {why}"), Some(&hint));
    } else {
        complain(
            format_args!("{name}: the remote cache has nothing of it as it is now"),
            Some("it is there after a build, by somebody whose key you trust, that stores there"),
        );
    }
    Exit::Failed
}

/// As JSON, with the missing entries that are named.
fn as_json(titles: &[TitleKey], carried: &TransferStats, report: &RemoteReport) -> serde_json::Value {
    let named = carried.named.iter().map(|missing| {
        let title = titles.iter().find(|title| title.key == missing.of).map(|title| &title.name);
        serde_json::json!({ "title": title, "kind": missing.kind, "key": missing.key.to_string() })
    });
    let named: Vec<serde_json::Value> = named.collect();
    serde_json::json!({ "carried": carried, "missing": named, "remote": report })
}

impl CarryArgs {
    /// For who reads JSON, where nothing was carried.
    fn tell_nothing(&self, cache: &Tiers) {
        if self.json {
            print_json(&as_json(&[], &TransferStats::default(), &cache.report().unwrap_or_default()));
        }
    }

    /// Says what came of it.
    fn tell(
        &self,
        words: &Words,
        cache: &Tiers,
        titles: &[TitleKey],
        carried: &TransferStats,
        interrupted: bool,
    ) -> Result<Exit, Exit> {
        for notice in cache.take_notices() {
            complain(notice, None);
        }
        let report = cache.report().unwrap_or_default();
        if self.json {
            print_json(&as_json(titles, carried, &report));
        } else {
            // What did not arrive was not carried.
            let all = count(carried.entries, "result");
            match carried.entries.saturating_sub(report.not_stored) {
                some if some < carried.entries => {
                    print(format_args!("{some} of {all} {} {}", words.arrived, report.remote));
                }
                _ => print(format_args!(
                    "{all} ({}) {} {}",
                    bytes(carried.bytes),
                    words.arrived,
                    report.remote
                )),
            }
            if carried.missing > 0 {
                print(format_args!("{} {}", count(carried.missing, "result"), words.absent));
            }
            for missing in &carried.named {
                let title = titles.iter().find(|title| title.key == missing.of);
                let title = title.map_or("", |title| title.name.as_str());
                let kind = missing.kind.as_deref().unwrap_or("result");
                print(format_args!("  {title}: {kind} {}", missing.key.0.short()));
            }
            if let Some(hint) = words.hint.filter(|_| carried.missing > 0) {
                print(format_args!("  {hint}"));
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
