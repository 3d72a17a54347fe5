//! A large group: how long its members take until they share a topic, and what producers notice of
//! it. `RINGLOG_CROWD_MEMBERS` (default 10) and `RINGLOG_CROWD_PARTITIONS` (default 100) say how
//! large; with `RINGLOG_CROWD_SECONDS` it has to have settled within that, on a machine that has
//! nothing else to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ringlog_tests::binaries;
use ringlog_tests::foreign::{announce, missing, run};
use ringlog_tests::matrix::Client;
use ringlog_tests::matrix::driver::Driver;
use ringlog_tests::matrix::node_view::NodeView;
use ringlog_tests::node::{Node, NodeOptions};

/// Each time without the group, while it comes together, and while it is together.
const PAIRS: usize = 3;
/// Of a measurement; a group of 100 comes together within it.
const WINDOW_SECONDS: u32 = 10;
/// What is sent meanwhile.
const EVENTS_PER_SECOND: u32 = 5000;

fn from_environment(name: &'static str, default: Option<u32>) -> Result<Option<u32>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text.parse().context(name)?)),
        Err(_) => Ok(default),
    }
}

/// A rate of single events, for so long: p50 and p99 of their latency, in microseconds.
fn latency_of_produce(node: &Node, figures: &Path, seconds: u32) -> Result<(f64, f64)> {
    let mut command = Command::new(binaries::loadgen()?);
    command
        .args(["produce", "--bootstrap", &node.kafka(0).to_string()])
        .args(["--topic", "beside", "--batch-records", "10"])
        .args(["--rate", &EVENTS_PER_SECOND.to_string()])
        .args(["--duration", &format!("{seconds}s")])
        .arg("--json")
        .arg(figures);
    run(&mut command, b"")?;
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(figures)?)?;
    let of = |name: &str| figures["latency"][name].as_f64();
    of("p50_us").zip(of("p99_us")).context("latencies")
}

/// A crowd, and how many milliseconds it took to share the topic.
fn gather(driver: &mut Driver, members: u32, partitions: u32) -> Result<u64> {
    let said = driver.must(&format!(
        "crowd group=crowd topic=shared members={members} partitions={partitions}"
    ))?;
    Ok(said.parse()?)
}

fn microseconds(name: &str, (p50, p99): (f64, f64)) -> String {
    format!("{name}: p50 {p50:.0} µs, p99 {p99:.0} µs")
}

/// The driver of the client that can be many, when it is here.
fn driver(node: &Node, directory: &Path) -> Result<Option<Driver>> {
    let client = Client::FranzGo;
    match Driver::start(client, &node.bootstrap(), directory, "crowd")? {
        Ok(driver) => Ok(Some(driver)),
        Err(absent) if absent.installable => {
            missing(&format!("{}: {}", client.name(), absent.what)).map(|()| None)
        }
        Err(absent) => {
            announce(&format!("NOT RUN: {}: {}", client.name(), absent.what));
            Ok(None)
        }
    }
}

#[test]
fn a_large_group_settles_and_producers_go_on() -> Result<()> {
    let members = from_environment("RINGLOG_CROWD_MEMBERS", Some(10))?.unwrap_or_default();
    let partitions = from_environment("RINGLOG_CROWD_PARTITIONS", Some(100))?.unwrap_or_default();
    let bound = from_environment("RINGLOG_CROWD_SECONDS", None)?;
    let node = Node::with(NodeOptions::with_default_settings(2))?;
    let directory = node.scratch("crowd");
    std::fs::create_dir(&directory)?;
    let Some(mut driver) = driver(&node, &directory)? else {
        return Ok(());
    };
    let mut view = NodeView::open(&[node.kafka(0), node.kafka(1)])?;
    view.create("shared", i32::try_from(partitions)?)?;
    // Without a bound there is nothing to be measured: once is enough to see that it works.
    let pairs = if bound.is_some() { PAIRS } else { 1 };
    let figures: PathBuf = directory.join("figures.json");
    for pair in 0..pairs {
        let seconds = if bound.is_some() { WINDOW_SECONDS } else { 1 };
        let without = latency_of_produce(&node, &figures, seconds)?;
        let (settled, meanwhile) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| latency_of_produce(&node, &figures, seconds));
            let settled = gather(&mut driver, members, partitions);
            (settled, sending.join())
        });
        let settled = settled?;
        let meanwhile = meanwhile.ok().context("sending panicked")??;
        let together = latency_of_produce(&node, &figures, seconds)?;
        println!(
            "{pair}: {members} members share {partitions} partitions after {settled} ms; produce {}; {}; {}",
            microseconds("without", without),
            microseconds("while they come together", meanwhile),
            microseconds("beside them", together),
        );
        driver.must("disperse")?;
        if let Some(seconds) = bound {
            ensure!(
                settled <= u64::from(seconds) * 1000,
                "{members} members took {settled} ms"
            );
        }
    }
    Ok(())
}
