//! Checkpoints: the state of everything as of the last applied block, written as one atomic
//! group of entries among all others. `taking` has how it is taken.
//!
//! When its last block is durable it is the newest checkpoint: segments before its anchor
//! hold no state that is needed, and those without live records are let go. The pointer to it
//! is written into every segment header and trailer from then on.

use std::rc::Rc;

use super::block::Block;
use super::segment_rows::{head, is_named};
use super::{Log, Machine};
use crate::format::manifest::{Manifest, PartitionRow, SegmentRow};
use crate::format::segment_header::CheckpointPointer;
use crate::io::Io;

impl<I: Io> Log<I> {
    /// Begins a checkpoint of the committed state, unless one is under way or has to wait.
    pub(super) fn start_checkpoint(&mut self, machine: &mut dyn Machine) {
        if self.is_closing {
            self.finish_switch();
            self.finish_moving();
        }
        let is_under_way = self.taking.is_some() || self.pending_checkpoint.is_some();
        // What is lost with segments that are not there belongs into the first checkpoint that does
        // not name them: no later start would look for it.
        let lost_is_named = self.runs.ghosts.is_empty();
        let waits = self.replaces_segments() || self.is_switching() || !lost_is_named;
        if is_under_way || !self.open_group.is_empty() || waits {
            return;
        }
        self.bytes_since_checkpoint = 0;
        self.begin_taking(machine);
    }

    /// What a checkpoint would say now.
    pub(super) fn manifest(&self) -> Manifest {
        let rows = self.partitions.iter();
        let rows = rows.map(|(partition, state)| state.row(*partition));
        let mut partitions: Vec<PartitionRow> = rows.collect();
        partitions.sort_by_key(|row| row.partition);
        let live = self.segments.live.iter();
        let live = live.filter(|(id, segment)| is_named(&self.anchor, **id, segment));
        let segments = live.map(|(id, segment)| {
            let ranges = segment.index.partitions.iter();
            SegmentRow {
                ranges: ranges.map(|(at, range)| range.row(*at)).collect(),
                ..head(&self.anchor, *id, segment)
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
