//! What readers found damaged in covered segments. Which partitions have records in a block is not in
//! memory there: who comes to the block by its row finds out, and the damage is remembered with
//! the partition.

use std::collections::{BTreeMap, BTreeSet};

use ringlog_types::{Offset, PartitionId};

use crate::format::entry_header::EntryMeta;
use crate::format::footer::BlockRef;
use crate::io::Io;
use crate::log::Log;
use crate::log::block::Block;

/// Blocks remembered. One that was forgotten is read again, and found again.
const MOST: usize = 4096;

/// Offsets of a partition whose bytes are lost.
type Lost = (PartitionId, Offset, Offset);

/// Damaged blocks by segment and position.
#[derive(Debug, Default)]
pub(in crate::log) struct BadBlocks {
    unreadable: BTreeSet<(u64, u64)>,
    entries: BTreeMap<(u64, u64), Vec<Lost>>,
}

impl BadBlocks {
    /// The block cannot be read, or is another.
    pub fn add_unreadable(&mut self, segment: u64, position: u64) {
        if self.unreadable.len() >= MOST {
            self.unreadable.clear();
        }
        self.unreadable.insert((segment, position));
    }

    pub fn is_unreadable(&self, segment: u64, position: u64) -> bool {
        self.unreadable.contains(&(segment, position))
    }

    /// The bytes of an entry fail their check.
    pub fn add_entry(&mut self, segment: u64, position: u64, meta: EntryMeta) {
        if self.entries.len() >= MOST {
            self.entries.clear();
        }
        let entries = self.entries.entry((segment, position)).or_default();
        let entry = (meta.partition, meta.base_offset, meta.end_offset());
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }

    pub fn forget_segment(&mut self, segment: u64) {
        self.unreadable.retain(|(of, _)| *of != segment);
        self.entries.retain(|(of, _), _| *of != segment);
    }
}

impl<I: Io> Log<I> {
    /// Compares a block with the row that led to it: whether the partition's records in it are
    /// damaged, which is remembered. `true`: something new was found.
    pub(in crate::log) fn finds_damage(
        &mut self,
        partition: PartitionId,
        segment: u64,
        row: &BlockRef,
        block: &Block,
    ) -> bool {
        let mut span: Option<(Offset, Offset)> = None;
        for entry in block.of(partition) {
            let (first, end) = (entry.meta.base_offset, entry.meta.end_offset());
            span = Some(span.map_or((first, end), |(a, b)| (a.min(first), b.max(end))));
        }
        let position = u64::from(row.position_units) * self.unit as u64;
        if span != Some((row.first, row.end)) {
            // Bytes of the log that do not belong here: a write went astray.
            self.runs.bad_blocks.add_unreadable(segment, position);
            self.damage_row(partition, segment, row);
            return true;
        }
        let entries = self.runs.bad_blocks.entries.get(&(segment, position));
        let own = entries.into_iter().flatten();
        let own: Vec<_> = own.filter(|(of, ..)| *of == partition).copied().collect();
        let mut is_new = false;
        for (_, first, end) in own {
            is_new |= self.add_found_damage(partition, first, end);
        }
        is_new
    }

    /// The records of a row cannot be read.
    pub(in crate::log) fn damage_row(
        &mut self,
        partition: PartitionId,
        segment: u64,
        row: &BlockRef,
    ) {
        let (first, end) = (row.first, row.end);
        tracing::error!(
            log = %self.id, %partition, %first, %end, segment,
            "damaged offsets (end exclusive)"
        );
        self.add_found_damage(partition, first, end);
    }

    fn add_found_damage(&mut self, partition: PartitionId, first: Offset, end: Offset) -> bool {
        let Some(state) = self.partitions.get_mut(&partition) else {
            return false;
        };
        let known = state.damage.iter();
        if end <= state.start || known.into_iter().any(|(a, b)| *a <= first && end <= *b) {
            return false;
        }
        state.add_damage(first, end);
        self.stats.damaged_ranges += 1;
        true
    }
}
