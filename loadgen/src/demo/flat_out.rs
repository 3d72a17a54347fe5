//! As fast as the window allows: load, device and ceiling in alternating slices.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;

use crate::demo::node::NodeCounters;
use crate::demo::stage::Stage;
use crate::latency::{Latencies, Percentiles, median};
use crate::produce::options::ProduceOptions;
use crate::produce::schedule::Pace;
use crate::reference::external;
use crate::reference::ratio::Ratio;

/// Somebody else's slices.
#[derive(Clone, Debug, Serialize)]
pub struct Against {
    /// The command.
    pub command: String,
    /// Its figures.
    pub mb_per_second: Vec<f64>,
}

/// Figures of a phase, slice by slice.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FlatOut {
    /// Bytes of a batch.
    pub batch_bytes: u64,
    /// Bytes of a value.
    pub record_bytes: usize,
    /// Batches acknowledged, MB/s.
    pub load_mb_per_second: Vec<f64>,
    /// Events acknowledged per second.
    pub load_events_per_second: Vec<f64>,
    /// The device beside it.
    pub device_mb_per_second: Vec<f64>,
    /// The ceiling beside it.
    pub ceiling_mb_per_second: Vec<f64>,
    /// Other commands beside it.
    pub against: Vec<Against>,
    /// From sending to acknowledgement, of the last slice.
    pub latency: Percentiles,
    /// Events acknowledged.
    pub events: u64,
    /// Seconds of load, set-up included.
    pub load_seconds: f64,
    /// CPU seconds of the node over them.
    pub node_cpu_seconds: f64,
    /// CPU seconds of the generator over them.
    pub generator_cpu_seconds: f64,
    /// What the node counted over the phase.
    pub counters: NodeCounters,
}

/// Which of the references is the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Limit {
    /// The device alone.
    Device,
    /// The same frames into a sink.
    Ceiling,
}

/// What bound a run, with the utilisation of each candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// CPU of node and generator, of all there is.
    pub cpu: f64,
    /// The node's own CPU, of its cores.
    pub node_cpu: f64,
    /// Load by device.
    pub disk: f64,
    /// Load by ceiling.
    pub network: f64,
}

impl Bound {
    /// The candidate that was closest to its end, if any was near it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let cpu = self.cpu.max(self.node_cpu);
        if cpu.max(self.disk).max(self.network) < 0.5 {
            return "none of these: something else runs on this machine, or somebody waits";
        }
        if cpu >= self.disk && cpu >= self.network {
            "CPU"
        } else if self.disk >= self.network {
            "disk"
        } else {
            "network"
        }
    }
}

impl FlatOut {
    /// The lower reference, by medians.
    #[must_use]
    pub fn limit(&self) -> (Limit, &[f64]) {
        let (device, ceiling) = (&self.device_mb_per_second, &self.ceiling_mb_per_second);
        if median(device) <= median(ceiling) {
            (Limit::Device, device)
        } else {
            (Limit::Ceiling, ceiling)
        }
    }

    /// Load to the physical limit.
    #[must_use]
    pub fn ratio(&self) -> Ratio {
        Ratio::paired(&self.load_mb_per_second, self.limit().1)
    }

    /// What bound it.
    #[must_use]
    pub fn bound(&self, cpus: usize, cores: usize) -> Bound {
        let seconds = self.load_seconds.max(1e-9);
        Bound {
            cpu: (self.node_cpu_seconds + self.generator_cpu_seconds) / seconds / cpus as f64,
            node_cpu: self.node_cpu_seconds / seconds / cores as f64,
            disk: Ratio::paired(&self.load_mb_per_second, &self.device_mb_per_second).median,
            network: Ratio::paired(&self.load_mb_per_second, &self.ceiling_mb_per_second).median,
        }
    }
}

/// Runs the phase.
pub fn run(
    stage: &mut Stage<'_>,
    batch_bytes: usize,
    against: &[String],
) -> anyhow::Result<FlatOut> {
    let mut options = stage.base.clone();
    options.shape.batch_bytes = batch_bytes;
    options.pace = Pace::Max;
    let effort = stage.effort;
    let (mut load, mut reference) = (effort.load, effort.reference);
    let mut phase = FlatOut {
        record_bytes: options.shape.record_bytes,
        against: against
            .iter()
            .map(|command| Against {
                command: command.clone(),
                mb_per_second: Vec::new(),
            })
            .collect(),
        ..FlatOut::default()
    };
    let before = stage.node.counters()?;
    for pair in 0..effort.pairs {
        let started = Instant::now();
        options.duration = load;
        // What comes first in one pair comes last in the next.
        if pair % 2 == 0 {
            load_slice(stage, &options, &mut phase)?;
            reference_slices(stage, &options, reference, &mut phase)?;
        } else {
            reference_slices(stage, &options, reference, &mut phase)?;
            load_slice(stage, &options, &mut phase)?;
        }
        let own = started.elapsed();
        for other in &mut phase.against {
            stage.check_stop()?;
            other
                .mb_per_second
                .push(external::run(&other.command, batch_bytes)?);
        }
        eprintln!("  {}", last_pair(&phase));
        if pair == 0 {
            let factor = shorten(own, effort.pairs, effort.phase);
            load = load.mul_f64(factor);
            reference = reference.mul_f64(factor);
        }
    }
    phase.counters = stage.node.counters()?.since(&before);
    Ok(phase)
}

/// How much shorter slices must be for a phase to end in time, judged by its first pair.
fn shorten(first_pair: Duration, pairs: usize, phase: Duration) -> f64 {
    let expected = first_pair.as_secs_f64() * pairs as f64;
    (phase.as_secs_f64() / expected.max(1e-9)).clamp(0.25, 1.0)
}

fn load_slice(
    stage: &mut Stage<'_>,
    options: &ProduceOptions,
    phase: &mut FlatOut,
) -> anyhow::Result<()> {
    let slice = stage.load(options)?;
    let report = &slice.report;
    ensure!(
        report.events > 0,
        "nothing was acknowledged within {:?}",
        options.duration
    );
    phase.batch_bytes = report.batch_bytes;
    phase.load_mb_per_second.push(report.batch_mb_per_second);
    phase.load_events_per_second.push(report.events_per_second);
    phase.latency = report.latency;
    phase.events += report.acknowledged_events;
    phase.load_seconds += slice.seconds;
    phase.node_cpu_seconds += slice.node_cpu_seconds;
    phase.generator_cpu_seconds += slice.generator_cpu_seconds;
    Ok(())
}

fn reference_slices(
    stage: &mut Stage<'_>,
    options: &ProduceOptions,
    duration: Duration,
    phase: &mut FlatOut,
) -> anyhow::Result<()> {
    phase
        .device_mb_per_second
        .push(stage.device.slice(duration)?.mb_per_second);
    stage.check_stop()?;
    let ceiling = stage.sink.slice(options, duration, stage.stop)?;
    phase
        .ceiling_mb_per_second
        .push(ceiling.batch_mb_per_second);
    stage.check_stop()
}

fn last_pair(phase: &FlatOut) -> String {
    let last = |figures: &[f64]| figures.last().copied().unwrap_or(0.0);
    let mut line = format!(
        "load {:.0} MB/s, device {:.0}, ceiling {:.0}",
        last(&phase.load_mb_per_second),
        last(&phase.device_mb_per_second),
        last(&phase.ceiling_mb_per_second)
    );
    for other in &phase.against {
        line.push_str(&format!(", against {:.0}", last(&other.mb_per_second)));
    }
    line
}

/// Latencies of several slices as one.
#[derive(Default)]
pub struct Pooled {
    latencies: Latencies,
}

impl Pooled {
    /// Adds a slice's.
    pub fn extend(&mut self, latencies_ns: &[u64]) {
        for latency in latencies_ns {
            self.latencies.record(*latency);
        }
    }

    /// All of them together.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        self.latencies.percentiles()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_lower_reference_and_the_ratio_is_paired_with_it() {
        let phase = FlatOut {
            load_mb_per_second: vec![500.0, 600.0],
            device_mb_per_second: vec![1_000.0, 1_000.0],
            ceiling_mb_per_second: vec![2_000.0, 500.0],
            ..FlatOut::default()
        };
        assert_eq!(phase.limit().0, Limit::Device);
        assert!((phase.ratio().median - 0.55).abs() < 1e-9);
    }

    #[test]
    fn what_is_used_up_most_bound_the_run() {
        let bound = Bound {
            cpu: 0.5,
            node_cpu: 0.6,
            disk: 0.9,
            network: 0.4,
        };
        assert_eq!(bound.name(), "disk");
        assert_eq!(
            Bound {
                node_cpu: 0.97,
                ..bound
            }
            .name(),
            "CPU"
        );
        let idle = Bound {
            cpu: 0.2,
            node_cpu: 0.3,
            disk: 0.1,
            network: 0.1,
        };
        assert!(idle.name().starts_with("none"));
        assert_eq!(
            Bound {
                network: 0.95,
                ..bound
            }
            .name(),
            "network"
        );
    }

    #[test]
    fn slices_are_shortened_only_when_a_phase_would_be_late() {
        let seconds = Duration::from_secs;
        assert_eq!(shorten(seconds(2), 8, seconds(20)), 1.0);
        assert_eq!(shorten(seconds(4), 8, seconds(16)), 0.5);
        assert_eq!(shorten(seconds(100), 8, seconds(16)), 0.25);
    }
}
