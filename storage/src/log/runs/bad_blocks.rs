//! What readers found damaged in covered segments. Which partitions have records in a block is not in
//! memory there: who comes to the block by its row finds out, and the damage is remembered with
//! the partition.

use std::collections::{BTreeMap, BTreeSet};

use ringlog_types::{Offset, PartitionId};

use crate::format::entry_header::EntryMeta;

/// Blocks remembered. One that was forgotten is read again, and found again.
const MOST: usize = 4096;

/// Offsets of a partition whose bytes are lost.
pub(crate) type Lost = (PartitionId, Offset, Offset);

/// Damaged blocks by segment and position.
#[derive(Debug, Default)]
pub(crate) struct BadBlocks {
    pub unreadable: BTreeSet<(u64, u64)>,
    pub entries: BTreeMap<(u64, u64), Vec<Lost>>,
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
