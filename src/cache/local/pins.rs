//! Pins: what is to be kept whatever its age. A pin names titles' entries and all that went into them,
//! which stays as long as the pin is there. What it does not name, such as a later version of the same
//! title, is pinned by pinning again.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Found, LocalCache, list, read, shards, write};
use crate::cache::{CacheError, Digest, EntryKey, checksummed};

/// Bytes of a pin at most: 32 for each entry that it keeps.
pub(super) const MAX_BYTES: u64 = 256 << 20;

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
    pub key: EntryKey,
}

/// A pin as it is written down.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pin: Pin,
    /// The titles' own entries and all that went into them. Each is named, so that one that gets lost
    /// lets go of nothing but itself.
    keys: Vec<EntryKey>,
}

impl Kept {
    /// `None` for anything that is not exactly what was written.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Kept> {
        postcard::from_bytes(checksummed::content(bytes)?).ok()
    }
}

impl LocalCache {
    /// Pins; what had this name before is no longer pinned by it. Returns how many of the entries that
    /// it names are not here: what went into those is unknown, and is not kept.
    pub fn pin(&self, pin: &Pin) -> Result<u64, CacheError> {
        let mut missing = 0;
        let mut keys = BTreeSet::new();
        let mut left: Vec<EntryKey> = pin.titles.iter().map(|title| title.key).collect();
        while let Some(key) = left.pop() {
            if keys.insert(key) {
                match self.entry(&key)? {
                    Some(entry) => left.extend(entry.inputs),
                    None => missing += 1,
                }
            }
        }
        let path = self.pin_path(&pin.name);
        let kept = Kept { pin: pin.clone(), keys: keys.into_iter().collect() };
        let whole = checksummed::wrap(&postcard::to_stdvec(&kept)?);
        if whole.len() as u64 > MAX_BYTES {
            return Err(CacheError::io("write the pin", &path)(io::ErrorKind::FileTooLarge.into()));
        }
        write(self.tmp(), &path, &whole)?;
        Ok(missing)
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
        let mut pins: Vec<Pin> = self.all_kept()?.into_iter().map(|kept| kept.pin).collect();
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    pub(super) fn pinned_keys(&self) -> Result<Vec<EntryKey>, CacheError> {
        Ok(self.all_kept()?.into_iter().flat_map(|kept| kept.keys).collect())
    }

    /// What bears no pin's name was not written here, and keeps nothing.
    fn all_kept(&self) -> Result<Vec<Kept>, CacheError> {
        let mut all = Vec::new();
        let files = list(&self.root.join("pins"))?.into_iter();
        for path in files.filter(|file| Digest::of_name(&file.file_name()).is_some()).map(|file| file.path())
        {
            let kept = match read(&path, MAX_BYTES, "read the pin")? {
                Found::Bytes(bytes, _) => Kept::from_bytes(&bytes),
                // One may go while we look.
                Found::Nothing => continue,
                Found::TooLong | Found::Unusable(_) => None,
            };
            all.push(kept.ok_or(CacheError::DamagedPin { path })?);
        }
        Ok(all)
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
            |name: &str| PinnedTitle { name: name.to_owned(), key: EntryKey(Digest::of(name.as_bytes())) };
        let pin = |name: &str, title_name: &str| Pin {
            name: name.to_owned(),
            spec: "ladder.toml".into(),
            pinned_at: 1,
            titles: vec![title(title_name)],
        };
        assert_eq!(cache.pin(&pin("b/../x", "one")).unwrap(), 1, "its entry is not here");
        cache.pin(&pin("a", "two")).unwrap();
        cache.pin(&pin("a", "three")).unwrap();
        assert_eq!(cache.pins().unwrap(), [pin("a", "three"), pin("b/../x", "one")]);
        assert!(cache.unpin("a").unwrap());
        assert!(!cache.unpin("a").unwrap());
        assert_eq!(cache.pinned_keys().unwrap(), [title("one").key]);
        // A foreign file is no pin.
        fs::write(dir.path().join("v3/pins/notes.txt"), "mine").unwrap();
        assert_eq!(cache.pins().unwrap(), [pin("b/../x", "one")]);
        let path = cache.pin_path("b/../x");
        let mut bytes = fs::read(&path).unwrap();
        bytes[40] ^= 1;
        fs::write(&path, bytes).unwrap();
        let told = cache.pins().unwrap_err();
        assert!(
            matches!(told, CacheError::DamagedPin { .. }) && told.hint().unwrap().contains("cache unpin")
        );
        assert!(cache.unpin("b/../x").unwrap());
        // As an earlier version wrote them, without what they keep.
        let earlier = postcard::to_stdvec(&pin("b/../x", "one")).unwrap();
        fs::write(&path, checksummed::wrap(&earlier)).unwrap();
        assert!(matches!(cache.pins(), Err(CacheError::DamagedPin { .. })));
        assert!(cache.unpin("b/../x").unwrap());
        assert_eq!(cache.pins().unwrap(), []);
    }
}
