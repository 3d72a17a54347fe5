//! Lives of a node on a simulated disk, and the check between them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ringlog_storage::io::Io;
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::sim::{Faults, SimDisk, SimIo};
use ringlog_storage::log::{LogConfig, OpenError};

use super::check::check_start;
use super::members::CrewDone;
use super::mistake::Mistake;
use super::model::{End, Lost};
use super::node::Node;
use super::workload::Workload;
use crate::sim::life::{Failure, Settings, failure_of_panic, random_config};
use crate::sim::random::Random;

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lived {
    /// Times the node came up.
    pub starts: u64,
    /// Batches appended.
    pub appended: u64,
    /// Batches read back after a start.
    pub read: u64,
    /// Repeats that were known, and of them those whose first copy was on its way.
    pub repeats: u64,
    /// See `repeats`.
    pub repeats_of_pending: u64,
    /// Batches and commands that were refused, as they had to be.
    pub refused: u64,
    /// Commands taken.
    pub commands: u64,
    /// Producer ids told.
    pub ids: u64,
    /// Commits, and groups removed.
    pub commits: u64,
    /// Of the commits those of several records.
    pub large_commits: u64,
    /// What the members of a group did.
    pub crew: CrewDone,
    /// Acknowledged batches of `buffered` topics lost by a kill.
    pub buffered_lost_by_kill: u64,
    /// The same, by a power cut or a failing disk.
    pub buffered_lost_by_power_cut: u64,
    /// Of `written` topics.
    pub written_lost_by_power_cut: u64,
}

impl Lived {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Lived) {
        self.starts += other.starts;
        self.appended += other.appended;
        self.read += other.read;
        self.repeats += other.repeats;
        self.repeats_of_pending += other.repeats_of_pending;
        self.refused += other.refused;
        self.commands += other.commands;
        self.ids += other.ids;
        self.commits += other.commits;
        self.large_commits += other.large_commits;
        self.crew.add(&other.crew);
        self.buffered_lost_by_kill += other.buffered_lost_by_kill;
        self.buffered_lost_by_power_cut += other.buffered_lost_by_power_cut;
        self.written_lost_by_power_cut += other.written_lost_by_power_cut;
    }
}

/// Runs a seed. The disk of the settings must not lie: what is lost to silent corruption is the
/// log's own matter, and the log's own simulation is about it.
///
/// # Errors
/// The first promise found broken, or the assertion that did not hold.
pub fn run_machines(
    seed: u64,
    settings: &Settings,
    mistake: Option<Mistake>,
) -> Result<Lived, Failure> {
    let lived = catch_unwind(AssertUnwindSafe(|| lives(seed, settings, mistake)));
    lived.unwrap_or_else(|panic| Err(failure_of_panic(seed, &*panic)))
}

struct Run<'a> {
    settings: &'a Settings,
    config: LogConfig,
    disk: SimDisk,
    work: Workload,
    lived: Lived,
    /// What became of the machine since the last start that served.
    ended: End,
}

fn lives(seed: u64, settings: &Settings, mistake: Option<Mistake>) -> Result<Lived, Failure> {
    let mut random = Random::new(seed);
    let config = random_config(&mut random, settings.bug);
    let faults: Faults = settings.faults.clone();
    let mut run = Run {
        settings,
        config,
        disk: SimDisk::from_image(random.bits(), faults, Image::new()),
        work: Workload::new(random, mistake, settings.trace),
        lived: Lived::default(),
        ended: End::Closed,
    };
    for life in 0..settings.lives {
        run.live(life)
            .map_err(|what| Failure { seed, life, what })?;
    }
    let done = run.work.done;
    run.lived.appended = done.appended;
    run.lived.repeats = done.repeats;
    run.lived.repeats_of_pending = done.repeats_of_pending;
    run.lived.refused = done.refused;
    run.lived.commands = done.commands;
    run.lived.ids = done.ids;
    run.lived.commits = done.commits;
    run.lived.large_commits = done.large_commits;
    run.lived.crew = run.work.crew.done;
    Ok(run.lived)
}

impl Run<'_> {
    fn live(&mut self, life: u32) -> Result<(), String> {
        self.work.trace(|| format!("life {life}"));
        let cut_armed = life > 0 && self.work.random.once_in(3);
        if cut_armed {
            let operations = 1 + self.work.random.below(200);
            self.disk.power_cut_after(operations);
        }
        let may_fail = self.settings.may_fail() || cut_armed;
        let mistake = self.work.mistake;
        let (mut node, report) = match Node::open(self.disk.io(), self.config.clone(), mistake) {
            Ok(opened) => opened,
            Err(OpenError::Io { .. } | OpenError::NotWritable { .. }) if may_fail => {
                self.end(true);
                return Ok(());
            }
            Err(error) => return Err(format!("opening failed without a fault: {error}")),
        };
        self.work.trace(|| format!("opened: {report}"));
        if let Some(refused) = node.machines.effects.refused.first() {
            return Err(format!("replay: {refused}"));
        }
        let Lost {
            buffered_by_kill,
            buffered_by_power_cut,
            written_by_power_cut,
        } = self
            .work
            .model
            .keep(node.machines.entries as usize, self.ended)?;
        self.lived.buffered_lost_by_kill += buffered_by_kill;
        self.lived.buffered_lost_by_power_cut += buffered_by_power_cut;
        self.lived.written_lost_by_power_cut += written_by_power_cut;
        self.ended = End::Closed;
        self.lived.starts += 1;
        self.lived.read += check_start(&mut node, &self.work.model, may_fail)?;
        let steps = 1 + self.work.random.below(u64::from(self.settings.steps));
        for _ in 0..steps {
            self.step(&mut node)?;
        }
        let failed = node.log.failure().is_some();
        if self.work.random.once_in(4) && !failed {
            self.close(node);
        } else {
            drop(node);
            self.ended = End::Killed;
        }
        self.end(failed || cut_armed);
        Ok(())
    }

    fn step(&mut self, node: &mut Node<SimIo>) -> Result<(), String> {
        self.work.step(node)?;
        match self.work.random.below(12) {
            0..=2 => node.log.submit(),
            3..=5 => {
                node.log.submit();
                node.log.io_mut().wait(Duration::from_millis(2));
            }
            6 => node.log.io_mut().wait(Duration::from_millis(20)),
            _ => return Ok(()),
        }
        self.work.poll(node).map(|_| ())
    }

    fn close(&mut self, node: Node<SimIo>) {
        self.work.trace(|| "close".to_owned());
        let Node {
            log, mut machines, ..
        } = node;
        match log.close(&mut machines) {
            // All that was appended is durable.
            Ok(()) => {
                self.work.model.advance(u64::MAX, u64::MAX, false);
                self.ended = End::Closed;
            }
            Err(cause) => {
                self.work.trace(|| format!("close failed: {cause}"));
                self.ended = End::PowerCut;
            }
        }
    }

    /// The process is gone, and at times the power.
    fn end(&mut self, disk_failed: bool) {
        self.work.forget_waiting();
        if self.work.random.once_in(2) && !disk_failed {
            self.work.trace(|| "kill".to_owned());
            self.disk.kill();
            self.ended = self.ended.max(End::Killed);
        } else {
            self.work.trace(|| "power cut".to_owned());
            self.disk.power_cut();
            self.ended = End::PowerCut;
        }
    }
}
