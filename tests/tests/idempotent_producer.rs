//! What the protocol promises an idempotent producer, asked for by hand: proper clients hide it.

use anyhow::Result;
use ringlog_tests::node::Node;
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, Produced, api, error};

fn produced(base_offset: i64) -> Produced {
    Produced {
        error: error::NONE,
        base_offset,
    }
}

/// Three records from sequence number `3 * n` on, all saying `n`.
fn batch((id, epoch): (i64, i16), n: i32) -> Vec<u8> {
    Batch::of_values([n.to_string(), n.to_string(), n.to_string()])
        .from_producer(id, epoch, 3 * n)
        .encode()
}

#[test]
fn a_repeated_batch_is_answered_like_the_first_and_stored_once() -> Result<()> {
    let node = Node::start(1)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("once", 1, &[])?;
    let producer = client.producer_id()?;
    for n in 0..6 {
        assert_eq!(
            client.produce("once", 0, &batch(producer, n))?,
            produced(3 * i64::from(n))
        );
    }
    // The last five are remembered, whichever is repeated, and over another connection too.
    let mut other = Connection::open(node.kafka(0))?;
    for n in [5, 3, 1, 5] {
        let expected = produced(3 * i64::from(n));
        assert_eq!(
            client.produce("once", 0, &batch(producer, n))?,
            expected,
            "batch {n}"
        );
        assert_eq!(
            other.produce("once", 0, &batch(producer, n))?,
            expected,
            "batch {n}"
        );
    }
    assert_eq!(client.read_all("once", 0)?.len(), 18, "stored once");
    Ok(())
}

#[test]
fn a_repeat_of_a_batch_that_is_still_being_written_gets_the_same_answer() -> Result<()> {
    let node = Node::start(1)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("pending", 1, &[])?;
    let producer = client.producer_id()?;
    for n in 0..50 {
        // Both are sent before either is answered.
        let body = Connection::produce_body("pending", 0, -1, &batch(producer, n));
        let first = client.send(api::PRODUCE, 7, &body)?;
        let second = client.send(api::PRODUCE, 7, &body)?;
        assert_eq!(client.produced(first)?, produced(3 * i64::from(n)));
        assert_eq!(client.produced(second)?, produced(3 * i64::from(n)));
    }
    assert_eq!(client.read_all("pending", 0)?.len(), 150);
    Ok(())
}

#[test]
fn five_batches_in_flight_are_accepted_in_order() -> Result<()> {
    let node = Node::start(1)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("flight", 1, &[])?;
    let producer = client.producer_id()?;
    let mut sent = Vec::new();
    for n in 0..5 {
        let body = Connection::produce_body("flight", 0, -1, &batch(producer, n));
        sent.push(client.send(api::PRODUCE, 7, &body)?);
    }
    for (correlation, n) in sent.into_iter().zip(0..) {
        assert_eq!(client.produced(correlation)?, produced(3 * n));
    }
    Ok(())
}

#[test]
fn a_gap_in_the_sequence_is_refused_and_the_sequence_can_go_on() -> Result<()> {
    let node = Node::start(1)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("gap", 1, &[])?;
    let producer = client.producer_id()?;
    assert_eq!(client.produce("gap", 0, &batch(producer, 0))?, produced(0));
    let refused = client.produce("gap", 0, &batch(producer, 2))?;
    assert_eq!(refused.error, error::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.produce("gap", 0, &batch(producer, 1))?, produced(3));
    assert_eq!(client.produce("gap", 0, &batch(producer, 2))?, produced(6));
    Ok(())
}

#[test]
fn partitions_and_producers_have_sequences_of_their_own() -> Result<()> {
    let node = Node::start(1)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("own", 2, &[])?;
    let (one, other) = (client.producer_id()?, client.producer_id()?);
    assert_ne!(one, other, "each gets an id of its own");
    assert_eq!(client.produce("own", 0, &batch(one, 0))?, produced(0));
    assert_eq!(client.produce("own", 1, &batch(one, 0))?, produced(0));
    assert_eq!(client.produce("own", 0, &batch(other, 0))?, produced(3));
    assert_eq!(client.produce("own", 0, &batch(one, 1))?, produced(6));
    Ok(())
}

#[test]
fn a_repeat_is_recognised_after_a_kill() -> Result<()> {
    let mut node = Node::start(1)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("killed", 1, &[])?;
    let producer = client.producer_id()?;
    for n in 0..4 {
        assert_eq!(
            client.produce("killed", 0, &batch(producer, n))?,
            produced(3 * i64::from(n))
        );
    }
    node.kill9()?;
    node.restart()?;
    let mut client = Connection::open(node.kafka(0))?;
    for n in [3, 2] {
        let again = client.produce("killed", 0, &batch(producer, n))?;
        assert_eq!(again, produced(3 * i64::from(n)), "batch {n} again");
    }
    let gap = client.produce("killed", 0, &batch(producer, 9))?;
    assert_eq!(gap.error, error::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(
        client.produce("killed", 0, &batch(producer, 4))?,
        produced(12)
    );
    assert_eq!(client.read_all("killed", 0)?.len(), 15);
    assert_ne!(
        client.producer_id()?.0,
        producer.0,
        "ids are not handed out twice"
    );
    Ok(())
}
