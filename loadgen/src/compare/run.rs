//! The comparison from beginning to end.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::cli::arguments::CompareArguments;
use crate::cli::json::write_json;
use crate::compare::bench::Bench;
use crate::compare::flat_out::{self, References, Rounds};
use crate::compare::one_at_a_time;
use crate::compare::report::CompareReport;
use crate::html::{self, page::write_page};
use crate::pinning::parse_cpu_choice;
use crate::produce::options::ProduceOptions;
use crate::produce::schedule::Pace;
use crate::reference::ceiling::SinkProcess;
use crate::reference::device::DeviceReference;

/// Values and batches that are measured: the fixed shapes of every benchmark here.
const VALUES: [usize; 2] = [100, 1 << 10];
const BATCHES: [usize; 2] = [1 << 20, 16 << 10];

/// Rounds of single events for each of a throughput phase's: slices of 100 operations are short.
const SINGLE_ROUNDS: (usize, usize) = (3, 2);

/// Time for each shape of the device's grid, twice.
const GRID_EACH: Duration = Duration::from_millis(60);

/// No slice is longer: what alternates must be close together.
const LONGEST_SLICE: Duration = Duration::from_secs(2);

/// Runs the comparison. False: something acknowledged was lost, doubled, reordered or altered.
pub fn run(arguments: &CompareArguments) -> anyhow::Result<bool> {
    ensure!(
        (2..=26).contains(&arguments.sides.len()),
        "two sides at least, 26 at most"
    );
    ensure!(arguments.rounds > 0, "--rounds: one at least");
    ensure!(
        arguments.slice <= LONGEST_SLICE,
        "--slice: {LONGEST_SLICE:?} at most, so that what is compared is close together"
    );
    let stop = crate::interrupt::flag()?;
    let started = Instant::now();
    let base = base_options(arguments)?;
    let mut references = match &arguments.dir {
        Some(dir) => Some(references(dir, arguments.slice / 2)?),
        None => None,
    };
    let mut report = measure(arguments, &base, references.as_mut(), &stop)?;
    report.device_shape = references.map(|references| references.device.best_in_words());
    report.seconds = started.elapsed().as_secs_f64();
    println!("{}", report.text());
    write_json(arguments.common.json.as_deref(), &report)?;
    write_page(arguments.common.html.as_deref(), || {
        html::compare::page(&report)
    })?;
    Ok(report.is_clean())
}

fn measure(
    arguments: &CompareArguments,
    base: &ProduceOptions,
    mut references: Option<&mut References>,
    stop: &AtomicBool,
) -> anyhow::Result<CompareReport> {
    let sides = &arguments.sides;
    let mut bench = Bench::new(sides.len(), !arguments.no_verify, stop);
    let mut phases = Vec::new();
    for record_bytes in VALUES {
        for batch_bytes in BATCHES {
            eprintln!(
                "{record_bytes}-byte values, batches of {} KiB",
                batch_bytes >> 10
            );
            let mut options = base.clone();
            options.shape.record_bytes = record_bytes;
            options.shape.batch_bytes = batch_bytes;
            let references = references.as_deref_mut();
            let rounds = Rounds {
                uncounted: arguments.uncounted_rounds,
                counted: arguments.rounds,
            };
            let phase = flat_out::run(&mut bench, sides, &options, rounds, references, stop)?;
            phases.push(phase);
        }
    }
    eprintln!("one event at a time");
    let rounds = (arguments.rounds * SINGLE_ROUNDS.0).div_ceil(SINGLE_ROUNDS.1);
    let one_at_a_time = one_at_a_time::run(&mut bench, sides, base, rounds)?;
    Ok(CompareReport {
        sides: sides.clone(),
        load: format!(
            "acks=all, {} partitions, {} connections, {} in flight on each, no compression",
            base.partitions, base.connections, base.in_flight
        ),
        rounds: arguments.rounds,
        slice_seconds: arguments.slice.as_secs_f64(),
        flat_out: phases,
        one_at_a_time,
        device_shape: None,
        verified_events: bench.verified_events,
        faults: bench.faults,
        seconds: 0.0,
    })
}

fn base_options(arguments: &CompareArguments) -> anyhow::Result<ProduceOptions> {
    let (cpus, pin) = parse_cpu_choice(arguments.common.cpu.as_deref())?;
    Ok(ProduceOptions {
        pace: Pace::Max,
        // Connections, first batches, the first segment: not what a rate is about.
        warmup: arguments.slice / 4,
        duration: arguments.slice,
        partitions: arguments.partitions,
        connections: arguments.connections,
        in_flight: arguments.in_flight,
        cpus,
        pin,
        ..ProduceOptions::new("", "")
    })
}

fn references(dir: &Path, slice: Duration) -> anyhow::Result<References> {
    eprintln!("looking for the device's best shape");
    let device = DeviceReference::open(dir, GRID_EACH, false)?;
    let sink = SinkProcess::start(dir).context("starting the ceiling's sink")?;
    Ok(References {
        device,
        sink,
        slice,
    })
}
