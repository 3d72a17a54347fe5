//! What a durable block changes: the index, the partitions' bounds, and the machines above.
//! The same live, where what takes the machines long is cut into steps, and in replay.
//!
//! Invariants: this is the only code that changes committed state, and it runs in sequence order; a
//! block counts as durable when all of it, and of the group that it commits, is applied.

use std::rc::Rc;

use super::block::Block;
use super::index::SegmentIndex;
use super::pending::{GroupPart, Whole};
use super::report::{Damage, Gap};
use super::seeded_bug::SeededBug;
use super::{Entry, EntryKind, EntryMeta, Log, Machine};
use crate::format::block_header::Group;
use crate::format::entry_header::EntryHeader;
use crate::format::footer::BlockRef;
use crate::format::manifest::Anchor;
use crate::io::Io;

impl<I: Io> Log<I> {
    /// Takes a durable block and applies it whole, as replay does.
    pub(super) fn commit_block(
        &mut self,
        block: Rc<Block>,
        machine: &mut dyn Machine,
        damaged: &[usize],
    ) {
        self.take_block(block, machine, damaged);
        let mut unbounded = usize::MAX;
        self.apply_step(machine, &mut unbounded);
        debug_assert!(self.to_apply.is_empty(), "no step is longer");
    }

    /// Takes a durable block: what is to be applied then is the block, if it is a group of its own,
    /// or the group that it commits. `damaged` are the entries whose bytes are lost.
    pub(super) fn take_block(
        &mut self,
        block: Rc<Block>,
        machine: &mut dyn Machine,
        damaged: &[usize],
    ) {
        debug_assert!(self.to_apply.is_empty(), "one block after the other");
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
                let part = GroupPart::Block(block, damaged.to_vec());
                self.to_apply.parts.push_back((part, Whole::Yes));
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
                    self.commit_open_group();
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
            self.commit_open_group();
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
    fn commit_open_group(&mut self) {
        let group = std::mem::take(&mut self.open_group);
        let whole = match group.broken && !self.has_bug(SeededBug::ApplyBrokenGroups) {
            true => Whole::Broken,
            false => Whole::Yes,
        };
        let parts = group.parts.into_iter().map(|part| (part, whole));
        self.to_apply.parts.extend(parts);
    }

    /// Applies of what was taken so many bytes of machines' entries, and one entry at the least.
    /// What goes beyond is the next step's.
    pub(super) fn apply_step(&mut self, machine: &mut dyn Machine, budget_bytes: &mut usize) {
        while *budget_bytes > 0
            && let Some((part, whole)) = self.to_apply.parts.pop_front()
        {
            match (part, whole) {
                (GroupPart::Lost(lost), _) => self.take_lost(lost, machine),
                (GroupPart::Block(block, _), Whole::Broken) => self.lose_block(&block, machine),
                (GroupPart::Block(block, damaged), Whole::Yes) => {
                    let from = std::mem::take(&mut self.to_apply.entries);
                    let to = self.apply_entries(&block, from, machine, &damaged, budget_bytes);
                    if to < block.entries.len() {
                        self.to_apply.entries = to;
                        let part = GroupPart::Block(block, damaged);
                        self.to_apply.parts.push_front((part, whole));
                    }
                }
            }
            self.applied_steps += 1;
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

    /// Applies entries from one on, until the budget is used up. Returns how many are applied.
    fn apply_entries(
        &mut self,
        block: &Rc<Block>,
        from: usize,
        machine: &mut dyn Machine,
        damaged: &[usize],
        budget_bytes: &mut usize,
    ) -> usize {
        for (number, header) in block.entries.iter().enumerate().skip(from) {
            if *budget_bytes == 0 {
                return number;
            }
            let meta = header.meta;
            if meta.kind == EntryKind::Machine {
                let bytes = usize::try_from(header.length).unwrap_or(usize::MAX);
                *budget_bytes = budget_bytes.saturating_sub(bytes);
            }
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
        block.entries.len()
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
