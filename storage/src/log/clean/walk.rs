//! A walk over what a segment holds, a row at a time, so that a step of it can end anywhere.
//!
//! Of a segment that a run covers the rows of its footer are walked over, of another what the log
//! keeps in memory. Both are sorted by partition, and so is what comes of them.

use std::ops::Bound;
use std::rc::Rc;

use ringlog_types::Offset;

use super::held::{Held, Step, Walk};
use crate::io::Io;
use crate::log::Log;
use crate::log::index::{Footer, SegmentIndex};

impl<I: Io> Log<I> {
    /// The next step of a walk: one row. What changes behind it is not seen any more.
    pub(super) fn walk(&self, walk: &mut Walk) -> Step {
        let Some(live) = self.segments.live.get(&walk.segment) else {
            return Step::End;
        };
        let rows = walk.rows.as_ref().filter(|_| live.index.covered.is_some());
        match rows.map(Rc::clone) {
            Some(rows) => self.walk_footer(&live.index, &rows, walk),
            None => self.walk_ranges(&live.index, walk),
        }
    }

    fn walk_ranges(&self, index: &SegmentIndex, walk: &mut Walk) -> Step {
        let from = walk.behind.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = index.partitions.range((from, Bound::Unbounded));
        let Some((partition, range)) = behind.next() else {
            return Step::End;
        };
        walk.behind = Some(*partition);
        let Some(state) = self.partitions.get(partition) else {
            return Step::Passed;
        };
        let first = range.first.max(state.start);
        if first >= range.end {
            return Step::Passed;
        }
        Step::Held(Held {
            partition: *partition,
            first,
            end: range.end,
            bytes: part_of(range.bytes, (first, range.end), (range.first, range.end)),
        })
    }

    fn walk_footer(&self, index: &SegmentIndex, footer: &Footer, walk: &mut Walk) -> Step {
        let next = footer.rows().get(walk.at);
        let is_same = |held: &Held| next.is_some_and(|(next, _)| *next == held.partition);
        if let Some(held) = walk.open.take_if(|held| !is_same(held)) {
            return Step::Held(held);
        }
        let Some((partition, row)) = next else {
            return Step::End;
        };
        walk.at += 1;
        let state = self.partitions.get(partition);
        let state = state.filter(|state| row.end > state.start && row.end > state.counted);
        if let Some(state) = state.filter(|_| !index.moved.contains(partition)) {
            let first = row.first.max(state.start);
            let held = walk.open.get_or_insert(Held {
                partition: *partition,
                first,
                end: row.end,
                bytes: 0,
            });
            held.first = held.first.min(first);
            held.end = held.end.max(row.end);
            held.bytes += u64::from(row.payload_bytes);
        }
        Step::Passed
    }
}

/// The bytes of a part of a range of offsets, by proportion.
fn part_of(bytes: u64, part: (Offset, Offset), whole: (Offset, Offset)) -> u64 {
    let length = |range: (Offset, Offset)| u128::from(range.1.0.saturating_sub(range.0.0));
    let share = u128::from(bytes) * length(part) / length(whole).max(1);
    u64::try_from(share).unwrap_or(bytes)
}
