//! Keys of Ed25519 (RFC 8032) and their text. A private key shows itself to nobody who does not ask
//! for just that, and leaves nothing behind in memory.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, VerifyingKey};
use zeroize::Zeroizing;

const PUBLIC: &str = "rivet-ed25519:";
/// What the text of a private key begins with.
pub(crate) const SECRET: &str = "rivet-ed25519-secret:";
const DIGITS: usize = 64;

/// A public key. Its text is `rivet-ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Why a text or bytes are no key. Repeats nothing of a private one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a public key begins with `{PUBLIC}`")]
    NotPublic,
    #[error("this is a private key, which nobody else may see; the public one begins with `{PUBLIC}`")]
    IsPrivate,
    #[error("a private key begins with `{SECRET}`; its text is not repeated here")]
    NotPrivate,
    #[error("this is a public key, with which nothing can be signed; the private one begins with `{SECRET}`")]
    IsPublic,
    #[error("{DIGITS} hexadecimal digits should follow the colon")]
    Digits,
    #[error(
        "no private key belongs to it, or it can be guessed: a digit is wrong, or it was made to deceive"
    )]
    Weak,
}

impl PublicKey {
    /// A key that belongs to a private one: a point in its one encoding, and of a large order
    /// (RFC 8032 5.1.3). Anything can be made to look signed by a point of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<PublicKey, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Weak)?;
        let is_canonical = key.to_edwards().compress().as_bytes() == bytes;
        if key.is_weak() || !is_canonical { Err(KeyError::Weak) } else { Ok(PublicKey(*bytes)) }
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether the private key to this one signed `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
            .is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        if text.starts_with(SECRET) {
            return Err(KeyError::IsPrivate);
        }
        let digits = text.strip_prefix(PUBLIC).ok_or(KeyError::NotPublic)?;
        PublicKey::from_bytes(&*from_hex(digits).ok_or(KeyError::Digits)?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PUBLIC)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private key. It is not printed by accident: only [`SigningKey::secret_text`] returns its text.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new one, of the system's randomness.
    pub fn generate() -> Result<SigningKey, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)?;
        Ok(SigningKey(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// The public key to this one.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The text that parses to this key, for the file or the secret store that keeps it.
    pub fn secret_text(&self) -> Zeroizing<String> {
        // As long as it will get, so that no copy stays where a shorter one was.
        let mut text = Zeroizing::new(String::with_capacity(SECRET.len() + DIGITS));
        text.push_str(SECRET);
        for byte in self.0.as_bytes() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
            }
        }
        text
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<SigningKey, KeyError> {
        if text.starts_with(PUBLIC) {
            return Err(KeyError::IsPublic);
        }
        let digits = text.strip_prefix(SECRET).ok_or(KeyError::NotPrivate)?;
        let seed = from_hex(digits).ok_or(KeyError::Digits)?;
        Ok(SigningKey(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the private key to {}", self.public())
    }
}

fn from_hex(digits: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let digits = digits.as_bytes();
    if digits.len() != DIGITS {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 7.1, test 1.
    const RFC_SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const RFC_PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    const RFC_SIGNATURE: &str = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

    #[test]
    fn keys_are_those_of_the_standard() {
        let key: SigningKey = format!("{SECRET}{RFC_SECRET}").parse().unwrap();
        assert_eq!(key.public().to_string(), format!("{PUBLIC}{RFC_PUBLIC}"));
        let signature = key.sign(b"");
        let text: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, RFC_SIGNATURE);
        assert!(key.public().signed(b"", &signature));
        assert!(!key.public().signed(b"x", &signature));
    }

    #[test]
    fn texts_come_back() {
        let key = SigningKey::generate().unwrap();
        let again: SigningKey = key.secret_text().parse().unwrap();
        assert_eq!(again.secret_text(), key.secret_text());
        assert_eq!(key.public().to_string().parse(), Ok(again.public()));
        assert_ne!(SigningKey::generate().unwrap().public(), key.public());
    }

    #[test]
    fn a_private_key_shows_itself_to_nobody() {
        let key: SigningKey = format!("{SECRET}{RFC_SECRET}").parse().unwrap();
        let debug = format!("{key:?}");
        assert!(debug.contains(RFC_PUBLIC) && !debug.contains(RFC_SECRET), "{debug}");
        for text in [format!("{SECRET}{RFC_SECRET}0"), format!("secret:{RFC_SECRET}"), RFC_SECRET.to_owned()]
        {
            let error = text.parse::<SigningKey>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("9d61"), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_is_told() {
        let public = |text: &str| text.parse::<PublicKey>().unwrap_err();
        assert_eq!(public(""), KeyError::NotPublic);
        assert_eq!(public(RFC_PUBLIC), KeyError::NotPublic);
        assert_eq!(public(&format!("{SECRET}{RFC_SECRET}")), KeyError::IsPrivate);
        assert_eq!(public(PUBLIC), KeyError::Digits);
        assert_eq!(public(&format!("{PUBLIC}{RFC_PUBLIC}0")), KeyError::Digits);
        assert_eq!(public(&format!("{PUBLIC}+{}", &RFC_PUBLIC[1..])), KeyError::Digits);
        assert_eq!(public(&format!("{PUBLIC}\u{e9}{}", &RFC_PUBLIC[2..])), KeyError::Digits);
        let private = |text: &str| text.parse::<SigningKey>().unwrap_err();
        assert_eq!(private(&format!("{PUBLIC}{RFC_PUBLIC}")), KeyError::IsPublic);
        assert_eq!(private("\n"), KeyError::NotPrivate);
        assert_eq!(private(SECRET), KeyError::Digits);
    }

    #[test]
    fn points_of_small_order_and_second_encodings_are_no_keys() {
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(PublicKey::from_bytes(&one), Err(KeyError::Weak));
        assert_eq!(PublicKey::from_bytes(&[0; 32]), Err(KeyError::Weak));
        // From the field's prime, 2^255 - 19, on, numbers stand for smaller ones.
        let mut of_large_order = 0;
        for above in 0..19 {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (0xed + above, 0x7f);
            of_large_order += u8::from(VerifyingKey::from_bytes(&bytes).is_ok_and(|key| !key.is_weak()));
            assert_eq!(PublicKey::from_bytes(&bytes), Err(KeyError::Weak));
        }
        assert!(of_large_order > 0, "only their encoding is wrong with some");
    }
}
