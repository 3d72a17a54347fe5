//! Measures a device and decides how the log should write there.
//!
//! All shapes take turns in short slices, round after round, so that a device that changes its
//! mood while it is measured changes it for all of them. What is decided from the figures is a
//! pure function.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use ringlog_storage::io::random::Random;
use ringlog_storage::log::FlushMethod;

use crate::block_device::BlockDevice;
use crate::device::{Device, Sample, Shape};
use crate::profile::{Measurement, Profile};

const BLOCK_SIZES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
const DEPTHS: [usize; 4] = [1, 2, 4, 8];

/// Bytes that the shapes write over and over; above what a device's cache usually holds.
const FILE_BYTES: u64 = 256 << 20;
/// With less time the file is smaller, so that most of the time is left for measuring.
const SMALL_FILE_BYTES: u64 = 16 << 20;
const SMALL_FILE_BELOW: Duration = Duration::from_secs(5);

/// Rounds in which all shapes take turns.
const ROUNDS: u32 = 5;

/// Longest that probing may take.
const MAX_BUDGET: Duration = Duration::from_secs(20);

/// A smaller block or depth is as good when its bandwidth is at least this share of the best.
const AS_GOOD: f64 = 0.95;

/// The other flush method is taken when it brings this much more: the plain one says exactly
/// which write is durable, and the other one only which group of them.
const WORTH_GROUPING: f64 = 1.10;

/// One more write in flight pays for small blocks when it brings this much more of them.
const WORTH_DEPTH: f64 = 1.20;

/// As long as a small block takes at most this much longer than alone: beyond that, what arrives
/// does better to gather for the next block.
const LATENCY_OF_DEPTH: f64 = 1.5;

/// Size of the blocks that gather when little arrives, by which the eager depth is decided.
const SMALL_BLOCK_BYTES: usize = 16 << 10;

/// Measures the device under `dir` within `budget` (20 s at most): the profile, and a table for
/// people.
///
/// # Errors
/// When the directory cannot be used or the device fails.
pub fn probe(dir: &Path, budget: Duration) -> anyhow::Result<(Profile, String)> {
    let start = Instant::now();
    let budget = budget.min(MAX_BUDGET);
    let file_bytes = if budget < SMALL_FILE_BELOW {
        SMALL_FILE_BYTES
    } else {
        FILE_BYTES
    };
    // A filesystem without O_DIRECT is measured as a node would use it when it is allowed to.
    let mut device = Device::open(dir, file_bytes, true)?;
    let samples = measure(&mut device, start + budget)?;
    let measurements = summarize(samples);
    let decision = decide(&measurements)?;
    let block_device = BlockDevice::of(dir).ok();
    let profile = Profile {
        version: Profile::current_version(),
        target_block_bytes: decision.target_block_bytes,
        depth: decision.depth,
        eager_depth: decision.eager_depth,
        flush: decision.flush,
        device: describe(block_device.as_ref()),
        filesystem: device.report().filesystem.clone(),
        kernel: device.report().kernel.clone(),
        measured_at_unix_seconds: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        measured_for_seconds: start.elapsed().as_secs_f64(),
        measurements,
    };
    let table = table(&profile, &device.report().to_string());
    Ok((profile, table))
}

fn shapes() -> Vec<Shape> {
    let methods = [FlushMethod::DsyncEachWrite, FlushMethod::FlushAfterWrites];
    let mut shapes = Vec::new();
    for block_bytes in BLOCK_SIZES {
        for depth in DEPTHS {
            shapes.extend(methods.map(|flush| Shape {
                block_bytes,
                depth,
                flush,
            }));
        }
    }
    shapes
}

/// Samples of each shape, one per round.
fn measure(device: &mut Device, end: Instant) -> anyhow::Result<Vec<(Shape, Vec<Sample>)>> {
    let mut samples: Vec<(Shape, Vec<Sample>)> = shapes()
        .into_iter()
        .map(|shape| (shape, Vec::new()))
        .collect();
    let mut random = Random::new(0);
    for round in 0..ROUNDS {
        let mut order: Vec<usize> = (0..samples.len()).collect();
        shuffle(&mut order, &mut random);
        for (done, number) in order.iter().enumerate() {
            let rest = end.saturating_duration_since(Instant::now());
            // Every shape is measured at least once, however little time there is.
            if rest.is_zero() && round > 0 {
                return Ok(samples);
            }
            let slices = order.len() * (ROUNDS - round) as usize - done;
            let slice = rest / u32::try_from(slices).unwrap_or(u32::MAX);
            let (shape, samples) = &mut samples[*number];
            samples.push(device.run(*shape, slice)?);
        }
    }
    Ok(samples)
}

fn shuffle(order: &mut [usize], random: &mut Random) {
    for last in (1..order.len()).rev() {
        // Lossless: a position in a short slice.
        let other = random.within(0..last as u64 + 1) as usize;
        order.swap(last, other);
    }
}

fn summarize(samples: Vec<(Shape, Vec<Sample>)>) -> Vec<Measurement> {
    samples
        .into_iter()
        .map(|(shape, samples)| {
            let mut rates: Vec<f64> = samples.iter().map(Sample::bytes_per_second).collect();
            rates.sort_by(f64::total_cmp);
            let mut latencies: Vec<u64> = samples
                .into_iter()
                .flat_map(|sample| sample.latencies_ns)
                .collect();
            latencies.sort_unstable();
            Measurement {
                block_bytes: shape.block_bytes,
                depth: shape.depth,
                flush: shape.flush,
                megabytes_per_second: rounded(rates.get(rates.len() / 2).map_or(0.0, |r| r / 1e6)),
                p50_microseconds: rounded(percentile(&latencies, 50)),
                p99_microseconds: rounded(percentile(&latencies, 99)),
                operations: latencies.len() as u64,
            }
        })
        .collect()
}

fn percentile(sorted_ns: &[u64], percent: usize) -> f64 {
    let position = (sorted_ns.len() * percent / 100).min(sorted_ns.len().saturating_sub(1));
    sorted_ns
        .get(position)
        .map_or(0.0, |latency| *latency as f64 / 1e3)
}

fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decision {
    target_block_bytes: usize,
    depth: usize,
    eager_depth: usize,
    flush: FlushMethod,
}

/// The best bandwidth decides the method; within it the smallest block and then the smallest
/// depth that are as good, because both cost latency.
fn decide(measurements: &[Measurement]) -> anyhow::Result<Decision> {
    let best = |flush: FlushMethod| {
        let rates = measurements
            .iter()
            .filter(|measurement| measurement.flush == flush);
        rates
            .map(|measurement| measurement.megabytes_per_second)
            .fold(0.0, f64::max)
    };
    let dsync = best(FlushMethod::DsyncEachWrite);
    let grouped = best(FlushMethod::FlushAfterWrites);
    if dsync <= 0.0 && grouped <= 0.0 {
        bail!("the probe measured no bandwidth at all; is the device stuck?");
    }
    let flush = if grouped > dsync * WORTH_GROUPING {
        FlushMethod::FlushAfterWrites
    } else {
        FlushMethod::DsyncEachWrite
    };
    let of_method = || {
        measurements
            .iter()
            .filter(|measurement| measurement.flush == flush)
    };
    let enough = dsync.max(grouped).min(best(flush)) * AS_GOOD;
    let chosen = of_method()
        .filter(|measurement| measurement.megabytes_per_second >= enough)
        .min_by_key(|measurement| (measurement.block_bytes, measurement.depth));
    let Some(chosen) = chosen else {
        bail!("no shape reaches the best bandwidth, which is one of them");
    };
    let small: BTreeMap<usize, &Measurement> = of_method()
        .filter(|measurement| measurement.block_bytes == SMALL_BLOCK_BYTES)
        .map(|measurement| (measurement.depth, measurement))
        .collect();
    let mut eager_depth = 1;
    if let Some(alone) = small.get(&1) {
        let mut reached = alone.megabytes_per_second;
        for (depth, at_depth) in small
            .iter()
            .filter(|(depth, _)| (2..=chosen.depth).contains(*depth))
        {
            let gains = at_depth.megabytes_per_second >= reached * WORTH_DEPTH;
            let waits = at_depth.p50_microseconds > alone.p50_microseconds * LATENCY_OF_DEPTH;
            if waits || !gains {
                break;
            }
            (eager_depth, reached) = (*depth, at_depth.megabytes_per_second);
        }
    }
    Ok(Decision {
        target_block_bytes: chosen.block_bytes,
        depth: chosen.depth,
        eager_depth,
        flush,
    })
}

fn describe(device: Option<&BlockDevice>) -> String {
    let Some(device) = device else {
        return "unknown (no block device of its own)".to_owned();
    };
    let cache = match device.has_volatile_cache() {
        Some(true) => ", volatile write cache",
        Some(false) => ", no volatile write cache",
        None => "",
    };
    match device.model() {
        Some(model) => format!("{} ({model}{cache})", device.name()),
        None => format!("{}{cache}", device.name()),
    }
}

fn table(profile: &Profile, report: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{} on {}", profile.device, report);
    let _ = writeln!(
        text,
        "durable writes over {:.1} s, all shapes in turn:",
        profile.measured_for_seconds
    );
    let _ = writeln!(
        text,
        "{:>9} {:>5} | {:>9} {:>9} {:>9} | {:>9} {:>9} {:>9}",
        "block", "depth", "dsync", "p50", "p99", "flush", "p50", "p99"
    );
    let _ = writeln!(
        text,
        "{:>9} {:>5} | {:>9} {:>9} {:>9} | {:>9} {:>9} {:>9}",
        "", "", "MB/s", "µs", "µs", "MB/s", "µs", "µs"
    );
    for block_bytes in BLOCK_SIZES {
        for depth in DEPTHS {
            let _ = write!(text, "{:>5} KiB {depth:>5}", block_bytes >> 10);
            for flush in [FlushMethod::DsyncEachWrite, FlushMethod::FlushAfterWrites] {
                let found = profile.measurements.iter().find(|measurement| {
                    (
                        measurement.block_bytes,
                        measurement.depth,
                        measurement.flush,
                    ) == (block_bytes, depth, flush)
                });
                if let Some(found) = found {
                    let _ = write!(
                        text,
                        " | {:>9.1} {:>9.1} {:>9.1}",
                        found.megabytes_per_second, found.p50_microseconds, found.p99_microseconds
                    );
                }
            }
            text.push('\n');
        }
    }
    let method = match profile.flush {
        FlushMethod::DsyncEachWrite => "DSYNC with each write",
        FlushMethod::FlushAfterWrites => "one flush after several writes",
    };
    let _ = writeln!(
        text,
        "chosen: blocks of {} KiB, {} in flight ({} when little arrives), {method}",
        profile.target_block_bytes >> 10,
        profile.depth,
        profile.eager_depth
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rate: impl Fn(Shape) -> f64) -> Vec<Measurement> {
        let measurement = |shape: Shape| Measurement {
            block_bytes: shape.block_bytes,
            depth: shape.depth,
            flush: shape.flush,
            megabytes_per_second: rate(shape),
            p50_microseconds: 1.0,
            p99_microseconds: 2.0,
            operations: 1,
        };
        shapes().into_iter().map(measurement).collect()
    }

    #[test]
    fn a_device_that_gains_nothing_from_depth_gets_depth_one() {
        let figures = figures(|shape| (shape.block_bytes >> 10) as f64);
        let expected = Decision {
            target_block_bytes: 1 << 20,
            depth: 1,
            eager_depth: 1,
            flush: FlushMethod::DsyncEachWrite,
        };
        assert_eq!(decide(&figures).expect("decided"), expected);
    }

    #[test]
    fn the_smallest_block_and_depth_that_are_as_good_are_taken() {
        let figures = figures(|shape| {
            let product = (shape.block_bytes >> 10) as f64 * shape.depth as f64;
            // Saturates from 256 KiB at depth 4 on.
            product.min(1000.0)
        });
        let decision = decide(&figures).expect("decided");
        assert_eq!(
            (decision.target_block_bytes, decision.depth),
            (256 << 10, 4)
        );
        assert_eq!(
            decision.eager_depth, 4,
            "small blocks gain all the way, up to the depth"
        );
    }

    #[test]
    fn small_blocks_that_slow_each_other_down_gather_instead() {
        let mut figures = figures(|shape| (shape.block_bytes * shape.depth) as f64);
        for figure in figures.iter_mut().filter(|figure| figure.depth > 2) {
            figure.p50_microseconds = 1.6;
        }
        let decision = decide(&figures).expect("decided");
        assert_eq!((decision.depth, decision.eager_depth), (8, 2));
    }

    #[test]
    fn grouping_flushes_is_taken_only_when_it_pays() {
        for (gain, expected) in [
            (1.05, FlushMethod::DsyncEachWrite),
            (1.5, FlushMethod::FlushAfterWrites),
        ] {
            let figures = figures(|shape| match shape.flush {
                FlushMethod::DsyncEachWrite => 100.0,
                FlushMethod::FlushAfterWrites => 100.0 * gain,
            });
            assert_eq!(
                decide(&figures).expect("decided").flush,
                expected,
                "gain {gain}"
            );
        }
    }

    #[test]
    fn a_device_without_bandwidth_is_an_error() {
        decide(&figures(|_| 0.0)).expect_err("nothing to decide by");
    }

    #[test]
    fn percentiles_are_of_the_sorted_list() {
        let list: Vec<u64> = (1..=100).map(|number| number * 1000).collect();
        assert_eq!(percentile(&list, 50), 51.0);
        assert_eq!(percentile(&list, 99), 100.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }

    #[test]
    fn a_short_probe_measures_every_shape_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let start = Instant::now();
        let (profile, table) = probe(root.path(), Duration::from_millis(600)).expect("probed");
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!(profile.measurements.len(), shapes().len());
        assert!(
            profile
                .measurements
                .iter()
                .all(|measurement| measurement.operations > 0)
        );
        assert!(
            table.contains("1024 KiB") && table.contains("chosen:"),
            "{table}"
        );
        assert_eq!(std::fs::read_dir(root.path()).expect("listed").count(), 0);
        profile.save(root.path()).expect("saved");
        let loaded = Profile::load(root.path()).expect("loaded").expect("there");
        assert_eq!(loaded.target_block_bytes, profile.target_block_bytes);
    }
}
