//! A run: lives of a log on a simulated disk, and the checks between them.

use std::fmt;
use std::time::Duration;

use ringlog_storage::io::Io;
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::sim::{Faults, SimDisk, SimIo, SimOptions};
use ringlog_storage::log::{FlushMethod, Log, LogConfig};
use ringlog_types::LogId;

use super::machine::Witness;
use super::random::Random;
use super::workload::Workload;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Lives of the log.
    pub lives: u32,
    /// Steps in a life.
    pub steps: u32,
    /// What may go wrong with the disk.
    pub faults: Faults,
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
}

impl Settings {
    /// What a crash recovery meets: power cuts that tear, completions out of order, and writes
    /// and flushes that fail and say so. Nothing that corrupts silently.
    pub fn failing_disk() -> Faults {
        Faults {
            short_write: 0.0005,
            write_error: 0.0005,
            flush_error: 0.0005,
            read_error: 0.0005,
            disk_full: 0.002,
            stuck: 0.0002,
            ..Faults::power_cuts_only()
        }
    }

    /// Whether operations may fail.
    fn may_fail(&self) -> bool {
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

const ARENA_BYTES: usize = 4 << 20;

struct Run<'a> {
    settings: &'a Settings,
    work: Workload,
    disk: SimDisk,
    outcome: Outcome,
    config: LogConfig,
    /// The power goes at some operation of this life, wherever that is: also in recovery.
    cut_armed: bool,
}

/// Runs a seed.
///
/// # Errors
/// The first promise found broken.
pub fn run(seed: u64, settings: &Settings) -> Result<Outcome, Failure> {
    let mut random = Random::new(seed);
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
        ..LogConfig::default()
    };
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
        cut_armed: false,
    };
    run.work.trace(|| format!("{:?}", run.config));
    for life in 0..settings.lives {
        let before = run.disk.injected().len();
        let lived = run.live(life);
        for injected in &run.disk.injected()[before..] {
            run.work.trace(|| format!("injected {injected}"));
        }
        lived.map_err(|what| Failure { seed, life, what })?;
    }
    run.outcome.groups = run.work.appended;
    run.outcome.acknowledged = run.work.acknowledged;
    run.outcome.reads = run.work.reads;
    run.outcome.operations = run.disk.operations();
    Ok(run.outcome)
}

impl Run<'_> {
    fn live(&mut self, life: u32) -> Result<(), String> {
        self.work.trace(|| format!("life {life}"));
        self.cut_armed = life > 0 && self.work.random.once_in(3);
        if self.cut_armed {
            let operations = 1 + self.work.random.below(200);
            self.work
                .trace(|| format!("the power goes after {operations} operations"));
            self.disk.power_cut_after(operations);
        }
        self.work.reads_may_fail = self.settings.may_fail() || self.cut_armed;
        let mut witness = Witness::default();
        let opened = Log::open(self.disk.io(), LogId(0), self.config.clone(), &mut witness);
        let (mut log, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // A fault during recovery: the next start must find everything again.
                self.work.trace(|| format!("not opened: {error}"));
                if !self.settings.may_fail() && !self.cut_armed {
                    return Err(format!("opening failed without a fault: {error}"));
                }
                self.end_of_life();
                return Ok(());
            }
        };
        self.outcome.starts += 1;
        self.work.trace(|| format!("opened: {report}"));
        if !report.damage.is_empty() {
            return Err(format!(
                "damage was found where none was injected: {report}"
            ));
        }
        self.work.check_start(&mut log, &mut witness)?;
        let steps = self.work.random.below(u64::from(self.settings.steps)) + 1;
        for _ in 0..steps {
            self.step(&mut log, &mut witness)?;
        }
        if self.work.random.once_in(4) && log.failure().is_none() {
            self.work.trace(|| "close".to_owned());
            match log.close(&mut witness) {
                Ok(()) => {
                    let model = &mut self.work.model;
                    let waiting = model.waiting.len() - model.acknowledged;
                    model.acknowledged = model.waiting.len();
                    self.work.acknowledged += waiting as u64;
                }
                Err(cause) => self.work.trace(|| format!("close failed: {cause}")),
            }
        } else {
            drop(log);
        }
        self.end_of_life();
        Ok(())
    }

    fn end_of_life(&mut self) {
        if self.work.random.once_in(3) {
            self.work.trace(|| "kill".to_owned());
            self.disk.kill();
        } else {
            self.work.trace(|| "power cut".to_owned());
            self.outcome.power_cuts += 1;
            self.disk.power_cut();
        }
    }

    fn step(&mut self, log: &mut Log<SimIo>, witness: &mut Witness) -> Result<(), String> {
        match self.work.random.below(20) {
            0..=9 => self.work.append(log)?,
            10..=12 => log.submit(),
            13..=15 => {
                log.submit();
                log.io_mut().wait(Duration::from_millis(2));
            }
            16 => self.work.read_somewhere(log, witness)?,
            17 => self.work.trim(log)?,
            18 if self.work.random.once_in(4) => self.work.drop_one(log)?,
            _ => log.io_mut().wait(Duration::from_millis(20)),
        }
        self.poll(log, witness);
        if let Some((expected, found)) = witness.out_of_order {
            return Err(format!(
                "group {found} was applied live where {expected} was due"
            ));
        }
        Ok(())
    }

    fn poll(&mut self, log: &mut Log<SimIo>, witness: &mut Witness) {
        let failed = log.failure().is_some();
        self.work.poll(log, witness);
        if !failed && log.failure().is_some() {
            self.outcome.closed_by_failure += 1;
            self.work
                .trace(|| format!("log closed: {:?}", log.failure()));
        }
    }
}
