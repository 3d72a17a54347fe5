//! What nobody needs any more: offsets of partitions that are gone, offsets that expired, groups
//! without anything. Decided in steps; each decision is a record.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringlog_types::PartitionId;

use super::group::Phase;
use super::offset::CommittedOffset;
use super::record::GroupRecord;
use super::state::Groups;
use super::table::{GroupNumber, GroupRow};
use crate::limits::ROWS_PER_SWEEP_STEP;

/// A group that has nothing any more is kept so long, so that operators see it empty.
const UNUSED_MS: i64 = 10 * 60 * 1000;

/// How far a sweep has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sweep(Place);

#[derive(Clone, Copy, Debug)]
enum Place {
    Offsets(Option<(GroupNumber, PartitionId)>),
    Groups(Option<GroupNumber>),
    End,
}

impl Default for Place {
    fn default() -> Place {
        Place::Offsets(None)
    }
}

impl Sweep {
    /// Whether everything was looked at.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        matches!(self.0, Place::End)
    }
}

impl Groups {
    /// Looks at a bounded number of rows, and says what is to be logged. Offsets of a group without
    /// members expire when it is without them, and nothing was committed, for `retention_ms`.
    /// `exists` knows the partitions.
    pub fn sweep(
        &self,
        sweep: &mut Sweep,
        wall_ms: i64,
        retention_ms: i64,
        exists: impl Fn(PartitionId) -> bool,
    ) -> Vec<GroupRecord> {
        match &mut sweep.0 {
            Place::Offsets(behind) => {
                let before_ms = wall_ms.saturating_sub(retention_ms);
                let mut forgotten: BTreeMap<Arc<str>, Vec<(PartitionId, i64)>> = BTreeMap::new();
                let mut looked = 0;
                let rows = self.table.offsets_behind(*behind);
                for (key, row, offset) in rows.take(ROWS_PER_SWEEP_STEP) {
                    *behind = Some(key);
                    looked += 1;
                    let expired = self.has_expired(row, offset, wall_ms, before_ms);
                    if expired || !exists(key.1) {
                        let of_group = forgotten.entry(Arc::clone(&row.id)).or_default();
                        of_group.push((key.1, offset.committed_ms));
                    }
                }
                if looked < ROWS_PER_SWEEP_STEP {
                    sweep.0 = Place::Groups(None);
                }
                let records = forgotten.into_iter();
                records
                    .map(|(group, offsets)| GroupRecord::OffsetsForgotten { group, offsets })
                    .collect()
            }
            Place::Groups(behind) => {
                let mut records = Vec::new();
                let mut looked = 0;
                let rows = self.table.groups_behind(*behind);
                for (number, row) in rows.take(ROWS_PER_SWEEP_STEP) {
                    *behind = Some(number);
                    looked += 1;
                    if self.is_unused(row, wall_ms) && !self.table.has_offsets(number) {
                        records.push(GroupRecord::Removed {
                            group: Arc::clone(&row.id),
                            if_unused: true,
                        });
                    }
                }
                if looked < ROWS_PER_SWEEP_STEP {
                    sweep.0 = Place::End;
                }
                records
            }
            Place::End => Vec::new(),
        }
    }

    fn is_unused(&self, row: &GroupRow, wall_ms: i64) -> bool {
        // A group that lives and is without members has an entry on its way into the log.
        let is_at_rest = !self.live.contains_key(&row.id);
        let since_ms = row
            .stored
            .as_ref()
            .map_or(i64::MIN, |stored| stored.since_ms);
        is_at_rest && since_ms <= wall_ms.saturating_sub(UNUSED_MS)
    }

    fn has_expired(
        &self,
        row: &GroupRow,
        offset: &CommittedOffset,
        wall_ms: i64,
        before_ms: i64,
    ) -> bool {
        let live = self.live.get(&row.id);
        if live.is_some_and(|group| group.phase != Phase::Empty) {
            return false;
        }
        if offset.expires_ms >= 0 {
            return offset.expires_ms <= wall_ms;
        }
        let since_ms = row
            .stored
            .as_ref()
            .map_or(i64::MIN, |stored| stored.since_ms);
        since_ms.max(offset.committed_ms) <= before_ms
    }
}
