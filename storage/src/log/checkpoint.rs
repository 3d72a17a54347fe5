//! Checkpoints: the state of everything as of the last applied block, written as one atomic
//! group of entries among all others.
//!
//! When its last block is durable it is the newest checkpoint: segments before its anchor
//! hold no state that is needed, and those without live records are let go. The pointer to it
//! is written into every segment header and trailer from then on.

use std::rc::Rc;

use ringlog_types::{Offset, PartitionId};

use super::block::Block;
use super::pending::PendingCheckpoint;
use super::urgency::Urgency;
use super::{EntryKind, EntryMeta, Log, Machine};
use crate::format::manifest::{DroppedRow, Manifest, PartitionRow, RangeRow, SegmentRow};
use crate::format::segment_header::CheckpointPointer;
use crate::io::Io;

/// Bytes of a checkpoint in one entry.
const PART_BYTES: usize = 512 << 10;

impl<I: Io> Log<I> {
    /// Appends a checkpoint of the committed state, unless one is under way.
    pub(super) fn start_checkpoint(&mut self, machine: &mut dyn Machine) {
        if self.is_closing {
            self.finish_switch();
        }
        let begun = self.pending_checkpoint.is_some() || !self.open_group.is_empty();
        if begun || self.is_switching() {
            return;
        }
        self.bytes_since_checkpoint = 0;
        let mut bytes = Vec::new();
        self.manifest().encode(&machine.checkpoint(), &mut bytes);
        let parts: Vec<&[u8]> = bytes.chunks(PART_BYTES).collect();
        let count = u32::try_from(parts.len()).expect("a checkpoint is far below 2 PiB");
        let meta = |number: u64| EntryMeta {
            partition: PartitionId::NONE,
            kind: EntryKind::Checkpoint,
            machine: 0,
            base_offset: Offset(number),
            count,
            max_timestamp: -1,
        };
        let entries: Vec<(EntryMeta, &[u8])> = (0..)
            .zip(&parts)
            .map(|(number, part)| (meta(number), *part))
            .collect();
        match self.add_group(&entries, Urgency::Durable) {
            Ok(last_sequence) => {
                self.pending_checkpoint = Some(PendingCheckpoint {
                    first: None,
                    last_sequence,
                    parts_left: parts.len(),
                    anchor_segment: self.anchor.segment,
                    runs: self.runs.live.keys().copied().collect(),
                    anchor: self.anchor.sequence,
                });
            }
            Err(error) => {
                // The older checkpoint stays in force; the next trigger tries again.
                tracing::warn!(log = %self.id, %error, bytes = bytes.len(), "no checkpoint");
            }
        }
    }

    fn dropped_rows(&self) -> Vec<DroppedRow> {
        let dropped = self.runs.dropped.iter();
        let row = |(partition, counted): (&PartitionId, &Offset)| DroppedRow {
            partition: *partition,
            counted: *counted,
        };
        dropped.map(row).collect()
    }

    pub(super) fn manifest(&self) -> Manifest {
        let mut partitions: Vec<PartitionRow> = self
            .partitions
            .iter()
            .map(|(partition, state)| PartitionRow {
                partition: *partition,
                start: state.start,
                end: state.end,
                counted: state.counted,
                covered: state.covered,
                damage: state.damage.clone(),
            })
            .collect();
        partitions.sort_by_key(|row| row.partition);
        let live = self.segments.live.iter();
        let live = live.filter(|(id, segment)| segment.is_cold || **id <= self.anchor.segment);
        let segments = live.map(|(id, segment)| {
            let last = *id == self.anchor.segment;
            SegmentRow {
                segment: *id,
                origin: segment.origin,
                data_end: if last {
                    self.anchor.end_position
                } else {
                    segment.position
                },
                first_sequence: segment.first_sequence,
                last_sequence: if last {
                    self.anchor.sequence
                } else {
                    segment.last_sequence
                },
                run: segment.index.covered.map_or(0, |covered| covered.run),
                live: segment.index.covered.map(|c| c.live).unwrap_or_default(),
                ranges: segment
                    .index
                    .partitions
                    .iter()
                    .map(|(partition, range)| RangeRow {
                        partition: *partition,
                        first: range.first,
                        end: range.end,
                        bytes: range.bytes,
                        max_timestamp: range.max_timestamp,
                    })
                    .collect(),
                moved: segment.index.moved.iter().copied().collect(),
            }
        });
        Manifest {
            anchor: self.anchor,
            partitions,
            segments: segments.collect(),
            dropped: self.dropped_rows(),
            runs: self.runs.live.values().map(|run| run.info).collect(),
        }
    }

    /// An entry of a checkpoint was applied. With the last one the checkpoint is in force.
    pub(super) fn checkpoint_part_durable(&mut self, block: &Rc<Block>) {
        let Some(pending) = &mut self.pending_checkpoint else {
            return; // In replay: recovery started from this one or a newer.
        };
        let here = CheckpointPointer {
            sequence: block.sequence,
            segment: block.segment,
            position: block.position,
        };
        let first = *pending.first.get_or_insert(here);
        pending.parts_left -= 1;
        if pending.parts_left > 0 {
            return;
        }
        debug_assert_eq!(
            pending.last_sequence, block.sequence,
            "a checkpoint ends its group"
        );
        self.checkpoint_anchor_segment = pending.anchor_segment;
        self.checkpoint_anchor = pending.anchor;
        self.checkpoint = Some(first);
        let runs = std::mem::take(&mut pending.runs);
        self.runs_are_named(first.sequence, runs);
        self.pending_checkpoint = None;
        self.stats.checkpoints += 1;
        self.release_dead_segments();
    }
}
