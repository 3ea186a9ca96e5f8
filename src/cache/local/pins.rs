//! Pins: what is to be kept whatever its age. A pin names entries, and all that went into them stays
//! as long as it is there. What it does not name, such as a later version of the same title, is
//! pinned by pinning again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Found, LocalCache, list, read, shards, write};
use crate::cache::{ActionKey, CacheError, Digest, checksummed};

/// Bytes of a pin at most: some hundred for each title.
const LARGEST: u64 = 16 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What it is pinned and unpinned by; of any length.
    pub name: String,
    /// The spec that it was made from, for people to read.
    pub spec: PathBuf,
    /// When it was pinned, in seconds since 1970.
    pub pinned_at: u64,
    pub titles: Vec<PinnedTitle>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedTitle {
    pub name: String,
    /// The title's own entry, from which all that it is made of can be reached.
    pub key: ActionKey,
}

impl LocalCache {
    /// Pins; what had this name before is no longer pinned by it.
    pub fn pin(&self, pin: &Pin) -> Result<(), CacheError> {
        let whole = checksummed::wrap(&postcard::to_stdvec(pin)?);
        write(self.tmp(), &self.pin_path(&pin.name), &whole)
    }

    /// Takes a pin away; `false` if there was none.
    pub fn unpin(&self, name: &str) -> Result<bool, CacheError> {
        let path = self.pin_path(name);
        let was_there = path.symlink_metadata().is_ok();
        shards::remove(&path)?;
        Ok(was_there)
    }

    /// All pins, in order of their names. One that is damaged is an error: what it kept is unknown.
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        let folder = self.root.join("pins");
        let mut pins = Vec::new();
        for path in list(&folder)?.into_iter().map(|entry| entry.path()) {
            let bytes = match read(&path, LARGEST, "read the pin")? {
                Found::Bytes(bytes) => bytes,
                // One may go while we look.
                Found::Nothing => continue,
                Found::TooLong | Found::Unusable(_) => return Err(CacheError::DamagedPin { path }),
            };
            let pin: Option<Pin> =
                checksummed::content(&bytes).and_then(|body| postcard::from_bytes(body).ok());
            pins.push(pin.ok_or(CacheError::DamagedPin { path })?);
        }
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    pub(super) fn pinned_keys(&self) -> Result<Vec<ActionKey>, CacheError> {
        let titles = self.pins()?.into_iter().flat_map(|pin| pin.titles);
        Ok(titles.map(|title| title.key).collect())
    }

    fn pin_path(&self, name: &str) -> PathBuf {
        self.root.join("pins").join(Digest::of(name.as_bytes()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pins_come_and_go_and_a_damaged_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LocalCache::open(dir.path()).unwrap();
        let title =
            |name: &str| PinnedTitle { name: name.to_owned(), key: ActionKey(Digest::of(name.as_bytes())) };
        let pin = |name: &str, title_name: &str| Pin {
            name: name.to_owned(),
            spec: "ladder.toml".into(),
            pinned_at: 1,
            titles: vec![title(title_name)],
        };
        cache.pin(&pin("b/../x", "one")).unwrap();
        cache.pin(&pin("a", "two")).unwrap();
        cache.pin(&pin("a", "three")).unwrap();
        assert_eq!(cache.pins().unwrap(), [pin("a", "three"), pin("b/../x", "one")]);
        assert!(cache.unpin("a").unwrap());
        assert!(!cache.unpin("a").unwrap());
        assert_eq!(cache.pinned_keys().unwrap(), [title("one").key]);
        let path = cache.pin_path("b/../x");
        let mut bytes = fs::read(&path).unwrap();
        bytes[40] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(cache.pins(), Err(CacheError::DamagedPin { .. })));
        assert!(cache.unpin("b/../x").unwrap());
        assert_eq!(cache.pins().unwrap(), []);
    }
}
