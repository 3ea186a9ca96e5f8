//! The remote cache's arguments, for all commands that ask one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use rivet::{RemoteChoice, RemoteReport, Session, SessionOptions};

use super::{CacheDirArg, Exit, complain, warn};
use crate::report;

/// Which remote cache, and how to use it.
#[derive(Args)]
pub struct RemoteArgs {
    /// A cache shared with other machines: s3, gs, azblob, webdav, redis, fs or grpc (Bazel's Remote
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
    /// Upload nothing to the remote cache
    #[arg(long, help_heading = "Remote cache")]
    remote_read_only: bool,
    /// Do not contact the remote cache
    #[arg(long, help_heading = "Remote cache")]
    offline: bool,
    /// Timeout of a call to the remote cache, besides the time that its bytes take
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = timeout,
        help_heading = "Remote cache"
    )]
    remote_timeout: Duration,
    /// Accept entries of the remote cache that are unsigned or signed by an untrusted key. Whoever can write
    /// there can then put anything into your streams. New results are uploaded unsigned, where there is no
    /// entry yet
    #[arg(long, help_heading = "Remote cache")]
    insecure_unsigned: bool,
}

/// A duration that is not zero.
fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(timeout) if timeout.is_zero() => Err("must be more than 0".to_owned()),
        Ok(timeout) => Ok(timeout),
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
                complain(format_args!("the remote cache's URL is invalid: {error}"), None);
                Exit::Usage
            }),
        }
    }
}

/// Warns, after a plan, of what came up in it, and of what the remote cache may have and did not return, so
/// that a remote that is down is not mistaken for work to do.
pub fn warn_of_doubts(session: &Session) {
    session.take_notices().iter().for_each(warn);
    session.remote_report().iter().flat_map(doubts).for_each(warn);
}

fn doubts(report: &RemoteReport) -> Vec<String> {
    let name = &report.remote;
    let mut doubts = Vec::new();
    if let Some(why) = &report.went_on_without {
        doubts.push(format!("the remote cache {name} is no longer used: {why}"));
    } else if report.errors > 0 {
        let why = report.last_error.as_deref().unwrap_or_default();
        doubts.push(format!("the remote cache {name} did not answer every call: {why}"));
    }
    if let Some(why) = report::rejected(report) {
        let hint = report::unknown_key(report).map(|hint| format!("; {hint}")).unwrap_or_default();
        doubts.push(format!("entries of the remote cache {name} were rejected: {why}{hint}"));
    }
    doubts
}
