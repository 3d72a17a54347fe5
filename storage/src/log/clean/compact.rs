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

use std::collections::VecDeque;

use ringlog_types::batch::BatchHeader;
use ringlog_types::{Offset, PartitionId};

use super::pass::{Compactable, Pass, Phase};
use super::state::{Run, State};
use super::task::{CleanTask, Gathered, Rewriter, Rewriting};
use crate::buffer::Buf;
use crate::format::replaced::Moved;
use crate::io::Io;
use crate::log::segments::{Segment, Stage};
use crate::log::{Log, Read};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

impl<I: Io> Log<I> {
    /// What of a partition could be compacted now: sealed segments whose records are all at or
    /// before `newest_ms`.
    #[must_use]
    pub fn compactable(&self, partition: PartitionId, newest_ms: i64) -> Compactable {
        let mut found = Compactable::default();
        let Some(state) = self.partitions.get(&partition) else {
            return found;
        };
        let compacted = self.cleaner.compacted.get(&partition);
        found.from = compacted.copied().unwrap_or_default().max(state.start);
        if state.covered.rows > 0 {
            // What older segments hold of it is not in memory, and without it no tombstone may go.
            found.end = found.from;
            return found;
        }
        for (_, id) in &state.segments {
            let Some(segment) = self.segments.live.get(id) else {
                break;
            };
            let is_at_rest = segment.stage == Stage::Sealed
                && (segment.is_cold || *id < self.checkpoint_anchor_segment);
            let Some(range) = segment.index.partitions.get(&partition) else {
                break;
            };
            let damage = state.damage_from(range.first.max(state.start));
            let is_damaged = damage.is_some_and(|(at, _)| at < range.end);
            if !is_at_rest || is_damaged || range.max_timestamp > newest_ms {
                break;
            }
            found.end = range.end;
            found.total_bytes += range.bytes;
            if range.end > found.from {
                found.dirty_bytes += range.bytes;
                found.oldest_ms.get_or_insert(range.max_timestamp);
            }
        }
        found.end = found.end.max(found.from);
        found
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
        tracing::debug!(log = %self.id, %partition, ?compactable, "compacting");
        self.cleaner.pass = Some(Pass {
            partition,
            end: compactable.end,
            noted_to: compactable.end,
            phase: Phase::Note(rewriter),
            at: compactable.from,
            until: compactable.end,
            waits_for: None,
            groups: VecDeque::new(),
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
        if matches!(pass.phase, Phase::Between(_)) {
            self.next_group();
            return;
        }
        if pass
            .waits_for
            .is_some_and(|ticket| self.reads_done <= ticket)
        {
            return;
        }
        pass.waits_for = None;
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
                self.make_groups();
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
                    self.lay_out(gathered);
                } else {
                    self.end_run();
                }
            }
            other => pass.phase = other,
        }
    }

    /// The partition's segments up to the end of the pass, in groups that become one each.
    fn make_groups(&mut self) {
        let capacity = self.config.segment_bytes - self.config.segment_bytes / 8;
        let Some(pass) = &mut self.cleaner.pass else {
            return;
        };
        let partition = pass.partition;
        let Some(state) = self.partitions.get(&partition) else {
            self.stop_pass();
            return;
        };
        let mut bytes = 0;
        for (_, id) in &state.segments {
            let segment = self.segments.live.get(id);
            let range = segment.and_then(|s| s.index.partitions.get(&partition));
            let Some(range) = range.filter(|range| range.first < pass.noted_to) else {
                break;
            };
            if range.end > pass.end {
                break;
            }
            if pass.groups.is_empty() || bytes + range.bytes > capacity {
                pass.groups.push_back(Vec::new());
                bytes = 0;
            }
            bytes += range.bytes;
            if let Some(group) = pass.groups.back_mut() {
                group.push((*id, range.first, range.end));
            }
        }
    }

    /// Begins with the next group, or ends the pass.
    fn next_group(&mut self) {
        let Some(pass) = &mut self.cleaner.pass else {
            return;
        };
        let partition = pass.partition;
        let Some(group) = pass.groups.pop_front() else {
            let to = pass.noted_to;
            self.cleaner.pass = None;
            self.end_run();
            self.set_compacted(partition, to);
            self.stats.compaction_passes += 1;
            self.stats.cleaning = false;
            return;
        };
        let Some(state) = self.partitions.get(&partition) else {
            self.stop_pass();
            return;
        };
        let (start, last) = (state.start, Offset(state.end.0.saturating_sub(1)));
        let sources: Vec<u64> = group.iter().map(|(id, ..)| *id).collect();
        let is_there = |id: &u64| {
            let segment = self.segments.live.get(id);
            let has = |s: &Segment| {
                s.index.partitions.contains_key(&partition) && s.index.covered.is_none()
            };
            segment.is_some_and(has) && !self.runs.takes(*id)
        };
        let (Some((_, first, _)), Some((_, _, end))) = (group.first(), group.last()) else {
            return;
        };
        if *end <= start {
            return; // Expired meanwhile.
        }
        if !sources.iter().all(is_there) {
            self.stop_pass();
            return;
        }
        let (first, end) = ((*first).max(start), *end);
        match std::mem::replace(&mut pass.phase, Phase::Away) {
            Phase::Between(rewriter) => {
                pass.phase = Phase::Rewrite(Box::new(Rewriting {
                    rewriter,
                    partition,
                    bytes: Vec::new(),
                    next: first,
                    noted_to: pass.noted_to,
                    last,
                    gathered: Gathered::default(),
                    changed: false,
                    removed: 0,
                    rewritten: 0,
                }));
            }
            other => pass.phase = other,
        }
        (pass.at, pass.until) = (first, end);
        let to = end.min(pass.noted_to);
        self.scan_for(sources, to);
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
