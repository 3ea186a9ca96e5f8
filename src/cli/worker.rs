//! `rivet worker`.

use clap::Args;
use rivet::workers;

use super::{Exit, complain};

/// Encode and decode for a build, as it says on standard input
///
/// A build starts its own workers. To have one on another machine, give the build a command that
/// starts it there, e.g. `rivet build --worker "ssh render7 rivet worker"`: pictures then travel
/// with the messages, and the source must lie there at the same path. A worker ends when the build
/// closes its standard input.
#[derive(Args)]
pub struct WorkerArgs {
    /// Pictures are in memory shared with the build; standard input and output are one Unix socket
    #[arg(long)]
    shared_memory: bool,
}

pub fn run(args: &WorkerArgs) -> Exit {
    match workers::serve(args.shared_memory) {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(
                format_args!("the build cannot be understood: {error}"),
                Some("a worker is started by `rivet build`, and does not talk to people"),
            );
            Exit::Failed
        }
    }
}
