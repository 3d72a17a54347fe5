//! A job's way from its file to the run in force: creating, writing, flushing, the name made durable,
//! and partitions handed over; giving up; and letting go of runs that nothing names any more.

use std::collections::BTreeSet;
use std::time::Duration;

use ringlog_types::Sequence;

use super::job::{Job, Source, Stage};
use super::state::{Run, RunWork};
use crate::format::manifest::RunInfo;
use crate::io::{Completion, FileId, Io, Op};
use crate::log::index::Covered;
use crate::log::work::Work;
use crate::log::{Log, commit};

/// Bytes written at once.
const WRITE_BYTES: usize = 64 << 10;

/// What is handed over in one step: partitions, each in every segment of the run. Some 200 µs.
const UNITS_PER_STEP: usize = 1_500;

/// How long after a failure a job is tried again.
pub(in crate::log) const RETRY: Duration = Duration::from_secs(1);

impl<I: Io> Log<I> {
    /// One step of the work on runs. Call once per turn; cheap when there is nothing to do.
    pub(in crate::log) fn runs_step(&mut self) {
        if self.failure.is_some() {
            return;
        }
        if !self.runs.strays.is_empty() {
            for name in std::mem::take(&mut self.runs.strays) {
                let what = Work::Housekeeping("removing a left-over index file");
                self.submitter.submit(Op::Remove { name }, what);
            }
        }
        if self.account_step() {
            return;
        }
        let now = self.submitter.io.monotonic();
        if self.runs.look && now >= self.runs.retry_at {
            self.runs.look = false;
            self.let_go_of_runs();
            self.begin_job();
        }
        self.job_step();
    }

    /// From now: when [`Log::runs_step`] will have something to do although nothing completes.
    pub(in crate::log) fn runs_deadline(&self) -> Option<Duration> {
        if self.runs_wait_for_a_step() {
            return Some(Duration::ZERO);
        }
        // What failed is tried again on an idle node too: readers may wait for it.
        let now = self.submitter.io.monotonic();
        let waits = self.runs.look && self.runs.job.is_none();
        waits.then(|| self.runs.retry_at.saturating_sub(now))
    }

    /// Whether [`Log::runs_step`] would have something to do at once.
    fn runs_wait_for_a_step(&self) -> bool {
        let job = self.runs.job.as_ref();
        let fills = |job: &Job| match (&job.source, job.stage) {
            (_, Stage::Ready) => !self.holds_segments(),
            (_, Stage::Switching) => true,
            (Source::Runs(inputs), Stage::Filling) => {
                !job.busy && !inputs.iter().any(|input| input.reading)
            }
            (Source::Segments { .. }, Stage::Filling) => !job.busy && self.footer_reads.is_empty(),
            _ => false,
        };
        job.is_some_and(fills)
            || self.runs.look && self.submitter.io.monotonic() >= self.runs.retry_at
            || self.can_account() && self.runs.page_reads.is_empty()
    }

    /// Whether a checkpoint would find partitions half handed over.
    pub(in crate::log) fn is_switching(&self) -> bool {
        let job = self.runs.job.as_ref();
        job.is_some_and(|job| job.stage == Stage::Switching)
    }

    /// Hands over all that is left of a switch, because there is no later.
    pub(in crate::log) fn finish_switch(&mut self) {
        while self.is_switching() {
            self.job_step();
        }
    }

    fn job_step(&mut self) {
        let Some(mut job) = self.runs.job.take_if(|job| !job.busy) else {
            return;
        };
        match job.stage {
            Stage::Filling => {
                let mut filled = Ok(true);
                if job.root.is_none() && job.builder.finished_bytes() < WRITE_BYTES {
                    filled = match job.source {
                        Source::Segments { .. } => self.fill_from_segments(&mut job),
                        Source::Runs(_) => self.fill_from_runs(&mut job),
                    };
                }
                if filled.is_ok() {
                    self.write_pages(&mut job);
                }
                self.runs.job = Some(job);
                if let Err(cause) = filled {
                    self.abandon_job(&cause);
                }
            }
            Stage::Ready => {
                if !self.holds_segments() {
                    self.begin_switch(&mut job);
                }
                self.runs.job = Some(job);
            }
            Stage::Switching => {
                if self.switch_step(&mut job) {
                    self.reads_done += 1;
                    self.runs.look = true;
                    self.release_dead_segments();
                } else {
                    self.runs.job = Some(job);
                }
            }
            Stage::Creating | Stage::Flushing | Stage::Syncing => self.runs.job = Some(job),
        }
    }

    /// Writes finished pages when there are enough, or no more will come.
    fn write_pages(&mut self, job: &mut Job) {
        let bytes = job.builder.finished_bytes();
        let Some(file) = job.file else { return };
        if bytes == 0 && job.root.is_some() {
            job.stage = Stage::Flushing;
            job.busy = true;
            let work = Work::Run(RunWork::Job(job.number));
            self.submitter.submit(Op::Flush { file }, work);
            return;
        }
        if bytes < WRITE_BYTES && job.root.is_none() {
            return;
        }
        let Some(mut buf) = self.alloc(bytes) else {
            return; // Tried again in the next step.
        };
        buf[..bytes].copy_from_slice(&job.builder.take_finished());
        let write = Op::Write {
            file,
            offset: u64::from(job.written) * self.unit as u64,
            bufs: vec![buf.freeze().slice(0..bytes)],
            durable: false,
        };
        job.written += u32::try_from(bytes / self.unit).expect("a write is a few hundred KiB");
        job.busy = true;
        self.stats.index_written_bytes += bytes as u64;
        self.submitter
            .submit(write, Work::Run(RunWork::Job(job.number)));
    }

    /// An operation for a run came back.
    pub(in crate::log) fn run_done(&mut self, work: RunWork, completion: Completion) {
        match work {
            RunWork::Page { run, page } => self.page_read(run, page, completion),
            RunWork::Pages { run, page, job } => self.input_read((run, page, job), completion),
            RunWork::Job(number) => self.job_done(number, completion),
        }
    }

    fn job_done(&mut self, number: u64, completion: Completion) {
        let Some(mut job) = self.runs.job.take_if(|job| job.number == number) else {
            return;
        };
        job.busy = false;
        job.file = job.file.or(completion.file);
        let mut failed = completion.result.as_ref().err().map(ToString::to_string);
        if job.stage == Stage::Filling && failed.is_none() {
            // A write: short is failed. Its length follows from where the file's pages end.
            let bytes = completion.result.as_ref().map_or(0, |bytes| *bytes);
            let expected = u64::from(job.written - job.confirmed) * self.unit as u64;
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            failed = commit::whole(Ok(bytes), expected).err();
            job.confirmed = job.written;
        }
        let gave_up = job.given_up;
        match (job.stage, failed) {
            (_, Some(cause)) => {
                self.runs.job = Some(job);
                self.abandon_job(&format!("{cause} (making an index run)"));
            }
            _ if gave_up => {
                self.runs.job = Some(job);
                self.abandon_job("given up");
            }
            (Stage::Creating, None) => {
                job.stage = Stage::Filling;
                self.runs.job = Some(job);
            }
            (Stage::Filling | Stage::Ready | Stage::Switching, None) => self.runs.job = Some(job),
            (Stage::Flushing, None) => {
                job.stage = Stage::Syncing;
                job.busy = true;
                let work = Work::Run(RunWork::Job(number));
                self.submitter.submit(Op::SyncDir, work);
                self.runs.job = Some(job);
            }
            (Stage::Syncing, None) => {
                job.stage = Stage::Ready;
                self.runs.job = Some(job);
            }
        }
    }

    /// The job's run is on stable storage: it is in force, and what it replaces is handed over.
    fn begin_switch(&mut self, job: &mut Job) {
        let number = job.number;
        let info = RunInfo {
            number,
            rows: job.builder.rows(),
            pages: job.builder.pages(),
            root: job.root.unwrap_or(1),
        };
        let run = Run {
            info,
            name: job.name.clone(),
            file: job.file,
            key: job.builder.key().clone(),
            root: None,
            broken: false,
            reads: 0,
        };
        self.runs.live.insert(number, run);
        match &job.source {
            Source::Segments { ids, repair, .. } => {
                for id in ids {
                    let Some(segment) = self.segments.live.get_mut(id) else {
                        continue;
                    };
                    if *repair && segment.index.covered.is_none() {
                        continue; // Replaced meanwhile: nothing of it is wanted.
                    }
                    let live = job.per_segment.get(id).copied().unwrap_or_default();
                    segment.index.covered = Some(Covered { run: number, live });
                }
                for (id, partition) in &job.moved {
                    if let Some(segment) = self.segments.live.get_mut(id) {
                        segment.index.moved.insert(*partition);
                    }
                }
            }
            Source::Runs(inputs) => {
                let segments = self.segments.live.values_mut();
                let covered = segments.filter_map(|segment| segment.index.covered.as_mut());
                let ghosts = self
                    .runs
                    .ghosts
                    .values_mut()
                    .map(|ghost| &mut ghost.covered);
                for covered in covered.chain(ghosts) {
                    if inputs.iter().any(|input| input.run == covered.run) {
                        covered.run = number;
                    }
                }
            }
        }
        self.stats.index_runs_made += 1;
        job.stage = Stage::Switching;
    }

    /// Hands over some partitions: their rows count from here in the run, and leave memory.
    /// Returns whether all are handed over.
    fn switch_step(&mut self, job: &mut Job) -> bool {
        let Source::Segments { ids, repair, .. } = &job.source else {
            return true;
        };
        if !repair {
            let partitions = UNITS_PER_STEP / (1 + ids.len());
            let end = (job.switched + partitions.max(1)).min(job.per_partition.len());
            for (partition, counts) in &job.per_partition[job.switched..end] {
                if let Some(state) = self.partitions.get_mut(partition) {
                    state.covered.rows += counts.rows;
                    state.covered.bytes += counts.bytes;
                    state.segments.retain(|(_, id)| !ids.contains(id));
                    if state.counted < state.start {
                        self.runs.moved.insert(*partition);
                    }
                }
                for id in ids {
                    if let Some(segment) = self.segments.live.get_mut(id) {
                        let rows = segment.index.rows;
                        segment.index.remove(*partition);
                        self.resident_rows -= rows - segment.index.rows;
                    }
                }
            }
            job.switched = end;
            if end < job.per_partition.len() {
                return false;
            }
        }
        for id in ids {
            let Some(segment) = self.segments.live.get_mut(id) else {
                continue;
            };
            segment.reads -= 1;
            self.resident_rows -= segment.index.demote();
            // Ranges without a row are lost, and named already.
            for partition in std::mem::take(&mut segment.index.partitions).into_keys() {
                if let Some(state) = self.partitions.get_mut(&partition) {
                    state.segments.retain(|(_, at)| at != id);
                }
            }
        }
        true
    }

    /// Gives a job up: what it was to replace stays in force, and it is tried again later.
    pub(in crate::log) fn abandon_job(&mut self, cause: &str) {
        let Some(mut job) = self.runs.job.take() else {
            return;
        };
        let now = self.submitter.io.monotonic();
        // What is not a repair itself makes way for one at once: readers wait for it.
        let is_repair = matches!(job.source, Source::Segments { repair: true, .. });
        let is_awaited = !is_repair && self.runs.live.values().any(|run| run.broken);
        self.runs.retry_at = if is_awaited { now } else { now + RETRY };
        self.runs.look = true;
        if job.busy {
            job.given_up = true;
            self.runs.job = Some(job);
            return;
        }
        tracing::warn!(log = %self.id, file = %job.name, cause, "no index run was made; trying again");
        if let Source::Segments { ids, repair, .. } = &job.source {
            for id in ids {
                if let Some(segment) = self.segments.live.get_mut(id) {
                    segment.reads -= 1;
                }
            }
            if *repair {
                self.runs.repair_failure = Some(cause.to_owned());
            }
        }
        self.reads_done += 1;
        if let Some(file) = job.file {
            self.remove_run_file(job.name, file);
        }
    }

    fn remove_run_file(&mut self, name: String, file: FileId) {
        let what = Work::Housekeeping("removing an index file");
        self.submitter.submit(Op::Remove { name }, what);
        let what = Work::Housekeeping("closing an index file");
        self.submitter.submit(Op::Close { file }, what);
    }

    /// A checkpoint that names these runs is durable.
    pub(in crate::log) fn runs_are_named(&mut self, by: Sequence, runs: Vec<u64>) {
        self.runs.named.push_back((by, runs));
        self.runs.look = true;
    }

    /// Removes runs that no segment's rows are in, once no checkpoint that a restart could start
    /// from names them.
    fn let_go_of_runs(&mut self) {
        if self.taking.is_some() {
            // What it will name must stay.
            self.runs.look = true;
            return;
        }
        // Of what is not there a damaged run cannot be made anew.
        let runs = &self.runs.live;
        let whole = |run: u64| runs.get(&run).is_some_and(|run| !run.broken);
        self.runs.ghosts.retain(|_, ghost| whole(ghost.covered.run));
        let covered = self.segments.live.values().filter_map(|s| s.index.covered);
        let covered = covered.chain(self.runs.ghosts.values().map(|ghost| ghost.covered));
        let mut used: BTreeSet<u64> = covered.map(|covered| covered.run).collect();
        if let Some(job) = &self.runs.job {
            used.insert(job.number);
            if let Source::Runs(inputs) = &job.source {
                used.extend(inputs.iter().map(|input| input.run));
            }
        }
        let unused = self.runs.live.keys().copied();
        let unused = unused.filter(|run| !used.contains(run));
        for number in unused.collect::<Vec<_>>() {
            if let Some(run) = self.runs.live.remove(&number) {
                if run.broken {
                    // Nothing is made in its place: who waited for that need not any more.
                    self.reads_done += 1;
                }
                self.runs.cache.forget_run(number);
                self.runs.retired.push(run);
            }
        }
        // A restart finds the newest checkpoint that a header names, or a newer one.
        let found = self.segments.named_checkpoint.unwrap_or_default();
        while self
            .runs
            .named
            .get(1)
            .is_some_and(|(next, _)| *next <= found)
        {
            self.runs.named.pop_front();
        }
        let pending = self.pending_checkpoint.as_ref();
        let pending = pending.map(|pending| pending.runs.clone());
        let named = self.runs.named.iter().flat_map(|(_, runs)| runs);
        let named = named.copied().chain(pending.unwrap_or_default());
        let named: BTreeSet<u64> = named.collect();
        let retired = std::mem::take(&mut self.runs.retired);
        for run in retired {
            if run.reads > 0 || named.contains(&run.info.number) {
                self.runs.retired.push(run);
                continue;
            }
            if let Some(file) = run.file {
                self.remove_run_file(run.name, file);
            }
        }
        self.stats.index_runs = self.runs.live.len();
    }
}
