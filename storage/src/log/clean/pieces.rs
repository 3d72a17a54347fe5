//! Where a partition lies, segment by segment, in the order of its offsets: what compaction takes
//! together. Of recent segments the index says it; of those that runs cover it is looked up, row by row,
//! some in a step.
//!
//! Invariant: a piece is all that its segment has of the partition, because the switch moves the
//! partition out of the segment whole.

use std::collections::BTreeMap;

use ringlog_types::{Offset, PartitionId};

use crate::format::footer::BlockRef;
use crate::io::Io;
use crate::log::runs::lookup::ANY_TIME;
use crate::log::runs::replace::{CoveredRows, footer_of};
use crate::log::segments::{Segment, Stage};
use crate::log::{Log, Read};

/// Lookups in one step: each asks all runs, some microseconds for each.
const LOOKUPS_PER_STEP: usize = 16;
/// Rows that one lookup brings, as far as they follow.
const ROWS_PER_LOOKUP: usize = 64;
/// Rows of covered segments in one group.
const MOST_ROWS: usize = 64 << 10;
/// Segments in one group.
const MOST_PIECES: usize = 1024;

/// All that a segment has of the partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub segment: u64,
    pub first: Offset,
    pub end: Offset,
    pub bytes: u64,
}

/// Neighbouring segments that become one for the partition.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub pieces: Vec<Piece>,
    /// Rows of the pieces that lie in covered segments.
    rows: BTreeMap<u64, Vec<BlockRef>>,
    /// The last piece may have more rows.
    open: bool,
    from: Offset,
    /// What is looked at next.
    pub at: Offset,
    count: usize,
}

/// What a group may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// No piece reaches beyond.
    pub end: Offset,
    /// No piece begins at or behind this.
    pub first_before: Offset,
    /// Bytes of batches; one piece may always have more.
    pub bytes: u64,
}

/// How far a group came in a step.
#[derive(Debug)]
pub(super) enum Grouped {
    /// Nothing more fits it. Without a piece nothing is left.
    Whole(Group),
    /// After the reads that this ticket stands for, or at once.
    Goes(Group, Option<u64>),
    Failed(String),
}

impl Group {
    pub fn new(from: Offset) -> Group {
        Group {
            from,
            at: from,
            ..Group::default()
        }
    }

    fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Rows of those pieces that lie in covered segments, and must be moved in their runs.
    pub fn covered_rows(&self, partition: PartitionId) -> CoveredRows {
        let rows = self.rows.iter();
        rows.map(|(id, rows)| (*id, footer_of(partition, rows.clone())))
            .collect()
    }

    /// The last piece cannot be had whole: the group ends before it.
    fn drop_open(&mut self) {
        if self.open
            && let Some(piece) = self.pieces.pop()
        {
            let rows = self.rows.remove(&piece.segment);
            self.count -= rows.map_or(0, |rows| rows.len());
            self.at = piece.first;
        }
        self.open = false;
    }

    /// Takes a row of a covered segment. `false`: the group ends before it.
    fn take_row(&mut self, segment: u64, row: &BlockRef, bounds: &Bounds, at_rest: bool) -> bool {
        let bytes = u64::from(row.payload_bytes);
        let last = self.pieces.last_mut();
        let is_more = self.open && last.is_some_and(|last| last.segment == segment);
        if !is_more {
            self.open = false;
            let full = self.pieces.len() >= MOST_PIECES || self.bytes() + bytes > bounds.bytes;
            let more = self.pieces.is_empty() || !full && self.count < MOST_ROWS;
            if !at_rest || row.first >= bounds.first_before || !more {
                return false;
            }
            self.pieces.push(Piece {
                segment,
                first: row.first,
                end: row.first,
                bytes: 0,
            });
            self.open = true;
        }
        let alone = self.pieces.len() == 1;
        let full = self.bytes() + bytes > bounds.bytes || self.count >= MOST_ROWS;
        if row.end > bounds.end || full && !alone {
            self.drop_open();
            return false;
        }
        if let Some(piece) = self.pieces.last_mut() {
            (piece.end, piece.bytes) = (row.end, piece.bytes + bytes);
        }
        self.rows.entry(segment).or_default().push(*row);
        self.count += 1;
        self.at = row.end;
        true
    }

    /// Takes a piece of which the index knows all. `false`: the group ends before it.
    fn take_piece(&mut self, piece: Piece, bounds: &Bounds, at_rest: bool) -> bool {
        self.open = false;
        let full = self.pieces.len() >= MOST_PIECES || self.bytes() + piece.bytes > bounds.bytes;
        let fits = piece.first < bounds.first_before && piece.end <= bounds.end;
        if !at_rest || !fits || full && !self.pieces.is_empty() {
            return false;
        }
        self.at = piece.end;
        self.pieces.push(piece);
        true
    }
}

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
