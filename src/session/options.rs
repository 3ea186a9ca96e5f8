//! What a program says when it opens a session: whose cache, whose keys, how much of the machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::budget::{Budget, Share};
use super::workers::Workers;
use crate::build::Options;
use crate::cache::remote::RemoteUrl;
use crate::cache::trust::KeyFolder;
use crate::executors::Executor;

/// How to open a session. The default is what `rivet build` does with no flags, but for the environment: a
/// program that wants `RIVET_CACHE_DIR` and `RIVET_REMOTE_CACHE` to count reads them itself.
///
/// ```
/// let mut options = rivet::SessionOptions::default();
/// options.offline = true;
/// options.budget = rivet::Budget::new(4, 2 << 30);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct SessionOptions {
    /// The cache folder. `None`: the spec's `cache.dir`, else `$XDG_CACHE_HOME/rivet`, else `~/.cache/rivet`.
    pub cache_dir: Option<PathBuf>,
    /// Whether the cache is written.
    pub access: Access,
    /// The cache that other machines share.
    pub remote: RemoteChoice,
    /// Do not ask the remote cache.
    pub offline: bool,
    /// Store nothing in the remote cache.
    pub remote_read_only: bool,
    /// How long the remote cache may take to answer, besides what the bytes take.
    pub remote_timeout: Duration,
    /// The user's keys. `None`: those of `$XDG_CONFIG_HOME/rivet` or `~/.config/rivet`, and of
    /// `RIVET_SIGNING_KEY`, which does not count beside a folder that is named here. Keys that a spec names
    /// count besides, for a cache of their own.
    pub keys: Option<KeyFolder>,
    /// Accept entries of the remote cache that nobody signed, or somebody unknown: whoever can write there
    /// then decides what is built. They are kept in a cache of their own.
    pub insecure_unsigned: bool,
    /// Slots and memory for the session's builds. A clone in the options of another session makes both share.
    pub budget: Budget,
    /// Where to decode and encode.
    pub workers: Workers,
    /// How long a worker may say nothing before it is ended; one that is at a GPU has a minute at most.
    pub worker_timeout: Duration,
    /// Whether GPUs may decode, which they do in workers alone. Never changes a byte.
    pub gpu_decoding: bool,
    /// What encodes, in place of what this machine has. Their identities are in the keys.
    pub executors: Option<Vec<Arc<dyn Executor>>>,
    /// Set from anywhere, it ends calls to the remote cache. Builds have a flag of their own, which may be
    /// this one.
    pub cancelled: Arc<AtomicBool>,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            cache_dir: None,
            access: Access::default(),
            remote: RemoteChoice::default(),
            offline: false,
            remote_read_only: false,
            remote_timeout: Duration::from_secs(10),
            keys: None,
            insecure_unsigned: false,
            budget: Budget::default(),
            workers: Workers::default(),
            worker_timeout: Duration::from_secs(5 * 60),
            gpu_decoding: true,
            executors: None,
            cancelled: Arc::default(),
        }
    }
}

/// Whether a session writes its cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The folder is made where it is not there; one that cannot be written is an error at once.
    #[default]
    ReadWrite,
    /// For looking: plan, explain, view. Nothing is made, and a folder that cannot be written will do.
    ReadOnly,
}

/// Which remote cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RemoteChoice {
    /// The spec's `cache.remote`, if it names one. Secrets of the user's are not sent where only a spec says.
    #[default]
    OfSpec,
    /// This one, named by the user.
    Url(RemoteUrl),
    /// None, whatever the spec says.
    None,
}

/// How to run one build.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct BuildOptions {
    /// Its part of the session's budget.
    pub share: Share,
    /// After a failure go on with what does not depend on it.
    pub keep_going: bool,
    /// Tell how busy the build is, too, as [`Event::Gauges`](crate::Event::Gauges).
    pub gauges: bool,
}

impl SessionOptions {
    /// Of commands that only look: they go on after a failure, and start no workers.
    pub(super) fn looking(&self) -> Options {
        Options {
            jobs: self.budget.slots(),
            memory: self.budget.memory(),
            keep_going: true,
            executors: self.executors.clone(),
            ..Options::default()
        }
    }
}
