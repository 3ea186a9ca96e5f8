//! The command line: one file a command. It reads arguments, calls the library, prints, and
//! decides nothing else. Progress goes to standard error, results to standard output.

mod build;
mod cache;
mod devices;
mod explain;
mod graph;
mod init;
mod log;
mod plan;
mod remote;
mod size;
mod worker;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use remote::RemoteArgs;
use rivet::cache::trust::TrustError;
use rivet::graph::StepError;
use rivet::session::{Access, Budget, RemoteChoice, Session, SessionError, SessionOptions, Workers};
use rivet::spec::{self, Ladder, LoadError, SpecErrors};
use rivet::workers::WorkerCommand;
use size::memory_size;
use tracing_subscriber::EnvFilter;

/// Make for video ladders.
///
/// `rivet build ladder.toml` compiles a ladder spec into a graph of small steps, runs those whose
/// content changed, and publishes AV1 + Opus streams. Everything is cached by content: a second
/// build does nothing, and an edit encodes only the segments that it touched.
#[derive(Parser)]
#[command(name = "rivet", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done, 1 it failed, 2 the spec or the command line is wrong or lacks something, 3 `plan --exit-code` found something to do, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Tell more on standard error: once for notes, twice for every step and its key
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Init(init::InitArgs),
    Build(build::BuildArgs),
    Plan(plan::PlanArgs),
    Explain(explain::ExplainArgs),
    Graph(graph::GraphArgs),
    Log(log::LogArgs),
    Cache(cache::CacheArgs),
    Devices(devices::DevicesArgs),
    Worker(worker::WorkerArgs),
}

/// Which spec, and which cache.
#[derive(Args)]
struct LadderArgs {
    /// The ladder spec
    #[arg(default_value = "ladder.toml", value_name = "LADDER")]
    ladder: PathBuf,
    #[command(flatten)]
    cache: CacheDirArg,
}

#[derive(Args, Clone)]
struct CacheDirArg {
    /// Where results are cached [default: the spec's `cache.dir`, else $XDG_CACHE_HOME/rivet, else
    /// ~/.cache/rivet]
    #[arg(
        long,
        value_name = "DIR",
        env = "RIVET_CACHE_DIR",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    cache_dir: Option<PathBuf>,
}

impl CacheDirArg {
    /// For a command that asks no remote cache and builds nothing. An empty name, which CI services make of a
    /// variable that is not set, is none.
    fn options(&self) -> SessionOptions {
        let mut options = SessionOptions::default();
        options.cache_dir = self.cache_dir.clone().filter(|folder| !folder.as_os_str().is_empty());
        options.remote = RemoteChoice::None;
        options
    }
}

/// How much of the machine to use.
#[derive(Args)]
struct MachineArgs {
    /// Steps to run at a time [default: one for each CPU]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Memory for decoded frames and encoders, e.g. 4G, 800M or 4Gi [default: half of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = memory_size)]
    memory: Option<u64>,
    /// Encode and decode in this process rather than in workers: one that crashes then ends the build. No GPU
    /// decodes then, as it may only do that in a process of its own
    #[arg(long, conflicts_with_all = ["worker", "worker_timeout"])]
    in_process: bool,
    /// Decode on the CPU alone. What GPUs decode is the same
    #[arg(long)]
    no_gpu_decoding: bool,
    /// Start workers with this command, which may run them on a machine that sees the source at the
    /// same path, e.g. "ssh render7 rivet worker" [default: this program]
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    worker: Option<Words>,
    /// End a worker that has said nothing for so long, or for a minute while it is at a GPU
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    worker_timeout: std::time::Duration,
}

/// A command line: a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words(Vec<String>);

/// Words are apart by blanks; quotes are for a shell to read.
fn words(text: &str) -> Result<Words, String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { Err("expected a program and its arguments".to_owned()) } else { Ok(Words(words)) }
}

impl MachineArgs {
    fn apply(&self, options: &mut SessionOptions) {
        let machine = Budget::default();
        options.budget = Budget::new(
            self.jobs.map_or(machine.slots(), usize::from),
            self.memory.unwrap_or(machine.memory()),
        );
        options.workers = match &self.worker {
            _ if self.in_process => Workers::InProcess,
            Some(Words(words)) => Workers::Command(WorkerCommand {
                program: words.first().map(PathBuf::from).unwrap_or_default(),
                arguments: words.iter().skip(1).map(Into::into).collect(),
                shares_memory: false,
            }),
            // Where a program cannot tell what it is there are no workers.
            None => match std::env::current_exe() {
                Ok(rivet) => Workers::Command(WorkerCommand::of_rivet(rivet)),
                Err(_) => Workers::InProcess,
            },
        };
        options.worker_timeout = self.worker_timeout;
        options.gpu_decoding = !self.no_gpu_decoding;
    }
}

/// How a command ended.
enum Exit {
    Done,
    Failed,
    /// The spec or the command line is wrong, or lacks something, such as a key.
    Usage,
    /// `plan --exit-code`: a build would do something.
    WouldRun,
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::WouldRun => 3,
            Exit::Interrupted => 130,
        })
    }
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let quiet = matches!(&cli.command, Command::Build(args) if args.is_quiet());
    let level = match cli.verbose {
        0 if quiet => "error",
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter(std::env::var("RIVET_LOG").ok(), level))
        .with_writer(std::io::stderr)
        .with_ansi(colour())
        .without_time()
        .with_target(false)
        .init();
    let exit = match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Worker(args) => worker::run(&args),
    };
    exit.into()
}

/// What is told: what `RIVET_LOG` says, if anything, else all from this level on.
fn filter(said: Option<String>, level: &str) -> EnvFilter {
    let said = said.filter(|said| !said.is_empty()).and_then(|said| EnvFilter::try_new(said).ok());
    said.unwrap_or_else(|| EnvFilter::new(format!("rivet={level}")))
}

/// Whether messages may be coloured.
fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a line of results. A reader that has gone away is no error of ours.
fn print(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(text),
        Err(error) => complain(error, None),
    }
}

/// Prints an error, and what to do about it.
fn complain(message: impl std::fmt::Display, hint: Option<&str>) {
    let (red, bold, reset) = if colour() { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{red}error{reset}{bold}: {message}{reset}");
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "  hint: {hint}");
    }
}

/// Tells why the library did not do what it was asked.
fn failed(error: &SessionError) -> Exit {
    match error {
        SessionError::Step(StepError::Invalid(errors)) => show(errors),
        _ => complain(error, error.hint().as_deref()),
    }
    match error {
        SessionError::Trust(error) => of_trust(error),
        SessionError::NoHome
        | SessionError::Remote { .. }
        | SessionError::NoRemote
        | SessionError::RemoteReadOnly(_)
        | SessionError::Step(StepError::Invalid(_) | StepError::Selector(_)) => Exit::Usage,
        error if error.is_cancelled() => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

/// Shows what is wrong with a spec.
fn show(errors: &SpecErrors) {
    let _ = writeln!(std::io::stderr().lock(), "{}", errors.render(colour()));
}

fn load(path: &Path) -> Result<Ladder, Exit> {
    let ladder = spec::load_with(path, &rivet::graph::option_faults).map_err(|error| {
        match error {
            LoadError::Invalid(errors) => show(&errors),
            LoadError::Io { ref source, .. } => complain(
                format_args!("{error}: {source}"),
                Some("name a spec: rivet build LADDER; `rivet init SOURCE` writes one to start from"),
            ),
        }
        Exit::Usage
    })?;
    if let Some(warnings) = spec::idle_keys(&ladder) {
        show(&warnings);
    }
    Ok(ladder)
}

/// Opens a session, and tells when its remote cache keeps somebody waiting.
fn open(ladder: &Ladder, options: SessionOptions) -> Result<Session, Exit> {
    let session = Session::open(ladder, options).map_err(|error| failed(&error))?;
    session.on_wait(|told| {
        let _ = writeln!(std::io::stderr().lock(), "{told}");
    });
    Ok(session)
}

/// Opens a session for a command that builds nothing.
fn open_with_warnings(ladder: &Ladder, options: SessionOptions) -> Result<Session, Exit> {
    let session = open(ladder, options)?;
    session.warnings().iter().for_each(|warning| warn(warning));
    Ok(session)
}

/// Opens a session for a command that only looks.
fn open_to_look(
    ladder: &Ladder,
    cache: &CacheDirArg,
    remote: &RemoteArgs,
    cancelled: &Arc<AtomicBool>,
) -> Result<Session, Exit> {
    let mut options = remote.options(cache, cancelled)?;
    options.access = Access::ReadOnly;
    open_with_warnings(ladder, options)
}

fn warn(message: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "warning: {message}");
}

/// Tells what is wrong with the user's keys.
fn trust_failed(error: &TrustError) -> Exit {
    complain(error, error.hint().as_deref());
    of_trust(error)
}

fn of_trust(error: &TrustError) -> Exit {
    match error {
        TrustError::Io { .. } | TrustError::Exists(_) | TrustError::Randomness(_) => Exit::Failed,
        _ => Exit::Usage,
    }
}

/// The first Ctrl-C (or SIGTERM) asks the build to stop, the second one does not ask.
fn on_interrupt() -> Arc<AtomicBool> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C ends rivet at once: {error}");
    }
    cancelled
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Flags of other programs that the documentation calls.
    const OTHERS: [&str; 11] = [
        "bench",
        "disable-everything",
        "directory",
        "enable-shared",
        "features",
        "ignored",
        "locked",
        "no-default-features",
        "nocapture",
        "open",
        "path",
    ];

    #[test]
    fn the_documentation_names_no_flag_that_is_not_there() {
        fn flags(command: &clap::Command, found: &mut BTreeSet<String>) {
            found.extend(command.get_arguments().filter_map(|one| one.get_long()).map(str::to_owned));
            command.get_subcommands().for_each(|command| flags(command, found));
        }
        let mut known: BTreeSet<String> = OTHERS.map(str::to_owned).into();
        known.extend(["help", "version", "skip", "test"].map(str::to_owned));
        flags(&Cli::command(), &mut known);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|file| file.unwrap().path());
        for file in docs.chain([root.join("README.md")]) {
            let text = std::fs::read_to_string(&file).unwrap();
            let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
            for flag in words.filter_map(|word| word.strip_prefix("--")).filter(|flag| !flag.is_empty()) {
                let flag = flag.trim_end_matches('-');
                assert!(flag.is_empty() || known.contains(flag), "{}: --{flag}", file.display());
            }
        }
    }

    #[test]
    fn an_empty_variable_says_nothing_of_what_is_told() {
        let told = |said: Option<&str>| filter(said.map(str::to_owned), "warn").to_string();
        assert_eq!(
            [None, Some(""), Some("rivet=debug")].map(told),
            ["rivet=warn", "rivet=warn", "rivet=debug"]
        );
    }

    #[test]
    fn help_shows_nobodys_variables() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
                assert!(argument.is_hide_env_values_set(), "{} {argument}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
