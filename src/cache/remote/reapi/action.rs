//! The actions under which entries and aliases are filed in a server's ActionCache. Nobody ever runs
//! them; but they are real ones, since some servers look. Their bytes are addresses: a change here
//! loses all that was filed before.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bytes::Bytes;
use prost::Message;

use super::digest::{Function, Name};
use crate::cache::{ActionKey, BlobRef};

/// An action, and what it is made of.
pub(super) struct Filing {
    /// The digest under which results are filed.
    pub name: Name,
    /// The messages that a server may want to have in its storage.
    pub messages: [(Name, Bytes); 2],
}

/// What the entry of `key` is filed under.
pub(super) fn entry(function: Function, key: &ActionKey) -> Filing {
    filing(function, [b"rivet entry v1:".as_slice(), &key.0.0].concat())
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
        let key = ActionKey(Digest::of(b"key"));
        let blob = BlobRef { digest: Digest::of(b"blob"), size: 4 };
        let told = |filing: Filing| filing.name.to_wire();
        let blake = told(entry(Function::Blake3, &key));
        let sha = told(entry(Function::Sha256, &key));
        let alias = told(alias(Function::Sha256, &blob));
        assert_eq!(blake.hash, "035050971793b2c0f4ab1a9a72644e59cd3d396f5563277d5833d7224f99fc46");
        assert_eq!(sha.hash, "f8f5cec59192e18f4276170fe189807624b8ecedcdfdfa9dc651e05a37a0543e");
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
