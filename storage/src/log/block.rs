//! A commit block in memory: what readers at the tail and cold reads share by reference.

use ringlog_types::Sequence;

use crate::buffer::Buf;
use crate::format::block_header::Group;
use crate::format::entry_header::EntryHeader;

/// A block whose bytes are in memory and proven whole.
#[derive(Debug)]
pub(super) struct Block {
    /// Its place in the log.
    pub sequence: Sequence,
    /// Its segment.
    pub segment: u64,
    /// Its byte position there.
    pub position: u64,
    /// Its length.
    pub bytes: usize,
    /// Its header's checksum.
    pub checksum: u64,
    /// Part of an atomic group.
    pub group: Group,
    /// First block of the group.
    pub group_first: Sequence,
    /// The life of the log that wrote it.
    pub epoch: u32,
    /// Its entries.
    pub entries: Vec<EntryHeader>,
    /// Its bytes: start within the block, and memory. In order, without gaps.
    pub extents: Vec<(usize, Buf)>,
}

impl Block {
    /// The payload of one of its entries, by reference.
    ///
    /// # Panics
    /// When the entry is not of this block: payloads lie within one extent by construction.
    pub fn payload(&self, entry: &EntryHeader) -> Buf {
        let range = entry.range();
        let extent = self
            .extents
            .partition_point(|(start, _)| *start <= range.start)
            - 1;
        let (start, buf) = &self.extents[extent];
        buf.slice(range.start - start..range.end - start)
    }
}
