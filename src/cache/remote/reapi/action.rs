//! The actions under which entries and aliases are filed in a server's ActionCache. Nobody ever runs
//! them; but they are real ones, since some servers look. Their bytes are addresses: a change here
//! loses all that was filed before.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bytes::Bytes;
use prost::Message;

use super::digest::{Function, Name};
use crate::cache::{BlobRef, EntryKey};

/// An action, and what it is made of.
pub(super) struct Filing {
    /// The digest under which results are filed.
    pub name: Name,
    /// The messages that a server may require in its storage.
    pub messages: [(Name, Bytes); 2],
}

/// What the entry of `key` is filed under.
pub(super) fn entry(function: Function, key: &EntryKey) -> Filing {
    filing(function, [b"rivet entry v3:".as_slice(), &key.0.0].concat())
}

/// What the server's name for `blob` is filed under, where that is not its BLAKE3.
pub(super) fn alias(function: Function, blob: &BlobRef) -> Filing {
    let size = blob.size.to_le_bytes();
    filing(function, [b"rivet blob v1:".as_slice(), &blob.digest.0, &size].concat())
}

fn filing(function: Function, salt: Vec<u8>) -> Filing {
    let command = api::Command { arguments: vec!["rivet".to_owned()], ..api::Command::default() };
    let command = Bytes::from(command.encode_to_vec());
    let command_name = function.name(&command);
    let action = api::Action {
        command_digest: Some(command_name.to_wire()),
        // An empty folder's message has no bytes.
        input_root_digest: Some(function.name(b"").to_wire()),
        salt,
        ..api::Action::default()
    };
    let action = Bytes::from(action.encode_to_vec());
    let name = function.name(&action);
    Filing { name, messages: [(command_name, command), (name, action)] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Digest;

    /// What was filed by one version is found by the next.
    #[test]
    fn addresses_stay() {
        let key = EntryKey(Digest::of(b"key"));
        let blob = BlobRef { digest: Digest::of(b"blob"), size: 4 };
        let told = |filing: Filing| filing.name.to_wire();
        let blake = told(entry(Function::Blake3, &key));
        let sha = told(entry(Function::Sha256, &key));
        let alias = told(alias(Function::Sha256, &blob));
        assert_eq!(blake.hash, "c2abdbf2cd99d596e539603aeddb277a9a7e04d36757f51b5f2a3a659e6f5bbd");
        assert_eq!(sha.hash, "49d78888e8fe8ca19654637d55807a44f5d737622498b4222c14443a09fa6472");
        assert_eq!(alias.hash, "5bbe9cd8b88ab4040545aa5052ed2c069b3b8b38132b74a9de8be31b24ebdedb");
    }

    #[test]
    fn length_and_digest_make_the_alias() {
        let blob = BlobRef { digest: Digest::of(b"blob"), size: 4 };
        let name = |blob: &BlobRef| alias(Function::Sha256, blob).name;
        assert_ne!(name(&blob), name(&BlobRef { size: 5, ..blob }));
        assert_ne!(name(&blob), name(&BlobRef { digest: Digest::of(b"other"), ..blob }));
    }
}
