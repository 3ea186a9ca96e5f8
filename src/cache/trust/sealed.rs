//! An action entry as remotes keep it: sealed, so that nobody without the key can make one, change one,
//! or pass one off as another step's. Nothing is decoded before the seal is known to be whole.
//!
//! ```text
//! magic       8 bytes  "rivetAE" and the version
//! kind        1 byte   0 a checksum, 1 a signature
//! public key 32 bytes  whose signature it is; zeros beside a checksum
//! seal       64 bytes  over a domain's name, the action key and the body
//! body                 the entry, in postcard's encoding
//! ```

use super::{Distrust, PublicKey, SigningKey};
use crate::cache::remote::{MOST_BLOB, MOST_ENTRY};
use crate::cache::{ActionEntry, ActionKey};

const MAGIC: &[u8; 8] = b"rivetAE\x01";
/// What a signature is about. No other message that is signed with these keys begins like this.
const DOMAIN: &str = "rivet sealed action entry v1";
const CHECKSUM: u8 = 0;
const SIGNATURE: u8 = 1;
const NO_KEY: [u8; 32] = [0; 32];

/// Blobs of an entry at most. No step has more than a few.
pub const MOST_BLOBS: usize = 1024;
/// Inputs of an entry at most. A title of ten hours on eight rungs has some thousands.
pub const MOST_INPUTS: usize = 1 << 15;
/// Bytes at most of the texts that tell of what kind a step is and who made it.
const MOST_TEXT: usize = 256;
/// The end of the year 9999, in seconds since 1970: later times cannot be written.
const LAST_SECOND: u64 = 253_402_300_799;
/// No step takes a hundred years, in milliseconds; sums of such times do not overflow.
const LONGEST: u64 = 100 * 366 * 24 * 60 * 60 * 1000;

/// Why an entry cannot be sealed. It stays in the local cache then.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("cannot encode an action entry: {0}")]
    Encode(#[from] postcard::Error),
    /// Others would refuse it.
    #[error("the entry would be refused elsewhere: {0}")]
    Refused(Distrust),
}

/// The bytes of `entry` for a remote, to be filed under `key`; with a checksum in place of a signature
/// when there is no `signer`.
pub fn seal(key: &ActionKey, entry: &ActionEntry, signer: Option<&SigningKey>) -> Result<Vec<u8>, SealError> {
    check(entry).map_err(SealError::Refused)?;
    let body = postcard::to_stdvec(entry)?;
    let (kind, public, seal) = match signer {
        Some(signer) => (SIGNATURE, *signer.public().as_bytes(), signer.sign(&message(key, &body))),
        None => (CHECKSUM, NO_KEY, checksum(key, &body)),
    };
    let bytes = [&MAGIC[..], &[kind], &public, &seal, &body].concat();
    fits(&bytes).map_err(SealError::Refused)?;
    Ok(bytes)
}

/// The entry in `bytes`, which were filed under `key`. `believed` decides about whose signature it is,
/// or about that there is none, before the signature or checksum is looked at.
pub(super) fn open(
    key: &ActionKey,
    bytes: &[u8],
    believed: impl FnOnce(Option<&PublicKey>) -> Result<(), Distrust>,
) -> Result<ActionEntry, Distrust> {
    fits(bytes)?;
    let bytes = bytes.strip_prefix(MAGIC).ok_or(Distrust::Malformed("it does not begin as one"))?;
    let cut = Distrust::Malformed("it is cut short");
    let (&[kind], bytes) = bytes.split_first_chunk().ok_or(cut.clone())?;
    let (public, bytes) = bytes.split_first_chunk::<32>().ok_or(cut.clone())?;
    let (seal, body) = bytes.split_first_chunk::<64>().ok_or(cut)?;
    match kind {
        SIGNATURE => {
            let signer = PublicKey::from_bytes(public)
                .map_err(|_| Distrust::Malformed("what it names as a public key is none"))?;
            believed(Some(&signer))?;
            if !signer.signed(&message(key, body), seal) {
                return Err(Distrust::WrongSignature(signer));
            }
        }
        CHECKSUM => {
            believed(None)?;
            if *public != NO_KEY || *seal != checksum(key, body) {
                return Err(Distrust::Malformed("its checksum is wrong"));
            }
        }
        _ => return Err(Distrust::Malformed("its seal is of no known kind")),
    }
    let decoded = postcard::take_from_bytes::<ActionEntry>(body);
    let (entry, rest) = decoded.map_err(|_| Distrust::Malformed("its body cannot be decoded"))?;
    if !rest.is_empty() {
        return Err(Distrust::Malformed("something follows its body"));
    }
    check(&entry)?;
    Ok(entry)
}

fn fits(bytes: &[u8]) -> Result<(), Distrust> {
    at_most("bytes of an entry", bytes.len() as u64, MOST_ENTRY)
}

/// What holds of every entry, whoever signed it.
fn check(entry: &ActionEntry) -> Result<(), Distrust> {
    at_most("blobs of an entry", entry.result.blobs.len() as u64, MOST_BLOBS as u64)?;
    at_most("inputs of an entry", entry.inputs.len() as u64, MOST_INPUTS as u64)?;
    for blob in &entry.result.blobs {
        at_most("bytes of a blob", blob.size, MOST_BLOB)?;
    }
    at_most("milliseconds of a step", entry.cost.wall_ms, LONGEST)?;
    at_most("seconds since 1970", entry.cost.made_at, LAST_SECOND)?;
    for text in [&entry.cost.kind, &entry.cost.by] {
        at_most("bytes of a name", text.len() as u64, MOST_TEXT as u64)?;
        // They are shown on terminals, which take orders in control characters.
        if text.chars().any(char::is_control) {
            return Err(Distrust::Malformed("a name in it has control characters"));
        }
    }
    Ok(())
}

fn at_most(what: &'static str, size: u64, most: u64) -> Result<(), Distrust> {
    if size > most { Err(Distrust::TooLarge { what, size, most }) } else { Ok(()) }
}

/// What is signed. The parts before the body always have the same length, so that no two entries have
/// one message.
fn message(key: &ActionKey, body: &[u8]) -> Vec<u8> {
    [DOMAIN.as_bytes(), &key.0.0, body].concat()
}

/// Notices accidents alone: anybody can compute it.
fn checksum(key: &ActionKey, body: &[u8]) -> [u8; 64] {
    let mut sum = [0; 64];
    blake3::Hasher::new_derive_key(DOMAIN).update(&key.0.0).update(body).finalize_xof().fill(&mut sum);
    sum
}
