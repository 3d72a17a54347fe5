//! Readers of data that is not in memory: how much is read from disk for what they get, and that
//! what is read in pieces is checked as well as what is read whole.

#![expect(
    clippy::unwrap_used,
    reason = "tests: what cannot fail here is a failed test"
)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use rig::{Bystander, Rig, partition};
use ringlog_storage::io::Io;
use ringlog_storage::io::sim::SimIo;
use ringlog_storage::log::{Log, LogConfig, Read};
use ringlog_types::{Offset, PartitionId};

const PARTITIONS: u64 = 50;
const ROUNDS: usize = 60;

/// Blocks in which each partition has a small part, more of them than the cache holds.
fn large_blocks() -> LogConfig {
    LogConfig {
        segment_bytes: 2 << 20,
        target_block_bytes: 256 << 10,
        depth: 1,
        eager_depth: 1,
        checkpoint_bytes: 4 << 20,
        cache_bytes: 1 << 20,
        cold_cache_bytes: 1 << 20,
        read_ahead_bytes: 256 << 10,
        reserve_bytes: 0,
        ..LogConfig::default()
    }
}

/// A log that holds about 12 MiB in blocks of about 256 KiB.
fn filled(index_rows: usize) -> (Rig, Log<SimIo>) {
    let config = LogConfig {
        index_rows,
        ..large_blocks()
    };
    let mut rig = Rig::new(1, config);
    let (mut log, _) = rig.try_open().unwrap();
    for _ in 0..ROUNDS {
        for number in 0..PARTITIONS {
            rig.append(&mut log, partition(number), 2_000);
        }
        rig.settle(&mut log);
    }
    (rig, log)
}

fn bytes_of(rig: &Rig, partition: PartitionId) -> u64 {
    let batches = rig.models[&partition].batches.iter();
    batches.map(|batch| batch.bytes.len() as u64).sum()
}

/// Reads all partitions with one request after the other, as a consumer does: whatever is there
/// of each, and what is wanted of all of them at once. Returns the bytes it got.
fn read_together(rig: &Rig, log: &mut Log<SimIo>, partitions: &[PartitionId]) -> u64 {
    let mut positions: BTreeMap<PartitionId, Offset> = partitions
        .iter()
        .map(|partition| (*partition, log.bounds(*partition).0))
        .collect();
    let mut got_bytes = 0;
    let mut wanted = Vec::new();
    for _ in 0..10_000 {
        let mut is_at_end = true;
        let mut ticket = 0;
        for (partition, at) in &mut positions {
            is_at_end &= *at == log.bounds(*partition).1;
            match log.look(*partition, *at, 1 << 20, 8, &mut wanted) {
                Read::Batches(batches) => {
                    for bytes in batches {
                        let mut known = rig.models[partition].batches.iter();
                        let batch = known.find(|batch| batch.base == at.0).unwrap();
                        assert_eq!(batch.bytes[..], bytes[..], "{partition} at {at}");
                        *at = Offset(batch.end);
                        got_bytes += bytes.len() as u64;
                    }
                }
                Read::Pending(footer) => ticket = footer,
                other => panic!("{partition} at {at}: {other:?}"),
            }
        }
        if is_at_end {
            return got_bytes;
        }
        let brought = log.bring(&mut wanted);
        assert!(brought.one_done <= brought.all_done);
        wanted.clear();
        wait(log, ticket.max(brought.all_done));
    }
    panic!("the readers do not come to the end");
}

fn wait(log: &mut Log<SimIo>, ticket: u64) {
    while log.reads_done() <= ticket {
        log.submit();
        log.io_mut().wait(Duration::from_millis(10));
        log.poll(&mut Bystander);
    }
}

#[test]
fn readers_of_all_partitions_read_the_log_once() {
    for index_rows in [1 << 20, 0] {
        let (rig, mut log) = filled(index_rows);
        let all: Vec<PartitionId> = (0..PARTITIONS).map(partition).collect();
        let before = log.stats().cold_read_bytes;
        let got_bytes = read_together(&rig, &mut log, &all);
        let expected: u64 = all.iter().map(|partition| bytes_of(&rig, *partition)).sum();
        assert_eq!(got_bytes, expected);
        let read_bytes = log.stats().cold_read_bytes - before;
        assert!(
            read_bytes * 10 <= got_bytes * 12,
            "{read_bytes} bytes were read for {got_bytes}, index_rows {index_rows}"
        );
    }
}

#[test]
fn a_reader_of_one_partition_among_many_reads_little_more_than_its_records() {
    for index_rows in [1 << 20, 0] {
        let (rig, mut log) = filled(index_rows);
        let before = log.stats().cold_read_bytes;
        let got_bytes = read_together(&rig, &mut log, &[partition(7)]);
        assert_eq!(got_bytes, bytes_of(&rig, partition(7)));
        let read_bytes = log.stats().cold_read_bytes - before;
        assert!(read_bytes > 0, "some of it came from disk");
        assert!(
            read_bytes <= got_bytes * 8,
            "{read_bytes} bytes were read for {got_bytes}: batches of 4 KB, blocks of 256 KiB"
        );
    }
}

#[test]
fn damage_in_a_piece_is_named_and_the_rest_is_served() {
    let (rig, mut log) = filled(1 << 20);
    // Every bit of one payload byte in a hundred sectors: some batches of the partition are hit.
    for (name, bytes) in rig.disk.files() {
        let bytes = usize::try_from(bytes).unwrap();
        for at in (8192..bytes.saturating_sub(8192)).step_by(48 << 10) {
            rig.disk
                .corrupt(&name, at..at + 512, |sector| sector[0] ^= 0xff);
        }
    }
    let mut damaged_batches = 0;
    for number in 0..PARTITIONS {
        let partition = partition(number);
        let (mut at, end) = log.bounds(partition);
        while at < end {
            match rig.read(&mut log, partition, at.0) {
                Read::Batches(batches) => {
                    assert!(!batches.is_empty(), "{partition}: nothing at {at}");
                    for bytes in batches {
                        let mut known = rig.models[&partition].batches.iter();
                        let batch = known.find(|batch| batch.base == at.0).unwrap();
                        assert_eq!(batch.bytes[..], bytes[..], "{partition} at {at}");
                        at = Offset(batch.end);
                    }
                }
                Read::Damaged { first, end } => {
                    assert_eq!(first, at, "{partition}: damage is told where it begins");
                    damaged_batches += 1;
                    at = end;
                }
                other => panic!("{partition} at {at}: {other:?}"),
            }
        }
    }
    assert!(damaged_batches > 0, "something was hit");
}

/// A reader that wants something waits for others before it asks for it, and the segment is let go
/// meanwhile.
#[test]
fn what_is_wanted_of_a_segment_that_is_gone_is_not_read() {
    for together in [1, PARTITIONS] {
        let (mut rig, mut log) = filled(1 << 20);
        let mut wanted = Vec::new();
        for number in 0..together {
            let found = log.look(partition(number), Offset(0), 4096, 1, &mut wanted);
            assert!(matches!(found, Read::Batches(batches) if batches.is_empty()));
        }
        assert_eq!(wanted.len() as u64, together);
        for number in 0..PARTITIONS {
            rig.trim_to_end(&mut log, partition(number));
        }
        let recycled_bytes = log.stats().written_recycled_bytes;
        for _ in 0..ROUNDS {
            for number in 0..PARTITIONS {
                rig.append(&mut log, partition(number), 2_000);
            }
            rig.settle(&mut log);
        }
        assert!(
            log.stats().written_recycled_bytes > recycled_bytes,
            "segments were let go"
        );
        let brought = log.bring(&mut wanted);
        assert!(brought.next.is_none());
        assert!(log.reads_done() > brought.all_done, "nothing to wait for");
        assert!(matches!(
            log.look(partition(0), Offset(0), 4096, 1, &mut wanted),
            Read::OutOfRange
        ));
    }
}
