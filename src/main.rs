//! Starts the command line.

mod cli;
mod report;

fn main() -> std::process::ExitCode {
    quieten_svt_av1();
    cli::main()
}

/// SVT-AV1 tells on the standard error what it is about to do, unless its environment says not to.
fn quieten_svt_av1() {
    const FATAL_ALONE: &str = "0";
    if std::env::var_os("SVT_LOG").is_none() {
        // SAFETY: this is the program's first step, and no other thread is there to read meanwhile.
        unsafe { std::env::set_var("SVT_LOG", FATAL_ALONE) };
    }
}
