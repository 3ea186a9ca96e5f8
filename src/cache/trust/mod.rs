//! Whom to believe: action entries from a remote are signed by who made them, and count only if that
//! is somebody trusted. It knows neither remotes nor files of the cache, and decides about bytes alone.
//!
//! ```text
//! <configuration folder>/rivet/
//!     signing-key         the user's private key, readable by nobody else
//!     signing-key.old     those that `rivet cache keygen --force` replaced
//!     trusted-keys        public keys, one a line, each with whose it is
//! ```
//!
//! Blobs need no signature: a signed entry names their digests.

mod distrust;
mod folder;
mod key;
mod sealed;

use std::collections::BTreeMap;
use std::ffi::OsStr;

pub use distrust::Distrust;
pub use folder::{KeyFolder, TrustError};
pub use key::{KeyError, PublicKey, SigningKey};
pub use sealed::{MOST_BLOBS, MOST_INPUTS, SealError, seal};

use super::{ActionEntry, ActionKey};

/// The environment's variable with the text of a private key, for machines without a home.
pub const SIGNING_KEY_VARIABLE: &str = "RIVET_SIGNING_KEY";

/// Who signs here, and whose signatures count.
#[derive(Debug, Default)]
pub struct Trust {
    signing: Option<SigningKey>,
    /// Public keys, and whose they are.
    trusted: BTreeMap<PublicKey, String>,
    insecure_unsigned: bool,
}

impl Trust {
    /// Signs with `signing`, and believes what it signed itself.
    pub fn new(signing: Option<SigningKey>) -> Trust {
        let mut trust = Trust { signing, ..Trust::default() };
        if let Some(own) = trust.signer() {
            trust.believe(own, "own");
        }
        trust
    }

    /// What the user's configuration folder and environment say, and the keys that a spec names.
    pub fn of_user(spec: &[PublicKey]) -> Result<Trust, TrustError> {
        let variable = std::env::var_os(SIGNING_KEY_VARIABLE);
        Trust::load(KeyFolder::of_user().as_ref(), variable.as_deref(), spec)
    }

    /// A key in `variable` comes before the folder's. An empty variable counts as none: that is what
    /// CI services make of a secret that a job must not see.
    pub fn load(
        folder: Option<&KeyFolder>,
        variable: Option<&OsStr>,
        spec: &[PublicKey],
    ) -> Result<Trust, TrustError> {
        let signing = match variable.filter(|text| !text.is_empty()) {
            Some(text) => Some(folder::key_in_environment(text)?),
            None => folder.map(KeyFolder::signing_key).transpose()?.flatten(),
        };
        let mut trust = Trust::new(signing);
        for (key, name) in folder.map(KeyFolder::trusted_keys).transpose()?.unwrap_or_default() {
            trust.believe(key, &name);
        }
        for key in spec {
            trust.believe(*key, "named by the spec");
        }
        Ok(trust)
    }

    /// Counts the signatures of `key`. The first name given to a key stays.
    pub fn believe(&mut self, key: PublicKey, name: &str) {
        self.trusted.entry(key).or_insert_with(|| name.to_owned());
    }

    /// Takes entries that nobody signed, or somebody unknown: whoever can write to the remote is then
    /// believed. What is damaged, or not what a known key signed, is refused all the same.
    pub fn set_insecure_unsigned(&mut self, insecure: bool) {
        self.insecure_unsigned = insecure;
    }

    /// Whether entries count that nobody signed.
    pub fn is_insecure(&self) -> bool {
        self.insecure_unsigned
    }

    /// The public key of who signs here.
    pub fn signer(&self) -> Option<PublicKey> {
        self.signing.as_ref().map(SigningKey::public)
    }

    /// The keys whose signatures count, and whose they are.
    pub fn trusted(&self) -> impl Iterator<Item = (&PublicKey, &str)> {
        self.trusted.iter().map(|(key, name)| (key, name.as_str()))
    }

    /// The bytes of an entry for a remote, signed if there is a key to sign with.
    pub fn seal(&self, key: &ActionKey, entry: &ActionEntry) -> Result<Vec<u8>, SealError> {
        seal(key, entry, self.signing.as_ref())
    }

    /// The entry that a remote has under `key`, if it is to be believed.
    pub fn open(&self, key: &ActionKey, bytes: &[u8]) -> Result<ActionEntry, Distrust> {
        sealed::open(key, bytes, |signer| match signer {
            _ if self.insecure_unsigned => Ok(()),
            None => Err(Distrust::Unsigned),
            Some(signer) if self.trusted.contains_key(signer) => Ok(()),
            Some(signer) => Err(Distrust::UnknownKey(*signer)),
        })
    }
}
