//! `rivet build`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use rivet::{BuildOptions, Event, Ladder, Session};
use rustix::process::{Resource, Rlimit};

use super::remote::RemoteArgs;
use super::{Exit, LadderArgs, MachineArgs, complain, failed, load, on_interrupt, open, print, warn};
use crate::report::{self, Progress, Tracer};

/// Build and publish every title of a ladder
///
/// Runs the steps whose inputs changed, takes the results of the others from the cache, and publishes
/// the stream to each title's output folder. After an interrupt or a crash the next build continues
/// where this one stopped.
#[derive(Args)]
pub struct BuildArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// After a failure continue with the steps that do not depend on it
    #[arg(short, long)]
    keep_going: bool,
    /// Write events to FILE as JSON lines; the last one is the summary. With `-` they go to standard output,
    /// and the report to standard error
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Write a trace to FILE for ui.perfetto.dev or chrome://tracing: which step ran when, in which slot
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Then build everything again in an empty cache, and report the first step whose bytes differ
    #[arg(long)]
    check: bool,
    /// Print only errors and the summary
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

/// Raises the limit of open files to the hard limit: frames that wait for their encodes are in shared
/// memory, which is open files, and a large machine has many of them.
fn raise_open_files() {
    let limits = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, ..limits };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::info!("cannot raise the limit of open files: {error}");
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

    /// Prints a report where it does not mix with events.
    fn report(&self, report: &str) {
        match self.events_on_stdout() {
            true => eprintln!("{report}"),
            false => print(report),
        }
    }
}

/// A file that is written during a build.
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
    let mut options = args.remote.options(&args.ladder.cache, &cancelled)?;
    args.machine.apply(&mut options);
    let session = open(&ladder, options)?;
    if args.quiet {
        // Progress prints no warnings then, and these are about security.
        session.warnings().iter().for_each(warn);
    }
    let progress = RefCell::new(Progress::new(args.quiet, Arc::clone(&cancelled)));
    session.on_wait(progress.borrow().teller());
    let observe = |event: &Event| {
        if let Some(trace) = &trace {
            trace.borrow_mut().observe(event);
        }
        if matches!(event, Event::Gauges { .. }) {
            return;
        }
        if let Some(file) = &events {
            let mut file = file.borrow_mut();
            // A full disk must not fail the build; readers notice that the summary is missing.
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
    let mut options = BuildOptions::default();
    options.keep_going = args.keep_going;
    options.gauges = trace.is_some();
    let summary = session.build(&ladder, &options, Arc::clone(&cancelled), &observe);
    progress.borrow_mut().end();
    let summary = summary.map_err(|error| failed(&error))?;
    args.report(report::summary(&summary).trim_end());
    if let Some(error) = trace.and_then(|trace| trace.into_inner().finish().err()) {
        complain(format_args!("the trace is incomplete: {error}"), None);
        return Err(Exit::Failed);
    }
    match (summary.interrupted, summary.failures.is_empty()) {
        (true, _) => Ok(Exit::Interrupted),
        (false, false) => Ok(Exit::Failed),
        (false, true) if args.check => check(args, &ladder, &session, options, cancelled),
        (false, true) => Ok(Exit::Done),
    }
}

/// Builds again, and compares.
fn check(
    args: &BuildArgs,
    ladder: &Ladder,
    session: &Session,
    mut options: BuildOptions,
    cancelled: Arc<AtomicBool>,
) -> Result<Exit, Exit> {
    let progress = RefCell::new(Progress::new(args.quiet, Arc::clone(&cancelled)));
    let observe = |event: &Event| progress.borrow_mut().observe(event);
    options.gauges = false;
    let check = session.check(ladder, &options, cancelled, &observe);
    progress.borrow_mut().end();
    let check = check.map_err(|error| failed(&error))?;
    for failure in &check.failures {
        complain(failure, failure.hint.as_deref());
    }
    args.report(report::check(&check).trim_end());
    Ok(match (check.interrupted, check.failures.is_empty() && check.differences.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}
