//! Acknowledged means flushed: the disk's own counter says so. One test alone in its file, because
//! whatever else writes to the disk meanwhile is counted too.

use anyhow::{Context, Result, ensure};
use ringlog_tests::flush_counter::FlushCounter;
use ringlog_tests::foreign::announce;
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, error};

const PRODUCES: u64 = 300;

/// How much the counter rose over so many produces, one at a time, to a topic of this durability.
fn rise(node: &Node, counter: &FlushCounter, durability: &str) -> Result<u64> {
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic(durability, 1, &[("ringlog.durability", durability)])?;
    let before = counter.read()?;
    for n in 0..PRODUCES {
        let answer = client.produce(durability, 0, &Batch::of_values([n.to_string()]).encode())?;
        ensure!(answer.error == error::NONE, "produce {n}: {answer:?}");
    }
    Ok(counter.read()? - before)
}

#[test]
fn every_durable_produce_flushes_the_device_and_without_dsync_this_is_noticed() -> Result<()> {
    let node = Node::start(1)?;
    let Some(counter) = FlushCounter::below(&node.data_dir())? else {
        announce("SKIPPED: the filesystem of the data directory names no block device");
        return Ok(());
    };
    let flushed = rise(&node, &counter, "flushed")?;
    println!("{PRODUCES} durable produces, {flushed} flushes");
    assert!(
        flushed >= PRODUCES,
        "{PRODUCES} acknowledged one at a time, {flushed} flushes"
    );
    let written = rise(&node, &counter, "written")?;
    println!("{PRODUCES} produces that wait for their write only, {written} flushes");
    assert!(
        written < flushed / 2,
        "a weaker level costs {written} flushes, where {flushed} make it durable"
    );
    drop(node);

    // The same with the flag left out, which only debug builds can do: the check must fail then,
    // or it proves nothing.
    if cfg!(not(debug_assertions)) || std::env::var_os("RINGLOG_BIN").is_some() {
        announce("the second half needs a debug build of the node, and is left out");
        return Ok(());
    }
    let node = Node::with(NodeOptions::new(1).environment("RINGLOG_TEST_NO_DSYNC", "1"))?;
    node.log_line(0, &["RINGLOG_TEST_NO_DSYNC"])
        .context("a node that does not flush says so")?;
    let unflushed = rise(&node, &counter, "flushed")?;
    println!("{PRODUCES} produces without DSYNC, {unflushed} flushes");
    assert!(
        unflushed < PRODUCES,
        "without DSYNC the counter rose by {unflushed} all the same"
    );
    Ok(())
}
