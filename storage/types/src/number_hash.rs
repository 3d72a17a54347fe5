//! Hashing of a few integers, for maps on the way of every batch: two multiplications per
//! number instead of SipHash's rounds.
//!
//! Producer ids are chosen by clients, so every map has a secret: without it ids that share a
//! bucket cannot be worked out beforehand. The secret shows in nothing but the order
//! of walking a map, and no map is walked where the order could show.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A map keyed by numbers.
pub type NumberMap<K, V> = std::collections::HashMap<K, V, NumberHash>;

/// A set of numbers.
pub type NumberSet<K> = std::collections::HashSet<K, NumberHash>;

/// Makes hashers with the secret of this map.
#[derive(Clone, Debug)]
pub struct NumberHash {
    secret: u64,
}

impl Default for NumberHash {
    fn default() -> NumberHash {
        NumberHash {
            secret: RandomState::new().hash_one(0u64),
        }
    }
}

impl BuildHasher for NumberHash {
    type Hasher = NumberHasher;

    fn build_hasher(&self) -> NumberHasher {
        NumberHasher {
            secret: self.secret | 1,
            state: self.secret,
        }
    }
}

/// Folds numbers.
#[derive(Debug)]
pub struct NumberHasher {
    secret: u64,
    state: u64,
}

impl NumberHasher {
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        // Both halves: the upper has what every bit of the inputs did.
        (product as u64) ^ (product >> 64) as u64
    }
}

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..piece.len()].copy_from_slice(piece);
            self.write_u64(u64::from_le_bytes(number));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // The constant is the golden ratio's fraction: neither factor is zero for long.
        self.state = Self::fold(self.state ^ number, self.secret) ^ 0x9e37_79b9_7f4a_7c15;
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        Self::fold(self.state, self.secret.rotate_left(32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_numbers_spread_over_buckets_and_tags() {
        let hash = NumberHash::default();
        let mut buckets = vec![0u32; 1 << 10];
        let mut tags = vec![0u32; 1 << 7];
        for partition in 0..64u64 {
            for producer in 0..64i64 {
                let value = hash.hash_one((partition << 32, producer));
                buckets[(value & 1023) as usize] += 1;
                tags[(value >> 57) as usize] += 1;
            }
        }
        // 4 per bucket and 32 per tag on average.
        assert!(
            buckets.iter().all(|n| *n < 24),
            "{:?}",
            buckets.iter().max()
        );
        assert!(tags.iter().all(|n| *n < 120), "{:?}", tags.iter().max());
    }
}
