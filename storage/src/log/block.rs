//! A commit block in memory: what readers at the tail and cold reads share by reference.

use std::cell::OnceCell;

use ringlog_types::{Offset, PartitionId, Sequence};

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
    /// Whether it was read from disk, not kept when it was written.
    pub is_cold: bool,
    /// Numbers of the entries by partition, made when somebody asks.
    pub by_partition: OnceCell<Box<[u32]>>,
}

/// With fewer entries looking at each costs less than finding the place in an order.
const FEW_ENTRIES: usize = 64;

impl Block {
    /// What accounts for a partition's offsets, in their order: its batches, and what log
    /// compaction removed.
    pub fn of(&self, partition: PartitionId) -> impl Iterator<Item = &EntryHeader> {
        let order = (self.entries.len() > FEW_ENTRIES).then(|| self.by_partition());
        let from = order.map_or(0, |order| {
            order.partition_point(|at| self.partition_at(*at) < partition)
        });
        let numbers = (from..self.entries.len())
            .map(move |place| order.map_or(place, |order| order[place] as usize));
        let entries = numbers.map(|number| &self.entries[number]);
        let mine = move |entry: &&EntryHeader| entry.meta.partition == partition;
        entries
            .take_while(move |entry| order.is_none() || mine(entry))
            .filter(move |entry| mine(entry) && entry.meta.kind.spans_offsets())
    }

    /// Each partition with batches here: its first offset, and the one behind its last.
    pub fn spans(&self) -> impl Iterator<Item = (PartitionId, Offset, Offset)> {
        let order = self.by_partition();
        let runs = order.chunk_by(|a, b| self.partition_at(*a) == self.partition_at(*b));
        runs.filter_map(|run| {
            let metas = run.iter().map(|at| &self.entries[*at as usize].meta);
            let records = metas.filter(|meta| meta.kind.spans_offsets());
            let spans = records.map(|meta| (meta.partition, meta.base_offset, meta.end_offset()));
            spans.reduce(|(partition, first, end), next| {
                (partition, first.min(next.1), end.max(next.2))
            })
        })
    }

    fn partition_at(&self, number: u32) -> PartitionId {
        self.entries[number as usize].meta.partition
    }

    fn by_partition(&self) -> &[u32] {
        self.by_partition.get_or_init(|| {
            let count = u32::try_from(self.entries.len()).expect("a block counts entries in u32");
            let mut order: Vec<u32> = (0..count).collect();
            order.sort_by_key(|at| self.partition_at(*at));
            order.into_boxed_slice()
        })
    }

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
