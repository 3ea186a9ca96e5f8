//! Random UUIDs, which distinguish uploads and builds. Nothing depends on them.

use crate::cache::remote::{RemoteError, RemoteFault};

/// A UUID of version 4 (RFC 9562 5.4).
pub(super) fn random() -> Result<String, RemoteError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        RemoteError::new(RemoteFault::Transient, format!("the system has no random numbers: {error}"))
    })?;
    Ok(spell(bytes))
}

fn spell(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_set() {
        assert_eq!(spell([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(spell([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
