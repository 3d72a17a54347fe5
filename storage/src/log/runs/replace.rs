//! What a switch of the cleaner does to rows that a run covers: those of a source no longer count,
//! because what they lead to lies in a cold segment now. The run itself stays as it is; a later merge
//! leaves them out.
//!
//! Invariant: live, in replay, and in a repair that goes on meanwhile, a row is taken off once, from its
//! segment and from its partition, exactly if it was counted.

use std::collections::BTreeMap;

use ringlog_types::PartitionId;

use super::job::Source;
use super::open_group::open_behind;
use crate::format::footer::{self, BlockRef};
use crate::format::replaced::Moved;
use crate::io::Io;
use crate::log::Log;
use crate::log::index::{Footer, SegmentIndex};
use crate::log::walk::{Walk, read_pieces};

impl<I: Io> Log<I> {
    /// Whether a run has a segment's rows.
    pub(in crate::log) fn is_covered(&self, segment: u64) -> bool {
        self.run_of(segment).is_some()
    }

    /// A covered segment, or one of which only its run is left, loses what was moved out of it. `rows`
    /// are those of its footer, of the partitions that move at least.
    ///
    /// Costs a look at each row.
    pub(in crate::log) fn leave_covered(&mut self, segment: u64, moved: &Moved, rows: &Footer) {
        let partitions: Vec<PartitionId> = match moved {
            Moved::All => {
                let mut all: Vec<_> = rows.rows().iter().map(|(of, _)| *of).collect();
                all.dedup();
                all
            }
            Moved::Partitions(moved) => moved.iter().map(|(partition, _)| *partition).collect(),
        };
        for partition in &partitions {
            self.take_rows_off(segment, *partition, rows.of(*partition));
        }
        let live = self.segments.live.get_mut(&segment);
        match (live, moved) {
            (Some(live), Moved::All) => live.index.covered = None,
            (Some(live), Moved::Partitions(_)) => live.index.moved.extend(partitions),
            (None, Moved::All) => {
                self.runs.ghosts.remove(&segment);
            }
            (None, Moved::Partitions(_)) => {
                if let Some(ghost) = self.runs.ghosts.get_mut(&segment) {
                    ghost.moved.extend(partitions);
                }
            }
        }
        self.runs.look = true;
    }

    /// Takes a partition's `rows` off a segment's count, and its partition's.
    pub(in crate::log) fn take_rows_off(
        &mut self,
        segment: u64,
        partition: PartitionId,
        rows: &[(PartitionId, BlockRef)],
    ) {
        let Some(counted) = self.counted(partition) else {
            return;
        };
        let live = self.segments.live.get_mut(&segment);
        let ghost = self.runs.ghosts.get_mut(&segment);
        let known = match (live, ghost) {
            (Some(live), _) => live
                .index
                .covered
                .as_mut()
                .map(|known| (known, &live.index.moved)),
            (None, Some(ghost)) => Some((&mut ghost.covered, &ghost.moved)),
            (None, None) => None,
        };
        let Some((covered, _)) = known.filter(|(_, moved)| !moved.contains(&partition)) else {
            return;
        };
        let job = self.runs.job.as_mut();
        let repair = job.filter(|job| {
            matches!(&job.source, Source::Segments { ids, repair: true, .. } if ids.contains(&segment))
        });
        let mut repair = repair.map(|job| {
            let cursor = job.cursor;
            (cursor, job.per_segment.entry(segment).or_default())
        });
        let mut state = self.partitions.get_mut(&partition);
        let mut last = None;
        for (_, row) in rows {
            // Of two that begin alike, because a block went astray, a run has one.
            if row.end <= counted || last == Some(row.first) {
                continue;
            }
            last = Some(row.first);
            let bytes = u64::from(row.payload_bytes);
            covered.live.rows = covered.live.rows.saturating_sub(1);
            covered.live.bytes = covered.live.bytes.saturating_sub(bytes);
            if let Some(state) = &mut state {
                state.covered.rows = state.covered.rows.saturating_sub(1);
                state.covered.bytes = state.covered.bytes.saturating_sub(bytes);
                // What is damaged is never copied: it showed only afterwards.
                if !state.damage.is_empty() {
                    state.forget_damage(row.first, row.end);
                }
            }
            // What a repair has not come to yet it will leave out.
            if let Some((cursor, live)) = &mut repair
                && (partition, row.first) < *cursor
            {
                live.rows = live.rows.saturating_sub(1);
                live.bytes = live.bytes.saturating_sub(bytes);
            }
        }
    }

    /// In replay: the rows of a covered segment, from its footer, else from its run, else from its
    /// blocks. Blocks; nothing else may be in flight.
    ///
    /// # Errors
    /// The device's own.
    pub(in crate::log) fn read_covered_rows(&mut self, segment: u64) -> std::io::Result<Footer> {
        if let Some(live) = self.segments.live.get(&segment)
            && let Some(place) = live.footer
        {
            let (file, key) = (live.file, live.key.clone());
            let bytes = (place.bytes as usize).next_multiple_of(self.unit);
            let piece = (file, place.position, bytes.max(self.unit));
            let read = read_pieces(&mut self.submitter.io, &[piece])?
                .into_iter()
                .next();
            let bytes = read
                .as_ref()
                .and_then(|read| read.get(..place.bytes as usize));
            let bytes = bytes.filter(|bytes| key.checksum(bytes) == place.checksum);
            if let Some(Ok(rows)) = bytes.map(footer::decode_rows) {
                return Ok(Footer::new(rows));
            }
        }
        let run = self.run_of(segment).unwrap_or_default();
        if let Some(rows) = self.rows_of_run(run) {
            let rows = rows.into_iter().find(|(of, _)| *of == segment);
            return Ok(Footer::new(rows.map_or_else(Vec::new, |(_, rows)| rows)));
        }
        self.rows_of_blocks(segment)
    }

    /// What a segment's blocks say, as far as they can be read.
    fn rows_of_blocks(&mut self, segment: u64) -> std::io::Result<Footer> {
        let Some(live) = self.segments.live.get(&segment) else {
            return Ok(Footer::new(Vec::new()));
        };
        let (file, key, end) = (live.file, live.key.clone(), live.position);
        let unit = self.unit as u64;
        let units = |bytes: u64| u32::try_from(bytes / unit).unwrap_or(u32::MAX);
        let mut walk = Walk::new(segment, file, end, &key, self.unit);
        let (mut at, mut blocks) = (unit, BTreeMap::new());
        while at < end {
            let Ok((block, ..)) = walk.block_at(&mut self.submitter.io, at)? else {
                at += unit;
                continue;
            };
            let mut rows = Vec::new();
            for (partition, first, end) in block.spans() {
                let own = block.of(partition);
                let own = own.map(|entry| (u64::from(entry.length), entry.meta.max_timestamp));
                let (bytes, newest) =
                    own.fold((0, -1), |sum, one| (sum.0 + one.0, sum.1.max(one.1)));
                let row = BlockRef {
                    first,
                    end,
                    max_timestamp: newest,
                    position_units: units(at),
                    block_units: units(block.bytes as u64),
                    payload_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                };
                rows.push((partition, row));
            }
            at += block.bytes as u64;
            let group = (block.group, block.group_first);
            blocks.entry(block.sequence).or_insert((group, rows));
        }
        let last = blocks.last_key_value();
        let open = last.and_then(|(_, (group, _))| open_behind(*group));
        let (mut index, mut of_open) = (SegmentIndex::new(), SegmentIndex::new());
        for ((_, group_first), rows) in blocks.into_values() {
            let is_open = Some(group_first) == open;
            let index = if is_open { &mut of_open } else { &mut index };
            for (partition, row) in rows {
                index.add(partition, row);
            }
        }
        if let Some(open) = open
            && self.is_committed(segment, open, (&index, &of_open))
        {
            index.append(of_open);
        }
        let rows = index.partitions.into_iter();
        let rows = rows.flat_map(|(of, range)| range.blocks.into_iter().map(move |row| (of, row)));
        let mut rows: Vec<(PartitionId, BlockRef)> = rows.collect();
        rows.sort_by_key(|(partition, row)| (*partition, row.first));
        Ok(Footer::new(rows))
    }
}
