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

    /// The same checksum, of bytes that come in pieces.
    #[must_use]
    pub fn hasher(&self) -> Hasher {
        Hasher(xxh3::Xxh3::with_secret(self.secret))
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

/// A checksum of bytes that come in pieces.
#[derive(Clone)]
pub struct Hasher(xxh3::Xxh3);

impl Hasher {
    /// [`payload_checksum`] in pieces.
    #[must_use]
    pub fn plain() -> Hasher {
        Hasher(xxh3::Xxh3::new())
    }

    /// The next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.0.digest()
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(..)")
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
    fn a_checksum_in_pieces_is_that_of_the_whole() {
        let key = Key::derive(3);
        for length in [0, 1, 16, 120, 240, 241, 1024, 5000, 300_000] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            for piece in [1, 7, 100, 4096, 262_144] {
                let (mut keyed, mut plain) = (key.hasher(), Hasher::plain());
                for piece in bytes.chunks(piece) {
                    keyed.update(piece);
                    plain.update(piece);
                }
                assert_eq!(keyed.digest(), key.checksum(&bytes), "{length} in {piece}");
                assert_eq!(
                    plain.digest(),
                    payload_checksum(&bytes),
                    "{length} in {piece}"
                );
            }
        }
    }

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
