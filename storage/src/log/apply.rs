//! What a durable block changes: the index, the partitions' bounds, and the machines above.
//! The same live and in replay.
//!
//! Invariant: this is the only code that changes committed state, and it runs in sequence
//! order.

use std::rc::Rc;

use super::block::Block;
use super::index::SegmentIndex;
use super::pending::GroupPart;
use super::report::{Damage, Gap};
use super::seeded_bug::SeededBug;
use super::{Entry, EntryKind, EntryMeta, Log, Machine};
use crate::format::block_header::Group;
use crate::format::entry_header::EntryHeader;
use crate::format::footer::BlockRef;
use crate::format::manifest::Anchor;
use crate::io::Io;

impl<I: Io> Log<I> {
    /// Applies a durable block, live and in replay: at once if it is a group of its own, else
    /// with the block that commits its group. `damaged` are the entries whose bytes are lost.
    pub(super) fn commit_block(
        &mut self,
        block: Rc<Block>,
        machine: &mut dyn Machine,
        damaged: &[usize],
    ) {
        self.bytes_since_checkpoint += block.bytes as u64;
        self.anchor = Anchor {
            sequence: block.sequence,
            segment: block.segment,
            end_position: block.position + block.bytes as u64,
            checksum: block.checksum,
        };
        match block.group {
            Group::Whole => {
                self.end_open_group(block.epoch, machine);
                self.apply_block(&block, machine, damaged);
            }
            Group::Begin => {
                self.end_open_group(block.epoch, machine);
                let part = GroupPart::Block(block, damaged.to_vec());
                self.open_group.parts.push(part);
            }
            Group::Continue | Group::Commit => {
                let follows = self.open_group.last_block().is_some_and(|last| {
                    last.group_first == block.group_first && last.sequence.next() == block.sequence
                });
                self.open_group.broken |= !follows;
                let commit = block.group == Group::Commit;
                let part = GroupPart::Block(block, damaged.to_vec());
                self.open_group.parts.push(part);
                if commit {
                    self.commit_open_group(machine);
                }
            }
        }
    }

    /// A group without its last block is followed by something else. A life of the log ends
    /// what it begins: within one, the last block is lost. Otherwise a crash came first, and the
    /// group does not exist.
    fn end_open_group(&mut self, epoch: u32, machine: &mut dyn Machine) {
        let last = self.open_group.last_block();
        if self.open_group.broken && last.is_some_and(|last| last.epoch == epoch) {
            self.commit_open_group(machine);
        } else {
            self.drop_open_group(machine);
        }
    }

    /// The open group was never committed: what is lost behind it is lost all the same.
    pub(super) fn drop_open_group(&mut self, machine: &mut dyn Machine) {
        let group = std::mem::take(&mut self.open_group);
        for part in group.parts {
            if let GroupPart::Lost(lost) = part {
                self.take_lost(lost, machine);
            }
        }
    }

    /// A group is whole or not there: without one of its blocks, what the others hold of it is
    /// lost as well, and named.
    fn commit_open_group(&mut self, machine: &mut dyn Machine) {
        let group = std::mem::take(&mut self.open_group);
        for part in group.parts {
            match part {
                GroupPart::Lost(lost) => self.take_lost(lost, machine),
                GroupPart::Block(block, _)
                    if group.broken && !self.has_bug(SeededBug::ApplyBrokenGroups) =>
                {
                    self.lose_block(&block, machine);
                }
                GroupPart::Block(block, damaged) => self.apply_block(&block, machine, &damaged),
            }
        }
    }

    fn lose_block(&mut self, block: &Rc<Block>, machine: &mut dyn Machine) {
        for header in &block.entries {
            match header.meta.kind {
                EntryKind::Records => self.index_records(block, header, true),
                EntryKind::Machine => {}
                _ => continue,
            }
            machine.apply_damaged(&header.meta);
        }
    }

    fn apply_block(&mut self, block: &Rc<Block>, machine: &mut dyn Machine, damaged: &[usize]) {
        for (number, header) in block.entries.iter().enumerate() {
            let meta = header.meta;
            let lost = damaged.contains(&number);
            match meta.kind {
                EntryKind::Records => self.index_records(block, header, lost),
                EntryKind::StartOffset if !lost => self.move_start(&meta),
                EntryKind::PartitionDropped if !lost => self.drop_partition(&meta),
                EntryKind::Checkpoint => {
                    self.checkpoint_part_durable(block);
                    continue;
                }
                EntryKind::Replaced if lost => {
                    tracing::error!(
                        log = %self.id, sequence = %block.sequence,
                        "an entry that replaces segments is damaged: they stay as they are"
                    );
                    continue;
                }
                EntryKind::Replaced => {
                    self.apply_replaced(&block.payload(header), block.sequence);
                    continue;
                }
                _ => {}
            }
            if lost {
                machine.apply_damaged(&meta);
            } else {
                let payload = block.payload(header);
                machine.apply(&Entry {
                    meta,
                    sequence: block.sequence,
                    payload,
                });
            }
        }
    }

    fn index_records(&mut self, block: &Block, header: &EntryHeader, lost: bool) {
        let meta = header.meta;
        self.keep_range(block.segment, meta.partition);
        let state = self.partitions.entry(meta.partition).or_default();
        if meta.base_offset > state.end {
            // Offsets are dense: what is missing was in a block that is damaged.
            let (first, end) = (state.end, meta.base_offset);
            tracing::error!(
                log = %self.id, partition = %meta.partition, %first, %end,
                "damaged offsets (end exclusive)"
            );
            state.add_damage(first, end);
            self.stats.damaged_ranges += 1;
            self.gaps.push(Gap {
                before: block.sequence,
                partition: meta.partition,
                first,
                end,
            });
        }
        if lost {
            state.add_damage(meta.base_offset, meta.end_offset());
            self.stats.damaged_ranges += 1;
            self.lost_entries.push(Damage {
                segment: block.segment,
                position: block.position,
                first: block.sequence,
                end: block.sequence.next(),
                offsets: vec![(meta.partition, meta.base_offset.0, meta.end_offset().0)],
            });
        }
        state.end = state.end.max(meta.end_offset());
        let Some(segment) = self.segments.live.get_mut(&block.segment) else {
            unreachable!("a block's segment lives at least until the block is applied");
        };
        if !segment.index.partitions.contains_key(&meta.partition) {
            state.segments.push_back((meta.base_offset, block.segment));
        }
        let units = |bytes: u64| {
            u32::try_from(bytes / self.unit as u64).expect("a segment is below 2^32 units")
        };
        let before = segment.index.rows;
        segment.index.add(
            meta.partition,
            BlockRef {
                first: meta.base_offset,
                end: meta.end_offset(),
                max_timestamp: meta.max_timestamp,
                position_units: units(block.position),
                block_units: units(block.bytes as u64),
                payload_bytes: header.length,
            },
        );
        self.resident_rows += segment.index.rows - before;
    }

    fn move_start(&mut self, meta: &EntryMeta) {
        self.keep_ranges(meta.partition);
        let state = self.partitions.entry(meta.partition).or_default();
        state.start = state.start.max(meta.base_offset);
        state.end = state.end.max(state.start);
        let start = state.start;
        state.damage.retain(|(_, end)| *end > start);
        let mut emptied = false;
        while let Some((_, id)) = state.segments.front() {
            let Some(segment) = self.segments.live.get_mut(id) else {
                state.segments.pop_front();
                continue;
            };
            let range = segment.index.partitions.get(&meta.partition);
            if range.is_some_and(|range| range.end > start) {
                break;
            }
            let before = segment.index.rows;
            segment.index.remove(meta.partition);
            self.resident_rows -= before - segment.index.rows;
            emptied |= segment.index.is_dead();
            state.segments.pop_front();
        }
        self.start_moved(meta.partition);
        if emptied {
            self.release_soon();
        }
    }

    fn drop_partition(&mut self, meta: &EntryMeta) {
        self.keep_ranges(meta.partition);
        let Some(state) = self.partitions.remove(&meta.partition) else {
            return;
        };
        for (_, id) in &state.segments {
            if let Some(segment) = self.segments.live.get_mut(id) {
                let before = segment.index.rows;
                segment.index.remove(meta.partition);
                self.resident_rows -= before - segment.index.rows;
            }
        }
        self.covered_dropped(meta.partition, state.counted, state.covered.rows);
        self.release_soon();
    }

    /// Lets go of dead segments once for all that a turn applies: the walk over them is long where
    /// there are many, and so are partitions that move.
    fn release_soon(&mut self) {
        if self.segments.active.is_none() {
            self.release_dead_segments(); // In replay there are no turns.
        } else {
            self.release_due = true;
        }
    }

    /// Segments without live entries become free files, once a durable checkpoint covers the
    /// state in them.
    pub(super) fn release_dead_segments(&mut self) {
        if self.holds_segments() {
            return; // At the end of the checkpoint's walk over them.
        }
        let anchor = self.checkpoint_anchor;
        let applied = self.anchor.sequence;
        let anchor_segment = self.checkpoint_anchor_segment;
        let dead = self.segments.release_dead(anchor_segment, anchor, applied);
        for segment in dead {
            self.cache.forget_segment(segment);
            self.footers.retain(|(id, _)| *id != segment);
            self.runs.bad_blocks.forget_segment(segment);
            self.runs.look = true;
        }
        let live = self.segments.live.values();
        self.stats.segments_foreign = live.take_while(|s| s.origin.is_some()).count();
        self.stats.segments_live = self.segments.live.len();
        self.stats.segments_free = self.segments.free.len();
    }

    /// The segment's index after it was read back in recovery.
    pub(super) fn set_index(&mut self, id: u64, index: SegmentIndex) {
        if let Some(segment) = self.segments.live.get_mut(&id) {
            self.resident_rows += index.rows;
            let moved = std::mem::take(&mut segment.index.moved);
            segment.index = SegmentIndex { moved, ..index };
        }
    }
}
