//! `rivet worker`.

use clap::Args;

use super::{Exit, complain};

/// Decode and encode for a build that sends jobs on standard input
///
/// A build starts its own workers. To run them on another machine, give the build a command that
/// starts one there, e.g. `rivet build --worker "ssh render7 rivet worker"`: frames are then part of
/// the messages, and the source must have the same path there. A worker exits when its standard input
/// is closed.
#[derive(Args)]
pub struct WorkerArgs {
    /// Frames are in memory shared with the build; standard input and output are one Unix socket
    #[arg(long)]
    shared_memory: bool,
}

pub fn run(args: &WorkerArgs) -> Exit {
    match rivet::serve_worker(args.shared_memory) {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(
                format_args!("cannot read the build's messages: {error}"),
                Some("workers are started by `rivet build`; this command is not for a terminal"),
            );
            Exit::Failed
        }
    }
}
