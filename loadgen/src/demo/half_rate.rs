//! At half the maximum rate, open loop: the latency of a durable acknowledgement, and the
//! device's beside it, pooled over alternating slices.

use serde::Serialize;

use crate::demo::flat_out::Pooled;
use crate::demo::stage::Stage;
use crate::latency::Percentiles;
use crate::produce::schedule::Pace;

/// The device is written in blocks of this size, one after the other, for comparison.
const DEVICE_BLOCK_BYTES: usize = 64 << 10;
/// Writes of a device slice.
const DEVICE_OPERATIONS: usize = 500;
/// A device whose p99 is this many times its p50 says more about its neighbours than about itself.
const RESTLESS: f64 = 10.0;

/// Figures of the phase.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HalfRate {
    /// Events asked for per second.
    pub rate: f64,
    /// Bytes of a batch.
    pub batch_bytes: u64,
    /// From due time to acknowledgement, pooled.
    pub load: Percentiles,
    /// One durable 64 KiB write at a time, pooled.
    pub device: Percentiles,
    /// Batches that were due and never sent.
    pub behind_batches: u64,
    /// The device's p99 was beyond ten times its p50, twice.
    pub inconclusive: bool,
}

impl HalfRate {
    /// Whether the rate was kept: at most one batch in a hundred was still waiting when its slice
    /// ended.
    #[must_use]
    pub fn rate_was_kept(&self) -> bool {
        self.behind_batches * 100 <= self.load.count
    }
}

/// Runs the phase, a second time when the device was restless.
pub fn run(stage: &mut Stage<'_>, rate: f64, batch_bytes: usize) -> anyhow::Result<HalfRate> {
    let first = attempt(stage, rate, batch_bytes)?;
    if !first.inconclusive {
        return Ok(first);
    }
    eprintln!("  the device was restless (p99 beyond ten times p50): once more");
    attempt(stage, rate, batch_bytes)
}

fn attempt(stage: &mut Stage<'_>, rate: f64, batch_bytes: usize) -> anyhow::Result<HalfRate> {
    let mut options = stage.base.clone();
    options.shape.batch_bytes = batch_bytes;
    options.pace = Pace::EventsPerSecond(rate);
    options.duration = stage.effort.load;
    // Connections, first batches: not what a rate is about.
    options.warmup = stage.effort.load / 8;
    options.keep_latencies = true;
    let (mut load, mut device) = (Pooled::default(), Pooled::default());
    let mut phase = HalfRate {
        rate,
        ..HalfRate::default()
    };
    for pair in 0..stage.effort.pairs {
        if pair % 2 == 1 {
            device.extend(
                &stage
                    .device
                    .one_at_a_time(DEVICE_BLOCK_BYTES, DEVICE_OPERATIONS)?,
            );
        }
        let slice = stage.load(&options)?;
        load.extend(&slice.report.latencies_ns);
        phase.batch_bytes = slice.report.batch_bytes;
        phase.behind_batches += slice.report.behind_batches;
        if pair % 2 == 0 {
            device.extend(
                &stage
                    .device
                    .one_at_a_time(DEVICE_BLOCK_BYTES, DEVICE_OPERATIONS)?,
            );
        }
    }
    phase.load = load.percentiles();
    phase.device = device.percentiles();
    phase.inconclusive = phase.device.p99_us > RESTLESS * phase.device.p50_us;
    Ok(phase)
}
