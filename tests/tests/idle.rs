//! What a node takes that has nothing to do. `RINGLOG_IDLE_CONNECTIONS` says with how many connections
//! (default 2,000).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::process::{allow_open_files, cpu_time, resident_bytes};
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, api, error};

const CORES: u16 = 2;

/// A node at default settings that has done a little work.
fn used_node() -> Result<Node> {
    let node = Node::with(NodeOptions::with_default_settings(CORES))?;
    for core in 0..usize::from(CORES) {
        let mut client = Connection::open(node.kafka(core))?;
        let topic = format!("used-{core}");
        client.create_topic(&topic, i32::from(CORES), &[])?;
        for n in 0..100 {
            let batch = Batch::of_values([format!("{n}")]).encode();
            // The partition that this core leads takes them, the others say who does.
            let codes = (0..i32::from(CORES))
                .map(|partition| Ok(client.produce(&topic, partition, &batch)?.error))
                .collect::<Result<Vec<_>>>()?;
            assert_eq!(
                codes.iter().filter(|code| **code == error::NONE).count(),
                1,
                "{codes:?}"
            );
        }
    }
    Ok(node)
}

#[test]
fn an_idle_node_takes_less_than_a_hundredth_of_a_core_and_100_mb_per_core() -> Result<()> {
    const WINDOW: Duration = Duration::from_secs(4);
    const WINDOWS: usize = 8;
    let node = used_node()?;
    let pid = node.pid()?;
    let resident = resident_bytes(pid)?;
    println!("resident: {} MB on {CORES} cores", resident / 1_000_000);
    assert!(
        resident < 100_000_000 * u64::from(CORES),
        "{resident} bytes resident"
    );
    // Segments written ahead after the start count as work: the first window may hold some.
    for window in 0..WINDOWS {
        let (before, started) = (cpu_time(pid)?, Instant::now());
        std::thread::sleep(WINDOW);
        let share = (cpu_time(pid)? - before).as_secs_f64() / started.elapsed().as_secs_f64();
        println!("window {window}: {:.2} % of a core", share * 100.0);
        if share < 0.01 {
            return Ok(());
        }
    }
    bail!("in none of {WINDOWS} windows of {WINDOW:?} the node was idle")
}

#[test]
fn idle_connections_cost_little_and_are_served() -> Result<()> {
    const BOUND_BYTES: u64 = 16 << 10;
    let connections: u32 = match std::env::var("RINGLOG_IDLE_CONNECTIONS") {
        Ok(text) => text.parse().context("RINGLOG_IDLE_CONNECTIONS")?,
        Err(_) => 2000,
    };
    allow_open_files(u64::from(connections) + 200)?;
    let node = used_node()?;
    let pid = node.pid()?;
    let before = resident_bytes(pid)?;
    let mut clients = Vec::new();
    for n in 0..connections {
        let core = usize::try_from(n)? % usize::from(CORES);
        let mut client = Connection::open(node.kafka(core))?;
        client.request(api::API_VERSIONS, 0, &[])?;
        clients.push(client);
    }
    let bytes = resident_bytes(pid)?.saturating_sub(before) / u64::from(connections);
    println!("{connections} idle connections: {bytes} bytes each");
    assert!(bytes < BOUND_BYTES, "{bytes} bytes per idle connection");
    for client in clients.iter_mut().step_by(100) {
        client.request(api::API_VERSIONS, 0, &[])?;
    }
    Ok(())
}
