//! Why an entry of a remote is rejected. Each reason counts as a miss, and is counted apart in the summary.

use super::PublicKey;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("it is no entry: {0}")]
    Malformed(&'static str),
    #[error("it is unsigned")]
    Unsigned,
    #[error("it is signed by {0}, an untrusted key")]
    UnknownKey(PublicKey),
    #[error("it is not what {0} signed for this step")]
    WrongSignature(PublicKey),
    #[error("{what}: {size}, where {most} are the most")]
    TooLarge { what: &'static str, size: u64, most: u64 },
}

impl Rejection {
    /// A word or two by which cases are counted. They stay the same from version to version.
    pub fn reason(&self) -> &'static str {
        match self {
            Rejection::Malformed(_) => "malformed",
            Rejection::Unsigned => "unsigned",
            Rejection::UnknownKey(_) => "unknown key",
            Rejection::WrongSignature(_) => "wrong signature",
            Rejection::TooLarge { .. } => "too large",
        }
    }
}
