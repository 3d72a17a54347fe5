//! The footer of a sealed segment: which offsets of which partition lie in which block. One
//! row for each partition in a block, sorted by partition and offset.
//!
//! Its checksum stands in the trailer (keyed).

use ringlog_types::{Offset, PartitionId};
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FormatError;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    partition: U64,
    first: U64,
    end: U64,
    max_timestamp: I64,
    position_units: U32,
    block_units: U32,
    payload_bytes: U32,
    reserved: U32,
}

/// The records of one partition in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// First offset.
    pub first: Offset,
    /// Behind the last offset.
    pub end: Offset,
    /// Largest timestamp of its batches.
    pub max_timestamp: i64,
    /// The block's position in the segment, in units.
    pub position_units: u32,
    /// The block's length, in units.
    pub block_units: u32,
    /// Bytes of this partition's batches in the block.
    pub payload_bytes: u32,
}

/// Bytes of a footer row.
pub const ROW_BYTES: usize = size_of::<Raw>();

/// Appends one row.
pub fn encode_row(partition: PartitionId, block: &BlockRef, out: &mut Vec<u8>) {
    let raw = Raw {
        partition: partition.0.into(),
        first: block.first.0.into(),
        end: block.end.0.into(),
        max_timestamp: block.max_timestamp.into(),
        position_units: block.position_units.into(),
        block_units: block.block_units.into(),
        payload_bytes: block.payload_bytes.into(),
        reserved: U32::ZERO,
    };
    out.extend_from_slice(raw.as_bytes());
}

/// Reads all rows.
///
/// # Errors
/// The length is no whole number of rows, or a row's offsets are impossible.
pub fn decode_rows(bytes: &[u8]) -> Result<Vec<(PartitionId, BlockRef)>, FormatError> {
    let bounds = |detail| FormatError::Bounds {
        what: "footer",
        detail,
    };
    let Ok(rows) = <[Raw]>::ref_from_bytes(bytes) else {
        return Err(bounds(format!(
            "{} bytes are no whole number of rows",
            bytes.len()
        )));
    };
    let row = |raw: &Raw| {
        let (first, end) = (raw.first.get(), raw.end.get());
        if first >= end || end > i64::MAX as u64 {
            return Err(bounds(format!("offsets {first}..{end}")));
        }
        let block = BlockRef {
            first: Offset(first),
            end: Offset(end),
            max_timestamp: raw.max_timestamp.get(),
            position_units: raw.position_units.get(),
            block_units: raw.block_units.get(),
            payload_bytes: raw.payload_bytes.get(),
        };
        Ok((PartitionId(raw.partition.get()), block))
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_written_are_rows_read_and_impossible_offsets_are_refused() {
        let block = BlockRef {
            first: Offset(5),
            end: Offset(9),
            max_timestamp: -1,
            position_units: 3,
            block_units: 2,
            payload_bytes: 77,
        };
        let mut bytes = Vec::new();
        encode_row(PartitionId(4), &block, &mut bytes);
        assert_eq!(bytes.len(), ROW_BYTES);
        assert_eq!(decode_rows(&bytes), Ok(vec![(PartitionId(4), block)]));
        assert!(decode_rows(&bytes[1..]).is_err());
        encode_row(
            PartitionId(4),
            &BlockRef {
                end: Offset(5),
                ..block
            },
            &mut bytes,
        );
        assert!(decode_rows(&bytes).is_err());
    }
}
