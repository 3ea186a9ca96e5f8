//! `rivet build`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use rivet::cache::{LocalCache, Tiers};
use rivet::graph::{self, Event};
use rivet::spec::Ladder;
use rustix::process::{Resource, Rlimit};

use super::remote::RemoteArgs;
use super::{Exit, LadderArgs, MachineArgs, complain, failed, load, on_interrupt, print};
use crate::report::{self, Progress, Tracer};

/// Build every title of a ladder, and publish it
///
/// Runs the steps whose inputs changed since they last ran here, takes the others from the cache,
/// and writes the stream to each title's output folder. Interrupted or killed, it goes on where it
/// was when it is called again.
#[derive(Args)]
pub struct BuildArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// After a failure go on with what does not depend on it
    #[arg(short, long)]
    keep_going: bool,
    /// Write what happens to FILE, as JSON lines; the last one is a summary. `-` is standard output, and what
    /// else is told there goes to standard error
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Write a trace to FILE, for ui.perfetto.dev or chrome://tracing: what ran when, on which slot
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Afterwards build it all again beside the cache, and tell the first step whose bytes differ
    #[arg(long)]
    check: bool,
    /// Say nothing but errors and the closing summary
    #[arg(short, long)]
    quiet: bool,
}

impl BuildArgs {
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

pub fn run(args: &BuildArgs) -> Exit {
    match try_run(args) {
        Ok(exit) | Err(exit) => exit,
    }
}

/// Allows as many open files as this process may have: pictures that wait for their encodes lie in
/// memory that is shared as open files, and on a large machine there are many of them.
fn raise_open_files() {
    let limits = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, ..limits };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::info!("the limit of open files stays as it is: {error}");
    }
}

impl BuildArgs {
    /// Whether standard output is for events alone.
    fn events_on_stdout(&self) -> bool {
        self.events.as_deref() == Some(Path::new("-"))
    }

    fn open_events(&self) -> Result<Option<Box<dyn Write>>, Exit> {
        let Some(path) = &self.events else { return Ok(None) };
        if self.events_on_stdout() {
            return Ok(Some(Box::new(std::io::stdout())));
        }
        Ok(Some(Box::new(BufWriter::new(create(path, "events")?))))
    }

    /// Prints a report.
    fn tell(&self, report: &str) {
        match self.events_on_stdout() {
            true => eprintln!("{report}"),
            false => print(report),
        }
    }
}

/// A file that a build writes to while it goes on.
fn create(path: &Path, what: &str) -> Result<File, Exit> {
    File::create(path).map_err(|error| {
        complain(format_args!("cannot write {what} to {}: {error}", path.display()), None);
        Exit::Usage
    })
}

fn try_run(args: &BuildArgs) -> Result<Exit, Exit> {
    let ladder = load(&args.ladder.ladder)?;
    let events = args.open_events()?.map(RefCell::new);
    let trace = args.trace.as_ref().map(|path| create(path, "a trace")).transpose()?;
    let trace = trace.and_then(|file| Tracer::new(file).ok()).map(RefCell::new);
    raise_open_files();
    let cancelled = on_interrupt();
    let cache = Arc::new(args.remote.tiers(LocalCache::open, &args.ladder.cache, &ladder, &cancelled)?);
    let progress = RefCell::new(Progress::new(args.quiet, Arc::clone(&cancelled)));
    cache.on_wait(progress.borrow().teller());
    let observe = |event: &Event| {
        if let Some(trace) = &trace {
            trace.borrow_mut().observe(event);
        }
        if matches!(event, Event::Gauges { .. }) {
            return;
        }
        if let Some(file) = &events {
            let mut file = file.borrow_mut();
            // Lost events must not cost the build; the missing summary tells of them.
            if let Ok(line) = serde_json::to_string(event) {
                let _ = writeln!(file, "{line}").and_then(|()| file.flush());
            }
        }
        progress.borrow_mut().observe(event);
        if let Event::Failed { title, node, message, hint, .. } = event {
            progress
                .borrow()
                .suspend(|| complain(format_args!("{title}: {node}: {message}"), hint.as_deref()));
        }
    };
    let options = graph::Options { gauges: trace.is_some(), ..args.machine.options(args.keep_going) };
    let summary = graph::build(&ladder, Arc::clone(&cache), &options, Arc::clone(&cancelled), &observe);
    progress.borrow_mut().end();
    let summary = summary.map_err(|error| failed(&error))?;
    args.tell(report::summary(&summary).trim_end());
    if let Some(error) = trace.and_then(|trace| trace.into_inner().finish().err()) {
        complain(format_args!("the trace is not whole: {error}"), None);
        return Err(Exit::Failed);
    }
    match (summary.interrupted, summary.failures.is_empty()) {
        (true, _) => Ok(Exit::Interrupted),
        (false, false) => Ok(Exit::Failed),
        (false, true) if args.check => check(args, &ladder, &cache, &options, cancelled),
        (false, true) => Ok(Exit::Done),
    }
}

/// Builds again, and compares.
fn check(
    args: &BuildArgs,
    ladder: &Ladder,
    cache: &Tiers,
    options: &graph::Options,
    cancelled: Arc<AtomicBool>,
) -> Result<Exit, Exit> {
    let progress = RefCell::new(Progress::new(args.quiet, Arc::clone(&cancelled)));
    let observe = |event: &Event| progress.borrow_mut().observe(event);
    let options = graph::Options { gauges: false, ..options.clone() };
    let check = graph::check(ladder, cache, &options, cancelled, &observe);
    progress.borrow_mut().end();
    let check = check.map_err(|error| failed(&error))?;
    for failure in &check.failures {
        complain(failure, failure.hint.as_deref());
    }
    args.tell(report::check(&check).trim_end());
    Ok(match (check.interrupted, check.failures.is_empty() && check.differences.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}
