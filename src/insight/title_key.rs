//! What a spec needs of the cache as a whole: for each title the key of the entry from which all that
//! it is made of can be reached.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cache::{EntryKey, Tiers};
use crate::spec::Ladder;

use crate::build::engine::Settings;
use crate::build::{Options, open_engine, settings, title_cache};
use crate::steps::StepError;
use crate::steps::source::{hash_source, known_source};

/// A title of a spec as it is now, and the key of the entry of its whole result once it has been built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TitleKey {
    pub name: String,
    pub key: EntryKey,
}

/// The keys of a spec's titles, with their sources as they are now and the tools of this machine. A
/// source that has never been seen is read, for its digest. The keys are not looked up.
pub fn title_keys(
    ladder: &Ladder,
    cache: &Arc<Tiers>,
    options: &Options,
    cancelled: &Arc<AtomicBool>,
) -> Result<Vec<TitleKey>, StepError> {
    let settings = Settings { dry_run: true, ..settings(options) };
    let engine = open_engine(ladder, Arc::clone(cache), settings, Arc::clone(cancelled), &|_| {})?;
    let keys = engine.titles.iter().map(|title| {
        let digest = match known_source(cache.local(), &title.source) {
            Some(digest) => digest,
            None => hash_source(&engine.context, &title.source)?,
        };
        Ok(TitleKey { name: title.name.clone(), key: title_cache::key(ladder, digest, &engine.tools)? })
    });
    let keys = keys.collect();
    engine.end_workers();
    keys
}
