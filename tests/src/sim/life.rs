//! A run: lives of a log on a simulated disk, and the checks between them.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ringlog_storage::io::Io;
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::sim::{Faults, Injection, SimDisk, SimIo, SimOptions};
use ringlog_storage::log::{FlushMethod, Log, LogConfig, OpenError, SeededBug};
use ringlog_types::LogId;

use super::cleaning::Cleaning;
use super::machine::Witness;
use super::random::Random;
use super::watch::Watch;
use super::workload::Workload;

type Watched = Watch<SimIo>;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Lives of the log.
    pub lives: u32,
    /// Steps in a life.
    pub steps: u32,
    /// What may go wrong with the disk.
    pub faults: Faults,
    /// Whether old segments are cleaned.
    pub cleaning: bool,
    /// A mistake that the log is told to make.
    pub bug: Option<SeededBug>,
    /// Sealed segments are scrubbed meanwhile.
    pub scrub: bool,
    /// Print every step.
    pub trace: bool,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Groups appended.
    pub groups: u64,
    /// Groups acknowledged.
    pub acknowledged: u64,
    /// Times the log was opened.
    pub starts: u64,
    /// Times a write or flush failed and closed the log.
    pub closed_by_failure: u64,
    /// Reads checked.
    pub reads: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Operations of the disk.
    pub operations: u64,
    /// Things the disk did silently.
    pub corruptions: u64,
    /// Acknowledged groups and batches that were lost to them, and reported.
    pub reported: u64,
    /// Reads that named damage instead of serving it.
    pub damaged_reads: u64,
    /// Acknowledged groups that went silently with the end of the log.
    pub silent: u64,
    /// Runs of the cleaner that came to their switch.
    pub cleaned: u64,
    /// Bytes read by scrubbing.
    pub scrubbed_bytes: u64,
    /// Damaged places it found.
    pub scrub_damage: u64,
    /// What was injected, by [`Injection::KINDS`].
    pub injected: [u64; Injection::KINDS.len()],
    /// Runs that ended with a log that cannot be opened any more, for a reason it named.
    pub refused: u64,
}

impl Settings {
    /// What a crash recovery meets: power cuts that tear, completions out of order, and writes
    /// and flushes that fail and say so. Nothing that corrupts silently.
    pub fn failing_disk() -> Faults {
        Faults {
            short_write: 0.0005,
            write_error: 0.0005,
            flush_error: 0.005,
            read_error: 0.0005,
            disk_full: 0.002,
            stuck: 0.0002,
            ..Faults::power_cuts_only()
        }
    }

    /// A disk that lies and forgets: writes that are lost or go astray in their file although
    /// they were acknowledged, and bits that rot. It never says that anything failed.
    pub fn silent_corruption() -> Faults {
        Faults {
            lost_write: 0.001,
            misdirected_write: 0.001,
            bit_rot: 0.02,
            ..Faults::power_cuts_only()
        }
    }

    /// The same, ten times as often: for what shows only where two such things meet.
    pub fn rotten_disk() -> Faults {
        Faults {
            lost_write: 0.01,
            misdirected_write: 0.01,
            bit_rot: 0.2,
            ..Faults::power_cuts_only()
        }
    }

    /// All of it at once.
    pub fn everything() -> Faults {
        let silent = Settings::silent_corruption();
        Faults {
            lost_write: silent.lost_write,
            misdirected_write: silent.misdirected_write,
            bit_rot: silent.bit_rot,
            ..Settings::failing_disk()
        }
    }

    /// Whether operations may fail.
    pub(super) fn may_fail(&self) -> bool {
        let faults = &self.faults;
        let rates = [faults.short_write, faults.write_error, faults.flush_error];
        rates.iter().sum::<f64>() + faults.read_error + faults.disk_full > 0.0
    }
}

impl Outcome {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Outcome) {
        self.groups += other.groups;
        self.acknowledged += other.acknowledged;
        self.starts += other.starts;
        self.closed_by_failure += other.closed_by_failure;
        self.reads += other.reads;
        self.power_cuts += other.power_cuts;
        self.operations += other.operations;
        self.corruptions += other.corruptions;
        self.reported += other.reported;
        self.damaged_reads += other.damaged_reads;
        self.silent += other.silent;
        self.refused += other.refused;
        self.cleaned += other.cleaned;
        self.scrubbed_bytes += other.scrubbed_bytes;
        self.scrub_damage += other.scrub_damage;
        for (mine, others) in self.injected.iter_mut().zip(other.injected) {
            *mine += others;
        }
    }
}

/// A promise that was broken.
#[derive(Debug)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// The life in which it showed.
    pub life: u32,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, life {}: {}", self.seed, self.life, self.what)
    }
}

impl std::error::Error for Failure {}

const SEGMENT_BYTES: u64 = 512 << 10;

/// Fast enough to go through a log in the short time that a run simulates.
const SCRUB_BYTES_PER_SECOND: u64 = 1 << 30;

const ARENA_BYTES: usize = 4 << 20;

struct Run<'a> {
    settings: &'a Settings,
    work: Workload,
    disk: SimDisk,
    outcome: Outcome,
    config: LogConfig,
    cleaning: Cleaning,
    /// The power goes at some operation of this life, wherever that is: also in recovery.
    cut_armed: bool,
}

/// Runs a seed.
///
/// # Errors
/// The first promise found broken, or the assertion of the log that did not hold.
pub fn run(seed: u64, settings: &Settings) -> Result<Outcome, Failure> {
    let lived = catch_unwind(AssertUnwindSafe(|| run_lives(seed, settings)));
    lived.unwrap_or_else(|panic| Err(failure_of_panic(seed, &*panic)))
}

/// An assertion that did not hold.
pub(super) fn failure_of_panic(seed: u64, panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Failure {
        seed,
        life: 0,
        what: format!("panicked: {}", text.unwrap_or("without a word")),
    }
}

/// A small log of any kind.
pub(super) fn random_config(random: &mut Random, bug: Option<SeededBug>) -> LogConfig {
    let flush = match random.below(2) {
        0 => FlushMethod::DsyncEachWrite,
        _ => FlushMethod::FlushAfterWrites,
    };
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        pool_segments: 1 + random.below(2) as usize,
        recycle_bytes: 2 * SEGMENT_BYTES,
        target_block_bytes: [16 << 10, 64 << 10][random.below(2) as usize],
        depth: 1 + random.below(6) as usize,
        eager_depth: 1 + random.below(3) as usize,
        flush,
        checkpoint_bytes: SEGMENT_BYTES / 2 + random.below(2 * SEGMENT_BYTES),
        cache_bytes: [0, 64 << 10, 1 << 20][random.below(3) as usize],
        cold_cache_bytes: [128 << 10, 4 << 20][random.below(2) as usize],
        read_ahead_bytes: 64 << 10,
        idle_mark_after: Duration::from_millis(5),
        reserve_bytes: 64 << 10,
        index_rows: [0, 100, 10_000][random.below(3) as usize],
        // The smallest cache there is, and merges as soon as there are two runs, or three.
        index_cache_bytes: 0,
        index_fan_in: 2 + random.below(2) as usize,
        seeded_bug: bug,
        ..LogConfig::default()
    };
    LogConfig {
        checkpoint_step_rows: [1, 8, 256][config.depth % 3],
        clean_step_rows: [1024, 16, 4][config.depth % 3],
        apply_step_bytes: [1, 64 << 10, 100][config.depth % 3],
        ..config
    }
}

fn run_lives(seed: u64, settings: &Settings) -> Result<Outcome, Failure> {
    let mut random = Random::new(seed);
    let mut cleaning = Cleaning::new(seed, settings.cleaning);
    let mut config = random_config(&mut random, settings.bug);
    cleaning.configure(&mut config);
    if settings.scrub {
        config.scrub_bytes_per_second = SCRUB_BYTES_PER_SECOND;
        config.scrub_every = Duration::from_millis(5);
    }
    let options = SimOptions {
        // Half of the runs take memory from an arena, as the real engine does.
        arena_bytes: [0, ARENA_BYTES][random.below(2) as usize],
        ..SimOptions::default()
    };
    let faults = settings.faults.clone();
    let mut run = Run {
        settings,
        disk: SimDisk::with(random.bits(), faults, Image::new(), options),
        work: Workload::new(random, settings.trace),
        outcome: Outcome::default(),
        config,
        cleaning,
        cut_armed: false,
    };
    run.work.disk = Some(run.disk.clone());
    run.work.seen.borrow_mut().disk = Some(run.disk.clone());
    run.work.trace(|| format!("{:?}", run.config));
    for life in 0..settings.lives {
        let before = run.disk.injected().len();
        let lived = run.live(life);
        let seen = run.work.seen.borrow().violation.clone();
        let lived = seen.map_or(lived, Err);
        for injected in &run.disk.injected()[before..] {
            run.work.trace(|| format!("injected {injected}"));
        }
        let ended = lived.map_err(|what| Failure { seed, life, what })?;
        if ended {
            run.outcome.refused += 1;
            break;
        }
    }
    run.outcome.groups = run.work.appended;
    run.outcome.cleaned = run.cleaning.runs;
    run.outcome.acknowledged = run.work.acknowledged;
    run.outcome.reads = run.work.reads;
    run.outcome.damaged_reads = run.work.damaged_reads;
    run.outcome.operations = run.disk.operations();
    let injected = run.disk.injected();
    for injected in &injected {
        run.outcome.injected[injected.what.kind()] += 1;
    }
    let silent = injected.iter().filter(|injected| injected.what.corrupts());
    run.outcome.corruptions = silent.count() as u64;
    Ok(run.outcome)
}

impl Run<'_> {
    /// One life. Whether it was the last: the log cannot be opened any more.
    fn live(&mut self, life: u32) -> Result<bool, String> {
        self.work.trace(|| format!("life {life}"));
        self.cut_armed = life > 0 && self.work.random.once_in(3);
        if self.cut_armed {
            let operations = 1 + self.work.random.below(200);
            self.work
                .trace(|| format!("the power goes after {operations} operations"));
            self.disk.power_cut_after(operations);
        }
        self.work.reads_may_fail = self.settings.may_fail() || self.cut_armed;
        self.work.disk_may_be_gone = self.cut_armed;
        let injected = self.disk.injected().len();
        let mut witness = Witness::default();
        let io = Watch::new(self.disk.io(), Rc::clone(&self.work.seen));
        self.work.seen.borrow_mut().opening();
        let opened = Log::open(io, LogId(0), self.config.clone(), &mut witness);
        self.work.note_corruption();
        let (mut log, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.work.trace(|| format!("not opened: {error}"));
                let ended = self.refused(&error, injected)?;
                self.end_of_life();
                return Ok(ended);
            }
        };
        self.outcome.starts += 1;
        self.work.trace(|| format!("opened: {report}"));
        let losses = self.work.check_start(&mut log, &mut witness, &report)?;
        self.outcome.reported += losses.reported_groups + losses.reported_batches;
        self.outcome.silent += losses.silent_groups;
        self.cleaning.begin();
        let missed = witness.missed.len();
        let steps = self.work.random.below(u64::from(self.settings.steps)) + 1;
        for _ in 0..steps {
            self.step(&mut log, &mut witness)?;
            if witness.missed.len() > missed {
                return Err(format!("live: groups {:?} never came", witness.missed));
            }
        }
        self.cleaning.end(&log);
        let unreadable = log.stats().unreadable_blocks;
        if unreadable > 0 && !self.disk.injected().iter().any(|one| one.what.corrupts()) {
            return Err(format!(
                "{unreadable} blocks are called damaged on a disk that corrupts nothing"
            ));
        }
        self.outcome.scrubbed_bytes += log.stats().scrubbed_bytes;
        self.outcome.scrub_damage += log.stats().scrub_damage;
        if self.work.random.once_in(4) && log.failure().is_none() {
            self.work.trace(|| "close".to_owned());
            match log.close(&mut witness) {
                Ok(()) => {
                    let model = &mut self.work.model;
                    let waiting = model.groups.len() - model.acknowledged;
                    model.acknowledged = model.groups.len();
                    self.work.acknowledged += waiting as u64;
                }
                Err(cause) => self.work.trace(|| format!("close failed: {cause}")),
            }
        } else {
            drop(log);
        }
        self.end_of_life();
        Ok(false)
    }

    /// The log did not open. Whether that is for good; an error if nothing explains it.
    fn refused(&self, error: &OpenError, injected: usize) -> Result<bool, String> {
        let seen = self.work.seen.borrow();
        match error {
            // Nothing was changed, and the next start may find everything again.
            OpenError::Io { .. } | OpenError::NotWritable { .. } => {
                let new = &self.disk.injected()[injected..];
                let lied = new.iter().any(|injected| injected.what.corrupts());
                if self.settings.may_fail() || self.cut_armed || lied {
                    return Ok(false);
                }
            }
            // The newest checkpoint was corrupted, and so was what it takes to do without.
            OpenError::Checkpoint { sequence, .. } => {
                let mut parts = seen.within(sequence.0..u64::MAX);
                if parts.any(|(_, block)| block.holds_checkpoint() && block.is_hit()) {
                    return Ok(true);
                }
            }
            OpenError::Headers { .. } if !seen.corrupted_headers.is_empty() => return Ok(true),
            // The corrupted header may be that of the newest segment: nothing says it is not. A
            // segment that was cut and has no seal may have been cut by anybody.
            OpenError::Unreadable { file, .. }
                if seen.corrupted_headers.contains(file) || seen.corrupted_seals.contains(file) =>
            {
                return Ok(true);
            }
            _ => {}
        }
        Err(format!("opening failed without a fault: {error}"))
    }

    fn end_of_life(&mut self) {
        self.work.note_corruption();
        if self.work.random.once_in(3) {
            self.work.trace(|| "kill".to_owned());
            self.disk.kill();
        } else {
            self.work.trace(|| "power cut".to_owned());
            self.outcome.power_cuts += 1;
            self.disk.power_cut();
        }
        self.work.note_corruption();
    }

    fn step(&mut self, log: &mut Log<Watched>, witness: &mut Witness) -> Result<(), String> {
        match self.work.random.below(20) {
            0..=9 => self.work.append(log)?,
            10..=12 => log.submit(),
            13..=15 => {
                log.submit();
                log.io_mut().wait(Duration::from_millis(2));
            }
            16 => {
                self.work.note_corruption();
                self.work.read_somewhere(log, witness)?;
            }
            17 => self.work.trim(log)?,
            18 if self.work.random.once_in(4) => self.work.drop_one(log)?,
            _ => log.io_mut().wait(Duration::from_millis(20)),
        }
        self.poll(log, witness);
        match &witness.out_of_order {
            Some(what) => Err(format!("live: {what}")),
            None => Ok(()),
        }
    }

    fn poll(&mut self, log: &mut Log<Watched>, witness: &mut Witness) {
        let failed = log.failure().is_some();
        self.work.poll(log, witness);
        self.cleaning.turn(log);
        if !failed && log.failure().is_some() {
            self.outcome.closed_by_failure += 1;
            self.work
                .trace(|| format!("log closed: {:?}", log.failure()));
        }
    }
}
