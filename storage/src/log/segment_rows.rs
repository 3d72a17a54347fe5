//! What a checkpoint says of segments, a row at a time.
//!
//! Invariant: from the begin to the end of the walk no segment up to the anchor joins or leaves the
//! log, and none comes under another run or has rows taken off; whoever changes what one holds of a partition keeps it first. So what comes out is
//! what was there at the begin.

use std::collections::BTreeMap;
use std::ops::Bound;

use ringlog_types::PartitionId;
use ringlog_types::snapshot::{Next, Pieces, Rows};

use super::segments::Segment;
use crate::format::manifest::{Anchor, Manifest, RangeRow, SegmentRow};
use crate::format::origin::Origin;

/// Segments by their number.
type Live = BTreeMap<u64, Segment>;

/// Whether a checkpoint with this anchor names the segment.
pub(super) fn is_named(anchor: &Anchor, id: u64, segment: &Segment) -> bool {
    segment.is_cold || id <= anchor.segment
}

/// What a checkpoint says of a segment, but for its ranges.
pub(super) fn head(anchor: &Anchor, id: u64, segment: &Segment) -> SegmentRow {
    let last = id == anchor.segment;
    SegmentRow {
        segment: id,
        origin: segment.origin,
        data_end: if last {
            anchor.end_position
        } else {
            segment.position
        },
        first_sequence: segment.first_sequence,
        last_sequence: if last {
            anchor.sequence
        } else {
            segment.last_sequence
        },
        run: segment.index.covered.map_or(0, |covered| covered.run),
        live: segment.index.covered.map(|c| c.live).unwrap_or_default(),
        moved: segment.index.moved.iter().copied().collect(),
        ranges: Vec::new(),
    }
}

/// The walk over the segments of a checkpoint.
#[derive(Debug)]
pub(super) struct SegmentRows {
    anchor: Anchor,
    /// Segments up to this one are taken, or being taken.
    reached: Option<u64>,
    /// The ranges of the segment that is being taken, and how many were.
    open: Option<(Rows<PartitionId, RangeRow>, u32)>,
    /// Ranges that changed before their segment's turn.
    kept: BTreeMap<u64, Rows<PartitionId, RangeRow>>,
    count: u32,
    foreign: Vec<(u32, Origin)>,
}

impl SegmentRows {
    pub fn begin(anchor: Anchor) -> SegmentRows {
        SegmentRows {
            anchor,
            reached: None,
            open: None,
            kept: BTreeMap::new(),
            count: 0,
            foreign: Vec::new(),
        }
    }

    /// What the segment holds of the partition is about to change.
    pub fn keep(&mut self, live: &Live, id: u64, partition: PartitionId) {
        let Some(segment) = live.get(&id) else {
            return;
        };
        if !is_named(&self.anchor, id, segment) {
            return;
        }
        let rows = match &mut self.open {
            Some((rows, _)) if self.reached == Some(id) => rows,
            _ if self.reached.is_some_and(|reached| id <= reached) => return,
            _ => self.kept.entry(id).or_default(),
        };
        let range = segment.index.partitions.get(&partition);
        rows.keep(partition, || range.map(|range| range.row(partition)));
    }

    /// Takes the next row. `false`: all are taken, and what stands behind them.
    ///
    /// # Panics
    /// When a segment left the log meanwhile.
    pub fn take(&mut self, live: &Live, out: &mut Pieces) -> bool {
        let Some((rows, count)) = &mut self.open else {
            return self.open_next(live, out);
        };
        let segment = self.reached.and_then(|id| live.get(&id));
        let ranges = &segment
            .expect("segments stay during the walk")
            .index
            .partitions;
        let behind = |taken: Option<PartitionId>| {
            let from = taken.map_or(Bound::Unbounded, Bound::Excluded);
            let mut behind = ranges.range((from, Bound::Unbounded));
            behind.next().map(|(partition, _)| *partition)
        };
        match rows.take(behind, |partition| ranges[&partition].row(partition)) {
            Next::Row(row) => {
                *count += 1;
                out.add(|out| row.encode(out));
            }
            Next::Passed => {}
            Next::End => {
                out.close_number(*count);
                self.open = None;
            }
        }
        true
    }

    fn open_next(&mut self, live: &Live, out: &mut Pieces) -> bool {
        if self.reached.is_none() {
            out.open_number();
        }
        let from = self.reached.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = live.range((from, Bound::Unbounded));
        let next = behind.find(|(id, segment)| is_named(&self.anchor, **id, segment));
        let Some((id, segment)) = next else {
            out.close_number(self.count);
            out.add(|out| Manifest::encode_foreign(&self.foreign, out));
            return false;
        };
        if let Some(origin) = segment.origin {
            self.foreign.push((self.count, origin));
        }
        let row = head(&self.anchor, *id, segment);
        out.add(|out| row.encode_head(out));
        out.open_number();
        self.count += 1;
        self.reached = Some(*id);
        self.open = Some((self.kept.remove(id).unwrap_or_default(), 0));
        true
    }
}
