//! Trust: entries of a remote are signed, and count only if a trusted key signed them. Knows neither remotes
//! nor the cache's files, and decides about bytes alone.
//!
//! ```text
//! <configuration folder>/rivet/
//!     signing-key         the user's private key, readable by nobody else
//!     signing-key.old     those that `rivet cache keygen --force` replaced
//!     trusted-keys        public keys, one a line, each with whose it is
//! ```
//!
//! Blobs need no signature: a signed entry names their digests.

mod folder;
mod key;
mod rejection;
mod sealed;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

pub use folder::{KeyFolder, TrustError};
pub(crate) use key::SECRET;
pub use key::{KeyError, PublicKey, SigningKey};
pub use rejection::Rejection;
pub use sealed::{MAX_BLOBS, MAX_INPUTS, SealError, seal};

use super::{CacheEntry, Cost, Digest, EntryKey};

/// The environment's variable with the text of a private key, for machines without a home.
pub const SIGNING_KEY_VARIABLE: &str = "RIVET_SIGNING_KEY";

/// What [`SIGNING_KEY_VARIABLE`] holds. An empty one counts as none: that is what CI services make of a
/// secret that a job must not see.
pub fn variable() -> Option<OsString> {
    std::env::var_os(SIGNING_KEY_VARIABLE).filter(|text| !text.is_empty())
}

/// The signing key, and the keys whose signatures count.
#[derive(Debug, Default)]
pub struct Trust {
    signing: Option<SigningKey>,
    /// Public keys, and whose they are.
    trusted: BTreeMap<PublicKey, String>,
    /// Those of them that the spec alone names.
    of_spec: BTreeSet<PublicKey>,
    insecure_unsigned: bool,
}

impl Trust {
    /// Signs with `signing`, and trusts its own signatures.
    pub fn new(signing: Option<SigningKey>) -> Trust {
        let mut trust = Trust { signing, ..Trust::default() };
        if let Some(own) = trust.signer() {
            trust.add_key(own, "own");
        }
        trust
    }

    /// Loads the keys of the user's configuration folder and environment, and those that a spec names.
    pub fn of_user(spec: &[PublicKey]) -> Result<Trust, TrustError> {
        Trust::load(KeyFolder::of_user().as_ref(), variable().as_deref(), spec)
    }

    /// A key in `variable` comes before the folder's.
    pub fn load(
        folder: Option<&KeyFolder>,
        variable: Option<&OsStr>,
        spec: &[PublicKey],
    ) -> Result<Trust, TrustError> {
        let signing = match variable {
            Some(text) => Some(folder::key_in_environment(text)?),
            None => folder.map(KeyFolder::signing_key).transpose()?.flatten(),
        };
        let mut trust = Trust::new(signing);
        for (key, name) in folder.map(KeyFolder::trusted_keys).transpose()?.unwrap_or_default() {
            trust.add_key(key, &name);
        }
        for key in spec {
            if !trust.trusted.contains_key(key) {
                trust.of_spec.insert(*key);
                trust.add_key(*key, "named by the spec");
            }
        }
        Ok(trust)
    }

    /// Counts the signatures of `key`. The first name given to a key stays.
    pub fn add_key(&mut self, key: PublicKey, name: &str) {
        self.trusted.entry(key).or_insert_with(|| name.to_owned());
    }

    /// Accepts entries that are unsigned or signed by an unknown key: anyone who can write to the remote is
    /// then trusted. Damaged entries, and wrong signatures of known keys, are rejected all the same.
    pub fn set_insecure_unsigned(&mut self, insecure: bool) {
        self.insecure_unsigned = insecure;
    }

    /// Whether unsigned entries count.
    pub fn is_insecure(&self) -> bool {
        self.insecure_unsigned
    }

    /// `None` where only keys count that the user trusts. Otherwise a name for the extra trust: results
    /// accepted by it are kept in an isolated namespace of this name, away from the user's other builds, and
    /// must not be signed with the user's key.
    pub fn extra_trust(&self) -> Option<Digest> {
        if self.of_spec.is_empty() && !self.insecure_unsigned {
            return None;
        }
        let mut hasher = blake3::Hasher::new_derive_key("rivet trust beyond the user's v1");
        hasher.update(&[u8::from(self.insecure_unsigned)]);
        for key in &self.of_spec {
            hasher.update(key.as_bytes());
        }
        Some(hasher.finalize().into())
    }

    /// The public key of the signing key.
    pub fn signer(&self) -> Option<PublicKey> {
        self.signing.as_ref().map(SigningKey::public)
    }

    /// The trusted keys, with their names.
    pub fn trusted(&self) -> impl Iterator<Item = (&PublicKey, &str)> {
        self.trusted.iter().map(|(key, name)| (key, name.as_str()))
    }

    /// The bytes of an entry for a remote, signed if there is a signing key and no extra trust. The name of
    /// the machine that made it is left out.
    pub fn seal(&self, key: &EntryKey, entry: &CacheEntry) -> Result<Vec<u8>, SealError> {
        let signer = self.signing.as_ref().filter(|_| self.extra_trust().is_none());
        let cost = Cost { by: String::new(), ..entry.cost.clone() };
        seal(key, &CacheEntry { cost, ..entry.clone() }, signer)
    }

    /// The entry that a remote has under `key`, if it is accepted.
    pub fn open(&self, key: &EntryKey, bytes: &[u8]) -> Result<CacheEntry, Rejection> {
        sealed::open(key, bytes, |signer| match signer {
            _ if self.insecure_unsigned => Ok(()),
            None => Err(Rejection::Unsigned),
            Some(signer) if self.trusted.contains_key(signer) => Ok(()),
            Some(signer) => Err(Rejection::UnknownKey(*signer)),
        })
    }

    /// The entry that a remote has under `key` and its signer, trusted or not; `None` without a valid
    /// signature. Its content is not to be trusted for that.
    pub fn signed_by_anybody(&self, key: &EntryKey, bytes: &[u8]) -> Option<(PublicKey, CacheEntry)> {
        let mut by = None;
        let entry = sealed::open(key, bytes, |signer| {
            by = signer.copied();
            by.map(drop).ok_or(Rejection::Unsigned)
        });
        Some((by?, entry.ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_believed_beyond_the_users_own_has_a_name() {
        let [ann, bob] = [(); 2].map(|()| SigningKey::generate().unwrap().public());
        let key = SigningKey::generate().unwrap();
        let text = key.secret_text();
        let own = OsStr::new(text.as_str());
        let load = |spec: &[PublicKey]| Trust::load(None, Some(own), spec).unwrap();
        assert_eq!(load(&[]).extra_trust(), None);
        assert_eq!(load(&[key.public()]).extra_trust(), None, "the user's own key adds nobody");
        let names = [&[ann][..], &[bob], &[ann, bob]].map(|spec| load(spec).extra_trust().unwrap());
        assert_eq!(BTreeSet::from(names).len(), 3);
        assert_eq!(load(&[bob, ann]).extra_trust(), Some(names[2]));
        let mut insecure = load(&[]);
        insecure.set_insecure_unsigned(true);
        assert!(insecure.extra_trust().is_some_and(|name| !names.contains(&name)));
    }
}
