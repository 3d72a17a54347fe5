//! Many partitions: what each takes in memory, what a start takes, and that each keeps its own.
//! `RINGLOG_SCALE_PARTITIONS` says how many (default 10,000: with fewer, caches move more
//! memory than partitions do).

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::process::resident_bytes;
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, api, error};

/// What an idle partition may take.
const BYTES_PER_PARTITION: u64 = 4 << 10;

/// Requests that are sent before the first answer is read.
const IN_FLIGHT: usize = 50;

fn partitions() -> Result<i32> {
    match std::env::var("RINGLOG_SCALE_PARTITIONS") {
        Ok(text) => text.parse().context("RINGLOG_SCALE_PARTITIONS"),
        Err(_) => Ok(10_000),
    }
}

/// One core leads them all, so that a client needs one connection. Without the cleaner: a run of it
/// takes a few segments' memory, whatever the number of partitions is, and whether one falls into
/// the test depends on how long that takes.
fn node() -> Result<Node> {
    Node::with(NodeOptions::with_default_settings(1).arguments([
        "--segment-bytes",
        "16MiB",
        "--clean-bytes-per-second",
        "0",
    ]))
}

/// A batch with its partition's number in it to each of the first `count` partitions.
fn produce_to_each(client: &mut Connection, topic: &str, count: i32) -> Result<()> {
    let numbers: Vec<i32> = (0..count).collect();
    for some in numbers.chunks(IN_FLIGHT) {
        let sent = some
            .iter()
            .map(|partition| {
                let batch = Batch::of_values([partition.to_string()]).encode();
                let body = Connection::produce_body(topic, *partition, -1, &batch);
                client.send(api::PRODUCE, 7, &body)
            })
            .collect::<Result<Vec<_>>>()?;
        for (partition, correlation) in some.iter().zip(sent) {
            let produced = client.produced(correlation)?;
            ensure!(
                produced.error == error::NONE,
                "partition {partition}: {produced:?}"
            );
        }
    }
    Ok(())
}

/// Brings what does not depend on partitions to its full size: caches, pools of buffers, and
/// what the first of many partitions need for all.
fn warm_up(client: &mut Connection, count: i32) -> Result<()> {
    client.create_topic("warm", 1, &[])?;
    let batch = Batch::of_values([vec![7_u8; 512 << 10]]).encode();
    for _ in 0..120 {
        let produced = client.produce("warm", 0, &batch)?;
        ensure!(produced.error == error::NONE, "{produced:?}");
    }
    // Last, so that what the large batches gave back is in use again.
    client.create_topic("first", count, &[])?;
    produce_to_each(client, "first", count)
}

#[test]
fn thousands_of_partitions_take_little_memory_and_come_back_after_a_kill() -> Result<()> {
    const ROUNDS: i64 = 2;
    let count = partitions()?;
    let mut node = node()?;
    let mut client = Connection::open(node.kafka(0))?;
    warm_up(&mut client, count)?;
    let pid = node.pid()?;
    let before = resident_bytes(pid)?;
    client.create_topic("many", count, &[])?;
    for _ in 0..ROUNDS {
        produce_to_each(&mut client, "many", count)?;
    }
    let bytes = resident_bytes(pid)?.saturating_sub(before) / u64::try_from(count)?;
    println!("{count} partitions: {bytes} bytes of memory each");
    assert!(
        bytes <= BYTES_PER_PARTITION,
        "{bytes} bytes of memory for each partition"
    );
    node.kill9()?;
    let started = Instant::now();
    node.restart()?;
    println!("ready {} ms after a kill", started.elapsed().as_millis());
    let mut client = Connection::open(node.kafka(0))?;
    for partition in (0..count).step_by(usize::try_from(count / 100)?.max(1)) {
        let latest = -1;
        let end = client.list_offset("many", partition, latest)?;
        assert_eq!(end, (error::NONE, ROUNDS), "partition {partition}");
        let read = client.read_all("many", partition)?;
        let value = partition.to_string().into_bytes();
        let expected: Vec<(i64, Vec<u8>)> = (0..ROUNDS).map(|at| (at, value.clone())).collect();
        assert_eq!(read, expected, "partition {partition}");
    }
    Ok(())
}
