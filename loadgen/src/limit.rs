//! `loadgen limit`: the physical limit of a shape on this machine. The device and the ceiling in
//! alternating slices; the limit is the lower of their medians.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::batch::codec::Compression;
use crate::batch::template::BatchShape;
use crate::cli::arguments::LimitArguments;
use crate::cli::json::write_json;
use crate::interrupt;
use crate::latency::median;
use crate::pinning::parse_cpu_choice;
use crate::process::cpu_seconds;
use crate::produce::options::ProduceOptions;
use crate::produce::schedule::Pace;
use crate::reference::ceiling::SinkProcess;
use crate::reference::device::DeviceReference;

/// Time for each shape of the device's grid, twice.
const GRID_EACH: Duration = Duration::from_millis(150);

/// The figures.
#[derive(Clone, Debug, Serialize)]
pub struct LimitReport {
    /// Bytes of a batch.
    pub batch_bytes: u64,
    /// The device's best shape, if it was measured.
    pub device_shape: Option<String>,
    /// The device's slices, MB/s.
    pub device_mb_per_second: Vec<f64>,
    /// The ceiling's slices, MB/s of batches.
    pub ceiling_mb_per_second: Vec<f64>,
    /// CPU seconds of generator and sink for each GB of batches.
    pub generator_cpu_per_gb: f64,
    /// See `generator_cpu_per_gb`.
    pub sink_cpu_per_gb: f64,
    /// The lower of the two medians.
    pub limit_mb_per_second: f64,
}

/// Measures and prints.
pub fn run(arguments: &LimitArguments) -> anyhow::Result<()> {
    ensure!(arguments.pairs > 0, "--pairs: one at least");
    let stop = interrupt::flag()?;
    let (cpus, pin) = parse_cpu_choice(arguments.cpu.as_deref())?;
    let options = ProduceOptions {
        partitions: arguments.partitions,
        shape: BatchShape {
            record_bytes: arguments.record_size,
            batch_bytes: arguments.batch_bytes,
            max_records: u32::MAX,
            keys: 0,
            compression: Compression::None,
        },
        connections: arguments.connections,
        in_flight: arguments.in_flight,
        cpus,
        pin,
        ..ProduceOptions::new("", "ceiling")
    };
    let beside = Beside {
        dir: (!arguments.ceiling_only).then_some(arguments.dir.as_path()),
        allow_buffered_io: arguments.allow_buffered_io,
        slice: arguments.slice,
        pairs: arguments.pairs,
    };
    let report = measure(&options, beside, &stop)?;
    print!("{}", report.text());
    write_json(arguments.json.as_deref(), &report)
}

/// What is measured, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// A directory on the disk; `None`: the ceiling alone.
    pub dir: Option<&'a Path>,
    /// Measure a filesystem without direct I/O all the same.
    pub allow_buffered_io: bool,
    /// Length of a slice.
    pub slice: Duration,
    /// Pairs of slices: device and ceiling.
    pub pairs: usize,
}

/// Measures the limit of what these options send.
pub fn measure(
    options: &ProduceOptions,
    beside: Beside<'_>,
    stop: &AtomicBool,
) -> anyhow::Result<LimitReport> {
    // The limit of a shape is that of its frames, however few of them the run sent.
    let options = &ProduceOptions {
        pace: Pace::Max,
        max_batches: None,
        idempotent: false,
        keep_latencies: false,
        ..options.clone()
    };
    let scratch = std::env::temp_dir().join(format!("loadgen-{}", std::process::id()));
    std::fs::create_dir(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let sink = SinkProcess::start(&scratch);
    std::fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    let mut sink = sink?;
    let mut device = match beside.dir {
        Some(dir) => Some(DeviceReference::open(
            dir,
            GRID_EACH,
            beside.allow_buffered_io,
        )?),
        None => None,
    };
    let mut report = LimitReport {
        batch_bytes: 0,
        device_shape: device.as_ref().map(DeviceReference::best_in_words),
        device_mb_per_second: Vec::new(),
        ceiling_mb_per_second: Vec::new(),
        generator_cpu_per_gb: 0.0,
        sink_cpu_per_gb: 0.0,
        limit_mb_per_second: 0.0,
    };
    let (mut generator_cpu, sink_cpu) = (0.0, sink.cpu_seconds()?);
    let mut gigabytes = 0.0;
    for _ in 0..beside.pairs {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if let Some(device) = &mut device {
            report
                .device_mb_per_second
                .push(device.slice(beside.slice)?.mb_per_second);
        }
        let before = cpu_seconds(std::process::id())?;
        let ceiling = sink.slice(options, beside.slice, stop)?;
        generator_cpu += cpu_seconds(std::process::id())? - before;
        let batches = ceiling.acknowledged_events / u64::from(ceiling.records_per_batch);
        gigabytes += (batches * ceiling.batch_bytes) as f64 / 1e9;
        report.batch_bytes = ceiling.batch_bytes;
        report
            .ceiling_mb_per_second
            .push(ceiling.batch_mb_per_second);
    }
    report.generator_cpu_per_gb = generator_cpu / f64::max(gigabytes, 1e-9);
    report.sink_cpu_per_gb = (sink.cpu_seconds()? - sink_cpu) / f64::max(gigabytes, 1e-9);
    let ceiling = median(&report.ceiling_mb_per_second);
    report.limit_mb_per_second = match device {
        Some(_) => ceiling.min(median(&report.device_mb_per_second)),
        None => ceiling,
    };
    Ok(report)
}

impl LimitReport {
    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |name: &str, figures: &[f64], what: &str| {
            let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
            let most = figures.iter().copied().fold(0.0, f64::max);
            format!(
                "{name:8} {:8.0} MB/s ({least:.0}–{most:.0})  {what}\n",
                median(figures)
            )
        };
        let mut text = String::new();
        if let Some(shape) = &self.device_shape {
            text.push_str(&line("device", &self.device_mb_per_second, shape));
        }
        let frames = format!(
            "batches of {} bytes into a sink that stores nothing",
            self.batch_bytes
        );
        text.push_str(&line("ceiling", &self.ceiling_mb_per_second, &frames));
        text.push_str(&format!(
            "         CPU seconds per GB: {:.3} generator, {:.3} sink\n\
             limit    {:8.0} MB/s\n",
            self.generator_cpu_per_gb, self.sink_cpu_per_gb, self.limit_mb_per_second
        ));
        text
    }
}
