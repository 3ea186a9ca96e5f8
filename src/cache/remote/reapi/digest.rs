//! A server's own names for blobs: digests by its function, as messages and resource names spell
//! them. What a server sends may be anything, and is only taken where it is one.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use sha2::{Digest as _, Sha256};

/// A digest function that rivet and servers have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Blake3,
    Sha256,
}

impl Function {
    pub(super) fn from_value(value: i32) -> Option<Function> {
        match api::digest_function::Value::try_from(value) {
            Ok(api::digest_function::Value::Blake3) => Some(Function::Blake3),
            Ok(api::digest_function::Value::Sha256) => Some(Function::Sha256),
            _ => None,
        }
    }

    /// What `digest_function` fields have in them.
    pub(super) fn value(self) -> i32 {
        match self {
            Function::Blake3 => api::digest_function::Value::Blake3.into(),
            Function::Sha256 => api::digest_function::Value::Sha256.into(),
        }
    }

    /// The name of `bytes`.
    pub(super) fn name(self, bytes: &[u8]) -> Name {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Names what comes piece by piece.
    pub(super) fn hasher(self) -> Hasher {
        let state = match self {
            Function::Blake3 => State::Blake3(Box::default()),
            Function::Sha256 => State::Sha256(Sha256::new()),
        };
        Hasher { state, size: 0 }
    }

    /// What stands for `name` behind `blobs/` in a resource name. The function's own is left out where
    /// the protocol says so: SHA-256 follows from the length.
    pub(super) fn resource(self, name: &Name) -> String {
        let function = match self {
            Function::Blake3 => "blake3/",
            Function::Sha256 => "",
        };
        format!("{function}{}/{}", name.hex(), name.size)
    }
}

pub(super) struct Hasher {
    state: State,
    size: u64,
}

enum State {
    Blake3(Box<blake3::Hasher>),
    Sha256(Sha256),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        match &mut self.state {
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
            State::Sha256(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Name {
        let hash = match self.state {
            State::Blake3(hasher) => *hasher.finalize().as_bytes(),
            State::Sha256(hasher) => hasher.finalize().into(),
        };
        Name { hash, size: self.size }
    }
}

/// What a server calls a blob. Both functions have 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub hash: [u8; 32],
    /// In bytes.
    pub size: u64,
}

impl Name {
    pub(super) fn to_wire(self) -> api::Digest {
        // Nothing that is longer than an `i64` tells is ever named: `MAX_BLOB` is far below.
        api::Digest { hash: self.hex(), size_bytes: i64::try_from(self.size).unwrap_or(i64::MAX) }
    }

    /// `None` for what is no digest of 32 bytes, in the lower case that the protocol demands.
    pub(super) fn from_wire(digest: &api::Digest) -> Option<Name> {
        if digest.hash.bytes().any(|c| c.is_ascii_uppercase()) {
            return None;
        }
        let hash = blake3::Hash::from_hex(&digest.hash).ok()?;
        Some(Name { hash: *hash.as_bytes(), size: u64::try_from(digest.size_bytes).ok()? })
    }

    fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.hash).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_the_protocol_says() {
        let sha = Function::Sha256.name(b"abc");
        assert_eq!(
            Function::Sha256.resource(&sha),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/3"
        );
        let blake = Function::Blake3.name(b"abc");
        assert_eq!(
            Function::Blake3.resource(&blake),
            "blake3/6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85/3"
        );
        for function in [Function::Sha256, Function::Blake3] {
            assert_eq!(Function::from_value(function.value()), Some(function));
        }
        assert_eq!(Function::from_value(api::digest_function::Value::Sha1.into()), None);
        assert_eq!(Function::from_value(-7), None);
    }

    #[test]
    fn what_is_no_digest_is_none() {
        let good = Function::Sha256.name(b"abc").to_wire();
        assert_eq!(Name::from_wire(&good), Some(Function::Sha256.name(b"abc")));
        let hashes = [
            String::new(),
            good.hash[1..].to_owned(),
            format!("{}0", good.hash),
            good.hash.to_uppercase(),
            good.hash.replace('b', "g"),
            "é".repeat(32),
            "0".repeat(1 << 20),
        ];
        for hash in hashes {
            assert_eq!(Name::from_wire(&api::Digest { hash, ..good.clone() }), None);
        }
        assert_eq!(Name::from_wire(&api::Digest { size_bytes: -1, ..good }), None);
    }
}
