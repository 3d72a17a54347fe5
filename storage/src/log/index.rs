//! What lies where: per segment the partitions in it, per partition the segments it is in.
//!
//! Recent segments keep a row for each block and partition; older ones only what a partition
//! spans, and their footers are read again when somebody asks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringlog_types::{Offset, PartitionId, Sequence};

use crate::format::footer::{self, BlockRef};
use crate::format::manifest::{Counts, PartitionRow, RangeRow};

/// The records of one partition in one segment.
#[derive(Clone, Debug)]
pub(super) struct SegmentRange {
    pub first: Offset,
    pub end: Offset,
    pub bytes: u64,
    pub max_timestamp: i64,
    /// One for each block, in offset order. Empty when not resident.
    pub blocks: Vec<BlockRef>,
}

impl SegmentRange {
    /// What a checkpoint says of it.
    pub fn row(&self, partition: PartitionId) -> RangeRow {
        RangeRow {
            partition,
            first: self.first,
            end: self.end,
            bytes: self.bytes,
            max_timestamp: self.max_timestamp,
        }
    }
}

/// A sealed segment whose rows are in a run on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    /// Which run.
    pub run: u64,
    /// Its rows there that count as live.
    pub live: Counts,
}

/// A segment that a checkpoint names, whose rows a run has, and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ghost {
    pub covered: Covered,
    /// See [`SegmentIndex::moved`].
    pub moved: BTreeSet<PartitionId>,
    /// Its first block, and the one behind its last.
    pub blocks: (Sequence, Sequence),
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct SegmentIndex {
    /// Live partitions. Sorted, so that footers and manifests come out the same each time.
    pub partitions: BTreeMap<PartitionId, SegmentRange>,
    /// Rows in `partitions`.
    pub rows: usize,
    /// Whether the rows of the blocks are here.
    pub resident: bool,
    /// The run that has its rows. Partitions that are still in `partitions` are being handed over.
    pub covered: Option<Covered>,
    /// Partitions of this log that its footer has rows of, and that lie elsewhere: compaction moved
    /// them, or another log's part of the segment was not taken in. Their rows do not count,
    /// whatever a run or the footer says.
    pub moved: BTreeSet<PartitionId>,
    /// Its footer has rows of records that are lost, or were given again, or lacks some that live again: its
    /// rows stay in memory, because a run that is damaged is made anew from footers.
    pub footer_differs: bool,
}

impl SegmentIndex {
    pub fn new() -> SegmentIndex {
        SegmentIndex {
            resident: true,
            ..SegmentIndex::default()
        }
    }

    /// Whether nothing in it is live.
    pub fn is_dead(&self) -> bool {
        let covered = self.covered.is_none_or(|covered| covered.live.rows == 0);
        self.partitions.is_empty() && covered
    }

    /// Adds records of a block. Records of the same block and partition share a row.
    pub fn add(&mut self, partition: PartitionId, block: BlockRef) {
        let range = self
            .partitions
            .entry(partition)
            .or_insert_with(|| SegmentRange {
                first: block.first,
                end: block.first,
                bytes: 0,
                max_timestamp: -1,
                blocks: Vec::new(),
            });
        range.end = range.end.max(block.end);
        range.bytes += u64::from(block.payload_bytes);
        range.max_timestamp = range.max_timestamp.max(block.max_timestamp);
        match range.blocks.last_mut() {
            Some(last) if last.position_units == block.position_units => {
                last.end = block.end;
                last.max_timestamp = last.max_timestamp.max(block.max_timestamp);
                last.payload_bytes += block.payload_bytes;
            }
            _ => {
                range.blocks.push(block);
                self.rows += 1;
            }
        }
    }

    /// Adds what stands behind all that is here.
    pub fn append(&mut self, behind: SegmentIndex) {
        for (partition, range) in behind.partitions {
            for block in range.blocks {
                self.add(partition, block);
            }
        }
    }

    /// Forgets a partition's records here.
    pub fn remove(&mut self, partition: PartitionId) {
        if let Some(range) = self.partitions.remove(&partition) {
            self.rows -= range.blocks.len();
        }
    }

    /// How many bytes the readers of each partition, together, read for each byte they want:
    /// whole blocks. While the rows are here.
    pub fn amplification(&self, unit: usize) -> f64 {
        let rows = self.partitions.values().flat_map(|range| &range.blocks);
        let (read, wanted) = rows.fold((0.0, 0.0), |(read, wanted), row| {
            let block = f64::from(row.block_units) * f64::from(u32::try_from(unit).unwrap_or(0));
            (read + block, wanted + f64::from(row.payload_bytes))
        });
        if wanted > 0.0 { read / wanted } else { 1.0 }
    }

    /// The footer's bytes.
    pub fn footer(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.rows * footer::ROW_BYTES);
        for (partition, range) in &self.partitions {
            for block in &range.blocks {
                footer::encode_row(*partition, block, &mut bytes);
            }
        }
        bytes
    }

    /// Drops the rows of the blocks, keeping what each partition spans. Returns how many.
    pub fn demote(&mut self) -> usize {
        for range in self.partitions.values_mut() {
            range.blocks = Vec::new();
        }
        self.resident = false;
        std::mem::take(&mut self.rows)
    }
}

/// The offsets at or above `start` that a partition spans in a segment and that none of `blocks`
/// shows.
pub(super) fn gaps(
    range: &SegmentRange,
    blocks: &[BlockRef],
    start: Offset,
) -> Vec<(Offset, Offset)> {
    let mut gaps = Vec::new();
    let mut known = range.first.max(start);
    let shown = blocks.iter().map(|block| (block.first, block.end));
    for (first, end) in shown.chain([(range.end, range.end)]) {
        if first > known {
            gaps.push((known, first));
        }
        known = known.max(end);
    }
    gaps
}

/// A footer read back: rows sorted by partition and offset.
#[derive(Debug)]
pub(super) struct Footer {
    rows: Vec<(PartitionId, BlockRef)>,
    is_rebuilt: bool,
}

impl Footer {
    pub fn new(rows: Vec<(PartitionId, BlockRef)>) -> Footer {
        debug_assert!(is_sorted(&rows), "partitions are looked for by halves");
        Footer {
            rows,
            is_rebuilt: false,
        }
    }

    /// Rows that were made again from the blocks themselves.
    pub fn rebuilt(rows: Vec<(PartitionId, BlockRef)>) -> Footer {
        debug_assert!(is_sorted(&rows), "partitions are looked for by halves");
        Footer {
            rows,
            is_rebuilt: true,
        }
    }

    pub fn is_rebuilt(&self) -> bool {
        self.is_rebuilt
    }

    /// The rows of a partition.
    pub fn of(&self, partition: PartitionId) -> &[(PartitionId, BlockRef)] {
        let from = self.rows.partition_point(|(at, _)| *at < partition);
        let to = self.rows.partition_point(|(at, _)| *at <= partition);
        &self.rows[from..to]
    }

    /// The first partition in it, at or behind another.
    pub fn partition_from(&self, partition: PartitionId) -> Option<PartitionId> {
        let from = self.rows.partition_point(|(at, _)| *at < partition);
        self.rows.get(from).map(|(at, _)| *at)
    }

    /// All rows.
    pub fn rows(&self) -> &[(PartitionId, BlockRef)] {
        &self.rows
    }
}

fn is_sorted(rows: &[(PartitionId, BlockRef)]) -> bool {
    rows.is_sorted_by_key(|(partition, _)| *partition)
}

/// A partition's bounds and whereabouts.
#[derive(Clone, Debug, Default)]
pub(super) struct PartitionState {
    /// First offset.
    pub start: Offset,
    /// Behind the last committed offset.
    pub end: Offset,
    /// Rows in the runs that end at or before this offset are no longer counted.
    pub counted: Offset,
    /// Its rows in the runs that are counted as live.
    pub covered: Counts,
    /// Segments it has records in that no run covers: first offset there, and the segment. In
    /// offset order.
    pub segments: VecDeque<(Offset, u64)>,
    /// Offsets known to be lost: half-open, sorted.
    pub damage: Vec<(Offset, Offset)>,
}

impl PartitionState {
    /// What a checkpoint says of it.
    pub fn row(&self, partition: PartitionId) -> PartitionRow {
        PartitionRow {
            partition,
            start: self.start,
            end: self.end,
            counted: self.counted,
            covered: self.covered,
            damage: self.damage.clone(),
        }
    }

    /// The damage at or after `offset` that begins soonest.
    pub fn damage_from(&self, offset: Offset) -> Option<(Offset, Offset)> {
        let found = self.damage.iter().find(|(_, end)| *end > offset);
        found.map(|(first, end)| ((*first).max(offset), *end))
    }

    /// Adds a damaged range, merged with what it touches.
    pub fn add_damage(&mut self, first: Offset, end: Offset) {
        let (mut first, mut end) = (first, end);
        self.damage.retain(|(a, b)| {
            let touches = *a <= end && first <= *b;
            if touches {
                first = first.min(*a);
                end = end.max(*b);
            }
            !touches
        });
        let at = self.damage.partition_point(|(a, _)| *a < first);
        self.damage.insert(at, (first, end));
    }
}

impl PartitionState {
    /// Offsets that are not lost after all.
    pub fn forget_damage(&mut self, first: Offset, end: Offset) {
        let before = std::mem::take(&mut self.damage);
        let left = before.into_iter().flat_map(|(from, to)| {
            let parts = [(from, to.min(first)), (from.max(end), to)];
            parts.into_iter().filter(|(from, to)| from < to)
        });
        self.damage = left.collect();
    }
}

/// The row that holds `offset`, in rows sorted by offset.
pub(super) fn find<T>(
    rows: &[T],
    offset: Offset,
    row: impl Fn(&T) -> &BlockRef,
) -> Option<BlockRef> {
    let at = rows.partition_point(|item| row(item).end <= offset);
    rows.get(at).map(|item| *row(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_that_touches_is_one_range_and_is_found_from_any_offset_before_its_end() {
        let mut state = PartitionState::default();
        state.add_damage(Offset(5), Offset(6));
        state.add_damage(Offset(9), Offset(12));
        state.add_damage(Offset(6), Offset(7));
        assert_eq!(
            state.damage,
            [(Offset(5), Offset(7)), (Offset(9), Offset(12))]
        );
        assert_eq!(state.damage_from(Offset(0)), Some((Offset(5), Offset(7))));
        assert_eq!(state.damage_from(Offset(6)), Some((Offset(6), Offset(7))));
        assert_eq!(state.damage_from(Offset(7)), Some((Offset(9), Offset(12))));
        assert_eq!(state.damage_from(Offset(12)), None);
        state.forget_damage(Offset(6), Offset(10));
        assert_eq!(
            state.damage,
            [(Offset(5), Offset(6)), (Offset(10), Offset(12))]
        );
    }
}
