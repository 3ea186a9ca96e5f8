//! `rivet cache push` and `rivet cache pull`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use rivet::{Ladder, RemoteReport, Session, SessionError, Transfer, TransferStats};

use crate::cli::remote::RemoteArgs;
use crate::cli::{
    Exit, LadderArgs, complain, failed, load, on_interrupt, open_with_warnings, print, print_json,
};
use crate::report::{self, Bar, bytes, count};

/// Upload to the remote cache what a spec was built from here
///
/// A build uploads what it makes; this uploads what was made earlier, or without a remote. Signed entries
/// that are already there are kept, whoever signed them.
#[derive(Args)]
pub struct PushArgs {
    #[command(flatten)]
    carry: CarryArgs,
    /// Replace entries that are signed by a key that is not trusted here. Those who trust that key and not
    /// yours will no longer find them
    #[arg(long, conflicts_with = "insecure_unsigned")]
    replace: bool,
}

/// Download from the remote cache all that a spec was built from
///
/// A build downloads only what it publishes. After this it does not need the remote cache, even when a
/// part of the source changes.
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

/// How the outcome is worded.
struct Words {
    arrived: &'static str,
    absent: &'static str,
    hint: Option<&'static str>,
}

const PUSHED: Words = Words {
    arrived: "in",
    absent: "neither here nor there, or incomplete",
    hint: Some(
        "`rivet cache pull` downloads them from a remote that has them; `rivet build` rebuilds what it needs",
    ),
};
const PULLED: Words = Words { arrived: "here from", absent: "not there, or incomplete", hint: None };

/// What is transferred, and between which caches.
struct Cargo {
    ladder: Ladder,
    session: Session,
    cancelled: Arc<AtomicBool>,
}

impl CarryArgs {
    fn open(&self) -> Result<Cargo, Exit> {
        let ladder = load(&self.ladder.ladder)?;
        let cancelled = on_interrupt();
        let options = self.remote.options(&self.ladder.cache, &cancelled)?;
        let session = open_with_warnings(&ladder, options)?;
        Ok(Cargo { ladder, session, cancelled })
    }
}

pub fn push(args: &PushArgs) -> Result<Exit, Exit> {
    let Cargo { ladder, session, cancelled } = args.carry.open()?;
    let bar = Bar::new();
    let pushed = session.push(&ladder, args.replace, &cancelled, &|left, all| {
        bar.show(Some(1.0 - left as f64 / all.max(1) as f64), &format!("{} left", count(left, "result")));
    });
    bar.end();
    let pushed = pushed.map_err(|error| args.carry.refused(&error, &session))?;
    args.carry.tell(&PUSHED, &session, &pushed)
}

pub fn pull(args: &PullArgs) -> Result<Exit, Exit> {
    let Cargo { ladder, session, cancelled } = args.carry.open()?;
    let bar = Bar::new();
    let pulled = session.pull(&ladder, &cancelled, &|so_far| {
        bar.show(None, &format!("{}, {}", count(so_far.entries, "result"), bytes(so_far.bytes)));
    });
    bar.end();
    let pulled = pulled.map_err(|error| args.carry.refused(&error, &session))?;
    args.carry.tell(&PULLED, &session, &pulled)
}

/// Prints why a title cannot be pulled.
fn nothing_of(name: &str, error: &SessionError, report: RemoteReport) -> Exit {
    if report.errors > 0 {
        let why = report.last_error.map(|error| format!(": {error}")).unwrap_or_default();
        complain(
            format_args!("{name}: the remote cache did not answer{why}"),
            Some("`rivet -vv cache pull` logs every call that failed"),
        );
        return Exit::Failed;
    }
    let Some(why) = report::rejected(&report) else { return failed(error) };
    let hint = report::unknown_key(&report);
    let hint =
        hint.unwrap_or_else(|| "it is accepted once somebody whose key you trust has uploaded it".to_owned());
    complain(format_args!("{name}: its entry in the remote cache was rejected: {why}"), Some(&hint));
    Exit::Failed
}

/// As JSON, with the missing entries that are named.
fn as_json(transfer: &Transfer, report: &RemoteReport) -> serde_json::Value {
    let missing = transfer.missing.iter().map(
        |missing| serde_json::json!({ "title": missing.title, "kind": missing.kind, "key": missing.key }),
    );
    let missing: Vec<serde_json::Value> = missing.collect();
    serde_json::json!({ "carried": transfer.carried, "missing": missing, "remote": report })
}

impl CarryArgs {
    /// Prints why nothing was transferred; JSON, too, where that was asked for.
    fn refused(&self, error: &SessionError, session: &Session) -> Exit {
        for notice in session.take_notices() {
            complain(notice, None);
        }
        let report = session.remote_report();
        let exit = match error {
            SessionError::NotInRemote { title } => {
                nothing_of(title, error, report.clone().unwrap_or_default())
            }
            _ => failed(error),
        };
        if let Some(report) = report.filter(|_| self.json) {
            print_json(&as_json(&Transfer::default(), &report));
        }
        exit
    }

    /// Prints the outcome.
    fn tell(&self, words: &Words, session: &Session, transfer: &Transfer) -> Result<Exit, Exit> {
        for notice in session.take_notices() {
            complain(notice, None);
        }
        let carried: &TransferStats = &transfer.carried;
        let report = session.remote_report().unwrap_or_default();
        if self.json {
            print_json(&as_json(transfer, &report));
        } else {
            // What did not arrive was not transferred.
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
            for missing in &transfer.missing {
                let kind = missing.kind.as_deref().unwrap_or("result");
                print(format_args!("  {}: {kind} {:.12}", missing.title, missing.key));
            }
            if let Some(hint) = words.hint.filter(|_| carried.missing > 0) {
                print(format_args!("  {hint}"));
            }
            print(report::remote(&report).trim_end());
        }
        let whole = carried.missing == 0 && report.not_stored == 0 && report.went_on_without.is_none();
        Ok(match (transfer.interrupted, whole) {
            (true, _) => Exit::Interrupted,
            (false, true) => Exit::Done,
            (false, false) => Exit::Failed,
        })
    }
}
