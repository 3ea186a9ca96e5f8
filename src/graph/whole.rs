//! What a spec needs of the cache as a whole: for each title the key of the entry from which all that
//! it is made of can be reached.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cache::{ActionKey, Tiers};
use crate::spec::Ladder;

use super::error::StepError;
use super::{Options, memo, schedule, settings, work};

/// A title of a spec as it is now, and where its whole result is filed once it has been built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TitleKey {
    pub name: String,
    pub key: ActionKey,
}

/// The keys of a spec's titles, with their sources as they are now and the tools of this machine. A
/// source that has never been seen is read, for its digest. Whether anything is filed under the keys
/// is not looked at.
pub fn title_keys(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
) -> Result<Vec<TitleKey>, StepError> {
    let settings = super::scheduler::Settings { dry_run: true, ..settings(options) };
    let scheduler = schedule(ladder, Arc::clone(cache), settings, Arc::clone(cancelled), &|_| {})?;
    let keys = scheduler.titles.iter().map(|title| {
        let digest = match work::known_source(cache.local(), &title.source) {
            Some(digest) => digest,
            None => work::hash_source(&scheduler.worker, &title.source)?,
        };
        Ok(TitleKey { name: title.name.clone(), key: memo::key(ladder, digest, &scheduler.tools)? })
    });
    let keys = keys.collect();
    scheduler.end_workers();
    keys
}
