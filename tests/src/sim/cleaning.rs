//! The cleaner in a run: eager, with choices of its own, so that the rest of a run is the same with
//! it and without. The helper is played in place, now at once, now later.

use ringlog_storage::io::Io;
use ringlog_storage::log::clean::{CleanTask, Lasting};
use ringlog_storage::log::{Log, LogConfig};

use super::random::Random;

/// The cleaner's part of a run.
#[derive(Debug)]
pub struct Cleaning {
    random: Random,
    is_on: bool,
    /// What the helper works on.
    task: Option<CleanTask>,
    /// Runs of the cleaner that came to their switch, in the lives before.
    pub runs: u64,
}

impl Cleaning {
    /// The cleaner under a seed; two of three runs have one, if any shall.
    pub fn new(seed: u64, wanted: bool) -> Cleaning {
        let mut random = Random::new(seed ^ 0x5eed_c1ea_4e12_0000);
        Cleaning {
            is_on: wanted && !random.once_in(3),
            random,
            task: None,
            runs: 0,
        }
    }

    /// Sets up the log for it.
    pub fn configure(&mut self, config: &mut LogConfig) {
        if !self.is_on {
            config.clean_bytes_per_second = 0;
            return;
        }
        // A life lasts some 200 ms, in which the log is hardly ever at rest.
        config.clean_bytes_per_second = [64 << 20, 1 << 30, 8 << 30][self.random.below(3) as usize];
        config.clean_live_share = [0.5, 0.9, 0.99][self.random.below(3) as usize];
        config.clean_amplification = [1.05, 1.5, 4.0][self.random.below(3) as usize];
    }

    /// A life begins: the helper of the last one is gone.
    pub fn begin(&mut self) {
        self.task = None;
    }

    /// A life of the log ends.
    pub fn end<I: Io>(&mut self, log: &Log<I>) {
        self.runs += log.stats().clean_runs;
    }

    /// A turn: the helper ends what it does, or takes something up; now and then something is
    /// planned.
    pub fn turn<I: Io>(&mut self, log: &mut Log<I>) {
        if !self.is_on {
            return;
        }
        if self.task.is_none() {
            self.task = log.take_clean_task();
        }
        if self.random.once_in(2)
            && let Some(task) = self.task.take()
        {
            log.finish_clean_task(task.run());
        }
        if log.looks_at_segments() || self.random.once_in(4) {
            let soon = self.random.below(8);
            log.plan_cleaning(&|partition| {
                if partition.0 % 8 == soon {
                    Lasting::Soon
                } else {
                    Lasting::Long
                }
            });
        }
    }
}
