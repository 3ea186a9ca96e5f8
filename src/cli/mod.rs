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
use rivet::cache::remote::NamedBy;
use rivet::cache::trust::{Trust, TrustError};
use rivet::cache::{CacheError, LocalCache};
use rivet::graph::StepError;
use rivet::spec::{self, Ladder, LoadError, SpecErrors};
use rivet::workers::{WorkerCommand, WorkerOptions};
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
    /// The folder that was named. An empty name, which CI services make of a variable that is not set, is
    /// none.
    fn named(&self) -> Option<&Path> {
        self.cache_dir.as_deref().filter(|folder| !folder.as_os_str().is_empty())
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
    fn workers(&self) -> Option<WorkerOptions> {
        let command = match &self.worker {
            _ if self.in_process => return None,
            Some(Words(words)) => WorkerCommand {
                program: words.first()?.into(),
                arguments: words.iter().skip(1).map(Into::into).collect(),
                shares_memory: false,
            },
            // Where a program cannot tell what it is there are no workers.
            None => WorkerCommand {
                program: std::env::current_exe().ok()?,
                arguments: vec!["worker".into(), "--shared-memory".into()],
                shares_memory: true,
            },
        };
        Some(WorkerOptions { command, patience: self.worker_timeout })
    }

    fn options(&self, keep_going: bool) -> rivet::graph::Options {
        rivet::graph::Options {
            jobs: self.jobs.map_or_else(rivet::graph::default_jobs, usize::from),
            memory: self.memory.unwrap_or_else(rivet::graph::default_memory),
            keep_going,
            workers: self.workers(),
            gpu_decoding: !self.no_gpu_decoding,
            ..rivet::graph::Options::default()
        }
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

/// Options of commands that only look.
fn looking() -> rivet::graph::Options {
    rivet::graph::Options { keep_going: true, ..rivet::graph::Options::default() }
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

/// Tells why the library could not even begin.
fn failed(error: &StepError) -> Exit {
    match error {
        StepError::Invalid(errors) => show(errors),
        _ => complain(error, error.hint().as_deref()),
    }
    match error {
        StepError::Invalid(_) | StepError::Selector(_) => Exit::Usage,
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

/// Opens the cache for a build.
fn open_cache(arg: &CacheDirArg, ladder: Option<&Ladder>) -> Result<Arc<LocalCache>, Exit> {
    open_cache_with(LocalCache::open, arg, ladder, &trust(ladder)?)
}

/// Opens the cache for a command that only looks at it.
fn look_at_cache(arg: &CacheDirArg, ladder: Option<&Ladder>) -> Result<Arc<LocalCache>, Exit> {
    open_cache_with(LocalCache::open_read_only, arg, ladder, &trust(ladder)?)
}

/// Opens the cache for whoever believes as much as `trust` does.
fn open_cache_with(
    open: Open,
    arg: &CacheDirArg,
    ladder: Option<&Ladder>,
    trust: &Trust,
) -> Result<Arc<LocalCache>, Exit> {
    let mut folder = cache_folder(arg, ladder)?;
    if let Some(name) = trust.extra_trust() {
        folder = rivet::cache::isolated_namespace(&folder, &name);
    }
    open(&folder).map(Arc::new).map_err(|error| cache_failed(&error))
}

/// As much of whom is believed as tells which cache is meant: where a spec names no keys, the user's own
/// need not be looked at.
fn trust(ladder: Option<&Ladder>) -> Result<Trust, Exit> {
    match ladder {
        Some(ladder) if !ladder.cache.trusted_keys.is_empty() => whole_trust(ladder),
        _ => Ok(Trust::default()),
    }
}

/// Whom the user believes, and a spec besides.
fn whole_trust(ladder: &Ladder) -> Result<Trust, Exit> {
    Trust::of_user(&ladder.cache.trusted_keys).map_err(|error| trust_failed(&error))
}

/// Tells what is wrong with the user's keys.
fn trust_failed(error: &TrustError) -> Exit {
    complain(error, error.hint().as_deref());
    match error {
        TrustError::Io { .. } | TrustError::Exists(_) | TrustError::Randomness(_) => Exit::Failed,
        _ => Exit::Usage,
    }
}

/// Opens a cache's folder, to fill it or to look at it.
type Open = fn(&Path) -> Result<LocalCache, CacheError>;

fn cache_folder(arg: &CacheDirArg, ladder: Option<&Ladder>) -> Result<PathBuf, Exit> {
    let folder = arg
        .named()
        .map(Path::to_owned)
        .or_else(|| ladder.and_then(|ladder| ladder.cache.dir.clone()))
        .or_else(rivet::cache::default_folder);
    folder.ok_or_else(|| {
        complain("there is no home folder to keep a cache in", Some("name a folder with --cache-dir"));
        Exit::Usage
    })
}

/// Who chose the folder that [`cache_folder`] tells.
fn folder_named_by(arg: &CacheDirArg, ladder: &Ladder) -> NamedBy {
    match (arg.named(), &ladder.cache.dir) {
        (None, Some(_)) => NamedBy::Spec,
        _ => NamedBy::User,
    }
}

/// Tells what is wrong with the cache's folder.
fn cache_failed(error: &CacheError) -> Exit {
    complain(error, error.hint());
    Exit::Failed
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
