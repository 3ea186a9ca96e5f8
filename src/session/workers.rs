//! Where worker processes come from. rivet starts itself; another program has no `worker` command, so for
//! one a `rivet` of the same version is looked for.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::workers::{WorkerCommand, WorkerOptions, WorkerPool};

/// What rivet's program is called.
const PROGRAM: &str = "rivet";
/// How long a program that was only found may take to answer: it may be something else of that name.
const ANSWER: Duration = Duration::from_secs(10);

/// Where a session's builds decode and encode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// In processes of the running program if that is rivet, else of a `rivet` beside it or in `PATH`. Where
    /// there is none, or it is another version, in this process, with a warning.
    #[default]
    Search,
    /// In processes that are started by this command.
    Command(WorkerCommand),
    /// In this process: a decoder or encoder that crashes takes the program with it, and no GPU decodes.
    /// SVT-AV1 then writes to standard error, unless `SVT_LOG=0` is in the environment.
    InProcess,
}

impl WorkerCommand {
    /// Starts `rivet`, the path of rivet's program, as a worker that shares memory with this process.
    pub fn of_rivet(rivet: PathBuf) -> WorkerCommand {
        WorkerCommand {
            program: rivet,
            arguments: vec!["worker".into(), "--shared-memory".into()],
            shares_memory: true,
        }
    }
}

/// How to start workers, or why there are none; neither where none are wanted.
pub(super) fn choose(workers: &Workers, timeout: Duration) -> Result<Option<WorkerOptions>, String> {
    let options = |command| Some(WorkerOptions { command, timeout });
    match workers {
        Workers::InProcess => Ok(None),
        Workers::Command(command) => Ok(options(command.clone())),
        Workers::Search => {
            let running = env::current_exe().ok();
            let own = running.as_deref().filter(|program| is_rivet(program));
            if let Some(own) = own {
                return Ok(options(WorkerCommand::of_rivet(own.to_owned())));
            }
            let path = env::var_os("PATH").unwrap_or_default();
            let mut reasons = Vec::new();
            for program in candidates(running.as_deref(), &path) {
                let command = WorkerCommand::of_rivet(program.clone());
                match answers(WorkerOptions { command: command.clone(), timeout }) {
                    Ok(()) => return Ok(options(command)),
                    Err(reason) => reasons.push(format!("{}: {reason}", program.display())),
                }
            }
            Err(match reasons.is_empty() {
                true => "no `rivet` is beside this program or in PATH".to_owned(),
                false => reasons.join("; "),
            })
        }
    }
}

fn is_rivet(program: &Path) -> bool {
    program.file_name() == Some(OsStr::new(PROGRAM))
}

/// Files that may be rivet, each once: beside the running program, then in the folders of `path`.
fn candidates(running: Option<&Path>, path: &OsStr) -> Vec<PathBuf> {
    let beside = running.and_then(Path::parent).map(Path::to_owned);
    let folders = beside.into_iter().chain(env::split_paths(path)).filter(|folder| folder.is_absolute());
    let mut found: Vec<PathBuf> = Vec::new();
    for program in folders.map(|folder| folder.join(PROGRAM)).filter(|program| program.is_file()) {
        if !found.contains(&program) {
            found.push(program);
        }
    }
    found
}

/// Whether a worker starts and is of this version. It is asked for its GPUs, which a build asks, too.
fn answers(options: WorkerOptions) -> Result<(), String> {
    let options = WorkerOptions { timeout: options.timeout.min(ANSWER), ..options };
    WorkerPool::new(options, Arc::new(AtomicBool::new(false))).gpus().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn rivet_is_looked_for_beside_the_program_and_then_in_path() {
        let dir = tempfile::tempdir().unwrap();
        let [beside, first, second, empty] = ["beside", "first", "second", "empty"].map(|name| {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        });
        let path = env::join_paths([&empty, &first, &second, &first, Path::new("relative")]).unwrap();
        let running = beside.join("a-program");
        assert!(candidates(Some(&running), &path).is_empty());
        for folder in [&beside, &first, &second] {
            fs::write(folder.join(PROGRAM), "").unwrap();
        }
        let all = [&beside, &first, &second].map(|folder| folder.join(PROGRAM));
        assert_eq!(candidates(Some(&running), &path), all);
        assert_eq!(candidates(None, &path), all[1..]);
    }

    #[test]
    fn a_program_that_is_no_worker_is_told() {
        let command = WorkerCommand::of_rivet("/bin/false".into());
        let options = WorkerOptions { command, timeout: Duration::from_secs(60) };
        assert!(answers(options).is_err());
    }
}
