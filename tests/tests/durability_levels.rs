//! Topics that acknowledge before stable storage: what that saves, what a kill may take, and that
//! it can be seen.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringlog_tests::deadline::until;
use ringlog_tests::http::metric;
use ringlog_tests::node::Node;
use ringlog_tests::random::Random;
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, api, error};

const ROUNDS: u64 = 6;
const IN_FLIGHT: usize = 8;

fn create(node: &Node, topic: &str, durability: &str) -> Result<()> {
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic(topic, 1, &[("ringlog.durability", durability)])
}

fn figure(node: &Node, name: &str) -> Result<f64> {
    metric(node.http(), name)
}

#[test]
fn a_weaker_level_flushes_less_for_the_same_acknowledgements_and_says_so() -> Result<()> {
    const PRODUCES: u32 = 300;
    let mut node = Node::start(1)?;
    let mut flushes = Vec::new();
    for durability in ["flushed", "written", "buffered"] {
        create(&node, durability, durability)?;
        let mut client = Connection::open(node.kafka(0))?;
        let before = figure(&node, "ringlog_flushes_total{core=\"0\"}")?;
        for n in 0..PRODUCES {
            let batch = Batch::of_values([n.to_string()]).encode();
            let answer = client.produce(durability, 0, &batch)?;
            ensure!(answer.error == error::NONE, "{durability} {n}: {answer:?}");
        }
        let after = figure(&node, "ringlog_flushes_total{core=\"0\"}")?;
        flushes.push(after - before);
        let name =
            format!("ringlog_acknowledged_batches_total{{core=\"0\",durability=\"{durability}\"}}");
        assert_eq!(figure(&node, &name)?, f64::from(PRODUCES), "{name}");
    }
    println!("flushes for {PRODUCES} acknowledgements one at a time: {flushes:?}");
    let produces = f64::from(PRODUCES);
    assert!(flushes[0] >= produces, "each flushed one costs a flush");
    assert!(flushes[1] <= produces / 2.0, "written ones share them");
    assert!(flushes[2] <= produces / 2.0, "buffered ones share them");

    // Named when they are made, and again at each start.
    node.log_line(0, &["WARN", "written", "before they are on stable storage"])?;
    let from = node.log_position()?;
    node.terminate()?;
    node.restart()?;
    let line = node.log_line(from, &["WARN", "before they are on stable storage"])?;
    ensure!(line.contains("2 topics"), "{line}");
    ensure!(
        line.contains("written (written)") && line.contains("buffered (buffered)"),
        "{line}"
    );
    Ok(())
}

/// Produces numbered records, several at a time, until the connection breaks. Counts those that
/// were acknowledged; returns how many were sent.
fn produce_until_it_breaks(
    address: SocketAddr,
    topic: &str,
    acknowledged: &AtomicU64,
) -> Result<u64> {
    let mut client = Connection::open(address)?;
    let (mut sent, mut in_flight) = (0_u64, VecDeque::new());
    loop {
        while in_flight.len() < IN_FLIGHT {
            let batch = Batch::of_values([sent.to_string()]).encode();
            let body = Connection::produce_body(topic, 0, -1, &batch);
            sent += 1;
            match client.send(api::PRODUCE, 7, &body) {
                Ok(correlation) => in_flight.push_back(correlation),
                Err(_) => return Ok(sent),
            }
        }
        let oldest = in_flight.pop_front().context("something is in flight")?;
        let Ok(answer) = client.produced(oldest) else {
            return Ok(sent);
        };
        ensure!(answer.error == error::NONE, "{answer:?}");
        let number = acknowledged.fetch_add(1, Ordering::SeqCst);
        ensure!(answer.base_offset == i64::try_from(number)?, "{answer:?}");
    }
}

/// Kills a node under load again and again. Gives `check` what was acknowledged, what is there
/// after the restart, and what was sent.
fn kill_rounds(durability: &str, check: impl Fn(u64, u64, u64)) -> Result<()> {
    let mut random = Random::from_environment("RINGLOG_KILL_SEED");
    let mut node = Node::start(1)?;
    for round in 0..ROUNDS {
        let topic = format!("{durability}-{round}");
        create(&node, &topic, durability)?;
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (address, counted) = (node.kafka(0), Arc::clone(&acknowledged));
        let name = topic.clone();
        let load = std::thread::spawn(move || produce_until_it_breaks(address, &name, &counted));
        until("the first acknowledgements", || {
            Ok((acknowledged.load(Ordering::SeqCst) > 0).then_some(()))
        })?;
        // Not a wait for something to happen: the moment of the kill is drawn by chance.
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
        node.kill9()?;
        let sent = load.join().expect("the load does not panic")?;
        let acknowledged = acknowledged.load(Ordering::SeqCst);
        node.restart()?;
        let found = Connection::open(node.kafka(0))?.read_all(&topic, 0)?;
        let count = u64::try_from(found.len())?;
        println!("{topic}: {sent} sent, {acknowledged} acknowledged, {count} found");
        for ((offset, value), number) in found.iter().zip(0..) {
            ensure!(*offset == number, "offsets are dense");
            ensure!(
                *value == number.to_string().into_bytes(),
                "in the order of sending"
            );
        }
        check(acknowledged, count, sent);
        // And it goes on where it ended.
        let next = Batch::of_values(["next"]).encode();
        let next = Connection::open(node.kafka(0))?.produce(&topic, 0, &next)?;
        assert_eq!(
            (next.error, next.base_offset),
            (error::NONE, i64::try_from(count)?)
        );
    }
    Ok(())
}

#[test]
fn a_kill_takes_nothing_that_was_acknowledged_as_written() -> Result<()> {
    kill_rounds("written", |acknowledged, found, sent| {
        assert!(
            found >= acknowledged,
            "{found} of {acknowledged} acknowledged"
        );
        assert!(found <= sent);
    })
}

#[test]
fn a_kill_takes_at_most_the_end_of_what_was_buffered() -> Result<()> {
    // Order and density are checked in each round.
    kill_rounds("buffered", |_, found, sent| assert!(found <= sent))
}
