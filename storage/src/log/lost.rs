//! Naming what was in durable blocks that cannot be read, so that their offsets stay taken and
//! are called damaged: from the block's own entry table where only its header fails, and from the
//! footer of a sealed segment.

use std::collections::BTreeSet;

use ringlog_types::{Offset, PartitionId};

use super::pending::{GroupPart, LostBlocks};
use super::report::{Damage, RecoveryReport};
use super::survey::{Found, place};
use super::walk::{Walk, read_pieces};
use super::{EntryKind, EntryMeta, Log, Machine};
use crate::format::footer::{self, BlockRef};
use crate::format::trailer::Trailer;
use crate::io::Io;

/// Footers are far shorter: a row is 48 bytes, and the block it stands for at least a unit.
const FOOTER_BYTES: u64 = 16 << 20;

impl<I: Io> Log<I> {
    /// What can be told of the records that stood in a segment from `from` to before `to`, but for
    /// what begins at positions where blocks stand. In offset order.
    ///
    /// The segment's data reaches as far as what tells it: a start that died before its first
    /// checkpoint must not have sealed the segment over it, or the next one would give offsets
    /// again that this one named as lost.
    ///
    /// # Errors
    /// The device's own.
    pub(super) fn find_lost(
        &mut self,
        segment: u64,
        file: &Found,
        (from, to): (u64, u64),
        standing: &BTreeSet<u64>,
    ) -> std::io::Result<Vec<EntryMeta>> {
        let mut walk = Walk::new(segment, file.file, file.file_bytes, &file.key, self.unit);
        let mut metas = Vec::new();
        if let Some((salvaged, end)) = walk.salvage_at(&mut self.submitter.io, from)? {
            metas.extend(salvaged);
            self.keep_to(segment, file, end);
        }
        if let Some((trailer, rows)) = self.footer_metas(file, (from, to), standing)? {
            // The footer says where a block was to stand: one that went astray is not lost.
            let elsewhere = match rows.is_empty() {
                true => BTreeSet::new(),
                false => self.spans_at(&mut walk, standing)?,
            };
            let is_lost = |meta: &EntryMeta| {
                !elsewhere.contains(&(meta.partition, meta.base_offset, meta.end_offset()))
            };
            metas.extend(rows.into_iter().filter(is_lost));
            if to >= trailer.data_end {
                self.keep_to(segment, file, trailer.data_end);
            }
        }
        metas.retain(|meta| meta.kind == EntryKind::Records);
        metas.sort_by_key(|meta| (meta.partition, meta.base_offset));
        Ok(metas)
    }

    /// What each partition has in the blocks at these positions of a segment.
    fn spans_at(
        &mut self,
        walk: &mut Walk<'_>,
        positions: &BTreeSet<u64>,
    ) -> std::io::Result<BTreeSet<(PartitionId, Offset, Offset)>> {
        let mut spans = BTreeSet::new();
        for position in positions {
            if let Ok((block, ..)) = walk.block_at(&mut self.submitter.io, *position)? {
                spans.extend(block.spans());
            }
        }
        Ok(spans)
    }

    /// The data of a segment in replay reaches to `end` at least.
    fn keep_to(&mut self, segment: u64, file: &Found, end: u64) {
        if !self.segments.live.contains_key(&segment) {
            let new = self.segment_of(file);
            self.segments.live.insert(segment, new);
        }
        if let Some(segment) = self.segments.live.get_mut(&segment) {
            segment.position = segment.position.max(end);
        }
    }

    /// Blocks of the log are lost whole. What was in them is named when it is known what became
    /// of the group that was open before them, whose offsets come first.
    pub(super) fn lose_blocks(&mut self, lost: LostBlocks, machine: &mut dyn Machine) {
        self.open_group.broken = true;
        if self.open_group.is_empty() {
            self.take_lost(lost, machine);
        } else {
            self.open_group.parts.push(GroupPart::Lost(lost));
        }
    }

    /// Takes the offsets of what is lost, and marks them damaged.
    pub(super) fn take_lost(&mut self, lost: LostBlocks, machine: &mut dyn Machine) {
        let mut offsets = Vec::new();
        for meta in lost.entries {
            let state = self.partitions.entry(meta.partition).or_default();
            let (first, end) = (state.end, meta.end_offset());
            if end <= first {
                continue; // Named already, by the other of the two.
            }
            state.add_damage(first, end);
            state.end = end;
            // The two overlap: what is told of each is what is new in it.
            machine.apply_damaged(&EntryMeta {
                base_offset: first,
                count: u32::try_from(end.0 - first.0).unwrap_or(u32::MAX),
                ..meta
            });
            offsets.push((meta.partition, first.0, end.0));
        }
        self.lost_blocks.push(Damage {
            segment: lost.segment,
            position: lost.position,
            first: lost.first,
            end: lost.end,
            offsets,
        });
    }

    /// What a sealed segment's footer says of the blocks in a stretch of it; `None`: it has none
    /// that can be read.
    fn footer_metas(
        &mut self,
        file: &Found,
        (from, to): (u64, u64),
        standing: &BTreeSet<u64>,
    ) -> std::io::Result<Option<(Trailer, Vec<EntryMeta>)>> {
        let Some(trailer) = file.trailer else {
            return Ok(None);
        };
        let place = place(&trailer);
        let length = (place.bytes as usize).next_multiple_of(self.unit);
        let piece = (file.file, place.position, length.max(self.unit));
        let read = read_pieces(&mut self.submitter.io, &[piece])?.remove(0);
        let bytes = read.get(..place.bytes as usize);
        let proven = bytes.filter(|bytes| file.key.checksum(bytes) == place.checksum);
        let Some(rows) = proven.and_then(|bytes| footer::decode_rows(bytes).ok()) else {
            return Ok(None);
        };
        let unit = self.unit as u64;
        let lost = rows.into_iter().filter(|(_, row)| {
            let position = u64::from(row.position_units) * unit;
            from <= position && position < to && !standing.contains(&position)
        });
        let metas = lost.map(|(partition, row)| EntryMeta {
            partition,
            kind: EntryKind::Records,
            machine: 0,
            base_offset: row.first,
            // A block has far fewer records than 2^32.
            count: u32::try_from(row.end.0 - row.first.0).unwrap_or(u32::MAX),
            max_timestamp: row.max_timestamp,
        });
        Ok(Some((trailer, metas.collect())))
    }

    /// Whether a segment that is shorter than its header says ends as a seal leaves it, but for
    /// the trailer that fails its check: with the footer of blocks that end at `position`, and
    /// one more unit. What somebody else cut off ends in the middle of blocks.
    ///
    /// # Errors
    /// The device's own.
    pub(super) fn ends_as_sealed(&mut self, file: &Found, position: u64) -> std::io::Result<bool> {
        let unit = self.unit as u64;
        let length = file.file_bytes.saturating_sub(unit).checked_sub(position);
        let Some(length) = length.filter(|length| (unit..=FOOTER_BYTES).contains(length)) else {
            return Ok(false);
        };
        // It is below the limit on footers.
        let piece = (file.file, position, length as usize);
        let read = read_pieces(&mut self.submitter.io, &[piece])?.remove(0);
        let is_row = |row: &&[u8]| row.iter().any(|byte| *byte != 0);
        let rows = read.chunks(footer::ROW_BYTES).take_while(is_row).count();
        let (rows, rest) = read.split_at((rows * footer::ROW_BYTES).min(read.len()));
        let filled = rows.len().next_multiple_of(self.unit).max(self.unit);
        if filled as u64 != length || rest.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        let Ok(rows) = footer::decode_rows(rows) else {
            return Ok(false);
        };
        let place = |(partition, row): &(PartitionId, BlockRef)| (*partition, row.first);
        let sorted = rows.windows(2).all(|two| place(&two[0]) < place(&two[1]));
        let within = |(_, row): &(PartitionId, BlockRef)| {
            let units = (row.position_units, row.position_units + row.block_units);
            units.0 > 0 && u64::from(units.1) * unit <= position
        };
        Ok(sorted && rows.iter().all(within))
    }

    /// Puts together what is known to be lost. Offsets that are dead by the end of the replay
    /// are not; blocks that are lost whole are in any case, for what else was in them.
    pub(super) fn name_damage(&mut self, report: &mut RecoveryReport) {
        report.damage.append(&mut self.lost_entries);
        let lost_blocks = std::mem::take(&mut self.lost_blocks);
        let partitions = &self.partitions;
        let live = |partition: PartitionId, first: u64, end: u64| {
            let start = partitions.get(&partition)?.start.0;
            (start < end).then_some((partition, first.max(start), end))
        };
        for damage in &mut report.damage {
            let named = !damage.offsets.is_empty();
            let offsets = std::mem::take(&mut damage.offsets).into_iter();
            damage.offsets = offsets
                .filter_map(|(partition, first, end)| live(partition, first, end))
                .collect();
            if named && damage.offsets.is_empty() {
                damage.end = damage.first;
            }
        }
        report.damage.retain(|damage| damage.first < damage.end);
        for mut damage in lost_blocks {
            let offsets = std::mem::take(&mut damage.offsets).into_iter();
            damage.offsets = offsets
                .filter_map(|(partition, first, end)| live(partition, first, end))
                .collect();
            report.damage.push(damage);
        }
        for gap in std::mem::take(&mut self.gaps) {
            let Some(offsets) = live(gap.partition, gap.first.0, gap.end.0) else {
                continue;
            };
            let before = report.damage.iter_mut().filter(|d| d.end <= gap.before);
            if let Some(damage) = before.max_by_key(|damage| damage.end) {
                damage.offsets.push(offsets);
            }
        }
        for damage in &report.damage {
            tracing::error!(log = %self.id, ?damage, "durable data is damaged");
        }
        let ranges = self
            .partitions
            .values()
            .map(|state| state.damage.len() as u64);
        self.stats.damaged_ranges = ranges.sum();
    }
}
