//! Why an entry from a remote is not believed. Each counts as a miss, and is told apart in the summary.

use super::PublicKey;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    #[error("it is no entry: {0}")]
    Malformed(&'static str),
    #[error("nobody signed it")]
    Unsigned,
    #[error("it is signed by {0}, which is not trusted here")]
    UnknownKey(PublicKey),
    #[error("it is not what {0} signed for this step")]
    WrongSignature(PublicKey),
    #[error("{what}: {size}, where {most} are the most")]
    TooLarge { what: &'static str, size: u64, most: u64 },
}

impl Distrust {
    /// A word or two by which cases are counted. They stay the same from version to version.
    pub fn reason(&self) -> &'static str {
        match self {
            Distrust::Malformed(_) => "malformed",
            Distrust::Unsigned => "unsigned",
            Distrust::UnknownKey(_) => "unknown key",
            Distrust::WrongSignature(_) => "wrong signature",
            Distrust::TooLarge { .. } => "too large",
        }
    }
}
