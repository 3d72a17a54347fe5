//! Rows of a partition over all runs: what a reader, a time lookup, retention and the counting of
//! live rows ask. What is not in memory is asked for, and the caller asks again.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringlog_types::{Offset, PartitionId};

use super::ahead::{Ahead, FoundRow};
use super::search::{Search, Stop};
use super::state::{Run, RunWork};
use crate::format::run_page::{Page, RunRow};
use crate::io::{Completion, Io, Op};
use crate::log::index::Ghost;
use crate::log::segments::Segment;
use crate::log::work::Work;
use crate::log::{Log, Read};

/// Any time.
pub(in crate::log) const ANY_TIME: i64 = i64::MIN;

/// Pages of runs that are read at once.
const PAGE_READS: usize = 64;

/// Whether a row of a run counts: its segment names the run as its own, and its partition still
/// lies there.
fn counts(
    live: &BTreeMap<u64, Segment>,
    ghosts: &BTreeMap<u64, Ghost>,
    run: u64,
    row: &RunRow,
) -> bool {
    let segment = live.get(&row.segment);
    let known = segment.and_then(|s| Some((s.index.covered?, &s.index.moved)));
    let ghost = || Some(ghosts.get(&row.segment)?).map(|ghost| (ghost.covered, &ghost.moved));
    let known = known.or_else(ghost);
    known.is_some_and(|(covered, moved)| covered.run == run && !moved.contains(&row.partition))
}

impl<I: Io> Log<I> {
    /// The first row in any run that is live, ends behind `offset` and reaches a time.
    ///
    /// # Errors
    /// The answer that pages must be read first, or that one cannot be.
    pub(in crate::log) fn covered_row(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        timestamp_ms: i64,
    ) -> Result<Option<RunRow>, Read> {
        let mut nearest: Option<RunRow> = None;
        self.in_each_run(|search| {
            let found = search.first(partition, offset, timestamp_ms)?;
            let found = found.into_iter().chain(nearest);
            nearest = found.min_by_key(|row| row.block.first);
            Ok(())
        })?;
        Ok(nearest)
    }

    /// The largest timestamp of live rows of a partition in the runs that end behind `offset`.
    ///
    /// # Errors
    /// As [`Log::covered_row`].
    pub(in crate::log) fn largest_covered(
        &mut self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<i64, Read> {
        let mut largest = -1;
        self.in_each_run(|search| {
            largest = search.largest(partition, offset, largest)?;
            Ok(())
        })?;
        Ok(largest)
    }

    /// Rows of the partition that follow `row` in its segment, as far as memory knows them, and
    /// `row` before them.
    pub(in crate::log) fn rows_behind(&mut self, row: RunRow, most: usize) -> Vec<RunRow> {
        self.rows_from(row, most, |behind| behind.segment == row.segment)
    }

    /// `row` and those of its partition and its run behind it, as long as they are wanted and memory
    /// knows them.
    fn rows_from(
        &mut self,
        row: RunRow,
        most: usize,
        wanted: impl Fn(&RunRow) -> bool,
    ) -> Vec<RunRow> {
        let mut rows = vec![row];
        let Some(run) = self.run_of(row.segment) else {
            return rows;
        };
        while rows.len() < most {
            let last = *rows.last().expect("there is at least the one given");
            match self.search_run(run, |search| search.following(&last, most)) {
                Ok(more) => {
                    let whole = rows.len() + more.len();
                    rows.extend(more.into_iter().take_while(&wanted));
                    if rows.len() < whole || rows.last() == Some(&last) {
                        break;
                    }
                }
                // For when the reader comes there.
                Err(Stop::Missing(page)) => {
                    self.read_page(run, page);
                    break;
                }
                Err(Stop::Contradiction(_)) => break,
            }
        }
        rows.truncate(most);
        rows
    }

    /// The first row in any run that counts and ends behind `offset`, and with it what is ahead of the
    /// partition's reader: up to `most` rows of that run, as far as they are in memory. Those counted
    /// when they were looked up. `None`: there is no such row.
    ///
    /// # Errors
    /// As [`Log::covered_row`].
    pub(in crate::log) fn rows_ahead(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        most: usize,
    ) -> Result<Option<FoundRow>, Read> {
        let (live, ghosts) = (&self.segments.live, &self.runs.ghosts);
        if let Some(ahead) = self.runs.ahead.of(partition)
            && let Some(row) = ahead.row(offset)
            && counts(live, ghosts, ahead.run, row)
        {
            let (row, rows) = (*row, Rc::clone(&ahead.rows));
            return Ok(Some(FoundRow { row, rows }));
        }
        let Some(row) = self.covered_row(partition, offset, ANY_TIME)? else {
            return Ok(None);
        };
        let rows: Rc<[RunRow]> = self.rows_from(row, most, |_| true).into();
        if let Some(run) = self.run_of(row.segment) {
            let rows = Rc::clone(&rows);
            self.runs.ahead.keep(partition, Ahead { run, rows });
        }
        Ok(Some(FoundRow { row, rows }))
    }

    /// The run that has a segment's rows.
    pub(in crate::log) fn run_of(&self, segment: u64) -> Option<u64> {
        let ghost = self.runs.ghosts.get(&segment);
        let live = self.segments.live.get(&segment);
        let covered = live.and_then(|live| live.index.covered);
        let ghost = ghost.map(|ghost| ghost.covered);
        covered.or(ghost).map(|covered| covered.run)
    }

    /// Whether a row of a run counts.
    pub(in crate::log) fn counts_in(&self, run: u64, row: &RunRow) -> bool {
        counts(&self.segments.live, &self.runs.ghosts, run, row)
    }

    fn in_each_run(
        &mut self,
        mut one: impl FnMut(&mut Search<'_>) -> Result<(), Stop>,
    ) -> Result<(), Read> {
        let numbers: Vec<u64> = self.runs.live.keys().copied().collect();
        let mut waits = false;
        for number in numbers {
            if self.runs.live[&number].broken {
                if let Some(cause) = self.runs.repair_failure.take() {
                    return Err(Read::Failed(cause));
                }
                if let Some(failure) = &self.failure {
                    // Nothing is written any more, so the next start makes it anew.
                    let cause =
                        format!("index run {number} is damaged, and the log closed: {failure}");
                    return Err(Read::Failed(cause));
                }
                waits = true;
                continue;
            }
            match self.search_run(number, &mut one) {
                Ok(()) => {}
                Err(Stop::Missing(page)) => {
                    if let Some(cause) = self.runs.page_failures.remove(&(number, page)) {
                        return Err(Read::Failed(cause));
                    }
                    self.read_page(number, page);
                    waits = true;
                }
                Err(Stop::Contradiction(page)) => {
                    self.break_run(number, page, "it contradicts the page above it");
                    waits = true;
                }
            }
        }
        if waits {
            Err(Read::Pending(self.reads_done))
        } else {
            Ok(())
        }
    }

    fn search_run<T>(
        &mut self,
        number: u64,
        search: impl FnOnce(&mut Search<'_>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let Some(run) = self.runs.live.get(&number) else {
            return Err(Stop::Contradiction(0));
        };
        let (root, at) = (&run.root, run.info.root);
        let cache = &mut self.runs.cache;
        let mut page = |page: u32| match root {
            Some(root) if page == at => Some(Rc::clone(root)),
            _ => cache.get(number, page),
        };
        let (live, ghosts) = (&self.segments.live, &self.runs.ghosts);
        let counts = |row: &RunRow| counts(live, ghosts, number, row);
        search(&mut Search {
            root: at,
            page: &mut page,
            counts: &counts,
        })
    }

    /// A page, if it is in memory.
    pub(in crate::log) fn page_in_memory(&mut self, number: u64, page: u32) -> Option<Rc<Page>> {
        let run = self.runs.live.get(&number)?;
        match &run.root {
            Some(root) if page == run.info.root => Some(Rc::clone(root)),
            _ => self.runs.cache.get(number, page),
        }
    }

    /// Asks for a page. With many under way already it is asked for when the caller comes again.
    pub(in crate::log) fn read_page(&mut self, run: u64, page: u32) {
        let reads = &self.runs.page_reads;
        if reads.contains(&(run, page)) || reads.len() >= PAGE_READS {
            return;
        }
        if !self.submit_run_read(run, page, 1, RunWork::Page { run, page }) {
            let cause = "no memory to read an index page into".to_owned();
            self.runs.page_failures.insert((run, page), cause);
            self.reads_done += 1;
            return;
        }
        self.runs.page_reads.insert((run, page));
    }

    /// Reads units of a run. `false`: there is no memory for it, or no file.
    pub(in crate::log) fn submit_run_read(
        &mut self,
        run: u64,
        page: u32,
        units: u32,
        work: RunWork,
    ) -> bool {
        let Some(buf) = self.alloc(self.unit * units as usize) else {
            return false;
        };
        let from = self.runs.live.get_mut(&run);
        let Some((from, file)) = from.and_then(|from| from.file.map(|file| (from, file))) else {
            return false;
        };
        from.reads += 1;
        let offset = u64::from(page) * self.unit as u64;
        let read = Op::Read { file, offset, buf };
        self.submitter.submit(read, Work::Run(work));
        self.stats.index_pages_read += u64::from(units);
        true
    }

    /// A run that was read, also when it has been retired meanwhile.
    pub(in crate::log) fn run_that_was_read(&mut self, number: u64) -> Option<&mut Run> {
        let retired = &mut self.runs.retired;
        let run = match self.runs.live.get_mut(&number) {
            Some(run) => run,
            None => retired.iter_mut().find(|run| run.info.number == number)?,
        };
        run.reads -= 1;
        Some(run)
    }

    /// A page for a search came back.
    pub(in crate::log) fn page_read(&mut self, number: u64, page: u32, completion: Completion) {
        self.reads_done += 1;
        self.runs.page_reads.remove(&(number, page));
        let unit = self.unit;
        let Some(run) = self.run_that_was_read(number) else {
            return;
        };
        let (key, root) = (run.key.clone(), run.info.root);
        let read = match completion.result {
            Ok(read) => read,
            Err(error) => {
                let cause = format!("reading page {page} of index run {number}: {error}");
                tracing::error!(log = %self.id, "{cause}");
                self.runs.page_failures.insert((number, page), cause);
                return;
            }
        };
        let bytes = completion.buf.as_deref().unwrap_or_default();
        let bytes = &bytes[..read.min(unit).min(bytes.len())];
        match Page::decode(&key, page, bytes) {
            Ok(found) => {
                let found = Rc::new(found);
                match self.runs.live.get_mut(&number) {
                    Some(run) if page == root => run.root = Some(found),
                    Some(_) => self.runs.cache.keep(number, page, found),
                    None => {}
                }
            }
            Err(fault) => self.break_run(number, page, &fault.to_string()),
        }
    }

    /// A run is damaged: what it says is made anew from the footers of its segments. Until then
    /// who asks for it waits.
    pub(in crate::log) fn break_run(&mut self, number: u64, page: u32, fault: &str) {
        let Some(run) = self.runs.live.get_mut(&number) else {
            return;
        };
        if !run.broken {
            run.broken = true;
            self.runs.look = true;
            // Whatever failed before: readers wait for this one.
            self.runs.retry_at = self.submitter.io.monotonic();
            self.stats.index_runs_broken += 1;
            tracing::error!(
                log = %self.id, file = %run.name, page, fault,
                "an index run is damaged: it is made anew from the footers of its segments"
            );
        }
    }
}
