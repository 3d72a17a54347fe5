//! What a reader wants from disk, and how far the reading of a part of a block is.

use ringlog_types::PartitionId;

use crate::format::block_header::BlockHeader;
use crate::format::entry_header::EntryHeader;
use crate::format::footer::BlockRef;

/// Records of a partition in a block that is not in memory. Ordered as they lie in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub(super) segment: u64,
    pub(super) position: u64,
    pub(super) partition: PartitionId,
    pub(super) block_bytes: u64,
    pub(super) payload_bytes: u64,
}

impl Wanted {
    pub(super) fn new(segment: u64, partition: PartitionId, row: &BlockRef, unit: u64) -> Wanted {
        Wanted {
            segment,
            position: u64::from(row.position_units) * unit,
            partition,
            block_bytes: u64::from(row.block_units) * unit,
            payload_bytes: u64::from(row.payload_bytes),
        }
    }
}

impl Wanted {
    /// Bytes of the block.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// Whether both are in the same block.
    #[must_use]
    pub fn shares_block(&self, other: &Wanted) -> bool {
        (self.segment, self.position) == (other.segment, other.position)
    }
}

/// How far the reading of a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The header is being read.
    Header,
    /// The entry table is.
    Table(Proven),
    /// The payloads of these entries are.
    Payloads(Proven, Vec<EntryHeader>),
}

/// A header that passed its check, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) header: BlockHeader,
    pub(super) checksum: u64,
}

/// A piece that is being read, and from which byte of the block on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PieceRead {
    pub(super) wanted: Wanted,
    pub(super) from: usize,
    pub(super) progress: Progress,
}
