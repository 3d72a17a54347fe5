//! The demo from beginning to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::cli::arguments::DemoArguments;
use crate::cli::json::write_json;
use crate::demo::node::Node;
use crate::demo::place::{Machine, Place};
use crate::demo::report::DemoReport;
use crate::demo::stage::{Effort, Stage};
use crate::demo::{flat_out, half_rate, one_at_a_time};
use crate::html::{self, page::write_page};
use crate::latency::median;
use crate::pinning::{allowed_cpus, parse_cpu_choice};
use crate::produce::options::ProduceOptions;
use crate::reference::ceiling::SinkProcess;
use crate::reference::device::DeviceReference;

const LARGE_BATCH_BYTES: usize = 1 << 20;
const SMALL_BATCH_BYTES: usize = 16 << 10;
const DURABILITY: &str = "acks=all, every block on stable storage before its acknowledgements \
                          (O_DIRECT, DSYNC); the default";

const FULL: Effort = Effort {
    pairs: 8,
    single_pairs: 12,
    load: Duration::from_millis(1_000),
    reference: Duration::from_millis(500),
    phase: Duration::from_secs(28),
};

const QUICK: Effort = Effort {
    pairs: 3,
    single_pairs: 4,
    load: Duration::from_millis(500),
    reference: Duration::from_millis(250),
    phase: Duration::from_secs(8),
};

/// Runs the demo. False: something acknowledged was lost, doubled, reordered or altered.
pub fn run(arguments: &DemoArguments) -> anyhow::Result<bool> {
    let stop = crate::interrupt::flag()?;
    let place = Place::make(arguments.dir.as_deref())?;
    let cpus = allowed_cpus()?.len();
    let cores = arguments.cores.unwrap_or((cpus / 2).max(1));
    ensure!(cores > 0, "--cores: one at least");
    eprintln!(
        "starting a node with {cores} cores in {}",
        place.dir().display()
    );
    let node = Node::start(place.dir(), cores)?;
    let outcome = measure(arguments, &place, &node, cores, cpus, &stop);
    let log = node.log_tail();
    let stopped = node.stop();
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted; the node is stopped and its directory removed");
    }
    let report = outcome.with_context(|| format!("the node's last words:\n{log}\n"))?;
    println!("{}", report.text());
    write_json(arguments.common.json.as_deref(), &report)?;
    write_page(arguments.common.html.as_deref(), || {
        html::demo::page(&report)
    })?;
    stopped?;
    Ok(report.is_clean())
}

fn measure(
    arguments: &DemoArguments,
    place: &Place,
    node: &Node,
    cores: usize,
    cpus: usize,
    stop: &AtomicBool,
) -> anyhow::Result<DemoReport> {
    let started = Instant::now();
    let effort = if arguments.quick { QUICK } else { FULL };
    let base = base_options(arguments, cores, cpus)?;
    let sink = SinkProcess::start(place.dir())?;
    eprintln!("looking for the device's best shape");
    let each = if arguments.quick { 20 } else { 60 };
    let device = DeviceReference::open(place.dir(), Duration::from_millis(each), false)?;
    let machine = Machine::describe(place.dir(), &device.filesystem())?;
    let device_shape = device.best_in_words();
    let mut stage = Stage::new(node, sink, device, base.clone(), stop, effort);
    let mut phases = Vec::new();
    for batch_bytes in [LARGE_BATCH_BYTES, SMALL_BATCH_BYTES] {
        eprintln!("flat out, batches of {} KiB", batch_bytes >> 10);
        phases.push(flat_out::run(&mut stage, batch_bytes, &arguments.against)?);
    }
    let rate = phases
        .last()
        .map_or(0.0, |phase| median(&phase.load_events_per_second))
        / 2.0;
    eprintln!("at half that rate");
    let half_rate = half_rate::run(&mut stage, rate, SMALL_BATCH_BYTES)?;
    eprintln!("one event at a time");
    let one_at_a_time = one_at_a_time::run(&mut stage)?;
    Ok(DemoReport {
        machine,
        node_cores: cores,
        generator_threads: base.threads,
        window: (base.connections, base.in_flight),
        durability: DURABILITY,
        device_shape,
        flat_out: phases,
        half_rate,
        one_at_a_time,
        verified_events: stage.verified_events,
        faults: stage.faults,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// 100-byte values, 8 partitions, 4 connections, 5 in flight; as many generator threads as leave
/// the node its CPUs.
fn base_options(
    arguments: &DemoArguments,
    cores: usize,
    cpus: usize,
) -> anyhow::Result<ProduceOptions> {
    let (list, pin) = parse_cpu_choice(arguments.common.cpu.as_deref())?;
    let threads = cpus.saturating_sub(cores).clamp(1, cores);
    let base = ProduceOptions::new("", "");
    Ok(ProduceOptions {
        connections: base.connections.max(cores),
        partitions: base.partitions.max(u32::try_from(cores)?),
        threads,
        cpus: list,
        pin,
        ..base
    })
}
