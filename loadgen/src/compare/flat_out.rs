//! As fast as the window allows: a slice of every side in each round, and where a directory is
//! given, of the physical limit beside them.

use std::time::Duration;

use serde::Serialize;

use crate::compare::bench::{Bench, order};
use crate::compare::side::Side;
use crate::latency::median;
use crate::produce::options::ProduceOptions;
use crate::reference::ceiling::SinkProcess;
use crate::reference::device::DeviceReference;
use crate::reference::ratio::Ratio;

/// One shape, slice by slice.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FlatOut {
    /// Bytes of a value.
    pub record_bytes: usize,
    /// Bytes of a batch.
    pub batch_bytes: u64,
    /// Events in a batch.
    pub records_per_batch: u32,
    /// The sides, in the order they were given.
    pub sides: Vec<SideFigures>,
    /// The device alone, MB/s; empty where no directory was given.
    pub device_mb_per_second: Vec<f64>,
    /// The same frames into a sink, MB/s; empty where no directory was given.
    pub ceiling_mb_per_second: Vec<f64>,
}

/// What one side did, round by round.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SideFigures {
    /// Events acknowledged per second.
    pub events_per_second: Vec<f64>,
    /// Batches acknowledged, MB/s.
    pub mb_per_second: Vec<f64>,
    /// From sending to acknowledgement, median of each slice.
    pub p50_us: Vec<f64>,
    /// The same, 99 of a hundred.
    pub p99_us: Vec<f64>,
}

impl FlatOut {
    /// The first side to another, by rounds.
    #[must_use]
    pub fn ratio_to(&self, other: usize) -> Ratio {
        let own = &self.sides[0].events_per_second;
        Ratio::paired(own, &self.sides[other].events_per_second)
    }

    /// The lower of the two references, if they were measured.
    #[must_use]
    pub fn limit_mb_per_second(&self) -> Option<&[f64]> {
        let (device, ceiling) = (&self.device_mb_per_second, &self.ceiling_mb_per_second);
        if device.is_empty() {
            return None;
        }
        let lower = if median(device) <= median(ceiling) {
            device
        } else {
            ceiling
        };
        Some(lower)
    }
}

/// The device and the sink.
pub struct References {
    /// The device.
    pub device: DeviceReference,
    /// The sink.
    pub sink: SinkProcess,
    /// Length of a slice of each.
    pub slice: Duration,
}

/// How many rounds there are.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Before the others, not counted: virtual machines compile what is hot, pools are filled.
    pub uncounted: usize,
    /// Those that count.
    pub counted: usize,
}

/// Runs the phase.
pub fn run(
    bench: &mut Bench<'_>,
    sides: &[Side],
    options: &ProduceOptions,
    rounds: Rounds,
    mut references: Option<&mut References>,
    stop: &std::sync::atomic::AtomicBool,
) -> anyhow::Result<FlatOut> {
    let mut phase = FlatOut {
        record_bytes: options.shape.record_bytes,
        sides: vec![SideFigures::default(); sides.len()],
        ..FlatOut::default()
    };
    for round in 0..rounds.uncounted {
        for place in order(sides.len(), round) {
            bench.slice(place, &sides[place], options)?;
        }
    }
    for round in 0..rounds.counted {
        for place in order(sides.len(), round) {
            let report = bench.slice(place, &sides[place], options)?;
            phase.batch_bytes = report.batch_bytes;
            phase.records_per_batch = report.records_per_batch;
            let figures = &mut phase.sides[place];
            figures.events_per_second.push(report.events_per_second);
            figures.mb_per_second.push(report.batch_mb_per_second);
            figures.p50_us.push(report.latency.p50_us);
            figures.p99_us.push(report.latency.p99_us);
        }
        if let Some(references) = &mut references {
            bench.check_stop()?;
            let device = references.device.slice(references.slice)?;
            phase.device_mb_per_second.push(device.mb_per_second);
            let ceiling = references.sink.slice(options, references.slice, stop)?;
            phase
                .ceiling_mb_per_second
                .push(ceiling.batch_mb_per_second);
        }
        eprintln!("  {}", last_round(&phase));
    }
    Ok(phase)
}

fn last_round(phase: &FlatOut) -> String {
    let last = |figures: &[f64]| figures.last().copied().unwrap_or(0.0);
    let mut words: Vec<String> = phase
        .sides
        .iter()
        .map(|side| format!("{:.0}", last(&side.mb_per_second)))
        .collect();
    if !phase.device_mb_per_second.is_empty() {
        words.push(format!("device {:.0}", last(&phase.device_mb_per_second)));
        words.push(format!("ceiling {:.0}", last(&phase.ceiling_mb_per_second)));
    }
    format!("MB/s: {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase() -> FlatOut {
        let side = |events: [f64; 2]| SideFigures {
            events_per_second: events.to_vec(),
            ..SideFigures::default()
        };
        FlatOut {
            sides: vec![side([100.0, 900.0]), side([50.0, 300.0])],
            ..FlatOut::default()
        }
    }

    #[test]
    fn a_side_is_set_against_the_first_round_by_round() {
        let ratio = phase().ratio_to(1);
        assert!((ratio.median - 2.5).abs() < 1e-9);
        assert_eq!((ratio.least, ratio.most, ratio.pairs), (2.0, 3.0, 2));
    }

    #[test]
    fn the_limit_is_the_lower_reference_and_absent_without_one() {
        let mut phase = phase();
        assert_eq!(phase.limit_mb_per_second(), None);
        phase.device_mb_per_second = vec![900.0, 800.0];
        phase.ceiling_mb_per_second = vec![700.0, 700.0];
        assert_eq!(phase.limit_mb_per_second(), Some(&[700.0, 700.0][..]));
    }
}
