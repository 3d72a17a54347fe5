//! Which rows in the runs still count, and so which segments live: when a partition's start moves
//! or it is dropped, its rows are looked up one by one and taken off their segments.
//!
//! Invariant: a segment's live rows are those of its rows in its run that end behind `counted` of their
//! partition. `counted` follows the partition's start, and both stand in the same checkpoint, so that a
//! restart goes on where the counting was. While rows are on their way into a run, nothing is
//! taken off: what went in is what counts when the run is taken over.

use ringlog_types::{Offset, PartitionId};

use super::lookup::ANY_TIME;
use super::switch::RETRY;
use crate::format::run_page::RunRow;
use crate::io::Io;
use crate::log::{Log, Read};

/// Rows taken off in one step: each is a search of all runs, 5 to 20 µs.
const ROWS_PER_STEP: usize = 16;

/// Partitions looked at in one step: for most of them one search.
const PARTITIONS_PER_STEP: usize = 16;

impl<I: Io> Log<I> {
    /// A partition's start has moved.
    pub(in crate::log) fn start_moved(&mut self, partition: PartitionId) {
        let frozen = self.runs.counts_are_frozen();
        let Some(state) = self.partitions.get_mut(&partition) else {
            return;
        };
        if state.covered.rows == 0 && !frozen {
            state.counted = state.start;
        } else if state.counted < state.start {
            self.runs.moved.insert(partition);
        }
    }

    /// A partition was dropped: its rows count until they have been looked up.
    pub(in crate::log) fn covered_dropped(
        &mut self,
        partition: PartitionId,
        counted: Offset,
        covered_rows: u64,
    ) {
        self.runs.moved.remove(&partition);
        if covered_rows > 0 || self.runs.counts_are_frozen() {
            self.runs.dropped.insert(partition, counted);
            self.runs.moved.insert(partition);
        }
    }

    /// Up to where rows of a partition are no longer counted; `None`: there is no such partition.
    pub(in crate::log) fn counted(&self, partition: PartitionId) -> Option<Offset> {
        let dropped = self.runs.dropped.get(&partition).copied();
        let state = self.partitions.get(&partition).map(|state| state.counted);
        state.or(dropped)
    }

    /// Whether rows wait to be taken off, and can be.
    pub(in crate::log) fn can_account(&self) -> bool {
        !self.runs.moved.is_empty()
            && !self.runs.counts_are_frozen()
            && !self.holds_segments()
            // Its rows are not found before it is made anew; and why that failed, readers are told.
            && !self.runs.live.values().any(|run| run.broken)
            && self.submitter.io.monotonic() >= self.runs.account_after
    }

    /// Takes rows off, as many as a step may. Returns whether it could go on at once.
    pub(in crate::log) fn account_step(&mut self) -> bool {
        if !self.can_account() {
            return false;
        }
        let (mut rows, mut emptied) = (0, false);
        for _ in 0..PARTITIONS_PER_STEP {
            let from = self.runs.account_from;
            let next = self.runs.moved.range(from..).next();
            let Some(partition) = next.copied() else {
                self.runs.account_from = PartitionId::default();
                break;
            };
            loop {
                let Some(counted) = self.counted(partition) else {
                    self.runs.moved.remove(&partition);
                    break;
                };
                let state = self.partitions.get(&partition);
                let target = state.map_or(Offset(u64::MAX), |state| state.start);
                // What is not there need not be looked for.
                let found = match state {
                    Some(state) if state.covered.rows == 0 => Ok(None),
                    _ => self.covered_row(partition, counted, ANY_TIME),
                };
                match found {
                    Ok(Some(row)) if row.block.end <= target => {
                        emptied |= self.take_off(&row);
                        rows += 1;
                    }
                    Ok(_) => {
                        self.set_counted(partition, target);
                        self.runs.moved.remove(&partition);
                        break;
                    }
                    Err(Read::Failed(_)) => {
                        // Not at once again: readers want to hear of it too.
                        let now = self.submitter.io.monotonic();
                        self.runs.account_after = now + RETRY;
                        break;
                    }
                    // Asked for: others first.
                    Err(_) => break,
                }
                if rows >= ROWS_PER_STEP {
                    break;
                }
            }
            if rows >= ROWS_PER_STEP {
                break;
            }
            self.runs.account_from = PartitionId(partition.0.saturating_add(1));
        }
        if emptied {
            self.release_dead_segments();
        }
        rows >= ROWS_PER_STEP
    }

    fn set_counted(&mut self, partition: PartitionId, to: Offset) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.counted = state.counted.max(to);
        } else if to == Offset(u64::MAX) {
            self.runs.dropped.remove(&partition);
        } else {
            self.runs.dropped.insert(partition, to);
        }
    }

    /// Takes a row off its segment and its partition. Returns whether the segment is empty now.
    fn take_off(&mut self, row: &RunRow) -> bool {
        let bytes = u64::from(row.block.payload_bytes);
        if let Some(state) = self.partitions.get_mut(&row.partition) {
            state.covered.rows = state.covered.rows.saturating_sub(1);
            state.covered.bytes = state.covered.bytes.saturating_sub(bytes);
        }
        self.set_counted(row.partition, row.block.end);
        let segment = self.segments.live.get_mut(&row.segment);
        let covered = segment.and_then(|segment| segment.index.covered.as_mut());
        let ghost = self.runs.ghosts.get_mut(&row.segment);
        let ghost = ghost.map(|ghost| &mut ghost.covered);
        let Some(covered) = covered.or(ghost) else {
            return false;
        };
        debug_assert!(covered.live.rows > 0, "a row that counts was counted");
        covered.live.rows = covered.live.rows.saturating_sub(1);
        covered.live.bytes = covered.live.bytes.saturating_sub(bytes);
        let empty = covered.live.rows == 0;
        if empty {
            self.runs.ghosts.remove(&row.segment);
        }
        empty
    }
}
