//! `rivet graph`.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use rivet::cache::LocalCache;
use rivet::graph;

use super::remote::{RemoteArgs, warn_of_doubts};
use super::{Exit, LadderArgs, failed, load, on_interrupt, print, print_json};
use crate::report::drawing;

/// Draw the graph of a build: every step, what it needs, and whether it would run
///
/// Writes to standard output. A graph of many steps is drawn with the steps of a kind and track as
/// one, unless --all is given; JSON always has every step. Nothing is run.
#[derive(Args)]
pub struct GraphArgs {
    #[command(flatten)]
    ladder: LadderArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    /// How to write it
    #[arg(short, long, value_name = "FORMAT", default_value = "svg")]
    format: Format,
    /// Draw every step, however many
    #[arg(long, conflicts_with = "grouped")]
    all: bool,
    /// Draw the steps of a kind and track as one, however few
    #[arg(long)]
    grouped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A picture for a browser
    Svg,
    /// For Graphviz
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
    let cache =
        Arc::new(args.remote.tiers(LocalCache::open_read_only, &args.ladder.cache, &ladder, &cancelled)?);
    let view = graph::view(&ladder, &cache, &super::looking(), &cancelled).map_err(|error| failed(&error))?;
    warn_of_doubts(&cache);
    let group = args.grouped || (!args.all && view.nodes.len() > drawing::MANY);
    match args.format {
        Format::Json => print_json(&drawing::json(&view)),
        Format::Svg => print(drawing::svg(&view, group).trim_end()),
        Format::Dot => print(drawing::dot(&view, group).trim_end()),
    }
    Ok(Exit::Done)
}
