//! The switch from sources to targets: what the entry changes when it is applied, the same live
//! and in replay.
//!
//! The index is asked two things only: to forget a partition in a segment, and to take a sealed
//! segment with what it holds. A target stands where its sources stood: in the order of offsets,
//! whatever its number is.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringlog_types::{Offset, PartitionId, Sequence};

use super::state::State;
use super::targets::Written;
use crate::buffer::Buf;
use crate::format::manifest::RangeRow;
use crate::format::replaced::{Moved, Replaced, Target};
use crate::io::Io;
use crate::log::Log;
use crate::log::found::Found;
use crate::log::index::{Footer, SegmentIndex, SegmentRange};
use crate::log::report::RecoveryReport;
use crate::log::runs::covered_rows::CoveredRows;
use crate::log::segments::{FooterPlace, Segment, Stage};

impl<I: Io> Log<I> {
    /// The entry was committed.
    pub(in crate::log) fn apply_replaced(&mut self, payload: &Buf, sequence: Sequence) {
        if self.begin_moving(sequence) {
            return;
        }
        match Replaced::decode(payload) {
            Ok(replaced) => self.switch(&replaced, sequence),
            Err(error) => tracing::error!(
                log = %self.id, %sequence, %error,
                "segments stay as they are: an entry that replaces some cannot be understood"
            ),
        }
    }

    pub(super) fn switch(&mut self, replaced: &Replaced, sequence: Sequence) {
        let mut written = match self.cleaner.run.take() {
            Some(mut run) if matches!(run.state, State::Switching(at, _) if at == sequence) => {
                let state = std::mem::replace(&mut run.state, State::Over);
                self.cleaner.run = Some(run);
                match state {
                    State::Switching(_, written) => written,
                    _ => Vec::new(),
                }
            }
            other => {
                self.cleaner.run = other;
                Vec::new()
            }
        };
        let rows = match &self.cleaner.run {
            Some(run) if run.sources == replaced.sources => run.rows.clone(),
            _ => CoveredRows::new(),
        };
        let mut targets: Vec<(&Target, Segment)> = Vec::new();
        for target in &replaced.targets {
            let number = target.segment;
            let at = written.iter().position(|w| w.target.segment == number);
            let segment = match at {
                Some(at) => Some(self.segment_of_written(written.swap_remove(at))),
                None => self.cleaner.found.remove(&number).map(|file| {
                    let mut segment = self.segment_of(&file);
                    segment.last_checksum = file.trailer.map_or(0, |t| t.last_checksum);
                    segment
                }),
            };
            match segment {
                Some(segment) => targets.push((target, segment)),
                // What it was made of may still be there.
                None => {
                    tracing::error!(
                        log = %self.id, segment = number, sources = ?replaced.sources,
                        "a segment that the cleaner wrote is gone: what it was made of is used, as \
                         far as it is there"
                    );
                    self.cleaner.missing += 1;
                    return;
                }
            }
        }
        for source in &replaced.sources {
            self.leave(*source, &replaced.moved, rows.get(source));
        }
        if let Moved::Partitions(moved) = &replaced.moved {
            for (partition, to) in moved {
                self.set_compacted(*partition, *to);
            }
        }
        for (target, segment) in targets {
            self.take_target(target, segment);
        }
        tracing::debug!(log = %self.id, %sequence, "an entry replaces segments");
        self.switched(&replaced.sources, &replaced.targets);
    }

    /// The sources are empty, and the targets the log's.
    pub(super) fn switched(&mut self, sources: &[u64], targets: &[Target]) {
        if let Some(run) = &self.cleaner.run
            && run.sources == sources
        {
            self.stats.clean_runs += 1;
            self.stats.cleaned_segments += run.sources.len() as u64;
            self.end_run();
        }
        let written: u64 = targets.iter().map(|target| target.data_end).sum();
        // What was replaced is let go with the next checkpoint, which comes the sooner.
        self.bytes_since_checkpoint += written;
        tracing::debug!(log = %self.id, ?sources, "segments are replaced");
        self.release_dead_segments();
    }

    /// A source loses what was copied from it. Damage in that is none any more: nothing is copied of
    /// a partition of which a part cannot be read, so it showed only afterwards. What lies
    /// between two sources was in neither, and stays damaged.
    fn leave(&mut self, source: u64, moved: &Moved, rows: Option<&Rc<Footer>>) {
        if self.is_covered(source) {
            self.leave_run(source, moved, rows);
        }
        let is_moved = |partition: PartitionId| match moved {
            Moved::All => true,
            Moved::Partitions(moved) => moved.iter().any(|(one, _)| *one == partition),
        };
        let Some(segment) = self.segments.live.get_mut(&source) else {
            // A checkpoint names it, a newer one let it go: what it held is in the targets.
            let lost = self.cleaner.missing_sources.get(&source);
            for (partition, first, end) in lost.into_iter().flatten() {
                if let Some(state) = self.partitions.get_mut(partition)
                    && is_moved(*partition)
                {
                    state.forget_damage(*first, *end);
                }
            }
            self.cleaner.replaced_missing.insert(source);
            return;
        };
        segment.was_source = true;
        let is_part = *moved != Moved::All;
        let partitions = segment.index.partitions.keys().copied();
        let moved: Vec<PartitionId> = partitions.filter(|one| is_moved(*one)).collect();
        for partition in moved {
            self.leave_range(source, partition);
            if is_part && let Some(segment) = self.segments.live.get_mut(&source) {
                segment.index.moved.insert(partition);
            }
        }
    }

    /// A partition's records in a source are no longer the log's.
    pub(super) fn leave_range(&mut self, source: u64, partition: PartitionId) {
        let Some(segment) = self.segments.live.get_mut(&source) else {
            return;
        };
        let Some(range) = segment.index.partitions.get(&partition) else {
            return;
        };
        let (first, end, before) = (range.first, range.end, segment.index.rows);
        segment.index.remove(partition);
        self.resident_rows -= before - segment.index.rows;
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.segments.retain(|(_, id)| *id != source);
            state.forget_damage(first, end);
        }
    }

    /// The same of its rows in a run. In replay they are read first.
    fn leave_run(&mut self, source: u64, moved: &Moved, rows: Option<&Rc<Footer>>) {
        let rows = match rows {
            Some(rows) => Rc::clone(rows),
            None if self.segments.active.is_none() => match self.read_covered_rows(source) {
                Ok(rows) => Rc::new(rows),
                Err(error) => {
                    let cause = format!("reading the rows of segment {source}: {error}");
                    tracing::error!(log = %self.id, "{cause}");
                    self.failure.get_or_insert(cause);
                    return;
                }
            },
            None => {
                tracing::error!(log = %self.id, source, "a run of the cleaner lacks its rows");
                return;
            }
        };
        self.leave_covered(source, moved, &rows);
    }

    /// At a start: a segment that the checkpoint names is not there, with what lived in it.
    pub(in crate::log) fn note_missing(
        &mut self,
        segment: u64,
        lost: Vec<(PartitionId, Offset, Offset)>,
    ) {
        self.cleaner.missing_sources.insert(segment, lost);
    }

    /// A target joins the log with what lives in it.
    fn take_target(&mut self, target: &Target, segment: Segment) {
        let mut partitions = BTreeMap::new();
        for range in &target.ranges {
            if let Some(summary) = self.take_range(target.segment, range) {
                partitions.insert(range.partition, summary);
            }
        }
        let index = SegmentIndex {
            partitions,
            ..SegmentIndex::default()
        };
        self.add_target(target, segment, index);
    }

    /// What lives of a range of a target: from now on its partition lies there. `None`: it was
    /// dropped or has expired meanwhile.
    pub(super) fn take_range(&mut self, target: u64, range: &RangeRow) -> Option<SegmentRange> {
        let state = self.partitions.get_mut(&range.partition)?;
        if range.end <= state.start {
            return None;
        }
        let segments = &mut state.segments;
        let at = segments.partition_point(|(first, _)| *first < range.first);
        segments.insert(at, (range.first, target));
        Some(SegmentRange {
            first: range.first,
            end: range.end,
            bytes: range.bytes,
            max_timestamp: range.max_timestamp,
            blocks: Vec::new(),
        })
    }

    pub(super) fn add_target(
        &mut self,
        target: &Target,
        mut segment: Segment,
        index: SegmentIndex,
    ) {
        segment.index = index;
        segment.stage = Stage::Sealed;
        segment.is_cold = true;
        segment.amplification = Some(1.0);
        segment.position = target.data_end;
        segment.first_sequence = target.first_sequence;
        segment.last_sequence = target.last_sequence;
        segment.footer = Some(FooterPlace {
            position: target.data_end,
            bytes: target.footer_bytes,
            checksum: target.footer_checksum,
        });
        self.segments.live.insert(target.segment, segment);
    }

    /// At a start: cold segments are known, and wait for what names them.
    pub(in crate::log) fn set_cold_files(&mut self, found: BTreeMap<u64, Found>) {
        self.cleaner.found = found;
    }

    /// A cold segment that the checkpoint names.
    pub(in crate::log) fn take_cold_file(&mut self, segment: u64) -> Option<Found> {
        self.cleaner.found.remove(&segment)
    }

    /// The replay is over: what no entry and no checkpoint named is free, and what is missing
    /// because it was replaced is no loss. Returns the files.
    pub(in crate::log) fn settle_cold_files(
        &mut self,
        report: &mut RecoveryReport,
    ) -> BTreeMap<u64, Found> {
        report.segments_missing += std::mem::take(&mut self.cleaner.missing);
        self.cleaner.missing_sources.clear();
        let replaced = std::mem::take(&mut self.cleaner.replaced_missing);
        let is_whole_segment = |position: u64| position == 0;
        report
            .damage
            .retain(|lost| !is_whole_segment(lost.position) || !replaced.contains(&lost.segment));
        std::mem::take(&mut self.cleaner.found)
    }

    /// A segment of what is written of a target.
    pub(super) fn segment_of_written(&self, written: Written) -> Segment {
        segment_of(written, self.config.segment_bytes)
    }
}

fn segment_of(written: Written, segment_bytes: u64) -> Segment {
    let Written {
        file,
        key,
        last_checksum,
        ..
    } = written;
    Segment {
        origin: None,
        name: file.name,
        file: file.file,
        file_bytes: segment_bytes,
        key,
        stage: Stage::Sealed,
        position: 0,
        rows_bound: 0,
        first_sequence: Sequence::NONE,
        first_block: None,
        last_sequence: Sequence::NONE,
        last_checksum,
        index: SegmentIndex::default(),
        footer: None,
        reads: 0,
        prewritten_to: file.prewritten_to,
        recycled: file.recycled,
        is_cold: true,
        was_source: false,
        emptied: None,
        amplification: Some(1.0),
    }
}
