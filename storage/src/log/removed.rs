//! Where readers went over offsets that compaction removed, so that they need not do it again: a
//! reader that finds the next block missing begins again at the offset it was asked for, and
//! the blocks on the way to it may have left a small cache by then.
//!
//! Invariant: what is noted holds no record and never will: compaction takes offsets away for good.

use std::collections::HashMap;

use ringlog_types::{Offset, PartitionId};

/// Partitions of which it is remembered. A forgotten one costs another way over the blocks.
const MOST_PARTITIONS: usize = 1024;

/// By partition, the stretch of removed offsets that a reader met last.
#[derive(Debug, Default)]
pub(super) struct Removed {
    stretches: HashMap<PartitionId, (Offset, Offset)>,
}

impl Removed {
    /// The first offset at or after this one that may hold something.
    pub fn behind(&self, partition: PartitionId, offset: Offset) -> Offset {
        match self.stretches.get(&partition) {
            Some((first, end)) if (*first..*end).contains(&offset) => *end,
            _ => offset,
        }
    }

    /// A reader met nothing from `first` to before `end`.
    pub fn note(&mut self, partition: PartitionId, first: Offset, end: Offset) {
        if first >= end {
            return;
        }
        if self.stretches.len() >= MOST_PARTITIONS && !self.stretches.contains_key(&partition) {
            self.stretches.clear();
        }
        let stretch = self.stretches.entry(partition).or_insert((first, end));
        *stretch = match *stretch {
            (from, to) if from <= first && first <= to => (from, to.max(end)),
            _ => (first, end),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_grows_where_the_reader_goes_on_and_gives_way_to_another() {
        let partition = PartitionId(1);
        let mut removed = Removed::default();
        removed.note(partition, Offset(3), Offset(3));
        assert_eq!(removed.behind(partition, Offset(3)), Offset(3));
        removed.note(partition, Offset(3), Offset(5));
        removed.note(partition, Offset(4), Offset(9));
        assert_eq!(removed.behind(partition, Offset(3)), Offset(9));
        assert_eq!(removed.behind(partition, Offset(9)), Offset(9));
        assert_eq!(removed.behind(PartitionId(2), Offset(3)), Offset(3));
        removed.note(partition, Offset(20), Offset(21));
        assert_eq!(removed.behind(partition, Offset(4)), Offset(4));
        assert_eq!(removed.behind(partition, Offset(20)), Offset(21));
    }
}
