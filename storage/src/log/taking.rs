//! Taking a checkpoint in steps while the log goes on.
//!
//! ```text
//! begin (nothing is copied) ─► partitions ─► segments ─► machines ─► blocks ─► one atomic group
//! ```
//! What is about to change before its row was taken keeps the row first, here and in the
//! machines, so that the bytes are those that a checkpoint taken whole at the begin would have:
//! the state as of the anchor, which recovery replays from.
//!
//! Invariants: from the begin to the end of the walk over the segments none of them is let go, no run comes
//! into force, no row in one is taken off, and no entry that replaces segments is on its way; the group is appended in one step, so nothing
//! comes between its blocks.

use std::collections::VecDeque;
use std::time::Duration;

use ringlog_types::snapshot::{Next, Pieces};
use ringlog_types::{Offset, PartitionId, Sequence};

use super::builder::OpenBlock;
use super::pending::PendingCheckpoint;
use super::segment_rows::SegmentRows;
use super::taking_state::{Blocks, Phase, Taking};
use super::urgency::Urgency;
use super::{AppendError, Log, Machine, Taken};
use crate::format::block_header::{BlockHeader, Group};
use crate::format::entry_header::EntryHeader;
use crate::format::manifest::{DroppedRow, put_count};
use crate::io::Io;

/// A block of the group is closed at this length: a longer one would hold the device for longer.
const BLOCK_BYTES: usize = 1 << 20;

/// What copying a piece into a block costs, in rows: a copy and a checksum of 64 KiB.
const PIECE_ROWS: usize = 64;

/// Without memory for a block it is tried again after this time.
const MEMORY_RETRY: Duration = Duration::from_millis(1);

impl<I: Io> Log<I> {
    pub(super) fn begin_taking(&mut self, machine: &mut dyn Machine) {
        let (mut manifest, mut machines) = (Pieces::default(), Pieces::default());
        manifest.add(|out| put_count(out, self.partitions.len()));
        self.partitions.begin_rows();
        let taken = machine.begin_checkpoint(&mut machines);
        self.taking = Some(Box::new(Taking {
            anchor: self.anchor,
            segments: SegmentRows::begin(self.anchor),
            manifest,
            machines,
            machines_have_more: taken == Taken::More,
            dropped: self.dropped_rows(),
            runs: self.runs.live.values().map(|run| run.info).collect(),
            phase: Phase::Partitions,
            stalled: false,
        }));
    }

    /// Whether a checkpoint is being taken and can go on at once: [`Log::poll`] is to be called
    /// again soon.
    #[must_use]
    pub fn takes_checkpoint(&self) -> bool {
        self.failure.is_none() && self.taking.as_ref().is_some_and(|taking| !taking.stalled)
    }

    pub(super) fn checkpoint_deadline(&self) -> Option<Duration> {
        let taking = self.taking.as_ref()?;
        Some(if taking.stalled {
            MEMORY_RETRY
        } else {
            Duration::ZERO
        })
    }

    /// Whether no segment may join or leave the log now.
    pub(super) fn holds_segments(&self) -> bool {
        let phase = self.taking.as_ref().map(|taking| &taking.phase);
        matches!(phase, Some(Phase::Partitions | Phase::Segments))
    }

    pub(super) fn dropped_rows(&self) -> Vec<DroppedRow> {
        let dropped = self.runs.dropped.iter();
        let row = |(partition, counted): (&PartitionId, &Offset)| DroppedRow {
            partition: *partition,
            counted: *counted,
        };
        dropped.map(row).collect()
    }

    /// What the segment holds of the partition is about to change.
    pub(super) fn keep_range(&mut self, segment: u64, partition: PartitionId) {
        if let Some(taking) = &mut self.taking {
            taking
                .segments
                .keep(&self.segments.live, segment, partition);
        }
    }

    /// The same of all segments with records of the partition.
    pub(super) fn keep_ranges(&mut self, partition: PartitionId) {
        let Some(taking) = &mut self.taking else {
            return;
        };
        let state = self.partitions.get(&partition);
        for (_, segment) in state.iter().flat_map(|state| &state.segments) {
            taking
                .segments
                .keep(&self.segments.live, *segment, partition);
        }
    }

    /// Takes a bounded part of the checkpoint under way, if one is.
    pub(super) fn checkpoint_step(&mut self, machine: &mut dyn Machine) {
        let Some(mut taking) = self.taking.take() else {
            return;
        };
        let mut rows = self.config.checkpoint_step_rows;
        while rows > 0 {
            rows -= 1;
            match &mut taking.phase {
                Phase::Partitions => match self.partitions.take_row() {
                    Next::Row(row) => taking.manifest.add(|out| row.encode(out)),
                    Next::Passed => {}
                    Next::End => taking.phase = Phase::Segments,
                },
                Phase::Segments => {
                    let live = &self.segments.live;
                    if !taking.segments.take(live, &mut taking.manifest) {
                        taking.phase = Phase::Machines;
                        self.release_dead_segments();
                    }
                }
                Phase::Machines if taking.machines_have_more => {
                    let taken = machine.checkpoint_step(rows + 1, &mut taking.machines);
                    taking.machines_have_more = taken == Taken::More;
                    rows = 0;
                }
                Phase::Machines => taking.phase = Phase::Blocks(taking.blocks()),
                Phase::Blocks(blocks) => {
                    rows = rows.saturating_sub(PIECE_ROWS);
                    match self.place(blocks) {
                        Ok(None) => taking.stalled = false,
                        Ok(Some(last)) => return self.append_taken(&taking, last),
                        Err(error) => {
                            if self.is_waiting_for_memory(&error) {
                                taking.stalled = true;
                                break;
                            }
                            // The older checkpoint stays in force; the next trigger tries again.
                            tracing::warn!(log = %self.id, %error, "no checkpoint");
                            return;
                        }
                    }
                }
            }
        }
        self.taking = Some(taking);
    }

    /// Whether what the log has in hand gives memory back.
    fn is_waiting_for_memory(&self, error: &AppendError) -> bool {
        let idle = self.in_flight.is_empty() && self.ready.is_empty() && self.open.is_none();
        matches!(error, AppendError::Busy) && !idle
    }

    /// Copies the next piece into a block of the group. Returns the last block's sequence when
    /// the group was appended.
    fn place(&mut self, blocks: &mut Blocks) -> Result<Option<Sequence>, AppendError> {
        let meta = blocks.meta();
        let Some(piece) = blocks.pieces.front() else {
            return Ok(Some(self.append_blocks(std::mem::take(&mut blocks.blocks))));
        };
        if blocks.count == 1 {
            // It shares a block with whatever gathers.
            return self.add_group(&[(meta, piece)], Urgency::Durable).map(Some);
        }
        let last = blocks.blocks.last();
        if !last.is_some_and(|block| block.has_room(piece.len(), 1)) {
            let bytes = self.block_for(&blocks.pieces);
            let head = self.alloc(bytes).ok_or(AppendError::Busy)?;
            let now = self.submitter.io.monotonic();
            let mut block = OpenBlock::new(Sequence::NONE, now, Urgency::Durable);
            block.set_head(head);
            blocks.blocks.push(block);
        }
        if let (Some(block), Some(piece)) = (blocks.blocks.last_mut(), blocks.pieces.pop_front()) {
            block.push_copied(meta, &piece);
            blocks.placed += 1;
        }
        Ok(None)
    }

    /// Length of a block for as many of the pieces as one takes.
    fn block_for(&self, pieces: &VecDeque<Vec<u8>>) -> usize {
        let mut bytes = BlockHeader::BYTES;
        for (number, piece) in pieces.iter().enumerate() {
            let grown = bytes + piece.len() + EntryHeader::BYTES;
            let most = self.largest_block(number + 1).min(BLOCK_BYTES);
            if number > 0 && grown.next_multiple_of(self.unit) > most {
                break;
            }
            bytes = grown;
        }
        bytes.next_multiple_of(self.unit)
    }

    /// Puts the group in line.
    fn append_blocks(&mut self, blocks: Vec<OpenBlock>) -> Sequence {
        self.close_open();
        let group_first = self.next_sequence;
        let (last, now) = (blocks.len() - 1, self.submitter.io.monotonic());
        for (number, mut block) in blocks.into_iter().enumerate() {
            block.sequence = self.next_sequence;
            self.next_sequence = self.next_sequence.next();
            block.group_first = group_first;
            block.group = match number {
                0 if last == 0 => Group::Whole,
                0 => Group::Begin,
                number if number == last => Group::Commit,
                _ => Group::Continue,
            };
            block.opened_at = now;
            self.pending_bytes += block.payload_bytes;
            self.last_entry_sequence = block.sequence;
            self.ready.push_back(block);
        }
        self.last_entry_sequence
    }

    fn append_taken(&mut self, taking: &Taking, last_sequence: Sequence) {
        let Phase::Blocks(blocks) = &taking.phase else {
            unreachable!("only blocks are appended");
        };
        self.pending_checkpoint = Some(PendingCheckpoint {
            first: None,
            last_sequence,
            parts_left: blocks.count as usize,
            runs: taking.runs.iter().map(|run| run.number).collect(),
            anchor_segment: taking.anchor.segment,
            anchor: taking.anchor.sequence,
        });
    }
}

#[cfg(test)]
mod tests;
