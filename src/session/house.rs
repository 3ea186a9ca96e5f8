//! Looking after caches: a ladder's own, or, without a ladder, the user's together with those that specs with
//! keys of their own have beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::error::SessionError;
use super::options::{Access, SessionOptions};
use super::storage;
use crate::build::{self, BuildRecord};
use crate::cache::{
    CacheStats, Caches, Collected, GcRules, LocalCache, Pin, Tally, Verified, isolated_namespaces,
};
use crate::spec::Ladder;

/// Caches, to be measured, cleaned, verified and cleared. Nothing is moved from one to another.
pub struct Housekeeping {
    /// The first of them: the ladder's, or the user's.
    folder: PathBuf,
    /// The ladder's, alone.
    own: Option<Arc<LocalCache>>,
    access: Access,
}

impl Housekeeping {
    /// The cache that builds of `ladder` use, or, without one, the one in the folder that `options` name with
    /// all that lie apart there. With [`Access::ReadOnly`] nothing is made and nothing can be removed.
    pub fn open(ladder: Option<&Ladder>, options: &SessionOptions) -> Result<Housekeeping, SessionError> {
        let own = match ladder {
            Some(ladder) => Some(Arc::new(storage::local(ladder, options)?)),
            None => None,
        };
        let folder = match &own {
            Some(cache) => cache.folder().to_owned(),
            None => storage::folder(None, options)?,
        };
        Ok(Housekeeping { folder, own, access: options.access })
    }

    /// The folder of the ladder's cache, or of the user's.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folders of all of them, [`Housekeeping::folder`] first.
    pub fn folders(&self) -> Vec<PathBuf> {
        let apart = if self.own.is_some() { Vec::new() } else { self.isolated_folders() };
        [self.folder.clone()].into_iter().chain(apart).collect()
    }

    /// The folders, within [`Housekeeping::folder`], of specs with keys of their own.
    pub fn isolated_folders(&self) -> Vec<PathBuf> {
        isolated_namespaces(&self.folder)
    }

    /// What the first of them holds: by kind of step, by title, by when it was last used.
    pub fn stats(&self) -> Result<CacheStats, SessionError> {
        let cache = self.first()?;
        Ok(cache.stats(&|_, entry| build::title_of(&cache, entry))?)
    }

    /// The builds that used them and whose names end in `end`, the newest first, `most` of them at most.
    pub fn builds(&self, end: &str, most: usize) -> Result<Vec<BuildRecord>, SessionError> {
        let mut caches = vec![self.first()?];
        let apart = self.isolated_folders().into_iter();
        caches.extend(apart.filter_map(|folder| LocalCache::open_read_only(&folder).ok()));
        let caches: Vec<&LocalCache> = caches.iter().collect();
        Ok(BuildRecord::all(&caches, end)?.take(most).collect())
    }

    /// Removes what was not used for long, or is too much; what a pin or a running build needs stays.
    pub fn collect(
        &self,
        rules: &GcRules,
        cancelled: &AtomicBool,
        progress: &dyn Fn(Tally),
    ) -> Result<Collected, SessionError> {
        Ok(self.caches()?.collect(rules, cancelled, progress)?)
    }

    /// Reads everything and tells what is damaged; `repair` removes that. `progress` is told what was read, and
    /// which part of all that is.
    pub fn verify(
        &self,
        repair: bool,
        cancelled: &AtomicBool,
        progress: &(dyn Fn(Tally, f64) + Sync),
    ) -> Result<Verified, SessionError> {
        Ok(self.caches()?.verify(repair, cancelled, progress)?)
    }

    /// Removes everything that was written there. Refused while a build uses one of them.
    pub fn clear(&self, cancelled: &AtomicBool) -> Result<Tally, SessionError> {
        Ok(self.caches()?.clear(cancelled)?)
    }

    /// All pins, in order of their names.
    pub fn pins(&self) -> Result<Vec<Pin>, SessionError> {
        Ok(self.caches()?.pins()?)
    }

    /// Takes a pin away; `false` if there was none of that name.
    pub fn unpin(&self, name: &str) -> Result<bool, SessionError> {
        Ok(self.caches()?.unpin(name)?)
    }

    fn caches(&self) -> Result<Caches, SessionError> {
        match &self.own {
            Some(cache) => Ok(Caches::from(Arc::clone(cache))),
            None => Ok(Caches::in_folder(&self.folder, storage::opener(self.access))?),
        }
    }

    fn first(&self) -> Result<LocalCache, SessionError> {
        Ok(LocalCache::open_read_only(&self.folder)?)
    }
}
