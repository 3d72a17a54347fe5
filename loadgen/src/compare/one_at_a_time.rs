//! One event at a time: one connection, one request in flight, slices of 100 operations.

use serde::Serialize;

use crate::compare::bench::{Bench, order};
use crate::compare::side::Side;
use crate::latency::{median, quantile};
use crate::produce::options::ProduceOptions;
use crate::produce::schedule::Pace;

/// Operations of a slice that count.
const OPERATIONS: usize = 100;
/// First operations of a slice: connection, topic and partition are new.
const UNCOUNTED: usize = 50;

/// Figures of the phase.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OneAtATime {
    /// The sides, in the order they were given.
    pub sides: Vec<SideLatency>,
}

/// One side's, in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SideLatency {
    /// Median of each slice.
    pub p50_us: Vec<f64>,
    /// 99 of a hundred, over all slices.
    pub p99_us: f64,
    #[serde(skip)]
    pooled_ns: Vec<u64>,
}

impl SideLatency {
    fn add(&mut self, slice: &[u64]) {
        let counted = &slice[UNCOUNTED.min(slice.len())..];
        let mut sorted = counted.to_vec();
        sorted.sort_unstable();
        self.p50_us.push(quantile(&sorted, 0.5) as f64 / 1e3);
        self.pooled_ns.extend(sorted);
        self.pooled_ns.sort_unstable();
        self.p99_us = quantile(&self.pooled_ns, 0.99) as f64 / 1e3;
    }
}

impl OneAtATime {
    /// Another side's p50 less the first side's, round by round: median, least and most.
    #[must_use]
    pub fn beyond_first_us(&self, other: usize) -> (f64, f64, f64) {
        let pairs = self.sides[other].p50_us.iter().zip(&self.sides[0].p50_us);
        let beyond: Vec<f64> = pairs.map(|(other, own)| other - own).collect();
        (
            median(&beyond),
            beyond.iter().copied().fold(f64::INFINITY, f64::min),
            beyond.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        )
    }
}

/// Runs the phase; the first round is not counted.
pub fn run(
    bench: &mut Bench<'_>,
    sides: &[Side],
    base: &ProduceOptions,
    rounds: usize,
) -> anyhow::Result<OneAtATime> {
    let mut options = base.clone();
    options.pace = Pace::Max;
    options.shape.max_records = 1;
    options.partitions = 1;
    options.connections = 1;
    options.threads = 1;
    options.in_flight = 1;
    options.warmup = std::time::Duration::ZERO;
    options.duration = std::time::Duration::from_secs(20);
    options.max_batches = Some((OPERATIONS + UNCOUNTED) as u64);
    options.keep_latencies = true;
    let mut phase = OneAtATime {
        sides: vec![SideLatency::default(); sides.len()],
    };
    for round in 0..=rounds {
        for place in order(sides.len(), round) {
            let report = bench.slice(place, &sides[place], &options)?;
            if round > 0 {
                phase.sides[place].add(&report.latencies_ns);
            }
        }
    }
    Ok(phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_compared_round_by_round_and_tails_pooled() {
        let slice = |us: u64| [vec![9_000_000; UNCOUNTED], vec![us * 1_000; OPERATIONS]].concat();
        let mut phase = OneAtATime {
            sides: vec![SideLatency::default(); 2],
        };
        // The second round is slow for both.
        for (own, other) in [(100, 300), (900, 1_150), (100, 280)] {
            phase.sides[0].add(&slice(own));
            phase.sides[1].add(&slice(other));
        }
        assert_eq!(phase.beyond_first_us(1), (200.0, 180.0, 250.0));
        assert_eq!(phase.sides[0].p50_us, [100.0, 900.0, 100.0]);
        assert!((phase.sides[0].p99_us - 900.0).abs() < 1e-9);
    }
}
