//! One slice of load on one side: a topic of its own, load, reading back, the topic removed.
//!
//! Invariant: before a slice begins, what others left in the page cache is on the disk. A broker
//! that does not wait for the disk would otherwise have its writes paid for in the slices of the
//! next side.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};

use crate::compare::side::Side;
use crate::kafka::cluster::Cluster;
use crate::produce::options::ProduceOptions;
use crate::produce::progress::Progress;
use crate::produce::report::ProduceReport;
use crate::produce::run;
use crate::verify::readback::verify;

/// Runs slices, and keeps count of what they were promised.
pub struct Bench<'a> {
    stop: &'a AtomicBool,
    verifies: bool,
    slices: u32,
    /// Makes the topics' names unlike those of another run against the same brokers.
    run: u32,
    /// Events read back and confirmed, by side.
    pub verified_events: Vec<u64>,
    /// What went wrong, in words.
    pub faults: Vec<String>,
}

impl<'a> Bench<'a> {
    /// For so many sides.
    #[must_use]
    pub fn new(sides: usize, verifies: bool, stop: &'a AtomicBool) -> Bench<'a> {
        Bench {
            stop,
            verifies,
            slices: 0,
            run: std::process::id(),
            verified_events: vec![0; sides],
            faults: Vec::new(),
        }
    }

    /// Sends to side number `place`. An error when nothing was acknowledged, or something was
    /// refused: a figure of half a load says nothing.
    pub fn slice(
        &mut self,
        place: usize,
        side: &Side,
        options: &ProduceOptions,
    ) -> anyhow::Result<ProduceReport> {
        self.check_stop()?;
        self.slices += 1;
        let options = ProduceOptions {
            bootstrap: side.bootstrap.clone(),
            topic: format!("compare-{}-{}", self.run, self.slices),
            topic_configs: side.topic_configs.clone(),
            ..options.clone()
        };
        rustix::fs::sync();
        let report = run::run(&options, &Progress::default(), self.stop)
            .with_context(|| format!("sending to {}", side.label))?;
        self.check_stop()?;
        ensure!(
            report.events > 0 && report.errors.is_empty() && report.unknown_batches == 0,
            "{}: {} events acknowledged, {} batches with unknown outcome, errors {:?}",
            side.label,
            report.events,
            report.unknown_batches,
            report.errors
        );
        if self.verifies {
            self.read_back(place, side, &report)?;
        }
        Cluster::connect(&side.bootstrap)?
            .delete_topic(&options.topic)
            .with_context(|| format!("tidying up at {}", side.label))?;
        Ok(report)
    }

    /// An error once somebody wants it to end.
    pub fn check_stop(&self) -> anyhow::Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    fn read_back(
        &mut self,
        place: usize,
        side: &Side,
        report: &ProduceReport,
    ) -> anyhow::Result<()> {
        let found = verify(&side.bootstrap, &report.expectation)
            .with_context(|| format!("reading back from {}", side.label))?;
        self.verified_events[place] += found.confirmed_events;
        if !found.is_clean() {
            let summary = format!("{}: {}", side.label, found.summary());
            self.faults.push(summary);
            let details = found.faults.iter().map(|fault| format!("  {fault}"));
            self.faults.extend(details);
        }
        Ok(())
    }
}

/// The sides' places in the order of a round: another one begins each time.
#[must_use]
pub fn order(sides: usize, round: usize) -> Vec<usize> {
    (0..sides).map(|nth| (nth + round) % sides).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_is_in_each_round_and_none_always_begins() {
        let rounds: Vec<Vec<usize>> = (0..3).map(|round| order(3, round)).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }
}
