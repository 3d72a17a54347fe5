//! The group that is open where a segment ends. It goes on in the next segment; or a crash came before
//! its last block, it does not exist, and its offsets were given again.
//!
//! Which of the two, the segment's own blocks do not say. The first block of the next segment does, in
//! most cases; else, where a run has the segment's rows, how many of them count, because that was
//! counted when the blocks had been applied.

use ringlog_types::Sequence;

use crate::format::block_header::Group;
use crate::format::manifest::Counts;
use crate::io::Io;
use crate::log::Log;
use crate::log::index::SegmentIndex;

/// The first block of the group that is open behind the last of a segment's blocks, given that one's
/// group.
pub(in crate::log) fn open_behind(last: (Group, Sequence)) -> Option<Sequence> {
    let (group, first) = last;
    matches!(group, Group::Begin | Group::Continue).then_some(first)
}

/// Whether there is room for the rows of the open group among the `live` ones of the segment, of which
/// `others` are found besides.
fn have_room(live: Counts, others: Counts, open: Counts) -> bool {
    others.rows + open.rows <= live.rows && others.bytes + open.bytes <= live.bytes
}

impl<I: Io> Log<I> {
    /// Whether the group with the first block `open`, which is open where a covered segment ends, was
    /// committed: `of_open` are its rows there, `others` all that else was found.
    pub(in crate::log) fn is_committed(
        &self,
        segment: u64,
        open: Sequence,
        (others, of_open): (&SegmentIndex, &SegmentIndex),
    ) -> bool {
        let live = &self.segments.live;
        let own = live.get(&segment);
        let own = own.filter(|own| own.origin.is_none() && !own.is_cold);
        let follows = own.and_then(|own| {
            let mut behind = live.range(segment + 1..);
            let next = behind.find(|(_, next)| next.origin.is_none() && !next.is_cold);
            let first = next?.1.first_block?;
            (first.sequence == own.last_sequence.next()).then_some(first)
        });
        let covered = live.get(&segment).and_then(|own| own.index.covered);
        let live = covered.map(|covered| covered.live).unwrap_or_default();
        let counts = |index| self.counts_of(segment, index);
        follows
            .and_then(|first| first.commits(open))
            .unwrap_or_else(|| have_room(live, counts(others), counts(of_open)))
    }

    /// What of the rows counts whatever was taken off since.
    fn counts_of(&self, segment: u64, index: &SegmentIndex) -> Counts {
        let moved = self.segments.live.get(&segment).map(|own| &own.index.moved);
        let mut counts = Counts::default();
        for (partition, range) in &index.partitions {
            let Some(state) = self.partitions.get(partition) else {
                continue;
            };
            if moved.is_some_and(|moved| moved.contains(partition)) {
                continue;
            }
            let start = state.start.max(state.counted);
            for row in range.blocks.iter().filter(|row| row.end > start) {
                counts.rows += 1;
                counts.bytes += u64::from(row.payload_bytes);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: u64, bytes: u64) -> Counts {
        Counts { rows, bytes }
    }

    #[test]
    fn a_group_is_open_until_the_block_that_commits_it() {
        let first = Sequence(7);
        assert_eq!(open_behind((Group::Begin, first)), Some(first));
        assert_eq!(open_behind((Group::Continue, first)), Some(first));
        assert_eq!(open_behind((Group::Commit, first)), None);
        assert_eq!(open_behind((Group::Whole, first)), None);
    }

    #[test]
    fn a_group_that_was_never_committed_is_known_by_rows_that_nobody_counted() {
        let (others, open) = (counts(4, 400), counts(2, 90));
        assert!(!have_room(counts(4, 400), others, open));
        assert!(have_room(counts(6, 490), others, open));
        // Another block of the segment is lost: smaller than the group, or as large.
        assert!(!have_room(counts(5, 440), others, open));
        assert!(!have_room(counts(6, 480), others, open));
        assert!(have_room(counts(9, 700), others, open));
    }
}
