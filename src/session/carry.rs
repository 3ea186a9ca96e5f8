//! What is done with all that a ladder's titles were made of: it is pinned, pushed to the remote cache, or
//! pulled from there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Session, SessionError};
use crate::build::StepError;
use crate::cache::{Cache, CacheError, EntryKey, Pin, PinnedTitle, Tiers, TransferStats};
use crate::insight::{self, TitleKey};
use crate::spec::Ladder;

/// What was pushed or pulled.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Transfer {
    /// Entries and bytes, and how much was missing.
    pub carried: TransferStats,
    /// The first few entries that were missing.
    pub missing: Vec<MissingStep>,
    /// Whether `cancelled` was set before it was done.
    pub interrupted: bool,
}

/// An entry that is not there, or not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingStep {
    /// The title that it is a part of.
    pub title: String,
    /// The kind of its step, where that is known.
    pub kind: Option<String>,
    /// Its key in the cache, in hexadecimal digits.
    pub key: String,
}

/// What was pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pinned {
    /// The pin.
    pub pin: Pin,
    /// Steps that went into its titles and whose results are not here, so that they are not kept.
    pub missing: u64,
}

impl Session {
    /// Keeps what the ladder's titles were built of, as they are now, until it is unpinned. `name` is what to
    /// unpin it by; `None`: the spec's path.
    pub fn pin(
        &self,
        ladder: &Ladder,
        name: Option<&str>,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Pinned, SessionError> {
        let local = self.cache.local();
        // Nothing of it may be cleaned away before it is pinned.
        let _running = local.announce()?;
        let here = Arc::new(Tiers::from(Arc::clone(local)));
        let titles = insight::title_keys(ladder, &here, &self.options.looking(), cancelled)?;
        check_built(&titles, cancelled, |key| Ok(local.find_entry(key)?.is_some()))?;
        let spec = Session::pin_name(&ladder.path);
        let pin = Pin {
            name: name.map_or_else(|| spec.clone(), str::to_owned),
            spec: PathBuf::from(spec),
            pinned_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            titles: titles.into_iter().map(|TitleKey { name, key }| PinnedTitle { name, key }).collect(),
        };
        let missing = local.pin(&pin)?;
        Ok(Pinned { pin, missing })
    }

    /// The name of a spec's pin where it was given none: its path.
    pub fn pin_name(spec: &Path) -> String {
        let absolute = std::path::absolute(spec).unwrap_or_else(|_| spec.to_owned());
        std::fs::canonicalize(&absolute).unwrap_or(absolute).display().to_string()
    }

    /// Stores in the remote cache what the ladder was built of here. `replace` also puts results in the place
    /// of those that somebody signed whose key is not trusted here. `progress` is told how many entries are on
    /// their way, and of how many.
    pub fn push(
        &self,
        ladder: &Ladder,
        replace: bool,
        cancelled: &Arc<AtomicBool>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Transfer, SessionError> {
        let titles = self.titles_to_carry(ladder, cancelled)?;
        let cache = &self.cache;
        let is_cancelled = || cancelled.load(Ordering::Relaxed);
        // A build may do without storing anything; this has nothing else to do.
        if let Some(why) = cache.report().and_then(|report| report.read_only) {
            return Err(SessionError::RemoteReadOnly(why));
        }
        check_built(&titles, cancelled, |key| {
            Ok(cache.local().entry(key)?.is_some() || cache.find_entry(key)?.is_some())
        })?;
        let carried = cache.push_all(&roots(&titles), replace, &is_cancelled)?;
        cache.finish(&is_cancelled, &|left| progress(left as u64, carried.entries));
        Ok(transfer(carried, &titles, is_cancelled()))
    }

    /// Brings from the remote cache all that the ladder was built of. `progress` is told what came so far.
    pub fn pull(
        &self,
        ladder: &Ladder,
        cancelled: &Arc<AtomicBool>,
        progress: &dyn Fn(&TransferStats),
    ) -> Result<Transfer, SessionError> {
        let titles = self.titles_to_carry(ladder, cancelled)?;
        let is_cancelled = || cancelled.load(Ordering::Relaxed);
        for title in &titles {
            if self.cache.find_entry(&title.key)?.is_none() {
                return Err(match is_cancelled() {
                    true => StepError::Cancelled.into(),
                    false => SessionError::NotInRemote { title: title.name.clone() },
                });
            }
        }
        let carried = self.cache.pull_all(&roots(&titles), &is_cancelled, progress)?;
        Ok(transfer(carried, &titles, is_cancelled()))
    }

    fn titles_to_carry(
        &self,
        ladder: &Ladder,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Vec<TitleKey>, SessionError> {
        if !self.cache.has_remote() {
            return Err(SessionError::NoRemote);
        }
        Ok(insight::title_keys(ladder, &self.cache, &self.options.looking(), cancelled)?)
    }
}

fn roots(titles: &[TitleKey]) -> Vec<EntryKey> {
    titles.iter().map(|title| title.key).collect()
}

fn transfer(carried: TransferStats, titles: &[TitleKey], cancelled: bool) -> Transfer {
    let title = |key: EntryKey| titles.iter().find(|title| title.key == key);
    let missing = carried.named.iter().map(|missing| MissingStep {
        title: title(missing.of).map_or_else(String::new, |title| title.name.clone()),
        kind: missing.kind.clone(),
        key: missing.key.to_string(),
    });
    Transfer { missing: missing.collect(), interrupted: cancelled || carried.interrupted, carried }
}

/// Sees that titles were built as they are now.
fn check_built(
    titles: &[TitleKey],
    cancelled: &AtomicBool,
    is_built: impl Fn(&EntryKey) -> Result<bool, CacheError>,
) -> Result<(), SessionError> {
    for title in titles {
        let is_built = is_built(&title.key)?;
        // Who was interrupted has not looked everywhere.
        if cancelled.load(Ordering::Relaxed) {
            return Err(StepError::Cancelled.into());
        }
        if !is_built {
            return Err(SessionError::NotBuilt { title: title.name.clone() });
        }
    }
    Ok(())
}
