//! Small files with a checksum before their content, so that a flipped bit makes them unreadable
//! rather than wrong.

use super::Digest;

pub(super) fn wrap(body: &[u8]) -> Vec<u8> {
    [&Digest::of(body).0, body].concat()
}

/// What was wrapped; `None` for anything else.
pub(super) fn content(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, body) = bytes.split_first_chunk::<32>()?;
    (Digest::of(body).0 == *sum).then_some(body)
}
