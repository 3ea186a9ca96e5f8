//! `rivet build`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use rivet::graph::{self, Event};

use super::{Exit, LadderArgs, MachineArgs, complain, load, on_interrupt, open_cache, print};
use crate::report::{self, Progress};

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
    /// After a failure go on with what does not depend on it
    #[arg(short, long)]
    keep_going: bool,
    /// Write what happens to FILE, as JSON lines; the last one is a summary
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Say nothing but errors and the closing summary
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(args: &BuildArgs) -> Exit {
    match try_run(args) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn try_run(args: &BuildArgs) -> Result<Exit, Exit> {
    let ladder = load(&args.ladder.ladder)?;
    let events = args.events.as_ref().map(|path| match File::create(path) {
        Ok(file) => Ok(RefCell::new(BufWriter::new(file))),
        Err(error) => {
            complain(format_args!("cannot write events to {}: {error}", path.display()), None);
            Err(Exit::Usage)
        }
    });
    let events = events.transpose()?;
    let cache = open_cache(&args.ladder.cache, Some(&ladder))?;
    let cancelled = on_interrupt();
    let progress = RefCell::new(Progress::new(args.quiet, std::sync::Arc::clone(&cancelled)));
    let observe = |event: &Event| {
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
    let summary = graph::build(&ladder, cache, &args.machine.options(args.keep_going), cancelled, &observe);
    progress.borrow_mut().end();
    let summary = summary.map_err(|error| {
        complain(&error, error.hint().as_deref());
        Exit::Failed
    })?;
    print(report::summary(&summary).trim_end());
    Ok(match (summary.interrupted, summary.failures.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}
