//! `rivet cache clear`.

use std::io::{IsTerminal, Write};

use clap::Args;
use rivet::Access;

use super::WhichArgs;
use crate::cli::{Exit, complain, failed, on_interrupt, print};
use crate::report::{self, count};

/// Remove everything from the cache
///
/// That is results, entries, the build log, and pins with what they hold. Other files in its folder stay. Refused while a build uses it. Without a spec, the isolated caches of
/// specs that trust further keys are cleared, too.
#[derive(Args)]
pub struct ClearArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

pub fn run(args: &ClearArgs) -> Result<Exit, Exit> {
    let house = args.which.open(Access::ReadWrite)?;
    let folders: Vec<String> = house.folders().iter().map(|folder| folder.display().to_string()).collect();
    if !args.yes && !agreed(&format!("Remove everything that is cached in {}", folders.join(", ")))? {
        return Ok(Exit::Done);
    }
    let cancelled = on_interrupt();
    let gone = house.clear(&cancelled).map_err(|error| failed(&error))?;
    let interrupted = cancelled.load(std::sync::atomic::Ordering::Relaxed);
    let (files, bytes) = (count(gone.files, "file"), report::bytes(gone.bytes));
    print(format_args!("{files} removed, {bytes}{}", if interrupted { "; interrupted" } else { "" }));
    Ok(if interrupted { Exit::Interrupted } else { Exit::Done })
}

/// Asks on the terminal.
fn agreed(question: &str) -> Result<bool, Exit> {
    if !std::io::stdin().is_terminal() {
        complain("stdin is not a terminal; pass --yes", None);
        return Err(Exit::Usage);
    }
    let mut answer = String::new();
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "{question}? [y/N] ").and_then(|()| stderr.flush());
    let answered = asked.and_then(|()| std::io::stdin().read_line(&mut answer));
    Ok(answered.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
