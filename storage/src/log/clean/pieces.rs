//! Where a partition lies, segment by segment, in the order of its offsets: what compaction takes
//! together. Of recent segments the index says it; of those that runs cover it is looked up, row by row,
//! some in a step.
//!
//! Invariant: a piece is all that its segment has of the partition, because the switch moves the
//! partition out of the segment whole.

use ringlog_types::{Offset, PartitionId};

use super::group::{Bounds, Group, Grouped, Piece};
use crate::io::Io;
use crate::log::runs::lookup::ANY_TIME;
use crate::log::segments::{Segment, Stage};
use crate::log::{Log, Read};

/// Lookups in one step: each asks all runs, some microseconds for each.
const LOOKUPS_PER_STEP: usize = 16;
/// Rows that one lookup brings, as far as they follow.
const ROWS_PER_LOOKUP: usize = 64;
impl<I: Io> Log<I> {
    /// Whether a segment's records may be compacted: it is written no more, and a checkpoint stands behind.
    pub(super) fn is_at_rest(&self, id: u64, segment: &Segment) -> bool {
        segment.stage == Stage::Sealed && (segment.is_cold || id < self.checkpoint_anchor_segment)
    }

    /// Goes on with a group.
    pub(super) fn gather_group(
        &mut self,
        partition: PartitionId,
        mut group: Group,
        bounds: &Bounds,
    ) -> Grouped {
        for _ in 0..LOOKUPS_PER_STEP {
            let Some(state) = self.partitions.get(&partition) else {
                return Grouped::Whole(Group::default());
            };
            let (at, start) = (group.at, state.start);
            let is_covered = state.covered.rows > 0;
            let recent = self.recent_range(partition, at);
            let recent = recent.map(|(segment, _, range)| Piece {
                segment,
                first: range.first,
                end: range.end,
                bytes: range.bytes,
            });
            let covered = if is_covered {
                match self.covered_row(partition, at, ANY_TIME) {
                    Ok(found) => found,
                    Err(Read::Pending(ticket)) => return Grouped::Goes(group, Some(ticket)),
                    Err(Read::Failed(cause)) => return Grouped::Failed(cause),
                    Err(_) => return Grouped::Failed("an index run cannot be read".to_owned()),
                }
            } else {
                None
            };
            let is_before = |piece: &Piece| covered.is_none_or(|row| piece.first < row.block.first);
            let goes_on = match (recent.filter(is_before), covered) {
                (Some(piece), _) if piece.end <= start => {
                    group = Group::new(piece.end);
                    true
                }
                (Some(piece), _) => {
                    let segment = &self.segments.live[&piece.segment];
                    group.take_piece(piece, bounds, self.is_at_rest(piece.segment, segment))
                }
                (None, Some(row)) => {
                    let segment = self.segments.live.get(&row.segment);
                    let at_rest = segment.is_some_and(|s| self.is_at_rest(row.segment, s));
                    let rows = self.rows_behind(row, ROWS_PER_LOOKUP);
                    let mut rows = rows.iter();
                    rows.all(|row| group.take_row(row.segment, &row.block, bounds, at_rest))
                }
                (None, None) => false,
            };
            if !goes_on {
                // What is open has ended, if the partition has nothing more there.
                group.open = false;
                return self.settle_group(group, start);
            }
        }
        Grouped::Goes(group, None)
    }

    /// A group is whole, if no run took or lost one of its segments meanwhile.
    fn settle_group(&mut self, mut group: Group, start: Offset) -> Grouped {
        // What has expired meanwhile goes by itself.
        let expired = group.pieces.iter().take_while(|piece| piece.end <= start);
        let expired: Vec<u64> = expired.map(|piece| piece.segment).collect();
        group.pieces.drain(..expired.len());
        group.rows.retain(|id, _| !expired.contains(id));
        if !expired.is_empty() && group.pieces.is_empty() {
            return Grouped::Goes(Group::new(group.at), None);
        }
        let mut sources = group.pieces.iter().map(|piece| piece.segment);
        if sources.clone().any(|id| self.runs.takes(id)) {
            // Not for long.
            return Grouped::Goes(Group::new(group.from), Some(self.reads_done));
        }
        let is_same = |id: u64| {
            let lives = self.segments.live.contains_key(&id);
            lives && self.is_covered(id) == group.rows.contains_key(&id)
        };
        if sources.all(is_same) {
            Grouped::Whole(group)
        } else {
            Grouped::Goes(Group::new(group.from), None)
        }
    }
}
