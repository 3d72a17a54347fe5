//! Log compaction of one partition at a time. Its sealed segments are read twice, oldest first:
//! what was not compacted before, for the rewriter to learn what comes again; then all of it, in
//! groups of neighbouring segments, for the rewriter to say what stays. What stays of a group is
//! written into a cold segment, and an entry moves the partition there; other partitions stay in
//! the sources. A group of which all stays is left where it is.
//!
//! Reading goes the way of every reader: checked, and damage is met as damage. A partition with
//! damage in it is not compacted behind the damage.
//!
//! Invariants: the segment that is being written is never compacted; bounds never change; a
//! partition's last batch stays as it is; offsets that are gone are accounted for by entries that
//! say so.

use ringlog_types::batch::BatchHeader;
use ringlog_types::{Offset, PartitionId};

use super::group::{Bounds, Group, Grouped};
use super::pass::{Compactable, Pass, Phase};
use super::state::{Run, State};
use super::task::{CleanTask, Gathered, Rewriter, Rewriting};
use crate::buffer::Buf;
use crate::format::replaced::Moved;
use crate::io::Io;
use crate::log::runs::lookup::ANY_TIME;
use crate::log::{Log, Read};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// Rows of runs that are counted in one call.
const ROWS_PER_CALL: usize = 64;

impl<I: Io> Log<I> {
    /// What of a partition could be compacted now: sealed segments whose records are all at or
    /// before `newest_ms`. Of what runs cover the bytes are near enough.
    ///
    /// # Errors
    /// `Err(ticket)`: index pages must be read first, ask again as with [`Read::Pending`].
    pub fn compactable(
        &mut self,
        partition: PartitionId,
        newest_ms: i64,
    ) -> Result<Compactable, u64> {
        let mut found = Compactable::default();
        let Some(state) = self.partitions.get(&partition) else {
            return Ok(found);
        };
        let compacted = self.cleaner.compacted.get(&partition);
        let (start, covered) = (state.start, state.covered);
        found.from = compacted.copied().unwrap_or_default().max(start);
        found.total_bytes = covered.bytes;
        found.end = state.end;
        let (mut dirty, mut oldest): (u64, Option<(Offset, i64)>) = (0, None);
        for (_, id) in &state.segments {
            let live = self.segments.live.get(id);
            let range = live.and_then(|s| Some((s, s.index.partitions.get(&partition)?)));
            let Some((segment, range)) = range else {
                break;
            };
            if !self.is_at_rest(*id, segment) || range.max_timestamp > newest_ms {
                found.end = range.first;
                break;
            }
            found.total_bytes += range.bytes;
            if range.end > found.from {
                dirty += range.bytes;
                oldest.get_or_insert((range.first, range.max_timestamp));
            }
        }
        if let Some((at, _)) = state.damage_from(start) {
            found.end = found.end.min(at);
        }
        if covered.rows > 0 {
            let young = newest_ms.checked_add(1);
            let young = young.map(|young| self.covered_row(partition, start, young));
            let young = young.transpose().map_err(|_| self.reads_done)?.flatten();
            if let Some(row) = young {
                found.end = found.end.min(row.block.first);
            }
            let from = found.from.min(found.end);
            let first = self.covered_row(partition, from, ANY_TIME);
            let first = first.map_err(|_| self.reads_done)?;
            if let Some(row) = first.filter(|row| row.block.first < found.end) {
                let row = row.block;
                if oldest.is_none_or(|(first, _)| row.first < first) {
                    oldest = Some((row.first, row.max_timestamp));
                }
                dirty += self.covered_bytes(partition, start, found.from, found.end)?;
            }
        }
        found.end = found.end.max(found.from);
        if found.end > found.from {
            found.dirty_bytes = dirty;
            found.oldest_ms = oldest.map(|(_, ms)| ms);
        }
        Ok(found)
    }

    /// Bytes of a partition's rows in runs from one offset to another: counted as far as a call may,
    /// beyond that by proportion.
    fn covered_bytes(
        &mut self,
        partition: PartitionId,
        start: Offset,
        from: Offset,
        end: Offset,
    ) -> Result<u64, u64> {
        let all = self
            .partitions
            .get(&partition)
            .map_or(0, |s| s.covered.bytes);
        if from <= start {
            return Ok(all);
        }
        let (mut at, mut bytes) = (from, 0);
        for _ in 0..ROWS_PER_CALL {
            let found = self.covered_row(partition, at, ANY_TIME);
            let found = found.map_err(|_| self.reads_done)?;
            let Some(row) = found.filter(|row| row.block.first < end) else {
                return Ok(bytes);
            };
            at = row.block.end;
            bytes += u64::from(row.block.payload_bytes);
        }
        let length = |from: Offset| u128::from(end.0.saturating_sub(from.0));
        let left = u128::from(all.saturating_sub(bytes)) * length(at) / length(start).max(1);
        Ok(bytes + u64::try_from(left).unwrap_or(all))
    }

    /// Starts to compact what was found compactable, unless something else is being cleaned.
    /// Whether it did.
    pub fn compact(
        &mut self,
        partition: PartitionId,
        compactable: &Compactable,
        rewriter: Box<dyn Rewriter>,
    ) -> bool {
        if !self.can_clean() || compactable.from >= compactable.end {
            return false;
        }
        let Some(state) = self.partitions.get(&partition) else {
            return false;
        };
        // Rows that expired and are still counted move with their segments.
        let counted = state.counted.min(state.start);
        tracing::debug!(log = %self.id, %partition, ?compactable, "compacting");
        self.cleaner.pass = Some(Pass {
            partition,
            end: compactable.end,
            noted_to: compactable.end,
            phase: Phase::Note(rewriter),
            at: compactable.from,
            until: compactable.end,
            waits_for: None,
            group: Group::new(counted),
            grouped_to: Offset::ZERO,
        });
        self.scan_for(Vec::new(), Offset::ZERO);
        true
    }

    /// Begins a run that is fed by the pass.
    fn scan_for(&mut self, sources: Vec<u64>, to: Offset) {
        let Some(pass) = &self.cleaner.pass else {
            return;
        };
        let moved = Moved::Partitions(vec![(pass.partition, to)]);
        let mut run = Run::new(sources, moved);
        run.state = State::Scan;
        self.begin_run(run);
    }

    /// The next step of the pass: reads, and hands what was read to the helper.
    pub(super) fn pass_step(&mut self) {
        let Some(pass) = &mut self.cleaner.pass else {
            return;
        };
        if matches!(pass.phase, Phase::Away) {
            return;
        }
        if pass
            .waits_for
            .is_some_and(|ticket| self.reads_done <= ticket)
        {
            return;
        }
        pass.waits_for = None;
        if matches!(pass.phase, Phase::Between(_)) {
            self.next_group();
            return;
        }
        let partition = pass.partition;
        let start = self
            .partitions
            .get(&partition)
            .map_or(Offset(u64::MAX), |state| state.start);
        pass.at = pass.at.max(start);
        let (at, until) = (pass.at, pass.until);
        if at >= until {
            self.scanned();
            return;
        }
        if !self.may_clean() {
            return;
        }
        match self.read(partition, at, READ_BYTES) {
            Read::Batches(batches) if batches.is_empty() => {
                // All that is left was removed by compaction before.
                if let Some(pass) = &mut self.cleaner.pass {
                    pass.at = until;
                }
            }
            Read::Batches(batches) => self.feed(&batches),
            Read::Pending(ticket) => {
                if let Some(pass) = &mut self.cleaner.pass {
                    pass.waits_for = Some(ticket);
                }
            }
            Read::OutOfRange => self.stop_pass(),
            Read::Damaged { first, .. } => {
                tracing::error!(
                    log = %self.id, %partition, %first,
                    "a partition is damaged: it is not compacted behind the damage"
                );
                self.stop_pass();
            }
            Read::Failed(cause) => {
                self.cleaner.pass = None;
                self.give_up(&cause);
            }
        }
    }

    /// Hands batches to the helper.
    fn feed(&mut self, batches: &[Buf]) {
        let Some(pass) = &mut self.cleaner.pass else {
            return;
        };
        let (mut bytes, mut at) = (Vec::new(), pass.at);
        for batch in batches {
            let Ok(header) = BatchHeader::parse(batch) else {
                tracing::error!(
                    log = %self.id, partition = %pass.partition,
                    "what is stored is no record batch: the partition is not compacted"
                );
                self.stop_pass();
                return;
            };
            let base = Offset(u64::try_from(header.base_offset).unwrap_or(0));
            if base >= pass.until || header.total_bytes() != batch.len() {
                at = pass.until;
                break;
            }
            bytes.extend_from_slice(batch);
            at = base.plus(u64::from(header.offsets()));
        }
        pass.at = at;
        let read = bytes.len();
        self.stats.clean_read_bytes += read as u64;
        let task = match std::mem::replace(&mut pass.phase, Phase::Away) {
            Phase::Note(rewriter) => CleanTask::note(rewriter, bytes),
            Phase::Rewrite(mut rewriting) => {
                rewriting.bytes = bytes;
                CleanTask::rewrite(rewriting)
            }
            other => {
                pass.phase = other;
                return;
            }
        };
        self.cleaner.budget.spend(read);
        if let Some(run) = &mut self.cleaner.run {
            run.state = State::Task(usize::MAX, task);
        }
    }

    /// The rewriter knows what was read.
    pub(super) fn noted(&mut self, rewriter: Box<dyn Rewriter>, full: Option<Offset>) {
        let (Some(pass), Some(run)) = (&mut self.cleaner.pass, &mut self.cleaner.run) else {
            return;
        };
        pass.phase = Phase::Note(rewriter);
        run.state = State::Scan;
        if let Some(full) = full {
            pass.noted_to = full;
            pass.at = pass.until;
        }
    }

    /// A part of a group went through the rewriter.
    pub(super) fn rewritten(&mut self, rewriting: Box<Rewriting>) {
        let (Some(pass), Some(run)) = (&mut self.cleaner.pass, &mut self.cleaner.run) else {
            return;
        };
        pass.phase = Phase::Rewrite(rewriting);
        run.state = State::Scan;
    }

    /// Reading has come to where this part of the pass ends.
    fn scanned(&mut self) {
        let Some(pass) = &mut self.cleaner.pass else {
            return;
        };
        let until = pass.until;
        match std::mem::replace(&mut pass.phase, Phase::Away) {
            Phase::Note(rewriter) => {
                pass.phase = Phase::Between(rewriter);
                self.end_run();
            }
            Phase::Rewrite(mut rewriting) => {
                rewriting.gap_to(until);
                let Rewriting {
                    rewriter,
                    gathered,
                    changed,
                    removed,
                    rewritten,
                    ..
                } = *rewriting;
                pass.phase = Phase::Between(rewriter);
                self.stats.compacted_batches += removed + rewritten;
                if changed {
                    self.lay_out(gathered, Vec::new());
                } else {
                    self.end_run();
                }
            }
            other => pass.phase = other,
        }
    }

    /// Gathers the next group and begins with it, or ends the pass.
    fn next_group(&mut self) {
        let capacity = self.config.segment_bytes - self.config.segment_bytes / 8;
        let Some(pass) = &mut self.cleaner.pass else {
            return;
        };
        let partition = pass.partition;
        let bounds = Bounds {
            end: pass.end,
            first_before: pass.noted_to,
            bytes: capacity,
        };
        let group = std::mem::take(&mut pass.group);
        match self.gather_group(partition, group, &bounds) {
            Grouped::Whole(group) => self.begin_group(&group),
            Grouped::Goes(group, ticket) => {
                if let Some(pass) = &mut self.cleaner.pass {
                    (pass.group, pass.waits_for) = (group, ticket);
                }
            }
            Grouped::Failed(cause) => self.give_up(&cause),
        }
    }

    fn begin_group(&mut self, group: &Group) {
        let (Some(pass), Some(first), Some(last)) = (
            &mut self.cleaner.pass,
            group.pieces.first(),
            group.pieces.last(),
        ) else {
            self.end_pass();
            return;
        };
        let partition = pass.partition;
        let Some(state) = self.partitions.get(&partition) else {
            self.stop_pass();
            return;
        };
        let (start, newest) = (state.start, Offset(state.end.0.saturating_sub(1)));
        let (first, end) = (first.first.max(start), last.end);
        match std::mem::replace(&mut pass.phase, Phase::Away) {
            Phase::Between(rewriter) => {
                pass.phase = Phase::Rewrite(Box::new(Rewriting {
                    rewriter,
                    partition,
                    bytes: Vec::new(),
                    next: first,
                    noted_to: pass.noted_to,
                    last: newest,
                    gathered: Gathered::default(),
                    changed: false,
                    removed: 0,
                    rewritten: 0,
                }));
            }
            other => pass.phase = other,
        }
        (pass.at, pass.until) = (first, end);
        pass.group = Group::new(group.at);
        pass.grouped_to = end;
        let to = end.min(pass.noted_to);
        let sources = group.pieces.iter().map(|piece| piece.segment).collect();
        self.scan_for(sources, to);
        if let Some(run) = &mut self.cleaner.run {
            run.rows = group.covered_rows(partition);
        }
    }

    /// All groups were gone through.
    fn end_pass(&mut self) {
        if let Some(pass) = self.cleaner.pass.take() {
            // Where not even one segment could be had whole, the next pass begins behind all the same.
            let reached = pass.grouped_to.min(pass.noted_to);
            let known = self.cleaner.compacted.get(&pass.partition);
            let is_further = known.is_none_or(|known| reached > *known);
            let to = if is_further && pass.grouped_to > Offset::ZERO {
                reached
            } else {
                pass.noted_to
            };
            self.set_compacted(pass.partition, to);
        }
        self.end_run();
        self.stats.compaction_passes += 1;
        self.stats.cleaning = false;
    }

    /// What is compacted of a partition is known to reach this offset.
    pub(super) fn set_compacted(&mut self, partition: PartitionId, to: Offset) {
        if self.partitions.contains_key(&partition) {
            let known = self.cleaner.compacted.entry(partition).or_default();
            *known = (*known).max(to);
        }
    }

    /// Ends the pass where it is: what was switched stays so.
    fn stop_pass(&mut self) {
        self.cleaner.pass = None;
        self.end_run();
    }
}
