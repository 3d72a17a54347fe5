//! Producer at a rate and consumer at the tail, in one process: latency from the time a batch was
//! due to its receipt.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ringlog_storage::log::FlushMethod;
use ringlog_tuning::device::{Device, Shape};
use serde::Serialize;

use crate::consume::{self, ConsumeOptions, ConsumeReport};
use crate::kafka::cluster::{Cluster, Edge};
use crate::kafka::fetch::FetchLimits;
use crate::latency::{Latencies, Percentiles};
use crate::produce::options::ProduceOptions;
use crate::produce::progress::Progress;
use crate::produce::report::ProduceReport;
use crate::produce::run;

/// Both sides.
#[derive(Clone, Debug, Serialize)]
pub struct EndToEndReport {
    /// The producer's.
    pub produce: ProduceReport,
    /// The consumer's.
    pub consume: ConsumeReport,
    /// The device's, if it was measured.
    pub device: Option<DeviceBeside>,
}

/// Durable writes of 4 KiB, one at a time, half of them before and half behind the run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DeviceBeside {
    /// Of each write.
    pub latency: Percentiles,
}

impl DeviceBeside {
    /// One line.
    #[must_use]
    pub fn text(&self) -> String {
        let latency = &self.latency;
        format!(
            "device    p50 {:.0} µs  p99 {:.0} µs  p99.9 {:.0} µs  a durable 4 KiB write ({} of them)",
            latency.p50_us, latency.p99_us, latency.p999_us, latency.count
        )
    }
}

const DEVICE_FILE_BYTES: u64 = 64 << 20;
const DEVICE_BLOCK_BYTES: usize = 4 << 10;
/// Writes on each side of a run.
const DEVICE_OPERATIONS: usize = 1000;

/// [`run()`], and the device under a directory before and behind it, while nothing else is measured.
pub fn run_beside(
    options: &ProduceOptions,
    device: Option<&Path>,
    progress: &Progress,
    stop: &AtomicBool,
) -> anyhow::Result<EndToEndReport> {
    let Some(dir) = device else {
        return run(options, progress, stop);
    };
    let mut device = Device::open(dir, DEVICE_FILE_BYTES, false)
        .with_context(|| format!("making a file for the device in {}", dir.display()))?;
    let mut latencies = Latencies::default();
    let mut measure = || -> anyhow::Result<()> {
        let shape = Shape {
            block_bytes: DEVICE_BLOCK_BYTES,
            depth: 1,
            flush: FlushMethod::DsyncEachWrite,
        };
        for ns in device
            .run_operations(shape, DEVICE_OPERATIONS)?
            .latencies_ns
        {
            latencies.record(ns);
        }
        Ok(())
    };
    measure()?;
    let mut report = run(options, progress, stop)?;
    measure()?;
    report.device = Some(DeviceBeside {
        latency: latencies.percentiles(),
    });
    Ok(report)
}

/// Runs both sides over the producer's options.
pub fn run(
    options: &ProduceOptions,
    progress: &Progress,
    stop: &AtomicBool,
) -> anyhow::Result<EndToEndReport> {
    options.check()?;
    let mut cluster = Cluster::connect(&options.bootstrap)?;
    cluster.ensure_topic(&options.topic, options.partitions, &options.topic_configs)?;
    drop(cluster);
    let consume_options = ConsumeOptions {
        bootstrap: options.bootstrap.clone(),
        topic: options.topic.clone(),
        from: Edge::Latest,
        connections: 1,
        limits: FetchLimits {
            max_wait: Duration::from_millis(500),
            ..FetchLimits::BULK
        },
        warmup: options.warmup,
        // The producer decides when it is over; the window must not close before.
        duration: options.duration + Duration::from_secs(60),
        until_end: false,
        latency: true,
        cpus: None,
    };
    let (ready, produced) = (AtomicBool::new(false), AtomicBool::new(false));
    let unwatched = Progress::default();
    std::thread::scope(|scope| {
        let consumer = {
            let (ready, produced, options) = (&ready, &produced, &consume_options);
            scope.spawn(move || consume::run(options, progress, produced, ready))
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready.load(Ordering::Acquire) && !consumer.is_finished() {
            ensure!(
                Instant::now() < deadline,
                "the consumer did not get ready within 30 s"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let produced_report = run::run(options, &unwatched, stop);
        // The last batches are acknowledged; the tail reader has them after one more fetch.
        std::thread::sleep(Duration::from_millis(300));
        produced.store(true, Ordering::Relaxed);
        let consume = consumer
            .join()
            .unwrap_or_else(|_| bail!("the consumer panicked"))?;
        Ok(EndToEndReport {
            produce: produced_report?,
            consume,
            device: None,
        })
    })
}
