//! Where each key was last. Keys are remembered by a hash of 128 bits under a seed that nobody
//! outside knows, so that nobody can send two keys that are taken for one.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Offsets by key, up to a number of keys.
#[derive(Debug)]
pub(super) struct Keys {
    offsets: HashMap<u128, i64>,
    most: usize,
    seed: u64,
}

impl Keys {
    pub fn new(most: usize, seed: u64) -> Keys {
        Keys {
            offsets: HashMap::new(),
            most,
            seed,
        }
    }

    /// Notes a key at an offset above all before. `false`: there is no room for another key.
    pub fn note(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = xxh3_128_with_seed(key, self.seed);
        if self.offsets.len() >= self.most && !self.offsets.contains_key(&hash) {
            return false;
        }
        self.offsets.insert(hash, offset);
        true
    }

    /// Whether a key is known to come again behind an offset.
    pub fn comes_after(&self, key: &[u8], offset: i64) -> bool {
        let last = self.offsets.get(&xxh3_128_with_seed(key, self.seed));
        last.is_some_and(|last| *last > offset)
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }
}
