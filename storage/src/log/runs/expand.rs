//! The index of a log at rest, back in memory: for whoever takes its segments over and makes an
//! index of its own. Blocks; nothing else may be in flight.

use std::collections::BTreeMap;

use ringlog_types::PartitionId;

use crate::format::footer::{self, BlockRef};
use crate::format::manifest::Counts;
use crate::format::run_page::{Page, RunRow};
use crate::io::Io;
use crate::log::Log;
use crate::log::index::SegmentIndex;
use crate::log::walk::read_pieces;

/// Units of a run that are read at once.
const READ_UNITS: u32 = 256;

type Rows = BTreeMap<u64, Vec<(PartitionId, BlockRef)>>;

impl<I: Io> Log<I> {
    /// Takes the ranges of all covered segments back into memory: from their runs, or from their
    /// footers where a run is damaged. No run is left.
    ///
    /// # Errors
    /// Neither of the two can be read.
    pub(in crate::log) fn expand_covered(&mut self) -> Result<(), String> {
        let mut rows = Rows::new();
        let runs: Vec<u64> = self.runs.live.keys().copied().collect();
        for run in runs {
            match self.rows_of_run(run) {
                Some(found) => rows.extend(found),
                None => rows.extend(self.rows_of_footers(run)?),
            }
        }
        let covered = self.segments.live.iter();
        let covered = covered.filter(|(_, segment)| segment.index.covered.is_some());
        for id in covered.map(|(id, _)| *id).collect::<Vec<_>>() {
            let mut index = SegmentIndex::new();
            let moved = &self.segments.live[&id].index.moved;
            let found = rows.remove(&id).unwrap_or_default();
            for (partition, block) in found.into_iter().filter(|(of, _)| !moved.contains(of)) {
                let state = self.partitions.get(&partition);
                if state.is_some_and(|state| block.end > state.start) {
                    index.add(partition, block);
                }
            }
            index.demote();
            // Some were perhaps not handed over yet.
            for state in self.partitions.values_mut() {
                state.segments.retain(|(_, at)| *at != id);
            }
            for (partition, range) in &index.partitions {
                if let Some(state) = self.partitions.get_mut(partition) {
                    let before = |(first, _): &(_, u64)| *first < range.first;
                    let at = state.segments.partition_point(before);
                    state.segments.insert(at, (range.first, id));
                }
            }
            if let Some(segment) = self.segments.live.get_mut(&id) {
                segment.index = index;
            }
        }
        for state in self.partitions.values_mut() {
            (state.counted, state.covered) = (state.start, Counts::default());
        }
        self.runs.moved.clear();
        self.runs.dropped.clear();
        Ok(())
    }

    /// The rows of a run that count, by segment; `None`: not all of them can be read.
    pub(in crate::log) fn rows_of_run(&mut self, number: u64) -> Option<Rows> {
        let run = self.runs.live.get(&number).filter(|run| !run.broken)?;
        let (file, key, pages) = (run.file?, run.key.clone(), run.info.pages);
        let (mut rows, mut at) = (Rows::new(), 1);
        while at < pages {
            let units = READ_UNITS.min(pages - at);
            let (from, bytes) = (u64::from(at) * self.unit as u64, units as usize * self.unit);
            let read = read_pieces(&mut self.submitter.io, &[(file, from, bytes)]);
            let read = read.ok()?.into_iter().next()?;
            let mut chunks = read.chunks(self.unit);
            for page in at..at + units {
                let page = Page::decode(&key, page, chunks.next().unwrap_or_default()).ok()?;
                let found = (0..page.count()).filter_map(|at| page.row(at));
                let own = found.filter(|row: &RunRow| self.counts_in(number, row));
                for row in own {
                    let of_segment = rows.entry(row.segment).or_default();
                    of_segment.push((row.partition, row.block));
                }
            }
            at += units;
        }
        Some(rows)
    }

    fn rows_of_footers(&mut self, run: u64) -> Result<Rows, String> {
        let mut rows = Rows::new();
        let own = self.segments.live.iter();
        let own = own.filter(|(_, segment)| segment.index.covered.is_some_and(|c| c.run == run));
        for id in own.map(|(id, _)| *id).collect::<Vec<_>>() {
            let segment = &self.segments.live[&id];
            let (file, key, place) = (segment.file, segment.key.clone(), segment.footer);
            let damaged = || format!("index run {run} and the footer of segment {id} are damaged");
            let place = place.ok_or_else(damaged)?;
            let bytes = (place.bytes as usize).next_multiple_of(self.unit);
            let piece = (file, place.position, bytes.max(self.unit));
            let read = read_pieces(&mut self.submitter.io, &[piece]);
            let read = read.map_err(|error| format!("reading the footer of segment {id}: {error}"));
            let read = read?.into_iter().next().ok_or_else(damaged)?;
            let bytes = read.get(..place.bytes as usize).ok_or_else(damaged)?;
            if key.checksum(bytes) != place.checksum {
                return Err(damaged());
            }
            rows.insert(id, footer::decode_rows(bytes).map_err(|_| damaged())?);
        }
        Ok(rows)
    }
}
