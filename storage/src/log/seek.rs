//! Offsets by time: of the first record at or after one, and of the latest.

use ringlog_types::{Offset, PartitionId};

use super::{Log, Read};
use crate::format::footer::BlockRef;
use crate::io::Io;

impl<I: Io> Log<I> {
    /// An offset at or before the first record whose timestamp is at or after `timestamp_ms`,
    /// with no such record in an earlier block. `None`: no such record.
    ///
    /// # Errors
    /// [`Read::Pending`]: the index must be read first; [`Read::Failed`]: it cannot be.
    pub fn seek_timestamp(
        &mut self,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<Offset>, Read> {
        let Some(state) = self.partitions.get(&partition) else {
            return Ok(None);
        };
        let start = state.start;
        let mut recent = state.segments.clone();
        if state.covered.rows > 0
            && let Some(row) = self.covered_row(partition, start, timestamp_ms)?
        {
            // A cleaned segment that no run covers yet may have older records.
            recent.retain(|(first, _)| *first < row.block.first);
            recent.push_back((row.block.first, row.segment));
        }
        for (first, id) in recent {
            let index = &self.segments.live[&id].index;
            let Some(range) = index.partitions.get(&partition) else {
                if index.covered.is_some() {
                    return Ok(Some(first.max(start)));
                }
                continue;
            };
            if range.max_timestamp < timestamp_ms {
                continue;
            }
            let late = |row: &BlockRef| row.max_timestamp >= timestamp_ms && row.end > start;
            let found = if index.resident {
                range
                    .blocks
                    .iter()
                    .find(|row| late(row))
                    .map(|row| row.first)
            } else {
                let footer = self.footer(id)?;
                let mut rows = footer.of(partition).iter();
                rows.find(|(_, row)| late(row)).map(|(_, row)| row.first)
            };
            if let Some(first) = found {
                return Ok(Some(first.max(start)));
            }
        }
        Ok(None)
    }

    /// The largest timestamp of a partition's records and an offset at or before its batch,
    /// in the block that has it. `None`: no record has one.
    ///
    /// # Errors
    /// As [`Log::seek_timestamp`].
    pub fn seek_max_timestamp(
        &mut self,
        partition: PartitionId,
    ) -> Result<Option<(i64, Offset)>, Read> {
        let Some(state) = self.partitions.get(&partition) else {
            return Ok(None);
        };
        let ranges = state
            .segments
            .iter()
            .filter_map(|(_, id)| self.segments.live.get(id)?.index.partitions.get(&partition));
        let recent = ranges.map(|range| range.max_timestamp).max();
        let (start, is_covered) = (state.start, state.covered.rows > 0);
        let mut largest = recent.unwrap_or(-1);
        if is_covered {
            largest = largest.max(self.largest_covered(partition, start)?);
        }
        if largest < 0 {
            return Ok(None);
        }
        Ok(self
            .seek_timestamp(partition, largest)?
            .map(|offset| (largest, offset)))
    }
}
