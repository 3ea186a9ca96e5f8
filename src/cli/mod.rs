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
use rivet::keys::TrustError;
use rivet::spec;
use rivet::{
    Access, Budget, Ladder, LoadError, RemoteChoice, Session, SessionError, SessionOptions, SpecErrors,
    StepError, WorkerCommand, Workers,
};
use size::memory_size;
use tracing_subscriber::EnvFilter;

/// Make for video ladders.
///
/// `rivet build ladder.toml` compiles a ladder spec into a graph of small steps, runs those whose
/// inputs changed, and publishes AV1 + Opus streams. Everything is cached by content: a second
/// build runs nothing, and an edit encodes only the segments that it touched.
#[derive(Parser)]
#[command(name = "rivet", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 the spec or the command line is wrong or lacks something, 3 `plan --exit-code` found something to run, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// More verbose output on standard error (-v: info, -vv: debug)
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
    /// The cache folder [default: the spec's `cache.dir`, else $XDG_CACHE_HOME/rivet, else
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
    /// Steps that run at a time [default: the number of CPUs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Memory for decoded frames and encoders, e.g. 4G, 800M or 4Gi [default: half of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = memory_size)]
    memory: Option<u64>,
    /// Decode and encode in this process instead of worker processes. A crash then ends the build, and GPUs
    /// do not decode, which they only do in workers
    #[arg(long, conflicts_with_all = ["worker", "worker_timeout"])]
    in_process: bool,
    /// Decode on the CPU only. GPUs decode the same frames, bit for bit
    #[arg(long)]
    no_gpu_decoding: bool,
    /// The command that starts a worker, e.g. "ssh render7 rivet worker". It may run on another machine,
    /// where the source must have the same path [default: this program]
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    worker: Option<Words>,
    /// How long a worker may be silent before it is killed; one minute at most while it uses a GPU
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    worker_timeout: std::time::Duration,
}

/// A command line: a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words(Vec<String>);

/// Words are separated by blanks; quotes have no meaning.
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
            // Without the path of this program no worker can be started.
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
    /// `plan --exit-code`: a build has something to run.
    MayRun,
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::MayRun => 3,
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

/// What is logged: what `RIVET_LOG` selects, if it is set, else everything from this level on.
fn filter(variable: Option<String>, level: &str) -> EnvFilter {
    let variable = variable.filter(|text| !text.is_empty());
    variable
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(format!("rivet={level}")))
}

/// Whether messages may be coloured.
fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a line of results. A closed pipe is no error.
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

/// Prints why the library did not do what it was asked.
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
    let ladder = rivet::load(path).map_err(|error| {
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

/// Opens a session; prints a line when its remote cache is slow.
fn open(ladder: &Ladder, options: SessionOptions) -> Result<Session, Exit> {
    let session = Session::open(ladder, options).map_err(|error| failed(&error))?;
    session.on_wait(|line| {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    });
    Ok(session)
}

/// Opens a session for a command that builds nothing.
fn open_with_warnings(ladder: &Ladder, options: SessionOptions) -> Result<Session, Exit> {
    let session = open(ladder, options)?;
    session.warnings().iter().for_each(warn);
    Ok(session)
}

/// Opens a session for a command that only looks.
fn open_read_only(
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

/// Prints what is wrong with the user's keys.
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

/// The first Ctrl-C (or SIGTERM) cancels the build, the second one ends the process.
fn on_interrupt() -> Arc<AtomicBool> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("cannot handle Ctrl-C, which will end rivet at once: {error}");
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
    fn an_empty_variable_selects_nothing() {
        let selected = |variable: Option<&str>| filter(variable.map(str::to_owned), "warn").to_string();
        assert_eq!(
            [None, Some(""), Some("rivet=debug")].map(selected),
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
