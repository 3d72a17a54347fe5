//! Neighbouring segments of which compaction makes one for a partition: what fits a group.

use std::collections::BTreeMap;

use ringlog_types::{Offset, PartitionId};

use crate::format::footer::BlockRef;
use crate::log::runs::covered_rows::{CoveredRows, footer_of};

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
    pub rows: BTreeMap<u64, Vec<BlockRef>>,
    /// The last piece may have more rows.
    pub open: bool,
    pub from: Offset,
    /// What is looked at next.
    pub at: Offset,
    pub count: usize,
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

    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Rows of those pieces that lie in covered segments, and must be moved in their runs.
    pub fn covered_rows(&self, partition: PartitionId) -> CoveredRows {
        let rows = self.rows.iter();
        rows.map(|(id, rows)| (*id, footer_of(partition, rows.clone())))
            .collect()
    }

    /// The last piece cannot be had whole: the group ends before it.
    pub fn drop_open(&mut self) {
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
    pub fn take_row(
        &mut self,
        segment: u64,
        row: &BlockRef,
        bounds: &Bounds,
        at_rest: bool,
    ) -> bool {
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
    pub fn take_piece(&mut self, piece: Piece, bounds: &Bounds, at_rest: bool) -> bool {
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
