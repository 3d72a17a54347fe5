//! XXH3 checksums, plain for payloads and keyed with a segment's nonce for the structure
//! around them. Keyed ones cannot be imitated by recycled bytes (another nonce) nor by what a
//! client sends (it never learns the nonce).

use xxhash_rust::xxh3;

const SECRET_BYTES: usize = 192;

/// A segment's checksum key, derived from its random nonce.
#[derive(Clone)]
pub struct Key {
    secret: [u8; SECRET_BYTES],
}

impl Key {
    /// Spreads the nonce over an XXH3 secret. Done once for each segment.
    #[must_use]
    pub fn derive(nonce: u128) -> Key {
        let mut secret = [0; SECRET_BYTES];
        let mut seed = [0; 24];
        seed[..16].copy_from_slice(&nonce.to_le_bytes());
        for (round, part) in (0u64..).zip(secret.chunks_exact_mut(16)) {
            seed[16..].copy_from_slice(&round.to_le_bytes());
            part.copy_from_slice(&xxh3::xxh3_128(&seed).to_le_bytes());
        }
        Key { secret }
    }

    /// Checksum of header-like bytes under this key.
    #[must_use]
    pub fn checksum(&self, bytes: &[u8]) -> u64 {
        xxh3::xxh3_64_with_secret(bytes, &self.secret)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Checksum of a payload. Plain: it stands in an entry table that is keyed.
#[must_use]
pub fn payload_checksum(payload: &[u8]) -> u64 {
    xxh3::xxh3_64(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_nonce_gives_another_checksum_for_short_and_long_input() {
        let (a, b) = (Key::derive(1), Key::derive(2));
        for length in [0, 1, 16, 120, 240, 241, 5000] {
            let bytes = vec![7; length];
            assert_ne!(a.checksum(&bytes), b.checksum(&bytes), "length {length}");
            assert_eq!(a.checksum(&bytes), Key::derive(1).checksum(&bytes));
        }
    }
}
