//! Rows of runs that readers go over next, by partition: a reader comes to the next one with one
//! look into a map, where a search goes down each run.
//!
//! Invariant: a row is used only while it still counts, which whoever uses it asks; so nothing has
//! to be forgotten here when runs or segments change.

use std::rc::Rc;

use ringlog_types::{NumberMap, Offset, PartitionId};

use crate::format::run_page::RunRow;

/// Rows of a generation at least.
const LEAST_ROWS: usize = 128;

/// What was found of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Ahead {
    /// The run that has the rows.
    pub run: u64,
    /// In the order of their offsets.
    pub rows: Rc<[RunRow]>,
}

/// A row that was looked for.
#[derive(Clone, Debug)]
pub(crate) struct FoundRow {
    pub row: RunRow,
    /// It, and those that follow it and are known.
    pub rows: Rc<[RunRow]>,
}

impl Ahead {
    /// The row that holds an offset.
    pub fn row(&self, offset: Offset) -> Option<&RunRow> {
        let at = self.rows.partition_point(|row| row.block.end <= offset);
        self.rows.get(at).filter(|row| row.block.first <= offset)
    }
}

/// Two generations: what was not used since the older one closed goes with it.
#[derive(Debug)]
pub(crate) struct AheadCache {
    generation_rows: usize,
    young: NumberMap<PartitionId, Ahead>,
    young_rows: usize,
    old: NumberMap<PartitionId, Ahead>,
    old_rows: usize,
}

impl AheadCache {
    /// A cache whose rows take so many bytes at the most.
    pub fn new(bytes: usize) -> AheadCache {
        AheadCache {
            generation_rows: (bytes / 2 / size_of::<RunRow>()).max(LEAST_ROWS),
            young: NumberMap::default(),
            young_rows: 0,
            old: NumberMap::default(),
            old_rows: 0,
        }
    }

    /// What is known of a partition.
    pub fn of(&mut self, partition: PartitionId) -> Option<&Ahead> {
        if let Some(used) = self.old.remove(&partition) {
            self.old_rows -= used.rows.len();
            self.keep(partition, used);
        }
        self.young.get(&partition)
    }

    /// Keeps it, instead of what was known before.
    pub fn keep(&mut self, partition: PartitionId, ahead: Ahead) {
        self.young_rows += ahead.rows.len();
        if let Some(before) = self.young.insert(partition, ahead) {
            self.young_rows -= before.rows.len();
        }
        if let Some(before) = self.old.remove(&partition) {
            self.old_rows -= before.rows.len();
        }
        if self.young_rows > self.generation_rows {
            self.old = std::mem::take(&mut self.young);
            self.old_rows = std::mem::take(&mut self.young_rows);
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let partitions = self.young.capacity() + self.old.capacity();
        let rows = self.young_rows + self.old_rows;
        rows * size_of::<RunRow>() + partitions * size_of::<(PartitionId, Ahead)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::footer::BlockRef;

    fn ahead(of: u64, count: u64) -> Ahead {
        let row = |at: u64| RunRow {
            partition: PartitionId(of),
            segment: at,
            block: BlockRef {
                first: Offset(at * 10),
                end: Offset(at * 10 + 5),
                max_timestamp: -1,
                position_units: 1,
                block_units: 1,
                payload_bytes: 1,
            },
        };
        Ahead {
            run: 1,
            rows: (0..count).map(row).collect(),
        }
    }

    #[test]
    fn a_row_is_found_by_each_offset_that_it_holds_and_by_no_other() {
        let ahead = ahead(1, 8);
        for offset in 0..100 {
            let found = ahead.row(Offset(offset)).map(|row| row.segment);
            let expected = (offset < 80 && offset % 10 < 5).then_some(offset / 10);
            assert_eq!(found, expected, "{offset}");
        }
    }

    #[test]
    fn what_is_used_stays_and_two_generations_are_the_most() {
        let mut cache = AheadCache::new(0);
        let most = 2 * LEAST_ROWS + 8;
        for of in 1..5_000 {
            cache.keep(PartitionId(of), ahead(of, 8));
            // Read often enough: never older than a generation.
            cache.keep(PartitionId(of), ahead(of, 8));
            assert!(of < 2 || cache.of(PartitionId(1)).is_some(), "{of}");
            assert!(cache.young_rows + cache.old_rows <= most);
        }
        assert!(cache.of(PartitionId(2)).is_none());
        assert!(cache.of(PartitionId(4_999)).is_some());
        let rows = |map: &NumberMap<PartitionId, Ahead>| -> usize {
            map.values().map(|ahead| ahead.rows.len()).sum()
        };
        assert_eq!(cache.young_rows, rows(&cache.young));
        assert_eq!(cache.old_rows, rows(&cache.old));
    }
}
