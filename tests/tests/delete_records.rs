//! What a client was told to be deleted is not there after a kill either.

use anyhow::{Result, ensure};
use ringlog_tests::node::Node;
use ringlog_tests::record_batch::Batch;
use ringlog_tests::wire::{Connection, Fields, api, error};

/// Deletes what lies before an offset of partition 0: error code and low watermark.
fn delete_before(client: &mut Connection, topic: &str, offset: i64) -> Result<(i16, i64)> {
    let body = Fields::new().i32(1).string(Some(topic)).i32(1).i32(0);
    let body = body.i64(offset).i32(30_000).finish();
    let mut answer = client.request(api::DELETE_RECORDS, 0, &body)?;
    let (_throttle, topics) = (answer.i32()?, answer.i32()?);
    ensure!(topics == 1, "one topic, {topics} found");
    answer.string()?;
    ensure!(answer.i32()? == 1 && answer.i32()? == 0, "partition 0");
    let low_watermark = answer.i64()?;
    Ok((answer.i16()?, low_watermark))
}

#[test]
fn what_was_deleted_stays_deleted_after_a_kill() -> Result<()> {
    let mut node = Node::start(1)?;
    Connection::open(node.kafka(0))?.create_topic("killed", 1, &[])?;
    for round in 0..10_i64 {
        let mut client = Connection::open(node.kafka(0))?;
        for n in 0..10 {
            let batch = Batch::of_values([n.to_string()]).encode();
            let answer = client.produce("killed", 0, &batch)?;
            assert_eq!(
                (answer.error, answer.base_offset),
                (error::NONE, 10 * round + n)
            );
        }
        let start = 10 * round + 7;
        let deleted = delete_before(&mut client, "killed", start)?;
        assert_eq!(deleted, (error::NONE, start));
        node.kill9()?;
        node.restart()?;
        let mut client = Connection::open(node.kafka(0))?;
        let (earliest, latest) = (-2, -1);
        let found = client.list_offset("killed", 0, earliest)?;
        assert_eq!(found, (error::NONE, start), "round {round}");
        let found = client.list_offset("killed", 0, latest)?;
        assert_eq!(found, (error::NONE, 10 * round + 10), "the end stays");
    }
    Ok(())
}
