//! Deciding what run to make next, and filling one from segments.
//!
//! Sealed segments whose rows exceed half of the budget of the index go into a run of their own;
//! runs of a like size are merged; a damaged run's segments go into new ones. One job at a time,
//! in steps, off the commit path.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ringlog_types::{Offset, PartitionId};

use super::builder::RunBuilder;
use super::job::{Input, Job, Source, Stage};
use super::state::RunWork;
use crate::format::footer::{BlockRef, ROW_BYTES};
use crate::format::manifest::Counts;
use crate::format::run_header::{RunHeader, run_file_name};
use crate::format::run_page::RunRow;
use crate::io::{Io, Op};
use crate::log::index::{Footer, SegmentRange};
use crate::log::segments::{Segment, Stage as SegmentStage};
use crate::log::work::Work;
use crate::log::{Log, Read};

/// Segments that go into one run at once.
const MOST_SEGMENTS: usize = 64;

/// Rows that go into one run at once, if the budget of the index is smaller.
const FEWEST_ROWS: usize = 1024;

/// What a step looks at: rows, and segments for each partition. Some 150 µs.
const STEP_UNITS: usize = 500;

impl<I: Io> Log<I> {
    /// What holds of a segment's index in memory until a run has it.
    fn index_weight(segment: &Segment) -> usize {
        segment.index.rows.max(segment.index.partitions.len())
    }

    /// Begins a job if there is a reason for one.
    pub(in crate::log) fn begin_job(&mut self) {
        if self.runs.job.is_some() || self.is_closing {
            return;
        }
        if let Some(source) = self.to_repair().or_else(|| self.to_cover()) {
            self.begin(source);
        } else if let Some(inputs) = self.to_merge() {
            let input = |number: &u64| Input {
                run: *number,
                pages: self.runs.live[number].info.pages,
                next_page: 1,
                rows: VecDeque::new(),
                reading: false,
            };
            let inputs = inputs.iter().map(input).collect();
            self.begin(Source::Runs(inputs));
        }
    }

    fn take_segments<'a>(
        &self,
        segments: impl Iterator<Item = (&'a u64, &'a Segment)>,
        repair: bool,
    ) -> Option<Source> {
        let most = self.config.index_rows.max(FEWEST_ROWS);
        let (mut ids, mut rows) = (Vec::new(), 0);
        for (id, segment) in segments {
            let in_footer = segment.footer.map_or(0, |footer| footer.bytes as usize);
            rows += segment.index.rows.max(in_footer / ROW_BYTES);
            if !ids.is_empty() && (rows > most || ids.len() >= MOST_SEGMENTS) {
                break;
            }
            ids.push(*id);
        }
        (!ids.is_empty()).then(|| Source::Segments {
            ids,
            footers: HashMap::new(),
            repair,
        })
    }

    fn to_repair(&self) -> Option<Source> {
        let broken = self.runs.live.values().find(|run| run.broken)?.info.number;
        let segments = self.segments.live.iter();
        let own = segments.filter(|(_, segment)| {
            let covered = segment.index.covered;
            covered.is_some_and(|covered| covered.run == broken)
        });
        self.take_segments(own, true)
    }

    fn to_cover(&self) -> Option<Source> {
        let segments = self.segments.live.iter();
        let open = segments.filter(|(id, segment)| {
            segment.stage == SegmentStage::Sealed
                && segment.index.covered.is_none()
                && !segment.index.partitions.is_empty()
                && !segment.index.footer_differs
                && !self.is_being_cleaned(**id)
        });
        let weights = open
            .clone()
            .map(|(_, segment)| Log::<I>::index_weight(segment));
        if weights.sum::<usize>() <= self.config.index_rows / 2 {
            return None;
        }
        self.take_segments(open, false)
    }

    fn begin(&mut self, source: Source) {
        if let Source::Segments { ids, .. } = &source {
            for id in ids {
                // It is not let go before its rows are in the run and counted.
                if let Some(segment) = self.segments.live.get_mut(id) {
                    segment.reads += 1;
                }
            }
        }
        let number = self.runs.next_number;
        self.runs.next_number += 1;
        let header = RunHeader {
            log: self.id,
            number,
            nonce: self.submitter.io.entropy(),
            unit_bytes: u32::try_from(self.unit).expect("a unit is a few KiB"),
        };
        let name = run_file_name(number);
        self.submitter.submit(
            Op::Open {
                name: name.clone(),
                create: true,
            },
            Work::Run(RunWork::Job(number)),
        );
        self.runs.job = Some(Job {
            number,
            name,
            file: None,
            stage: Stage::Creating,
            source,
            builder: RunBuilder::new(header, self.unit),
            written: 0,
            confirmed: 0,
            busy: true,
            given_up: false,
            cursor: (PartitionId::default(), Offset::ZERO),
            root: None,
            per_segment: BTreeMap::new(),
            per_partition: Vec::new(),
            moved: Vec::new(),
            switched: 0,
        });
    }

    /// Whether a covered segment's footer has the rows that its run had and that count: it lacks what
    /// was dead when it was written and lives again, because the record that ended it is lost. One made
    /// of the blocks is as good as any.
    fn is_as_counted(&self, segment: u64, footer: &Footer) -> bool {
        let index = &self.segments.live[&segment].index;
        let Some(covered) = index.covered.filter(|_| !footer.is_rebuilt()) else {
            return true;
        };
        let is_here = |partition: &PartitionId| !index.moved.contains(partition);
        let (mut found, mut before) = (Counts::default(), None);
        for (partition, row) in footer.rows().iter().filter(|(of, _)| is_here(of)) {
            // Of two that begin alike a run has one.
            let is_again = before.replace((*partition, row.first)) == Some((*partition, row.first));
            let counted = self.counted(*partition);
            if !is_again && counted.is_some_and(|counted| row.end > counted) {
                found.rows += 1;
                found.bytes += u64::from(row.payload_bytes);
            }
        }
        // It may have more: what was dead when the run was made, and is not counted up to there.
        found.rows >= covered.live.rows && found.bytes >= covered.live.bytes
    }

    /// Puts the next rows of segments into the job's run. `false`: something must be read first.
    ///
    /// # Errors
    /// A footer cannot be read.
    pub(in crate::log) fn fill_from_segments(&mut self, job: &mut Job) -> Result<bool, String> {
        let Source::Segments {
            ids,
            footers,
            repair,
        } = &mut job.source
        else {
            return Ok(true);
        };
        let (ids, repair) = (ids.clone(), *repair);
        let mut complete = true;
        for id in &ids {
            let resident = self.segments.live[id].index.resident;
            if resident || footers.contains_key(id) {
                continue;
            }
            match self.footer(*id) {
                Ok(_) if !repair && self.segments.live[id].index.footer_differs => {
                    return Err(format!("the footer of segment {id} lacks what is there"));
                }
                Ok(footer) if repair && !self.is_as_counted(*id, &footer) => {
                    self.footers.retain(|(of, _)| of != id);
                    self.rebuild_footer(*id);
                    complete = false;
                }
                Ok(footer) => {
                    footers.insert(*id, footer);
                }
                Err(Read::Failed(cause)) => return Err(cause),
                Err(_) => complete = false,
            }
        }
        if !complete {
            return Ok(false);
        }
        let footers = footers.clone();
        let mut units = 0;
        while units < STEP_UNITS {
            units += ids.len();
            let (from, offset) = job.cursor;
            // The next partition that any of the segments has.
            let next = ids.iter().filter_map(|id| {
                let index = &self.segments.live[id].index;
                match footers.get(id) {
                    Some(footer) => footer.partition_from(from),
                    None => index.partitions.range(from..).next().map(|(of, _)| *of),
                }
            });
            let Some(partition) = next.min() else {
                job.root = Some(job.builder.finish());
                return Ok(true);
            };
            let offset = if partition == from {
                offset
            } else {
                Offset::ZERO
            };
            let counted = self.counted(partition);
            let mut rows: Vec<RunRow> = Vec::new();
            let start = self.partitions.get(&partition).map(|state| state.start);
            let mut overstated = None;
            for id in &ids {
                let index = &self.segments.live[id].index;
                let range = index.partitions.get(&partition);
                let is_here = if repair {
                    index.covered.is_some() && !index.moved.contains(&partition)
                } else {
                    range.is_some()
                };
                if counted.is_none() || !is_here {
                    let rows = footers.get(id).map_or(&[][..], |rows| rows.of(partition));
                    let lives = |(_, row): &(_, BlockRef)| start.is_some_and(|at| row.end > at);
                    if !repair && rows.iter().any(lives) {
                        job.moved.push((*id, partition));
                    }
                    continue;
                }
                let row = |block: &BlockRef| RunRow {
                    partition,
                    segment: *id,
                    block: *block,
                };
                let left = STEP_UNITS;
                match (footers.get(id), range) {
                    (Some(footer), range) => {
                        let own = footer.of(partition);
                        let lives = |row: &BlockRef| start.is_some_and(|at| row.end > at);
                        let is_strange = |range: &SegmentRange| {
                            let mut own = own.iter().filter(|(_, row)| lives(row));
                            own.any(|(_, row)| row.end > range.end || row.end <= range.first)
                        };
                        if !repair && offset == Offset::ZERO && range.is_some_and(is_strange) {
                            overstated = Some(*id);
                        }
                        let from = own.partition_point(|(_, block)| block.first < offset);
                        rows.extend(own[from..].iter().take(left).map(|(_, block)| row(block)));
                    }
                    (None, Some(range)) => {
                        let own = &range.blocks;
                        let from = own.partition_point(|block| block.first < offset);
                        rows.extend(own[from..].iter().take(left).map(row));
                    }
                    (None, None) => {}
                }
            }
            if let Some(id) = overstated {
                if let Some(segment) = self.segments.live.get_mut(&id) {
                    segment.index.footer_differs = true;
                }
                return Err(format!("the footer of segment {id} has more than is there"));
            }
            rows.sort_by_key(|row| row.block.first);
            units += rows.len().min(STEP_UNITS);
            let all = rows.len() < STEP_UNITS;
            rows.truncate(STEP_UNITS);
            job.cursor = match rows.last() {
                Some(last) if !all => (partition, last.block.first.plus(1)),
                _ => (PartitionId(partition.0.saturating_add(1)), Offset::ZERO),
            };
            let counted = counted.unwrap_or_default();
            let mut last = None;
            for row in rows {
                // Only one of two that begin alike: a block that went astray and is found twice.
                if row.block.end > counted && last != Some(row.block.first) {
                    last = Some(row.block.first);
                    job.push(row);
                }
            }
        }
        Ok(true)
    }
}
