//! Several runs into one, so that a lookup asks few: runs of a like size are merged when there are
//! as many as the fan-in says, and one that is mostly dead is written again without what is dead.

use std::collections::BTreeMap;

use ringlog_types::Offset;

use super::job::{Job, Source};
use super::state::RunWork;
use crate::format::run_page::Page;
use crate::io::{Completion, Io};
use crate::log::Log;

/// Units read at once from each input.
const READ_UNITS: u32 = 16;

/// Rows looked at in one step: some 150 µs.
const STEP_ROWS: usize = 400;

/// A run with fewer rows than this is not worth a merge of its own.
const SMALL_ROWS: u64 = 256;

impl<I: Io> Log<I> {
    /// The runs that should become one.
    pub(in crate::log) fn to_merge(&self) -> Option<Vec<u64>> {
        let fan_in = self.config.index_fan_in.max(2);
        let smallest = (self.config.index_rows as u64).max(1);
        let mut tiers: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for run in self.runs.live.values().filter(|run| !run.broken) {
            let tier = (run.info.rows / smallest + 1).ilog(fan_in as u64);
            tiers.entry(tier).or_default().push(run.info.number);
        }
        let full = tiers.into_values().find(|tier| tier.len() >= fan_in);
        if let Some(mut full) = full {
            full.truncate(fan_in);
            return Some(full);
        }
        let mut live: BTreeMap<u64, u64> = BTreeMap::new();
        for segment in self.segments.live.values() {
            if let Some(covered) = segment.index.covered {
                *live.entry(covered.run).or_default() += covered.live.rows;
            }
        }
        let runs = self.runs.live.values().filter(|run| !run.broken);
        let mut runs = runs.filter(|run| {
            let live = live.get(&run.info.number).copied().unwrap_or(0);
            run.info.rows >= SMALL_ROWS && live < run.info.rows / 2
        });
        runs.next().map(|run| vec![run.info.number])
    }

    /// Puts the next rows of other runs into the job's run. `false`: pages must be read first.
    ///
    /// # Errors
    /// A page cannot be read.
    pub(in crate::log) fn fill_from_runs(&mut self, job: &mut Job) -> Result<bool, String> {
        for _ in 0..STEP_ROWS {
            let Source::Runs(inputs) = &mut job.source else {
                return Ok(true);
            };
            let mut waits = false;
            for input in inputs.iter_mut() {
                if !input.rows.is_empty() || input.next_page >= input.pages {
                    continue;
                }
                waits = true;
                if !input.reading {
                    let (run, page) = (input.run, input.next_page);
                    let units = READ_UNITS.min(input.pages - page);
                    let work = RunWork::Pages {
                        run,
                        page,
                        job: job.number,
                    };
                    if !self.submit_run_read(run, page, units, work) {
                        return Err(format!("no memory to read index run {run} into"));
                    }
                    input.reading = true;
                }
            }
            if waits {
                return Ok(false);
            }
            let filled = inputs.iter_mut().filter(|input| !input.rows.is_empty());
            let next = filled.min_by_key(|input| {
                let row = &input.rows[0];
                (row.partition, row.block.first)
            });
            let Some(input) = next else {
                job.root = Some(job.builder.finish());
                return Ok(true);
            };
            let run = input.run;
            let Some(row) = input.rows.pop_front() else {
                return Ok(true);
            };
            let key = (row.partition, row.block.first);
            let is_own = self.counts_in(run, &row);
            let counted = self.counted(row.partition).unwrap_or(Offset(u64::MAX));
            // What no longer counts has been taken off, and nobody asks for it.
            if is_own && row.block.end > counted && key >= job.cursor {
                job.cursor = (key.0, key.1.plus(1));
                job.push(row);
            }
        }
        Ok(true)
    }

    /// Pages of an input came back.
    pub(in crate::log) fn input_read(
        &mut self,
        (number, page, of_job): (u64, u32, u64),
        completion: Completion,
    ) {
        let unit = self.unit;
        let Some(run) = self.run_that_was_read(number) else {
            return;
        };
        let key = run.key.clone();
        let Some(mut job) = self.runs.job.take_if(|job| job.number == of_job) else {
            return;
        };
        let read = match completion.result {
            Ok(read) => read,
            Err(error) => {
                let cause = format!("reading index run {number}: {error}");
                self.runs.job = Some(job);
                self.abandon_job(&cause);
                return;
            }
        };
        let bytes = completion.buf.as_deref().unwrap_or_default();
        let bytes = &bytes[..read.min(bytes.len())];
        let mut damaged = None;
        if let Source::Runs(inputs) = &mut job.source
            && let Some(input) = inputs.iter_mut().find(|input| input.run == number)
        {
            input.reading = false;
            let units = READ_UNITS.min(input.pages - page);
            for at in 0..units {
                let from = (at as usize * unit).min(bytes.len());
                let to = (from + unit).min(bytes.len());
                match Page::decode(&key, page + at, &bytes[from..to]) {
                    Ok(page) => input
                        .rows
                        .extend((0..page.count()).filter_map(|at| page.row(at))),
                    Err(fault) => {
                        damaged = Some((page + at, fault.to_string()));
                        break;
                    }
                }
            }
            input.next_page = page + units;
        }
        self.runs.job = Some(job);
        if let Some((page, fault)) = damaged {
            self.break_run(number, page, &fault);
            self.abandon_job("one of the runs to be merged is damaged");
        }
    }
}
