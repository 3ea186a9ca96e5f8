//! What a step's key is made of. A [`Recipe`] lists every field by name, once; the key is the
//! BLAKE3 of that list in a canonical encoding, and an explanation is the same list in words.
//!
//! Encoding: the kind and its version, then for each field its name, a type tag and its value,
//! every string of bytes preceded by its length as a 64-bit little-endian number.

use std::fmt;

use crate::cache::{Digest, EntryKey};
use crate::media::Rational;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
    Digest(Digest),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => number.fmt(f),
            Value::Digest(digest) => f.write_str(&digest.short()),
        }
    }
}

/// Everything that can change a step's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    kind: &'static str,
    version: u32,
    fields: Vec<(&'static str, Value)>,
}

impl Recipe {
    pub fn new(kind: &'static str, version: u32) -> Recipe {
        Recipe { kind, version, fields: Vec::new() }
    }

    pub fn text(mut self, name: &'static str, text: impl Into<String>) -> Recipe {
        self.fields.push((name, Value::Text(text.into())));
        self
    }

    pub fn number(mut self, name: &'static str, number: impl Into<i64>) -> Recipe {
        self.fields.push((name, Value::Number(number.into())));
        self
    }

    pub fn digest(mut self, name: &'static str, digest: Digest) -> Recipe {
        self.fields.push((name, Value::Digest(digest)));
        self
    }

    pub fn digests(mut self, name: &'static str, digests: impl IntoIterator<Item = Digest>) -> Recipe {
        self.fields.extend(digests.into_iter().map(|digest| (name, Value::Digest(digest))));
        self
    }

    pub fn numbers(mut self, name: &'static str, numbers: impl IntoIterator<Item = u32>) -> Recipe {
        self.fields.extend(numbers.into_iter().map(|number| (name, Value::Number(number.into()))));
        self
    }

    /// A list that is long: it stands in the key by its digest and its length.
    pub fn list(self, name: &'static str, digests: impl IntoIterator<Item = Digest>) -> Recipe {
        let mut hasher = blake3::Hasher::new();
        let mut count = 0i64;
        for digest in digests {
            hasher.update(&digest.0);
            count += 1;
        }
        self.digest(name, hasher.finalize().into()).number("how many", count)
    }

    pub fn rational(self, name: &'static str, rational: Rational) -> Recipe {
        self.text(name, format!("{}/{}", rational.num, rational.den))
    }

    pub fn kind(&self) -> &'static str {
        self.kind
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn fields(&self) -> &[(&'static str, Value)] {
        &self.fields
    }

    /// The name that the step's result is filed under.
    pub fn key(&self) -> EntryKey {
        let mut hasher = blake3::Hasher::new_derive_key("rivet action key v1");
        let mut bytes = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        bytes(self.kind.as_bytes());
        bytes(&self.version.to_le_bytes());
        for (name, value) in &self.fields {
            bytes(name.as_bytes());
            match value {
                Value::Text(text) => {
                    bytes(b"text");
                    bytes(text.as_bytes());
                }
                Value::Number(number) => {
                    bytes(b"number");
                    bytes(&number.to_le_bytes());
                }
                Value::Digest(digest) => {
                    bytes(b"digest");
                    bytes(&digest.0);
                }
            }
        }
        EntryKey(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canonical encoding is a promise to every cache that is already filled.
    #[test]
    fn golden_key() {
        let recipe = Recipe::new("kind", 3).text("a", "bc").number("d", -1).digest("e", Digest([7; 32]));
        assert_eq!(
            recipe.key().to_string(),
            "33dbcb0b35612f432a05adc60094ae9907fd5150147eb7255a176e952107d73c"
        );
        let moved = Recipe::new("kind", 3).text("ab", "c").number("d", -1).digest("e", Digest([7; 32]));
        assert_ne!(recipe.key(), moved.key(), "a name and a value cannot run together");
    }
}
