//! One durable event at a time: the node, the device and the loopback device in alternating
//! slices of 100 operations.

use serde::Serialize;

use crate::demo::stage::Stage;
use crate::latency::{median, quantile};
use crate::produce::schedule::Pace;
use crate::reference::loopback::Loopback;

/// Operations of a slice.
const OPERATIONS: usize = 100;
/// First events of a slice that do not count: connection, topic and partition are new.
const UNCOUNTED: usize = 50;
/// The device's write.
const DEVICE_BLOCK_BYTES: usize = 4 << 10;

/// Figures of the phase, in microseconds; medians over slices of each slice's p50.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OneAtATime {
    /// An event, from handing it over to its acknowledgement.
    pub event_p50_us: f64,
    /// All events, pooled.
    pub event_p99_us: f64,
    /// A durable 4 KiB write.
    pub device_p50_us: f64,
    /// All writes, pooled.
    pub device_p99_us: f64,
    /// A round trip over loopback.
    pub loopback_p50_us: f64,
    /// Event − (device + loopback), pair by pair, the median.
    pub above_sum_us: f64,
    /// The smallest and the largest of these differences.
    pub above_sum_range_us: (f64, f64),
    /// Slices of each kind.
    pub pairs: usize,
}

/// Runs the phase.
pub fn run(stage: &mut Stage<'_>) -> anyhow::Result<OneAtATime> {
    let mut options = stage.base.clone();
    options.pace = Pace::Max;
    options.shape.max_records = 1;
    options.partitions = 1;
    options.connections = 1;
    options.threads = 1;
    options.in_flight = 1;
    options.duration = std::time::Duration::from_secs(20);
    options.max_batches = Some((OPERATIONS + UNCOUNTED) as u64);
    options.keep_latencies = true;
    let mut loopback = Loopback::connect(stage.sink.echo())?;
    // The first pair warms caches and is not counted.
    slice(stage, &options, &mut loopback)?;
    let mut slices = Vec::new();
    for _ in 0..stage.effort.single_pairs {
        slices.push(slice(stage, &options, &mut loopback)?);
    }
    Ok(sum_up(&slices))
}

struct Slice {
    event_ns: Vec<u64>,
    device_ns: Vec<u64>,
    loopback_ns: Vec<u64>,
}

fn slice(
    stage: &mut Stage<'_>,
    options: &crate::produce::options::ProduceOptions,
    loopback: &mut Loopback,
) -> anyhow::Result<Slice> {
    let load = stage.load(options)?;
    Ok(Slice {
        event_ns: load
            .report
            .latencies_ns
            .into_iter()
            .skip(UNCOUNTED)
            .collect(),
        device_ns: stage.device.one_at_a_time(DEVICE_BLOCK_BYTES, OPERATIONS)?,
        loopback_ns: loopback.round_trips(OPERATIONS)?,
    })
}

fn sum_up(slices: &[Slice]) -> OneAtATime {
    let p50_us = |latencies: &[u64]| {
        let mut sorted = latencies.to_vec();
        sorted.sort_unstable();
        quantile(&sorted, 0.5) as f64 / 1e3
    };
    let pooled_p99_us = |of: fn(&Slice) -> &Vec<u64>| {
        let mut sorted: Vec<u64> = slices.iter().flat_map(|slice| of(slice).clone()).collect();
        sorted.sort_unstable();
        quantile(&sorted, 0.99) as f64 / 1e3
    };
    let each = |of: fn(&Slice) -> &Vec<u64>| -> Vec<f64> {
        slices.iter().map(|slice| p50_us(of(slice))).collect()
    };
    let event = each(|slice| &slice.event_ns);
    let device = each(|slice| &slice.device_ns);
    let loopback = each(|slice| &slice.loopback_ns);
    let above: Vec<f64> = event
        .iter()
        .zip(device.iter().zip(&loopback))
        .map(|(event, (device, loopback))| event - device - loopback)
        .collect();
    OneAtATime {
        event_p50_us: median(&event),
        event_p99_us: pooled_p99_us(|slice| &slice.event_ns),
        device_p50_us: median(&device),
        device_p99_us: pooled_p99_us(|slice| &slice.device_ns),
        loopback_p50_us: median(&loopback),
        above_sum_us: median(&above),
        above_sum_range_us: (
            above.iter().copied().fold(f64::INFINITY, f64::min),
            above.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ),
        pairs: slices.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_formed_pair_by_pair() {
        let slice = |event: u64, device: u64, loopback: u64| Slice {
            event_ns: vec![event * 1_000; 3],
            device_ns: vec![device * 1_000; 3],
            loopback_ns: vec![loopback * 1_000; 3],
        };
        // A slow device in the second pair slows the event down with it.
        let figures = sum_up(&[
            slice(150, 100, 20),
            slice(950, 900, 20),
            slice(160, 110, 20),
        ]);
        assert!((figures.above_sum_us - 30.0).abs() < 1e-9);
        assert!((figures.event_p50_us - 160.0).abs() < 1e-9);
        assert!((figures.device_p50_us - 110.0).abs() < 1e-9);
        assert_eq!(figures.above_sum_range_us, (30.0, 30.0));
    }
}
