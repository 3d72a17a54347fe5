//! All partitions of a log: found by number, walked in order, and kept for a checkpoint that is
//! being taken.
//!
//! Invariant: no partition changes but through this table, which keeps what it was for a
//! checkpoint that has not come to it yet.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry as MapEntry;
use std::ops::{Bound, Deref};

use ringlog_types::snapshot::{Next, Rows};
use ringlog_types::{NumberMap, PartitionId};

use super::index::PartitionState;
use crate::format::manifest::PartitionRow;

/// All partitions of a log. Read like the map it is.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    states: NumberMap<PartitionId, PartitionState>,
    order: BTreeSet<PartitionId>,
    /// Rows of the checkpoint that is being taken.
    rows: Option<Rows<PartitionId, PartitionRow>>,
}

impl Deref for Partitions {
    type Target = NumberMap<PartitionId, PartitionState>;

    fn deref(&self) -> &NumberMap<PartitionId, PartitionState> {
        &self.states
    }
}

/// The place of a partition.
pub(super) struct Entry<'a> {
    table: &'a mut Partitions,
    partition: PartitionId,
}

impl<'a> Entry<'a> {
    /// The partition, begun if it was not there.
    pub fn or_default(self) -> &'a mut PartitionState {
        let Entry { table, partition } = self;
        match table.states.entry(partition) {
            MapEntry::Occupied(state) => state.into_mut(),
            MapEntry::Vacant(place) => {
                table.order.insert(partition);
                place.insert(PartitionState::default())
            }
        }
    }
}

impl Partitions {
    /// The place of a partition, to change it or begin it.
    pub fn entry(&mut self, partition: PartitionId) -> Entry<'_> {
        self.keep(partition);
        Entry {
            table: self,
            partition,
        }
    }

    /// A partition, to change it.
    pub fn get_mut(&mut self, partition: &PartitionId) -> Option<&mut PartitionState> {
        self.keep(*partition);
        self.states.get_mut(partition)
    }

    /// All partitions, to change them before anything is served.
    ///
    /// # Panics
    /// While a checkpoint is being taken.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut PartitionState> {
        assert!(self.rows.is_none(), "no checkpoint is taken in recovery");
        self.states.values_mut()
    }

    /// Takes a partition out.
    pub fn remove(&mut self, partition: &PartitionId) -> Option<PartitionState> {
        self.keep(*partition);
        self.order.remove(partition);
        self.states.remove(partition)
    }

    fn keep(&mut self, partition: PartitionId) {
        if let Some(rows) = &mut self.rows {
            let state = self.states.get(&partition);
            rows.keep(partition, || state.map(|state| state.row(partition)));
        }
    }

    /// From now on [`Partitions::take_row`] gives the rows as they are now.
    pub fn begin_rows(&mut self) {
        self.rows = Some(Rows::default());
    }

    /// The next row, in order, since [`Partitions::begin_rows`].
    pub fn take_row(&mut self) -> Next<PartitionRow> {
        let Some(rows) = &mut self.rows else {
            return Next::End;
        };
        let behind = |taken: Option<PartitionId>| {
            let from = taken.map_or(Bound::Unbounded, Bound::Excluded);
            self.order.range((from, Bound::Unbounded)).next().copied()
        };
        let next = rows.take(behind, |partition| self.states[&partition].row(partition));
        if next == Next::End {
            self.rows = None;
        }
        next
    }
}
