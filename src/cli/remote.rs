//! The remote cache's arguments, for all commands that ask one.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use rivet::cache::remote::{NamedBy, RemoteUrl};
use rivet::cache::{RemoteOptions, RemoteReport, Tiers};
use rivet::spec::Ladder;

use super::{CacheDirArg, Exit, Open, complain, folder_named_by, open_cache_with, trust, whole_trust};
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
    /// The local cache with the remote behind it that the arguments or the spec name, if they do.
    pub fn tiers(
        &self,
        open: Open,
        cache: &CacheDirArg,
        ladder: &Ladder,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Tiers, Exit> {
        let url = self.url(ladder)?;
        let mut trust =
            if url.is_some() && !self.offline { whole_trust(ladder)? } else { trust(Some(ladder))? };
        trust.set_insecure_unsigned(self.insecure_unsigned);
        let local = open_cache_with(open, cache, Some(ladder), &trust)?;
        let Some(url) = url else { return Ok(Tiers::from(local)) };
        if self.offline {
            return Ok(Tiers::offline(local));
        }
        if self.insecure_unsigned {
            complain_about_insecurity(&url);
        }
        let options = RemoteOptions {
            url: url.clone(),
            named_by: if self.remote_cache.is_some() { NamedBy::User } else { NamedBy::Spec },
            folder_named_by: folder_named_by(cache, ladder),
            trust,
            read_only: self.remote_read_only,
            timeout: self.remote_timeout,
            cancelled: Arc::clone(cancelled),
        };
        let tiers = Tiers::with_remote(local, options).map_err(|error| {
            complain(
                format_args!("cannot use the remote cache {}: {error}", url.place()),
                Some("`--offline` builds without it"),
            );
            Exit::Usage
        })?;
        tiers.on_wait(|told| {
            let _ = writeln!(std::io::stderr().lock(), "{told}");
        });
        Ok(tiers)
    }

    /// An empty one, which CI services make of a variable that is not set, is none.
    fn url(&self, ladder: &Ladder) -> Result<Option<RemoteUrl>, Exit> {
        match self.remote_cache.as_deref() {
            None => Ok(ladder.cache.remote.clone()),
            Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error| {
                complain(format_args!("the remote cache's URL cannot be used: {error}"), None);
                Exit::Usage
            }),
        }
    }
}

/// Warns, after a look at what a build would do, of why it may find more in the remote: so that one that
/// is down can be told from work to do.
pub fn warn_of_doubts(cache: &Tiers) {
    for doubt in cache.report().iter().flat_map(doubts) {
        let _ = writeln!(std::io::stderr().lock(), "warning: {doubt}");
    }
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

fn complain_about_insecurity(url: &RemoteUrl) {
    let _ = writeln!(
        std::io::stderr().lock(),
        "warning: --insecure-unsigned: whoever can write to {} decides what is built here; what is made is stored \
         there unsigned, where nothing is",
        url.place()
    );
}
