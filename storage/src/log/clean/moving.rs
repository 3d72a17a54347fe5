//! The switch of a run of the cleaner, in steps, partition by partition: a partition leaves all
//! sources and is in its targets at once, so a reader finds it in one or the other.
//!
//! ```text
//! entry durable ─► targets join, empty ─► partitions, in the order of the targets ─► what went by itself ─► over
//! ```
//! What is applied meanwhile finds each partition as it would before the switch or behind it, and
//! what comes of both is the same in either order; so a replay, which switches at once, comes to
//! the same state.
//!
//! Invariants: from the entry to the end no checkpoint begins, neither sources nor targets are let
//! go, and no index run takes one of them.

use std::collections::BTreeSet;

use ringlog_types::{PartitionId, Sequence};

use super::moving_state::Moving;
use super::state::{Run, State};
use crate::format::replaced::Moved;
use crate::io::Io;
use crate::log::Log;
use crate::log::index::SegmentIndex;

impl<I: Io> Log<I> {
    /// The entry of the run under way was committed with this block, and moves all that its sources
    /// hold: from now on they are emptied in steps. `false`: it is another entry.
    pub(super) fn begin_moving(&mut self, sequence: Sequence) -> bool {
        let Some(mut run) = self.cleaner.run.take() else {
            return false;
        };
        let is_its = matches!(run.state, State::Switching(at, _) if at == sequence);
        let state = std::mem::replace(&mut run.state, State::Over);
        let written = match state {
            State::Switching(_, written) if is_its && run.moved == Moved::All => written,
            other => {
                run.state = other;
                self.cleaner.run = Some(run);
                return false;
            }
        };
        let mut targets = Vec::with_capacity(written.len());
        for written in written {
            let target = written.target.clone();
            let segment = self.segment_of_written(written);
            self.add_target(&target, segment, SegmentIndex::default());
            targets.push(target);
        }
        for target in &targets {
            // It stays though nothing lives in it yet.
            self.set_held(target.segment, true);
        }
        let mut moved_before = Vec::with_capacity(run.sources.len());
        for source in &run.sources {
            let segment = self.segments.live.get_mut(source);
            moved_before.push(segment.map_or_else(BTreeSet::new, |segment| {
                segment.was_source = true;
                segment.index.moved.clone()
            }));
        }
        run.state = State::Moving(Box::new(Moving {
            targets,
            target: 0,
            range: 0,
            source: 0,
            row: 0,
            moved_before,
        }));
        self.cleaner.run = Some(run);
        if self.is_closing {
            self.finish_moving();
        }
        true
    }

    fn set_held(&mut self, segment: u64, held: bool) {
        if let Some(segment) = self.segments.live.get_mut(&segment) {
            if held {
                segment.reads += 1;
            } else {
                segment.reads -= 1;
            }
        }
    }

    /// All that is left of a switch under way.
    pub(in crate::log) fn finish_moving(&mut self) {
        self.move_rows(usize::MAX);
    }

    /// The next step of a switch under way.
    pub(super) fn move_some(&mut self) {
        self.move_rows(self.config.clean_step_rows.max(1));
    }

    fn move_rows(&mut self, rows: usize) {
        let Some(mut run) = self.cleaner.run.take() else {
            return;
        };
        let State::Moving(mut moving) = std::mem::replace(&mut run.state, State::Over) else {
            self.cleaner.run = Some(run);
            return;
        };
        let mut left = rows;
        while self.move_next(&run, &mut moving, &mut left) {
            if left == 0 {
                run.state = State::Moving(moving);
                self.cleaner.run = Some(run);
                return;
            }
        }
        self.cleaner.run = Some(run);
        self.moved_all(&moving);
    }

    /// One partition leaves the sources, or one row that nobody took. `false`: none is left.
    fn move_next(&mut self, run: &Run, moving: &mut Moving, left: &mut usize) -> bool {
        if let Some(target) = moving.targets.get(moving.target) {
            let Some(range) = target.ranges.get(moving.range) else {
                (moving.target, moving.range) = (moving.target + 1, 0);
                return true;
            };
            for source in &run.sources {
                self.leave_one(*source, range.partition, run);
            }
            *left = left.saturating_sub(run.sources.len());
            let summary = self.take_range(target.segment, range);
            let segment = self.segments.live.get_mut(&target.segment);
            if let (Some(segment), Some(summary)) = (segment, summary) {
                segment.index.partitions.insert(range.partition, summary);
            }
            moving.range += 1;
            return true;
        }
        let Some(source) = run.sources.get(moving.source).copied() else {
            return false;
        };
        *left = left.saturating_sub(1);
        let row = run
            .rows
            .get(&source)
            .and_then(|rows| rows.rows().get(moving.row));
        let index = self
            .segments
            .live
            .get(&source)
            .map(|segment| &segment.index);
        if let Some((partition, _)) = row {
            moving.row += 1;
            if index.is_some_and(|index| !index.moved.contains(partition)) {
                self.leave_one(source, *partition, run);
            }
        } else if let Some(partition) = index.and_then(|i| i.partitions.keys().next().copied()) {
            self.leave_one(source, partition, run);
        } else {
            (moving.source, moving.row) = (moving.source + 1, 0);
        }
        true
    }

    /// A partition leaves a source: see [`Log::leave`](Log), which does so in one step.
    fn leave_one(&mut self, source: u64, partition: PartitionId, run: &Run) {
        if self.is_covered(source)
            && let Some(rows) = run.rows.get(&source)
        {
            self.take_rows_off(source, partition, rows.of(partition));
            if let Some(segment) = self.segments.live.get_mut(&source) {
                segment.index.moved.insert(partition);
            }
        }
        self.leave_range(source, partition);
    }

    fn moved_all(&mut self, moving: &Moving) {
        let sources = self.cleaner.run.as_ref().map(|run| run.sources.clone());
        let sources = sources.unwrap_or_default();
        for (source, before) in sources.iter().zip(&moving.moved_before) {
            if let Some(segment) = self.segments.live.get_mut(source) {
                segment.index.covered = None;
                segment.index.moved.clone_from(before);
            }
        }
        self.runs.look = true;
        for target in &moving.targets {
            self.set_held(target.segment, false);
        }
        self.switched(&sources, &moving.targets);
    }
}
