//! A disk that fills up under a node: producers are told, consumers go on, nothing acknowledged is
//! lost, and when space comes back so does producing.

use anyhow::{Context, Result, ensure};
use ringlog_tests::deadline::until;
use ringlog_tests::foreign::announce;
use ringlog_tests::fsck::fsck;
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::record_batch::Batch;
use ringlog_tests::small_disk::SmallDisk;
use ringlog_tests::wire::{Connection, error};

const DISK_BYTES: u64 = 224 << 20;
const BALLAST_BYTES: u64 = 48 << 20;
const VALUE_BYTES: usize = 256 << 10;
/// More than the disk can hold.
const MOST_BATCHES: usize = 2 * (DISK_BYTES as usize) / VALUE_BYTES;
const RESTARTS: usize = 4;
const TOPIC: &str = "filling";

/// The value of the record at an offset.
fn value(offset: usize) -> Vec<u8> {
    let mut value = format!("<{offset}>").into_bytes();
    value.resize(VALUE_BYTES, b'.');
    value
}

/// Produces until the disk is full. Returns how many records were acknowledged in all.
fn fill(node: &Node, mut acknowledged: usize) -> Result<usize> {
    let mut client = Connection::open(node.kafka(0))?;
    for _ in 0..MOST_BATCHES {
        let batch = Batch::of_values([value(acknowledged)]).encode();
        let answer = client.produce(TOPIC, 0, &batch)?;
        if answer.error != error::NONE {
            ensure!(
                answer.error == error::KAFKA_STORAGE_ERROR,
                "refused with error {}",
                answer.error
            );
            return Ok(acknowledged);
        }
        ensure!(answer.base_offset == acknowledged as i64, "{answer:?}");
        acknowledged += 1;
    }
    anyhow::bail!("{MOST_BATCHES} batches went onto a disk that is smaller")
}

fn check_all_there(node: &Node, acknowledged: usize) -> Result<()> {
    let found = Connection::open(node.kafka(0))?.read_all(TOPIC, 0)?;
    // What was refused may not be there, and nothing twice.
    ensure!(
        found.len() == acknowledged,
        "{acknowledged} acknowledged, {} there",
        found.len()
    );
    for (offset, found) in found {
        let at = usize::try_from(offset)?;
        ensure!(found == value(at), "wrong bytes at {offset}");
    }
    Ok(())
}

#[test]
fn a_full_disk_stops_producers_only_and_heals_when_space_returns() -> Result<()> {
    let disk = match SmallDisk::mount(DISK_BYTES)? {
        Ok(disk) => disk,
        Err(why) => {
            announce(&format!("SKIPPED: no small filesystem to fill: {why}"));
            return Ok(());
        }
    };
    disk.put_ballast("first", BALLAST_BYTES)?;
    disk.put_ballast("second", BALLAST_BYTES)?;
    let data = disk.path().join("data");
    let options = NodeOptions::new(1).arguments(["--segment-bytes", "8MiB"]);
    let mut node = Node::on(&data, options)?;
    Connection::open(node.kafka(0))?.create_topic(TOPIC, 1, &[])?;
    let from = node.log_position()?;
    let full_at = fill(&node, 0)?;
    println!("full after {full_at} records of {VALUE_BYTES} bytes");
    ensure!(full_at > 40, "only {full_at} records fit");
    println!("{}", node.log_line(from, &["no space"])?);
    check_all_there(&node, full_at).context("while the disk is full")?;
    node.check_running()?;

    disk.drop_ballast("first")?;
    let mut acknowledged = full_at;
    until("producing to go on without a restart", || {
        let mut client = Connection::open(node.kafka(0))?;
        let batch = Batch::of_values([value(acknowledged)]).encode();
        let answer = client.produce(TOPIC, 0, &batch)?;
        Ok((answer.error == error::NONE).then_some(()))
    })?;
    acknowledged += 1;
    acknowledged = fill(&node, acknowledged)?;
    println!("full again after {acknowledged} records");
    ensure!(
        acknowledged > full_at + 40,
        "the space that came back was not used"
    );
    check_all_there(&node, acknowledged).context("after the disk was full twice")?;

    // Every start opens a new segment, for which there has to be room each time.
    for start in 0..RESTARTS {
        node.kill9()?;
        let checked = fsck(&data, &[])?;
        ensure!(checked.code == 0, "{:#}", checked.report);
        let from = node.log_position()?;
        if let Err(refused) = node.restart() {
            // Then it says why, and starts when there is space.
            println!("start {start} on the full disk: {refused:#}");
            let log = node.log()?;
            let why = log.get(from..).unwrap_or_default();
            ensure!(why.contains("space"), "it does not say why:\n{why}");
            disk.drop_ballast("second")?;
            node.forget_ended()?;
            node.restart().context("with space for a segment")?;
        }
        check_all_there(&node, acknowledged).context("after a restart on the full disk")?;
    }
    // A topic that is deleted gives its space to others.
    Connection::open(node.kafka(0))?.create_topic("next", 1, &[])?;
    Connection::open(node.kafka(0))?.delete_topic(TOPIC)?;
    until("producing to go on after a topic was deleted", || {
        let batch = Batch::of_values([value(0)]).encode();
        let answer = Connection::open(node.kafka(0))?.produce("next", 0, &batch)?;
        Ok((answer.error == error::NONE).then_some(()))
    })
}
