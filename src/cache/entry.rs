//! What a cache entry holds, and how it is written down. An entry carries a checksum of its
//! own, so that a flipped bit makes it a miss rather than a wrong result.

use serde::{Deserialize, Serialize};

use super::{Digest, EntryKey, checksummed};

/// A blob's name and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    pub digest: Digest,
    pub size: u64,
}

impl BlobRef {
    /// Whether these are the bytes that it names.
    pub fn names(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.size && Digest::of(bytes) == self.digest
    }
}

/// What a step made: small facts, kept in the entry itself, and blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryResult {
    /// A few hundred bytes at most, in an encoding of the step's own.
    pub facts: Vec<u8>,
    pub blobs: Vec<BlobRef>,
}

impl EntryResult {
    /// The digest of the whole result; what depends on the step has this in its key.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("rivet action result v1");
        hasher.update(&(self.facts.len() as u64).to_le_bytes());
        hasher.update(&self.facts);
        for blob in &self.blobs {
            hasher.update(&blob.digest.0);
            hasher.update(&blob.size.to_le_bytes());
        }
        hasher.finalize().into()
    }
}

/// What making it took. Never part of a key, and nothing that a build decides by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Milliseconds from start to end.
    pub wall_ms: u64,
    /// When it ended, in seconds since 1970.
    pub made_at: u64,
    /// The kind of step, by the graph's name for it.
    pub kind: String,
    /// Who made it: an encoder and a machine.
    pub by: String,
}

/// A result, what went into it, and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEntry {
    pub result: EntryResult,
    /// The keys of the entries that it was made from. Nothing is decided by them but what belongs
    /// together: what is kept, pushed or pulled with this entry.
    pub inputs: Vec<EntryKey>,
    pub cost: Cost,
}

impl CacheEntry {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        Ok(checksummed::wrap(&postcard::to_stdvec(self)?))
    }

    /// `None` for anything that is not exactly what `to_bytes` wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<CacheEntry> {
        postcard::from_bytes(checksummed::content(bytes)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> CacheEntry {
        CacheEntry {
            result: EntryResult {
                facts: b"facts".to_vec(),
                blobs: vec![BlobRef { digest: Digest::of(b"x"), size: 1 }],
            },
            inputs: vec![EntryKey(Digest::of(b"input"))],
            cost: Cost { wall_ms: 3, ..Cost::default() },
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = entry().to_bytes().unwrap();
        assert_eq!(CacheEntry::from_bytes(&bytes), Some(entry()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(CacheEntry::from_bytes(&bad), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(CacheEntry::from_bytes(&bytes[..len]), None, "length {len}");
        }
    }

    #[test]
    fn cost_and_inputs_are_no_part_of_the_result() {
        let mut other = entry();
        other.cost.wall_ms += 1;
        other.inputs.clear();
        assert_eq!(other.result.digest(), entry().result.digest());
        other.result.facts.push(0);
        assert_ne!(other.result.digest(), entry().result.digest());
    }
}
