//! The first write that fails is final: from there on nothing is acknowledged, what is proven
//! durable is still read, the node says what happened, and a restart recovers.
//!
//! The failure is the kernel's own: a limit on the size of files, set on the running process,
//! lets every write behind it fail. The node is the one that users run.

use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use ringlog_tests::deadline::until;
use ringlog_tests::http::{get, metric};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, api, error};

/// Where writes begin to fail: in the first segment, behind what a test writes before.
const LIMIT_BYTES: u64 = 1 << 20;
/// So large that a few of them cross the limit.
const VALUE_BYTES: usize = 48 << 10;
/// So many are produced one at a time, and fit.
const ALONE: usize = 8;
/// And then so many at once, which do not.
const TOGETHER: usize = 32;

/// A value that says which one it is.
fn value(number: usize) -> Vec<u8> {
    let mut value = format!("{number:08}").into_bytes();
    value.resize(VALUE_BYTES, b'x');
    value
}

/// A core's connection, and the partition of the topic that it leads.
fn led_by(node: &Node, core: usize, topic: &str) -> Result<(Connection, i32)> {
    let mut client = Connection::open(node.kafka(core))?;
    for partition in 0..2 {
        let (code, _) = client.list_offset(topic, partition, -1)?;
        if code == error::NONE {
            return Ok((client, partition));
        }
        ensure!(code == error::NOT_LEADER_OR_FOLLOWER, "error {code}");
    }
    anyhow::bail!("core {core} leads no partition of {topic}");
}

/// Waits until a core has its free segments, which it writes to behind the limit as well.
fn pool_filled(node: &Node, core: usize) -> Result<()> {
    let name = format!("ringlog_segments_free{{core=\"{core}\"}}");
    until("a free segment", || {
        Ok((metric(node.http(), &name)? >= 1.0).then_some(()))
    })
}

/// Produces until the log fails. Returns how many were acknowledged.
fn produce_until_it_fails(client: &mut Connection, topic: &str, partition: i32) -> Result<usize> {
    let batch = |number| Batch::of_values([value(number)]).encode();
    let mut answers = Vec::new();
    for number in 0..ALONE {
        answers.push(client.produce(topic, partition, &batch(number))?);
    }
    let mut sent = Vec::new();
    for number in ALONE..ALONE + TOGETHER {
        let body = Connection::produce_body(topic, partition, -1, &batch(number));
        sent.push(client.send(api::PRODUCE, 7, &body)?);
    }
    for correlation in sent {
        answers.push(client.produced(correlation)?);
    }
    let acknowledged = answers
        .iter()
        .take_while(|answer| answer.error == error::NONE)
        .count();
    let (before, after) = answers.split_at(acknowledged);
    for (answer, offset) in before.iter().zip(0..) {
        ensure!(answer.base_offset == offset, "{answer:?} at {offset}");
    }
    ensure!(acknowledged >= ALONE, "{acknowledged} before the limit");
    ensure!(!after.is_empty(), "nothing failed");
    for answer in after {
        let code = answer.error;
        ensure!(
            code == error::KAFKA_STORAGE_ERROR,
            "{answer:?} behind the failure"
        );
    }
    Ok(acknowledged)
}

/// At least so many values can be read, in whole and by their ends: what was acknowledged, and what
/// was in flight before the write that failed. Returns how many.
fn check_reads(
    client: &mut Connection,
    topic: &str,
    partition: i32,
    least: usize,
) -> Result<usize> {
    // Writes before the one that failed may end after it, and move the end.
    let (code, end) = client.list_offset(topic, partition, -1)?;
    assert_eq!(code, error::NONE);
    let found = client.read_all(topic, partition)?;
    let count = found.len();
    ensure!(
        count >= least && i64::try_from(count)? >= end,
        "{count} found, end {end}, {least} durable"
    );
    for ((offset, found), number) in found.iter().zip(0..) {
        ensure!(*offset == i64::try_from(number)? && *found == value(number));
    }
    assert_eq!(client.list_offset(topic, partition, -2)?, (error::NONE, 0));
    // By a time, the record is looked up in its batch, on disk.
    assert_eq!(client.list_offset(topic, partition, 1)?, (error::NONE, 0));
    Ok(count)
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged_and_everything_durable_is_served() -> Result<()> {
    // With a cache this small most reads go to the disk.
    let options = NodeOptions::new(2).environment("RINGLOG_CACHE_BYTES", "64KiB");
    let mut node = Node::with(options)?;
    Connection::open(node.kafka(0))?.create_topic("failing", 2, &[])?;
    let (mut client, partition) = led_by(&node, 1, "failing")?;
    let (mut other, others) = led_by(&node, 0, "failing")?;
    pool_filled(&node, 0)?;
    pool_filled(&node, 1)?;
    let from = node.log_position()?;

    node.limit_file_size(LIMIT_BYTES)?;
    let acknowledged = produce_until_it_fails(&mut client, "failing", partition)?;
    println!("{acknowledged} were acknowledged");

    // It says so, with the cause.
    println!(
        "{}",
        node.log_line(from, &["the log is closed", "writing block"])?
    );
    let (status, reason) = get(node.http(), "/readyz")?;
    assert_eq!(status, 503);
    ensure!(reason.contains("core 1: its log has failed"), "{reason}");
    ensure!(reason.contains("writing block"), "{reason}");
    assert_eq!(get(node.http(), "/healthz")?.0, 200);
    let failed = |core: usize| {
        metric(
            node.http(),
            &format!("ringlog_log_failed{{core=\"{core}\"}}"),
        )
    };
    assert_eq!((failed(0)?, failed(1)?), (0.0, 1.0));

    // What comes later is refused at once; what is durable is read, on any connection.
    let late = client.produce("failing", partition, &Batch::of_values(["late"]).encode())?;
    assert_eq!(late.error, error::KAFKA_STORAGE_ERROR);
    let served = check_reads(&mut client, "failing", partition, acknowledged)?;
    let mut fresh = Connection::open(node.kafka(1))?;
    let served = check_reads(&mut fresh, "failing", partition, served)?;

    // The other core goes on.
    let well = other.produce("failing", others, &Batch::of_values(["well"]).encode())?;
    assert_eq!(well.error, error::NONE);
    node.check_running()?;

    // A stop says that it was not in order; a restart has what was acknowledged, and goes on.
    let status = node.terminate()?;
    ensure!(
        status.code() == Some(1),
        "a failed log is not a stop in order: {status}"
    );
    node.restart()?;
    assert_eq!(get(node.http(), "/readyz")?.0, 200);
    let (mut client, partition) = led_by(&node, 1, "failing")?;
    let kept = check_reads(&mut client, "failing", partition, served)?;
    let next = client.produce("failing", partition, &Batch::of_values(["next"]).encode())?;
    assert_eq!(
        (next.error, next.base_offset),
        (error::NONE, i64::try_from(kept)?)
    );
    Ok(())
}

#[test]
fn a_failed_log_of_metadata_refuses_topics_and_a_killed_node_recovers() -> Result<()> {
    let mut node = Node::start(1)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("kept", 1, &[])?;
    pool_filled(&node, 0)?;
    node.limit_file_size(LIMIT_BYTES)?;
    let acknowledged = produce_until_it_fails(&mut client, "kept", 0)?;
    let refused = client.create_topic("late", 1, &[]).unwrap_err().to_string();
    ensure!(
        refused.contains(&format!("error {}", error::KAFKA_STORAGE_ERROR)),
        "{refused}"
    );
    node.kill9()?;
    node.restart()?;
    let mut client = Connection::open(node.kafka(0))?;
    let names: Vec<String> = client
        .topics()?
        .into_iter()
        .map(|topic| topic.name)
        .collect();
    assert_eq!(names, ["kept"]);
    check_reads(&mut client, "kept", 0, acknowledged)?;
    client.create_topic("late", 1, &[])
}

#[test]
fn a_failed_log_does_not_hold_up_its_core_when_memory_is_short() -> Result<()> {
    let options = NodeOptions::new(1)
        .environment("RINGLOG_MAX_REQUEST_BYTES", "8MiB")
        .environment("RINGLOG_CACHE_BYTES", "1MiB")
        .environment("RINGLOG_REGISTERED_MEMORY", "8MiB")
        .environment("RINGLOG_MEMORY_PER_CORE", "64MiB");
    let node = Node::with(options)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("short", 1, &[])?;
    pool_filled(&node, 0)?;
    node.limit_file_size(LIMIT_BYTES)?;
    produce_until_it_fails(&mut client, "short", 0)?;
    // Frames that begin and do not end hold memory, until more is asked for than there is.
    let mut holders = Vec::new();
    for _ in 0..16 {
        let mut holder = std::net::TcpStream::connect(node.kafka(0))?;
        holder.write_all(&(8_i32 << 20).to_be_bytes())?;
        // The header of a Produce request, so that the frame is waited for.
        holder.write_all(&[0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff])?;
        holders.push(holder);
    }
    until("memory to be short", || {
        let waits = metric(node.http(), "ringlog_memory_waits_total{core=\"0\"}");
        Ok((waits.context("memory waits")? > 0.0).then_some(()))
    })?;
    let mut other = Connection::open(node.kafka(0))?;
    other.request(api::API_VERSIONS, 0, &[])?;
    Ok(())
}
