//! The mark that makes every batch unlike every other: 40 bytes at the start of the first
//! record's value.
//!
//! ```text
//!  0        8        16           20          24        32             40
//!  | magic  | run id | connection | partition | number  | scheduled ns |
//! ```
//!
//! Big-endian, like everything else in a Kafka request. The number counts a run's batches of one
//! partition from 0; the scheduled time is `CLOCK_MONOTONIC`, so that another process on the same
//! machine can compute an end-to-end latency from it.

use std::fmt;

/// Length of an encoded stamp.
pub const STAMP_BYTES: usize = 40;

const MAGIC: [u8; 8] = *b"RLSTAMP1";

/// Identity of one producing run, drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId(pub u64);

impl RunId {
    /// A run id nobody else has: from the operating system's entropy, by way of the hasher keys.
    #[must_use]
    pub fn random() -> RunId {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        RunId(hasher.finish())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run that sent it.
    pub run: RunId,
    /// The connection it was sent on, counted within the run.
    pub connection: u32,
    /// The partition it was sent to.
    pub partition: u32,
    /// Position among the run's batches of that partition.
    pub number: u64,
    /// When it was due, on the monotonic clock.
    pub scheduled_ns: u64,
}

impl Stamp {
    /// Writes the stamp.
    pub fn write(&self, out: &mut [u8; STAMP_BYTES]) {
        out[0..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.run.0.to_be_bytes());
        out[16..20].copy_from_slice(&self.connection.to_be_bytes());
        out[20..24].copy_from_slice(&self.partition.to_be_bytes());
        out[24..32].copy_from_slice(&self.number.to_be_bytes());
        out[32..40].copy_from_slice(&self.scheduled_ns.to_be_bytes());
    }

    /// Reads a stamp from the start of a value. `None`: this value was not written by a load
    /// generator.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Stamp> {
        let bytes = value.get(..STAMP_BYTES)?;
        if bytes[0..8] != MAGIC {
            return None;
        }
        Some(Stamp {
            run: RunId(u64_at(bytes, 8)),
            connection: u32_at(bytes, 16),
            partition: u32_at(bytes, 20),
            number: u64_at(bytes, 24),
            scheduled_ns: u64_at(bytes, 32),
        })
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(field)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stamp_reads_back_as_it_was_written(
            run: u64, connection: u32, partition: u32, number: u64, scheduled_ns: u64
        ) {
            let stamp = Stamp { run: RunId(run), connection, partition, number, scheduled_ns };
            let mut bytes = [0; STAMP_BYTES];
            stamp.write(&mut bytes);
            prop_assert_eq!(Stamp::parse(&bytes), Some(stamp));
        }
    }

    #[test]
    fn a_value_without_the_magic_or_too_short_is_nobodys_stamp() {
        let stamp = Stamp {
            run: RunId(1),
            connection: 0,
            partition: 0,
            number: 0,
            scheduled_ns: 0,
        };
        let mut bytes = [0; STAMP_BYTES];
        stamp.write(&mut bytes);
        assert_eq!(Stamp::parse(&bytes[..STAMP_BYTES - 1]), None);
        bytes[0] ^= 1;
        assert_eq!(Stamp::parse(&bytes), None);
    }
}
