//! A consumer of thousands of partitions whose records are on disk only: each block is read about
//! once, although no answer has room for all that could be read.

use anyhow::{Result, ensure};
use ringlog_tests::http::metric;
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, Fields, api, error};

/// Together several times what the cache of old blocks keeps.
const PARTITIONS: i32 = 3000;
const VALUE_BYTES: usize = 15_000;
/// Requests that are sent before the first answer is read.
const IN_FLIGHT: usize = 50;

fn produce_to_each(client: &mut Connection) -> Result<()> {
    let batch = Batch::of_values([vec![7; VALUE_BYTES]]).encode();
    let partitions: Vec<i32> = (0..PARTITIONS).collect();
    for some in partitions.chunks(IN_FLIGHT) {
        let sent = some.iter().map(|partition| {
            let body = Connection::produce_body("cold", *partition, -1, &batch);
            client.send(api::PRODUCE, 7, &body)
        });
        for correlation in sent.collect::<Result<Vec<_>>>()? {
            let produced = client.produced(correlation)?;
            ensure!(produced.error == error::NONE, "{produced:?}");
        }
    }
    Ok(())
}

/// Asks for these partitions from their begin on: how many bytes of records came, of which.
fn fetch(
    client: &mut Connection,
    partitions: &[i32],
    most_bytes: i32,
) -> Result<(usize, Vec<i32>)> {
    let (wait_ms, least_bytes) = (500, 1);
    let body = Fields::new().i32(-1).i32(wait_ms).i32(least_bytes);
    let body = body.i32(most_bytes).i8(0).i32(1).string(Some("cold"));
    let body = body.i32(i32::try_from(partitions.len())?);
    let body = partitions.iter().fold(body, |body, partition| {
        body.i32(*partition).i64(0).i32(1 << 20)
    });
    let mut answer = client.request(api::FETCH, 4, &body.finish())?;
    let (_throttle, topics) = (answer.i32()?, answer.i32()?);
    ensure!(topics == 1, "one topic, {topics} found");
    answer.string()?;
    let (mut bytes, mut served) = (0, Vec::new());
    for _ in 0..answer.i32()? {
        let (partition, code) = (answer.i32()?, answer.i16()?);
        ensure!(code == error::NONE, "partition {partition}: error {code}");
        let (_high_watermark, _stable, aborted) = (answer.i64()?, answer.i64()?, answer.i32()?);
        ensure!(aborted <= 0, "nothing was aborted");
        let records = answer.bytes()?;
        if !records.is_empty() {
            bytes += records.len();
            served.push(partition);
        }
    }
    Ok((bytes, served))
}

/// Reads all from disk, in answers of so many bytes at the most: how many bytes were read for each.
fn read_for_each(node: &mut Node, most_bytes: i32) -> Result<f64> {
    // What was in memory is not any more.
    node.terminate()?;
    node.restart()?;
    let mut client = Connection::open(node.kafka(0))?;
    let figure = "ringlog_cold_read_bytes_total{core=\"0\"}";
    let before = metric(node.http(), figure)?;
    let mut left: Vec<i32> = (0..PARTITIONS).collect();
    let (mut delivered, mut answers) = (0, 0);
    while !left.is_empty() {
        let (bytes, served) = fetch(&mut client, &left, most_bytes)?;
        ensure!(bytes > 0, "an answer without records, {} left", left.len());
        left.retain(|partition| served.binary_search(partition).is_err());
        delivered += bytes;
        answers += 1;
    }
    let read = metric(node.http(), figure)? - before;
    println!("{delivered} bytes in {answers} answers, {read} read from disk");
    Ok(read / delivered as f64)
}

#[test]
fn an_answer_that_is_full_reads_nothing_more_from_disk() -> Result<()> {
    // A twelfth of its memory keeps old blocks.
    let settings = ["--memory-per-core", "144MiB", "--max-request-bytes", "8MiB"];
    let mut node = Node::with(NodeOptions::with_default_settings(1).arguments(settings))?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("cold", PARTITIONS, &[])?;
    produce_to_each(&mut client)?;
    // More than the node gives at once, and less, which no number of these batches fills to the byte.
    for most_bytes in [64 << 20, 1 << 20] {
        let share = read_for_each(&mut node, most_bytes)?;
        assert!(
            share < 1.5,
            "{share:.2} bytes read for each, in answers of {most_bytes}"
        );
    }
    Ok(())
}
