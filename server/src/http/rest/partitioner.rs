//! Which partition a record goes to, as Kafka's own producers choose: by the key's murmur2 hash,
//! so that what is written over HTTP lies with what they write.

use murmur2::{KAFKA_SEED, murmur2};

/// The partition of a key, among so many.
///
/// # Panics
/// Without any partition.
pub(super) fn of_key(key: &[u8], partitions: u32) -> u32 {
    // The sign is cut off, as `Utils.toPositive` does.
    (murmur2(key, KAFKA_SEED) & 0x7fff_ffff) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_own_test() {
        // `UtilsTest.testMurmur2` of Kafka's clients.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes(), KAFKA_SEED) as i32, hash, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        assert!((0..1000u32).all(|key| of_key(&key.to_be_bytes(), 7) < 7));
        assert_eq!(of_key(b"", 1), 0);
    }
}
