//! Reading committed batches: from memory by reference, else from disk with large aligned
//! reads into the cold side of the cache.
//!
//! Nothing here blocks. What is not in memory is asked for, and the caller asks again when
//! [`Log::reads_done`] has moved. Bytes from disk are served only after every checksum on
//! the way to them was checked; damage is remembered and named.

use std::rc::Rc;

use ringlog_types::{Offset, PartitionId};

use super::index::{Footer, find};
use super::segments::FooterPlace;
use super::wanted::Wanted;
use super::work::Work;
use super::{EntryKind, Log, Read};
use crate::format::footer::BlockRef;
use crate::format::run_page::RunRow;
use crate::io::{Io, Op};

/// Blocks that one partition's reader asks for at a time.
const MOST_ROWS: usize = 64;

/// Rows of index runs that are looked up together, although fewer blocks are asked for.
const LEAST_ROWS_AHEAD: usize = 4;

enum Located {
    Block {
        segment: u64,
        row: BlockRef,
    },
    /// In a segment that a run covers.
    Covered(RunRow),
    Answer(Read),
}

impl<I: Io> Log<I> {
    /// Counts reads from disk that came back. See [`Read::Pending`].
    #[must_use]
    pub fn reads_done(&self) -> u64 {
        self.reads_done
    }

    /// Reads committed batches from `offset`: whole ones, up to `max_bytes`, but always at
    /// least one. What is not in memory is asked for.
    pub fn read(&mut self, partition: PartitionId, offset: Offset, max_bytes: usize) -> Read {
        let mut wanted = Vec::new();
        let read = self.look(partition, offset, max_bytes, MOST_ROWS, &mut wanted);
        if wanted.is_empty() {
            return read;
        }
        let brought = self.bring(&mut wanted);
        match read {
            Read::Batches(batches) if batches.is_empty() => Read::Pending(brought.one_done),
            read => read,
        }
    }

    /// The same with what is in memory. Adds to `wanted` what has to be brought from disk for the
    /// reader to go on, at most `most_rows` blocks of it: see [`Log::bring`]. No batches,
    /// although `offset` is not the end: nothing is in memory.
    pub fn look(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        max_bytes: usize,
        most_rows: usize,
        wanted: &mut Vec<Wanted>,
    ) -> Read {
        let (start, end) = self.bounds(partition);
        if offset < start || offset > end {
            return Read::OutOfRange;
        }
        let mut batches = Vec::new();
        let mut ahead = None;
        let (mut at, mut bytes) = (self.removed.behind(partition, offset).min(end), 0);
        while at < end {
            if self.is_damaged(partition, at, at.plus(1)) {
                if batches.is_empty() {
                    return self.damaged(partition, at);
                }
                break;
            }
            let located = self.locate(partition, at, most_rows, &mut ahead);
            let (segment, row, is_covered) = match located {
                Located::Block { segment, row } => (segment, row, false),
                Located::Covered(row) => (row.segment, row.block, true),
                Located::Answer(answer) if batches.is_empty() => return answer,
                Located::Answer(_) => break,
            };
            let position = u64::from(row.position_units) * self.unit as u64;
            let Some(block) = self.cache.find(segment, position, partition).cloned() else {
                self.stats.cache_misses += 1;
                if let Some(cause) = self.read_failures.remove(&(segment, position)) {
                    if batches.is_empty() {
                        return Read::Failed(cause);
                    }
                    break;
                }
                if batches.is_empty() {
                    // What the reader went over is not needed in memory again.
                    self.removed.note(partition, offset, at);
                }
                let more_bytes = max_bytes.saturating_sub(bytes);
                let behind = ahead.as_deref().filter(|_| is_covered);
                self.want(
                    partition,
                    (segment, row),
                    behind,
                    more_bytes,
                    most_rows,
                    wanted,
                );
                break;
            };
            if bytes >= max_bytes && !batches.is_empty() {
                break;
            }
            self.stats.cache_hits += 1;
            if is_covered && self.finds_damage(partition, segment, &row, &block) {
                continue;
            }
            let before = at;
            for entry in block.of(partition) {
                let meta = entry.meta;
                if meta.end_offset() <= at {
                    continue;
                }
                if meta.base_offset > at {
                    // No entry accounts for what lies between: it was in a block that is lost.
                    self.name_gap(partition, at, meta.base_offset, segment, position);
                    if batches.is_empty() {
                        return self.damaged(partition, at);
                    }
                    return Read::Batches(batches);
                }
                if self.is_damaged(partition, meta.base_offset, meta.end_offset()) {
                    if batches.is_empty() {
                        return self.damaged(partition, at);
                    }
                    return Read::Batches(batches);
                }
                if !batches.is_empty() && bytes + entry.length as usize > max_bytes {
                    return Read::Batches(batches);
                }
                if meta.kind == EntryKind::Records {
                    bytes += entry.length as usize;
                    batches.push(block.payload(entry));
                }
                at = meta.end_offset();
            }
            if at == before {
                // The row promised records that the block does not have.
                return Read::Failed(format!(
                    "segment {segment} position {position}: block without offset {at}"
                ));
            }
            // A reader of what comes from disk goes on behind: the next block is looked for too.
            if bytes >= max_bytes && !block.is_cold {
                break;
            }
        }
        Read::Batches(batches)
    }

    /// Offsets that a segment spans, and of which no entry says what became of them.
    fn name_gap(
        &mut self,
        partition: PartitionId,
        first: Offset,
        end: Offset,
        segment: u64,
        position: u64,
    ) {
        tracing::error!(
            log = %self.id, %partition, %first, %end, segment, position,
            "damaged offsets (end exclusive)"
        );
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.add_damage(first, end);
            self.stats.damaged_ranges += 1;
        }
    }

    fn is_damaged(&self, partition: PartitionId, first: Offset, end: Offset) -> bool {
        let state = self.partitions.get(&partition);
        let damage = state.and_then(|state| state.damage_from(first));
        damage.is_some_and(|(at, _)| at < end)
    }

    fn damaged(&self, partition: PartitionId, from: Offset) -> Read {
        let state = self.partitions.get(&partition);
        let damage = state.and_then(|state| state.damage_from(from));
        let (first, end) = damage.unwrap_or((from, from.plus(1)));
        Read::Damaged { first, end }
    }

    /// No row has `from`: it is lost, and what follows, as far as nothing else is known of it. `row` is
    /// the next that has anything.
    fn damaged_before(&self, partition: PartitionId, from: Offset, row: Option<BlockRef>) -> Read {
        let Some(state) = self.partitions.get(&partition) else {
            return self.damaged(partition, from);
        };
        let damage = state.damage_from(from);
        if damage.is_some_and(|(first, _)| first == from) {
            return self.damaged(partition, from);
        }
        let row = row.map(|row| if row.first > from { row.first } else { row.end });
        let recent = state.segments.iter().map(|(first, _)| *first);
        let known = recent.chain(row).chain(damage.map(|(first, _)| first));
        let next = known.filter(|next| *next > from).min();
        Read::Damaged {
            first: from,
            end: next.unwrap_or(state.end),
        }
    }

    /// The block that holds `offset`.
    fn locate(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        most_rows: usize,
        ahead: &mut Option<Rc<[RunRow]>>,
    ) -> Located {
        let Some(state) = self.partitions.get(&partition) else {
            return Located::Answer(Read::OutOfRange);
        };
        let after = state
            .segments
            .partition_point(|(first, _)| *first <= offset);
        let recent = after.checked_sub(1).and_then(|at| state.segments.get(at));
        let recent = recent.filter(|(_, id)| {
            let range = self.segments.live[id].index.partitions.get(&partition);
            range.is_some_and(|range| offset < range.end)
        });
        let Some((_, id)) = recent else {
            return self.locate_covered(partition, offset, most_rows, ahead);
        };
        let segment = *id;
        let index = &self.segments.live[&segment].index;
        let row = if index.resident {
            let range = index.partitions.get(&partition);
            range.and_then(|range| find(&range.blocks, offset, |row| row))
        } else {
            match self.footer(segment) {
                Ok(footer) => find(footer.of(partition), offset, |(_, row)| row),
                Err(answer) => return Located::Answer(answer),
            }
        };
        match row {
            Some(row) if row.first <= offset => Located::Block { segment, row },
            _ => Located::Answer(self.damaged_before(partition, offset, row)),
        }
    }

    /// The same in what the runs cover. `ahead` are rows that an earlier call found to follow.
    fn locate_covered(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        most_rows: usize,
        ahead: &mut Option<Rc<[RunRow]>>,
    ) -> Located {
        let holds = |row: &RunRow| row.block.first <= offset && offset < row.block.end;
        let known = ahead.iter().flat_map(|rows| rows.iter());
        // Of what was kept only the row that was asked for is known to count.
        let counts = |row: &RunRow| {
            let run = self.run_of(row.segment);
            run.is_some_and(|run| self.counts_in(run, row))
        };
        let row = match known.copied().find(|row| holds(row) && counts(row)) {
            Some(row) => row,
            None => {
                let most = most_rows.max(LEAST_ROWS_AHEAD);
                match self.rows_ahead(partition, offset, most) {
                    Ok(Some(found)) if holds(&found.row) => {
                        *ahead = Some(found.rows);
                        found.row
                    }
                    Ok(found) => {
                        let row = found.map(|found| found.row.block);
                        return Located::Answer(self.damaged_before(partition, offset, row));
                    }
                    Err(answer) => return Located::Answer(answer),
                }
            }
        };
        if !self.segments.live.contains_key(&row.segment) {
            let row = Some(row.block);
            return Located::Answer(self.damaged_before(partition, offset, row));
        }
        let position = u64::from(row.block.position_units) * self.unit as u64;
        if self.runs.bad_blocks.is_unreadable(row.segment, position) {
            self.damage_row(partition, row.segment, &row.block);
            return Located::Answer(self.damaged(partition, offset));
        }
        Located::Covered(row)
    }

    /// A segment's footer from memory, or the answer that it is being read.
    pub(super) fn footer(&mut self, segment: u64) -> Result<Rc<Footer>, Read> {
        if let Some((_, footer)) = self.footers.iter().find(|(id, _)| *id == segment) {
            return Ok(Rc::clone(footer));
        }
        if let Some(cause) = self.read_failures.remove(&(segment, 0)) {
            return Err(Read::Failed(cause));
        }
        if self.footer_reads.insert(segment, ()).is_none() {
            let Some(FooterPlace {
                position, bytes, ..
            }) = self.segments.live[&segment].footer
            else {
                // Its trailer is gone: only a run has known its blocks.
                self.rebuild_footer(segment);
                return Err(Read::Pending(self.reads_done));
            };
            let length = (bytes as usize).next_multiple_of(self.unit).max(self.unit);
            if !self.submit_read(segment, position, length, Work::FooterRead(segment)) {
                self.footer_reads.remove(&segment);
                return Err(Read::Failed("no memory to read the footer into".to_owned()));
            }
        }
        Err(Read::Pending(self.reads_done))
    }

    pub(super) fn submit_read(
        &mut self,
        segment: u64,
        position: u64,
        length: usize,
        work: Work,
    ) -> bool {
        let Some(buf) = self.alloc(length) else {
            return false;
        };
        let from = self
            .segments
            .live
            .get_mut(&segment)
            .expect("a located segment lives");
        from.reads += 1;
        let read = Op::Read {
            file: from.file,
            offset: position,
            buf,
        };
        self.submitter.submit(read, work);
        true
    }

    /// Adds the block of `row` to what is wanted, and those of the partition that follow: as far as
    /// the reader has room, and the read-ahead at least. `ahead` are rows that follow in a run,
    /// else those that follow in the segment are taken.
    fn want(
        &self,
        partition: PartitionId,
        (segment, row): (u64, BlockRef),
        ahead: Option<&[RunRow]>,
        room_bytes: usize,
        most_rows: usize,
        wanted: &mut Vec<Wanted>,
    ) {
        // What is read ahead must not push out the block that was asked for.
        let least = self.config.read_ahead_bytes;
        let most = (room_bytes.max(least) as u64).min(self.config.cold_cache_bytes as u64 / 2);
        let mut payload_bytes = 0;
        let unit = self.unit as u64;
        let mut add_in = |of: u64, next: &BlockRef| {
            if (of, next.position_units) < (segment, row.position_units) {
                // It was moved, or went astray. What lies first is read first: ahead of the block
                // that is needed it would take the budget, and push out what was read before.
                return false;
            }
            payload_bytes += u64::from(next.payload_bytes);
            wanted.push(Wanted::new(of, partition, next, unit));
            payload_bytes < most
        };
        if let Some(ahead) = ahead {
            let behind = ahead.iter().filter(|next| next.block.first > row.first);
            let mut behind = behind.take(most_rows.saturating_sub(1));
            let lives = |of: &u64| self.segments.live.contains_key(of);
            let _ = add_in(segment, &row)
                && behind.all(|next| lives(&next.segment) && add_in(next.segment, &next.block));
            return;
        }
        let mut add = |next: &BlockRef| add_in(segment, next);
        let index = &self.segments.live[&segment].index;
        if index.resident {
            if let Some(range) = index.partitions.get(&partition) {
                let rows = &range.blocks;
                let from = rows.partition_point(|b| b.end <= row.first);
                let _ = rows[from..].iter().take(most_rows).all(&mut add);
                return;
            }
        } else if let Some((_, footer)) = self.footers.iter().find(|(id, _)| *id == segment) {
            let rows = footer.of(partition);
            let from = rows.partition_point(|(_, b)| b.end <= row.first);
            let mut rows = rows[from..].iter().take(most_rows);
            let _ = rows.all(|(_, row)| add(row));
            return;
        }
        add(&row);
    }
}
