//! How blocks of cold segments are numbered. A cold segment is what the cleaner writes: copies of
//! entries, clustered by partition, in blocks of the usual shape. They are no part of the chain of
//! blocks, so their sequences are none of its: the upper half of the numbers, made of segment and
//! place.
//!
//! ```text
//! sequence = 1 (1 bit) | segment (43 bits) | number of the block in the segment (20 bits)
//! ```
//! `previous` is the header checksum of the block before in the segment, 0 in the first.

use ringlog_types::Sequence;

const COLD: u64 = 1 << 63;
const NUMBER_BITS: u32 = 20;

/// Most blocks in a cold segment.
pub const MOST_BLOCKS: u64 = 1 << NUMBER_BITS;

/// The sequence of a block of a cold segment.
///
/// # Panics
/// Beyond [`MOST_BLOCKS`], or a segment number that no log reaches.
#[must_use]
pub fn sequence(segment: u64, number: u64) -> Sequence {
    assert!(number < MOST_BLOCKS, "block {number} of a cold segment");
    assert!(segment < 1 << (63 - NUMBER_BITS), "segment {segment}");
    Sequence(COLD | segment << NUMBER_BITS | number)
}

/// Whether a block is of a cold segment.
#[must_use]
pub fn is_cold(sequence: Sequence) -> bool {
    sequence.0 & COLD != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cold_blocks_are_their_own() {
        let first = sequence(7, 0);
        assert!(is_cold(first) && !is_cold(Sequence(u64::MAX >> 1)));
        assert_eq!(sequence(7, 1), first.next());
        assert!(sequence(8, 0) > sequence(7, MOST_BLOCKS - 1));
    }
}
