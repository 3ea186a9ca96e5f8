//! `rivet graph`.

use clap::{Args, ValueEnum};

use super::remote::{RemoteArgs, warn_of_doubts};
use super::{Exit, LadderArgs, failed, load, on_interrupt, open_read_only, print, print_json};
use crate::report::drawing;

/// Print the graph of a build for Graphviz: every step, what it needs, and whether it runs
///
/// `rivet graph | dot -Tsvg > graph.svg` draws it. A graph of many steps is drawn with the steps of a kind
/// and track as one node, unless --all is given; JSON always has every step. Nothing is run.
#[derive(Args)]
pub struct GraphArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// What to print
    #[arg(short, long, value_name = "FORMAT", default_value = "dot")]
    format: Format,
    /// Draw every step, however many there are
    #[arg(long, conflicts_with = "grouped")]
    all: bool,
    /// Draw the steps of one kind and track as one node, however few there are
    #[arg(long)]
    grouped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for Graphviz's `dot`
    Dot,
    /// For programs
    Json,
}

pub fn run(args: &GraphArgs) -> Exit {
    match try_run(args) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn try_run(args: &GraphArgs) -> Result<Exit, Exit> {
    let ladder = load(&args.ladder.ladder)?;
    let cancelled = on_interrupt();
    let session = open_read_only(&ladder, &args.ladder.cache, &args.remote, &cancelled)?;
    let view = session.view(&ladder, &cancelled).map_err(|error| failed(&error))?;
    warn_of_doubts(&session);
    let group = args.grouped || (!args.all && view.nodes.len() > drawing::MAX_DRAWN);
    match args.format {
        Format::Json => print_json(&drawing::json(&view)),
        Format::Dot => print(drawing::dot(&view, group).trim_end()),
    }
    Ok(Exit::Done)
}
