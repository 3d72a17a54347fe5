//! What a reader finds of a covered segment when it comes to a block by its row: whether the block
//! has the records that the row says, whole.

use ringlog_types::{Offset, PartitionId};

use crate::format::footer::BlockRef;
use crate::io::Io;
use crate::log::Log;
use crate::log::block::Block;

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
