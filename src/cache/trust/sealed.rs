//! A cache entry as remotes keep it: sealed, so that nobody without the key can make one, change one,
//! or pass one off as another step's. Nothing is decoded before the seal is known to be whole.
//!
//! ```text
//! magic       8 bytes  "rivetAE" and the version
//! kind        1 byte   0 a checksum, 1 a signature
//! public key 32 bytes  whose signature it is; zeros beside a checksum
//! seal       64 bytes  over a domain's name, the entry key and the body
//! body                 the entry, in postcard's encoding
//! ```

use super::{PublicKey, Rejection, SigningKey};
use crate::cache::remote::{MAX_BLOB, MAX_ENTRY};
use crate::cache::{CacheEntry, EntryKey};

const MAGIC: &[u8; 8] = b"rivetAE\x01";
/// What a signature is about. No other message that is signed with these keys begins like this.
const DOMAIN: &str = "rivet sealed action entry v1";
const CHECKSUM: u8 = 0;
const SIGNATURE: u8 = 1;
const NO_KEY: [u8; 32] = [0; 32];

/// Blobs of an entry at most. No step has more than a few.
pub const MAX_BLOBS: usize = 1024;
/// Inputs of an entry at most. A title of ten hours on eight rungs has some thousands.
pub const MAX_INPUTS: usize = 1 << 15;
/// Bytes at most of the texts with a step's kind and maker.
const MAX_TEXT: usize = 256;
/// The end of the year 9999, in seconds since 1970: later times cannot be written.
const LAST_SECOND: u64 = 253_402_300_799;
/// No step takes a hundred years, in milliseconds; sums of such times do not overflow.
const MAX_WALL_MS: u64 = 100 * 366 * 24 * 60 * 60 * 1000;

/// Why an entry cannot be sealed. It stays in the local cache then.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("cannot encode a cache entry: {0}")]
    Encode(#[from] postcard::Error),
    /// Others would refuse it.
    #[error("the entry would be refused elsewhere: {0}")]
    Refused(Rejection),
}

/// The bytes of `entry` for a remote, to be filed under `key`; with a checksum in place of a signature
/// when there is no `signer`.
pub fn seal(key: &EntryKey, entry: &CacheEntry, signer: Option<&SigningKey>) -> Result<Vec<u8>, SealError> {
    check(entry).map_err(SealError::Refused)?;
    let bytes = wrap(key, &postcard::to_stdvec(entry)?, signer);
    fits(&bytes).map_err(SealError::Refused)?;
    Ok(bytes)
}

fn wrap(key: &EntryKey, body: &[u8], signer: Option<&SigningKey>) -> Vec<u8> {
    let (kind, public, seal) = match signer {
        Some(signer) => (SIGNATURE, *signer.public().as_bytes(), signer.sign(&message(key, body))),
        None => (CHECKSUM, NO_KEY, checksum(key, body)),
    };
    [&MAGIC[..], &[kind], &public, &seal, body].concat()
}

/// The entry in `bytes`, which were stored under `key`. `accept` decides about the signer, or about the lack
/// of one, before the signature or checksum is verified.
pub(super) fn open(
    key: &EntryKey,
    bytes: &[u8],
    accept: impl FnOnce(Option<&PublicKey>) -> Result<(), Rejection>,
) -> Result<CacheEntry, Rejection> {
    fits(bytes)?;
    let bytes = bytes.strip_prefix(MAGIC).ok_or(Rejection::Malformed("it does not begin as one"))?;
    let cut = Rejection::Malformed("it is cut short");
    let (&[kind], bytes) = bytes.split_first_chunk().ok_or(cut.clone())?;
    let (public, bytes) = bytes.split_first_chunk::<32>().ok_or(cut.clone())?;
    let (seal, body) = bytes.split_first_chunk::<64>().ok_or(cut)?;
    match kind {
        SIGNATURE => {
            let signer = PublicKey::from_bytes(public)
                .map_err(|_| Rejection::Malformed("what it names as a public key is none"))?;
            accept(Some(&signer))?;
            if !signer.signed(&message(key, body), seal) {
                return Err(Rejection::WrongSignature(signer));
            }
        }
        CHECKSUM => {
            accept(None)?;
            if *public != NO_KEY || *seal != checksum(key, body) {
                return Err(Rejection::Malformed("its checksum is wrong"));
            }
        }
        _ => return Err(Rejection::Malformed("its seal is of no known kind")),
    }
    let decoded = postcard::take_from_bytes::<CacheEntry>(body);
    let (entry, rest) = decoded.map_err(|_| Rejection::Malformed("its body cannot be decoded"))?;
    if !rest.is_empty() {
        return Err(Rejection::Malformed("something follows its body"));
    }
    check(&entry)?;
    Ok(entry)
}

fn fits(bytes: &[u8]) -> Result<(), Rejection> {
    at_most("bytes of an entry", bytes.len() as u64, MAX_ENTRY)
}

/// The limits of every entry, whoever signed it.
fn check(entry: &CacheEntry) -> Result<(), Rejection> {
    at_most("blobs of an entry", entry.result.blobs.len() as u64, MAX_BLOBS as u64)?;
    at_most("inputs of an entry", entry.inputs.len() as u64, MAX_INPUTS as u64)?;
    for blob in &entry.result.blobs {
        at_most("bytes of a blob", blob.size, MAX_BLOB)?;
    }
    at_most("milliseconds of a step", entry.cost.wall_ms, MAX_WALL_MS)?;
    at_most("seconds since 1970", entry.cost.made_at, LAST_SECOND)?;
    for text in [&entry.cost.kind, &entry.cost.by] {
        at_most("bytes of a name", text.len() as u64, MAX_TEXT as u64)?;
        // They are shown on terminals, which take orders in control characters.
        if text.chars().any(char::is_control) {
            return Err(Rejection::Malformed("a name in it has control characters"));
        }
    }
    Ok(())
}

fn at_most(what: &'static str, size: u64, most: u64) -> Result<(), Rejection> {
    if size > most { Err(Rejection::TooLarge { what, size, most }) } else { Ok(()) }
}

/// What is signed. The parts before the body always have the same length, so that no two entries have
/// one message.
fn message(key: &EntryKey, body: &[u8]) -> Vec<u8> {
    [DOMAIN.as_bytes(), &key.0.0, body].concat()
}

/// Detects accidents only: anybody can compute it.
fn checksum(key: &EntryKey, body: &[u8]) -> [u8; 64] {
    let mut sum = [0; 64];
    blake3::Hasher::new_derive_key(DOMAIN).update(&key.0.0).update(body).finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::trust::Trust;
    use crate::cache::{BlobRef, Cost, Digest, EntryResult};

    /// The private key of RFC 8032 7.1, test 1: what it signs is the same in every run.
    fn signer() -> SigningKey {
        "rivet-ed25519-secret:9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
            .parse()
            .unwrap()
    }

    fn key() -> EntryKey {
        EntryKey(Digest::of(b"key"))
    }

    fn entry() -> CacheEntry {
        CacheEntry {
            result: EntryResult {
                facts: b"facts".to_vec(),
                blobs: vec![BlobRef { digest: Digest::of(b"x"), size: 1 }],
            },
            inputs: vec![EntryKey(Digest::of(b"input"))],
            cost: Cost { wall_ms: 3, made_at: 4, kind: "encode".to_owned(), by: "rav1e".to_owned() },
        }
    }

    /// One that trusts the signer alone, one that trusts nobody, and both again with everything allowed.
    fn everybody() -> [Trust; 4] {
        [(true, false), (false, false), (true, true), (false, true)].map(|(knows, insecure)| {
            let mut trust = Trust::new(None);
            if knows {
                trust.add_key(signer().public(), "ann");
            }
            trust.set_insecure_unsigned(insecure);
            trust
        })
    }

    #[test]
    fn whom_each_believes() {
        let signed = seal(&key(), &entry(), Some(&signer())).unwrap();
        let unsigned = seal(&key(), &entry(), None).unwrap();
        let [friend, stranger, insecure_friend, insecure_stranger] = everybody();
        assert_eq!(friend.open(&key(), &signed), Ok(entry()));
        assert_eq!(stranger.open(&key(), &signed), Err(Rejection::UnknownKey(signer().public())));
        for trust in [friend, stranger] {
            assert_eq!(trust.open(&key(), &unsigned), Err(Rejection::Unsigned));
        }
        for trust in [insecure_friend, insecure_stranger] {
            assert_eq!(trust.open(&key(), &signed), Ok(entry()));
            assert_eq!(trust.open(&key(), &unsigned), Ok(entry()));
        }
        let own = Trust::new(Some(signer()));
        let opened = own.open(&key(), &own.seal(&key(), &entry()).unwrap()).unwrap();
        let cost = Cost { by: String::new(), ..entry().cost };
        assert_eq!(opened, CacheEntry { cost, ..entry() }, "machines have names that stay here");
    }

    #[test]
    fn the_encoding_stays() {
        let signed = seal(&key(), &entry(), Some(&signer())).unwrap();
        let unsigned = seal(&key(), &entry(), None).unwrap();
        assert_eq!(signed[..9], *b"rivetAE\x01\x01");
        assert_eq!(signed[9..41], *signer().public().as_bytes());
        assert_eq!(unsigned[..9], *b"rivetAE\x01\x00");
        assert_eq!(signed[105..], unsigned[105..]);
        assert_eq!(
            Digest::of(&signed).to_string(),
            "b078826696f25952c0925083d37c280bf4b7b2715bfe0ff08eb164123a27ed09"
        );
        assert_eq!(
            Digest::of(&unsigned).to_string(),
            "311c6db3e0c1f67725df54ff08df7a864b31c3363e806dfd42a90e6d9d999fe9"
        );
    }

    #[test]
    fn an_entry_for_another_step_is_refused() {
        let other = EntryKey(Digest::of(b"other"));
        let signed = seal(&other, &entry(), Some(&signer())).unwrap();
        let unsigned = seal(&other, &entry(), None).unwrap();
        for trust in [&everybody()[0], &everybody()[2], &everybody()[3]] {
            assert_eq!(trust.open(&key(), &signed), Err(Rejection::WrongSignature(signer().public())));
            assert!(trust.open(&key(), &unsigned).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_cut_and_addition_is_refused_by_everybody() {
        for signer in [Some(&signer()), None] {
            let bytes = seal(&key(), &entry(), signer).unwrap();
            for trust in everybody() {
                for bit in 0..bytes.len() * 8 {
                    let mut bad = bytes.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    assert!(trust.open(&key(), &bad).is_err(), "bit {bit}");
                }
                for len in 0..bytes.len() {
                    assert!(trust.open(&key(), &bytes[..len]).is_err(), "length {len}");
                }
                for more in [&[0][..], &[1], &[0; 64], &bytes] {
                    assert!(trust.open(&key(), &[&bytes, more].concat()).is_err());
                }
            }
        }
    }

    #[test]
    fn a_signature_taken_off_is_no_way_round_it() {
        let signed = seal(&key(), &entry(), Some(&signer())).unwrap();
        let stripped = wrap(&key(), &signed[105..], None);
        assert_eq!(everybody()[0].open(&key(), &stripped), Err(Rejection::Unsigned));
        let mallory = SigningKey::generate().unwrap();
        let mut renamed = wrap(&key(), &signed[105..], Some(&mallory));
        renamed[9..41].copy_from_slice(signer().public().as_bytes());
        let refused = everybody()[0].open(&key(), &renamed);
        assert_eq!(refused, Err(Rejection::WrongSignature(signer().public())));
    }

    /// What comes of an entry that a trusted key signed though nobody should.
    fn signed_anyway(change: impl FnOnce(&mut CacheEntry)) -> Rejection {
        let mut entry = entry();
        change(&mut entry);
        let refused = seal(&key(), &entry, Some(&signer()));
        assert!(matches!(refused, Err(SealError::Refused(_))), "{refused:?}");
        let bytes = wrap(&key(), &postcard::to_stdvec(&entry).unwrap(), Some(&signer()));
        everybody()[0].open(&key(), &bytes).unwrap_err()
    }

    #[test]
    fn what_nobody_should_sign_is_refused_though_signed() {
        let blob = entry().result.blobs[0];
        let input = entry().inputs[0];
        let too_large = [
            signed_anyway(|entry| entry.result.blobs[0].size = 1 << 50),
            signed_anyway(|entry| entry.result.blobs[0].size = MAX_BLOB + 1),
            signed_anyway(|entry| entry.result.blobs = vec![blob; MAX_BLOBS + 1]),
            signed_anyway(|entry| entry.inputs = vec![input; MAX_INPUTS + 1]),
            signed_anyway(|entry| entry.result.facts = vec![0; MAX_ENTRY as usize]),
            signed_anyway(|entry| entry.cost.wall_ms = u64::MAX),
            signed_anyway(|entry| entry.cost.made_at = LAST_SECOND + 1),
            signed_anyway(|entry| entry.cost.by = "x".repeat(MAX_TEXT + 1)),
        ];
        for rejection in too_large {
            assert_eq!(rejection.reason(), "too large", "{rejection}");
        }
        assert_eq!(signed_anyway(|entry| entry.cost.by.push('\x1b')).reason(), "malformed");
    }

    #[test]
    fn what_is_just_small_enough_is_taken() {
        let mut entry = entry();
        entry.result.blobs = vec![BlobRef { size: MAX_BLOB, ..entry.result.blobs[0] }; MAX_BLOBS];
        entry.inputs = vec![entry.inputs[0]; MAX_INPUTS];
        entry.cost.made_at = LAST_SECOND;
        let bytes = seal(&key(), &entry, Some(&signer())).unwrap();
        assert_eq!(everybody()[0].open(&key(), &bytes), Ok(entry));
    }

    #[test]
    fn lengths_that_lie_and_bytes_left_over_are_refused_though_signed() {
        let endless = [&[0xff; 9][..], &[1]].concat();
        let longer = [postcard::to_stdvec(&entry()).unwrap(), vec![0]].concat();
        for body in [&endless[..], &longer, &[], &[0x05, b'f']] {
            let bytes = wrap(&key(), body, Some(&signer()));
            assert_eq!(everybody()[0].open(&key(), &bytes).unwrap_err().reason(), "malformed");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_by_everybody(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            kind in 0..3u8,
        ) {
            let begun = [&MAGIC[..], &[kind], &bytes].concat();
            for trust in everybody() {
                prop_assert!(trust.open(&key(), &bytes).is_err());
                prop_assert!(trust.open(&key(), &begun).is_err());
            }
        }

        #[test]
        fn a_signed_body_of_any_bytes_is_decoded_within_bounds_or_refused(
            body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = wrap(&key(), &body, Some(&signer()));
            if let Ok(entry) = everybody()[0].open(&key(), &bytes) {
                prop_assert_eq!(check(&entry), Ok(()));
            }
        }
    }
}
