//! Which cache a ladder's builds use: the folder, whose signatures count, and the remote behind it.
//!
//! What counts only because a spec names a key (`trusted-keys`), or because signatures are not asked for, is
//! kept in a folder of its own and is signed by nobody. Nothing else opens a cache for a build, so that no
//! program can put into the user's cache what a spec from elsewhere vouched for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SessionError;
use super::options::{Access, RemoteChoice, SessionOptions};
use crate::cache::remote::{NamedBy, RemoteUrl};
use crate::cache::trust::Trust;
use crate::cache::{CacheError, LocalCache, RemoteOptions, Tiers, default_folder, isolated_namespace};
use crate::spec::Ladder;

/// Opens the cache, with whatever lies behind it. What a person should know of it is added to `warnings`.
pub(super) fn open(
    ladder: &Ladder,
    options: &SessionOptions,
    warnings: &mut Vec<String>,
) -> Result<Arc<Tiers>, SessionError> {
    let url = match &options.remote {
        RemoteChoice::OfSpec => ladder.cache.remote.clone().map(|url| (url, NamedBy::Spec)),
        RemoteChoice::Url(url) => Some((url.clone(), NamedBy::User)),
        RemoteChoice::None => None,
    };
    let is_asked = url.is_some() && !options.offline;
    let trust = trust(ladder, options, is_asked)?;
    let local = Arc::new(open_local(ladder, options, &trust)?);
    let Some((url, named_by)) = url else { return Ok(Arc::new(Tiers::from(local))) };
    if options.offline {
        return Ok(Arc::new(Tiers::offline(local)));
    }
    if options.insecure_unsigned {
        warnings.push(insecure(&url));
    }
    let place = url.place();
    let remote = RemoteOptions {
        url,
        named_by,
        folder_named_by: folder_named_by(ladder, options),
        trust,
        read_only: options.remote_read_only,
        timeout: options.remote_timeout,
        cancelled: Arc::clone(&options.cancelled),
    };
    let tiers = Tiers::with_remote(local, remote);
    tiers.map(Arc::new).map_err(|error| SessionError::Remote { place: place.to_string(), error })
}

/// The folder's cache alone, for whoever looks after it.
pub(super) fn local(ladder: &Ladder, options: &SessionOptions) -> Result<LocalCache, SessionError> {
    open_local(ladder, options, &trust(ladder, options, false)?)
}

/// How a cache's folder is opened.
pub(super) fn opener(access: Access) -> fn(&Path) -> Result<LocalCache, CacheError> {
    match access {
        Access::ReadWrite => LocalCache::open,
        Access::ReadOnly => LocalCache::open_read_only,
    }
}

/// The user's cache folder, or the one that the spec names where the user names none.
pub(super) fn folder(ladder: Option<&Ladder>, options: &SessionOptions) -> Result<PathBuf, SessionError> {
    let named = options.cache_dir.clone();
    let of_spec = || ladder.and_then(|ladder| ladder.cache.dir.clone());
    named.or_else(of_spec).or_else(default_folder).ok_or(SessionError::NoHome)
}

fn open_local(ladder: &Ladder, options: &SessionOptions, trust: &Trust) -> Result<LocalCache, SessionError> {
    let mut folder = folder(Some(ladder), options)?;
    if let Some(name) = trust.extra_trust() {
        folder = isolated_namespace(&folder, &name);
    }
    Ok(opener(options.access)(&folder)?)
}

/// Whose signatures count. Where no remote is asked the spec's keys alone tell which folder is meant: where
/// it names none, the user's own need not be read, and what is wrong with them is in nobody's way.
fn trust(ladder: &Ladder, options: &SessionOptions, is_asked: bool) -> Result<Trust, SessionError> {
    let of_spec = &ladder.cache.trusted_keys;
    let mut trust = match &options.keys {
        _ if !is_asked && of_spec.is_empty() => Trust::default(),
        None => Trust::of_user(of_spec)?,
        Some(folder) => Trust::load(Some(folder), None, of_spec)?,
    };
    trust.set_insecure_unsigned(options.insecure_unsigned);
    Ok(trust)
}

/// Who chose the folder that [`folder`] tells.
fn folder_named_by(ladder: &Ladder, options: &SessionOptions) -> NamedBy {
    match (&options.cache_dir, &ladder.cache.dir) {
        (None, Some(_)) => NamedBy::Spec,
        _ => NamedBy::User,
    }
}

fn insecure(url: &RemoteUrl) -> String {
    format!(
        "--insecure-unsigned: whoever can write to {} decides what is built here; what is made is stored there \
         unsigned, where nothing is",
        url.place()
    )
}
