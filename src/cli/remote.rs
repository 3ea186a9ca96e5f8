//! The remote cache's arguments, for all commands that ask one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use rivet::cache::RemoteReport;
use rivet::session::{RemoteChoice, Session, SessionOptions};

use super::{CacheDirArg, Exit, complain, warn};
use crate::report;

/// Which remote cache, and how to use it.
#[derive(Args)]
pub struct RemoteArgs {
    /// A cache that other machines share: s3, gs, azblob, webdav, redis, fs or grpc (Bazel's Remote
    /// Execution API), e.g. s3://bucket/prefix?region=eu-central-1 or grpcs://host:9092. Credentials come
    /// from the environment [default: the spec's `cache.remote`]
    #[arg(
        long,
        value_name = "URL",
        env = "RIVET_REMOTE_CACHE",
        hide_env_values = true,
        help_heading = "Remote cache"
    )]
    remote_cache: Option<String>,
    /// Store nothing in the remote cache
    #[arg(long, help_heading = "Remote cache")]
    remote_read_only: bool,
    /// Do not ask the remote cache
    #[arg(long, help_heading = "Remote cache")]
    offline: bool,
    /// How long the remote cache may take to answer, besides what the bytes take
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = patience,
        help_heading = "Remote cache"
    )]
    remote_timeout: Duration,
    /// Believe results of the remote cache that nobody signed, or somebody unknown. Whoever can write
    /// there can then put anything into what is built here. What is made is stored unsigned, where
    /// nothing is
    #[arg(long, help_heading = "Remote cache")]
    insecure_unsigned: bool,
}

/// Some time, and not none.
fn patience(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(patience) if patience.is_zero() => Err("nobody answers in no time".to_owned()),
        Ok(patience) => Ok(patience),
        Err(error) => Err(error.to_string()),
    }
}

impl RemoteArgs {
    /// The cache in the folder that `cache` names, and the remote that the arguments name, if they do.
    pub fn options(&self, cache: &CacheDirArg, cancelled: &Arc<AtomicBool>) -> Result<SessionOptions, Exit> {
        let mut options = cache.options();
        options.remote = self.choice()?;
        options.offline = self.offline;
        options.remote_read_only = self.remote_read_only;
        options.remote_timeout = self.remote_timeout;
        options.insecure_unsigned = self.insecure_unsigned;
        options.cancelled = Arc::clone(cancelled);
        Ok(options)
    }

    /// An empty one, which CI services make of a variable that is not set, is none.
    fn choice(&self) -> Result<RemoteChoice, Exit> {
        match self.remote_cache.as_deref() {
            None => Ok(RemoteChoice::OfSpec),
            Some("") => Ok(RemoteChoice::None),
            Some(text) => text.parse().map(RemoteChoice::Url).map_err(|error| {
                complain(format_args!("the remote cache's URL cannot be used: {error}"), None);
                Exit::Usage
            }),
        }
    }
}

/// Warns, after a look at what a build would do, of why it may find more in the remote: so that one that
/// is down can be told from work to do.
pub fn warn_of_doubts(session: &Session) {
    session.remote_report().iter().flat_map(doubts).for_each(warn);
}

fn doubts(report: &RemoteReport) -> Vec<String> {
    let name = &report.remote;
    let mut doubts = Vec::new();
    if let Some(why) = &report.went_on_without {
        doubts.push(format!("the remote cache {name} is not used any more: {why}"));
    } else if report.errors > 0 {
        let why = report.last_error.as_deref().unwrap_or_default();
        doubts.push(format!("the remote cache {name} did not say all that it was asked: {why}"));
    }
    if let Some(why) = report::not_believed(report) {
        let hint = report::unknown_key(report).map(|hint| format!("; {hint}")).unwrap_or_default();
        doubts.push(format!("results of the remote cache {name} are not believed: {why}{hint}"));
    }
    doubts
}
