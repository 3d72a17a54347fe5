//! Plain blocks on the simulated disk: when they count as written, when as durable, and what a
//! kill and a power cut leave of them.

use ringlog_types::{LogId, Offset, PartitionId, TopicNumber};

use super::*;
use crate::io::sim::{Faults, SimDisk, SimIo};
use crate::log::{AppendError, Entry, EntryKind, EntryMeta, LogConfig, Machine};

/// Longer than any test runs by the simulated clock.
const NEVER: Duration = Duration::from_secs(3600);

#[derive(Default)]
struct Nobody;

impl Machine for Nobody {
    fn restore(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
    fn apply(&mut self, _: &Entry) {}
    fn apply_damaged(&mut self, _: &EntryMeta) {}
    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
}

fn partition() -> PartitionId {
    PartitionId::new(TopicNumber(1), 0)
}

fn config(flush_after: Duration) -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        pool_segments: 1,
        flush_after,
        idle_mark_after: NEVER,
        ..LogConfig::default()
    }
}

fn open(disk: &SimDisk, config: LogConfig) -> Log<SimIo> {
    let opened = Log::open(disk.io(), LogId(0), config, &mut Nobody);
    opened.expect("a log on a sound disk").0
}

/// Appends one record of one offset.
fn append(log: &mut Log<SimIo>, offset: u64, urgency: Urgency) -> Result<Sequence, AppendError> {
    append_bytes(log, offset, 500, urgency)
}

fn append_bytes(
    log: &mut Log<SimIo>,
    offset: u64,
    bytes: usize,
    urgency: Urgency,
) -> Result<Sequence, AppendError> {
    let meta = EntryMeta {
        partition: partition(),
        kind: EntryKind::Records,
        machine: 0,
        base_offset: Offset(offset),
        count: 1,
        max_timestamp: 0,
    };
    log.append_with(&[(meta, &vec![7; bytes])], urgency)
}

/// Drives the log until nothing is under way, or `done` says so.
fn drive(log: &mut Log<SimIo>, done: impl Fn(&Log<SimIo>) -> bool) -> bool {
    for _ in 0..10_000 {
        log.submit();
        log.poll(&mut Nobody);
        if done(log) {
            return true;
        }
        log.io_mut().wait(Duration::from_millis(1));
    }
    false
}

fn end(log: &Log<SimIo>) -> Offset {
    log.bounds(partition()).1
}

#[test]
fn a_block_that_nobody_waits_to_be_durable_is_flushed_later_and_read_only_then() {
    let disk = SimDisk::new(1, Faults::none());
    let mut log = open(&disk, config(Duration::from_millis(5)));
    let before = log.stats().flushes;
    let sequence = append(&mut log, 0, Urgency::Written).unwrap();
    assert!(log.written() < sequence);
    assert!(drive(&mut log, |log| log.written() >= sequence));
    assert!(log.durable() < sequence, "written only");
    assert_eq!(end(&log), Offset::ZERO, "readers do not see it");
    assert_eq!(log.stats().flushes, before, "its write carried no flush");
    let due = log.next_deadline().expect("the flush has a time");
    assert!(due > Duration::ZERO && due <= Duration::from_millis(5));
    disk.advance(due);
    assert!(drive(&mut log, |log| log.durable() >= sequence));
    assert_eq!(end(&log), Offset(1));
    assert_eq!(log.stats().flushes, before + 1);
}

#[test]
fn a_durable_entry_behind_plain_blocks_brings_their_flush() {
    let disk = SimDisk::new(2, Faults::none());
    let mut log = open(&disk, config(NEVER));
    let plain = append(&mut log, 0, Urgency::Written).unwrap();
    assert!(drive(&mut log, |log| log.written() >= plain));
    let urgent = append(&mut log, 1, Urgency::Durable).unwrap();
    assert!(urgent > plain, "in a block of its own");
    assert!(drive(&mut log, |log| log.durable() >= urgent));
    assert_eq!(end(&log), Offset(2));
}

#[test]
fn a_block_with_both_kinds_is_as_durable_as_the_stronger_one() {
    for urgencies in [
        [Urgency::Written, Urgency::Durable],
        [Urgency::Durable, Urgency::Written],
    ] {
        let disk = SimDisk::new(3, Faults::none());
        let mut log = open(&disk, config(NEVER));
        let before = log.stats().flushes;
        let [one, two] = [0, 1].map(|n| append(&mut log, n, urgencies[n as usize]).unwrap());
        assert_eq!(one, two, "they share a block");
        assert!(drive(&mut log, |log| log.durable() >= two));
        assert_eq!(log.stats().flushes, before + 1, "one durable write");
    }
}

#[test]
fn many_plain_blocks_share_their_flushes_and_never_wait_for_good() {
    let disk = SimDisk::new(4, Faults::none());
    let mut log = open(&disk, config(NEVER));
    let before = log.stats().flushes;
    for offset in 0..500 {
        let sequence = append(&mut log, offset, Urgency::Written).unwrap();
        assert!(drive(&mut log, |log| log.written() >= sequence), "{offset}");
        let most = log.config.depth * UNFLUSHED_PER_DEPTH;
        assert!(log.blocks_in_flight() <= most);
    }
    let flushes = log.stats().flushes - before;
    assert!((1..=50).contains(&flushes), "{flushes} for 500 blocks");
    log.close(&mut Nobody).expect("closing flushes the rest");
    let log = open(&disk, config(NEVER));
    assert_eq!(end(&log), Offset(500));
}

#[test]
fn what_is_neither_flushed_nor_read_counts_as_pending() {
    let disk = SimDisk::new(5, Faults::none());
    let pending_bytes = 4000;
    let config = LogConfig {
        pending_bytes,
        ..config(NEVER)
    };
    let mut log = open(&disk, config);
    let mut offset = 0;
    let refused = loop {
        match append(&mut log, offset, Urgency::Written) {
            Ok(_) => offset += 1,
            Err(error) => break error,
        }
        assert!(log.pending_bytes() <= pending_bytes);
    };
    assert!(matches!(refused, AppendError::Busy), "{refused}");
    // It is taken again when what waits has been made durable.
    assert!(drive(&mut log, |log| log.pending_bytes() == 0));
    append(&mut log, offset, Urgency::Written).unwrap();
}

/// Bytes of a record that is not short.
const LONG: usize = 2 * SHORT_BYTES;

fn append_long(log: &mut Log<SimIo>, offset: u64) -> Sequence {
    append_bytes(log, offset, LONG, Urgency::Durable).unwrap()
}

#[test]
fn no_more_bytes_are_in_flight_than_may_be_and_all_come_to_be_durable() {
    let disk = SimDisk::new(8, Faults::none());
    let in_flight_bytes = 5 * LONG / 2;
    let config = LogConfig {
        in_flight_bytes,
        target_block_bytes: LONG,
        eager_depth: 8,
        ..config(NEVER)
    };
    let mut log = open(&disk, config);
    let mut last = Sequence::NONE;
    for offset in 0..6 {
        last = append_long(&mut log, offset);
        log.submit();
        assert!(log.bytes_under_way() <= in_flight_bytes);
    }
    assert_eq!(log.blocks_in_flight(), 2);
    assert!(drive(&mut log, |log| {
        assert!(log.bytes_under_way() <= in_flight_bytes);
        log.durable() >= last
    }));
}

#[test]
fn a_block_longer_than_all_that_may_be_in_flight_is_written_alone() {
    let disk = SimDisk::new(9, Faults::none());
    let config = LogConfig {
        in_flight_bytes: LONG / 2,
        ..config(NEVER)
    };
    let mut log = open(&disk, config);
    let first = append_long(&mut log, 0);
    log.submit();
    let second = append_long(&mut log, 1);
    log.submit();
    assert_eq!(log.blocks_in_flight(), 1);
    assert!(drive(&mut log, |log| log.durable() >= first));
    assert!(drive(&mut log, |log| log.durable() >= second));
}

#[test]
fn a_short_block_does_not_wait_for_the_bytes_before_it() {
    let disk = SimDisk::new(10, Faults::none());
    let config = LogConfig {
        in_flight_bytes: LONG,
        ..config(NEVER)
    };
    let mut log = open(&disk, config);
    append_long(&mut log, 0);
    log.submit();
    append(&mut log, 1, Urgency::Durable).unwrap();
    log.submit();
    assert_eq!(log.blocks_in_flight(), 2);
}

#[test]
fn short_records_have_room_in_the_queue_where_long_ones_have_none() {
    let disk = SimDisk::new(11, Faults::none());
    let config = LogConfig {
        queue_bytes: 4 * LONG,
        ..config(NEVER)
    };
    let mut log = open(&disk, config);
    for offset in 0..4 {
        assert!(log.has_queue_room(LONG), "{offset}");
        append_long(&mut log, offset);
        log.submit();
    }
    assert!(!log.has_queue_room(LONG));
    assert!(log.has_queue_room(SHORT_BYTES));
    append_long(&mut log, 4);
    assert!(!log.has_queue_room(SHORT_BYTES));
    assert!(drive(&mut log, |log| log.has_queue_room(100 * LONG)));
}

#[test]
fn what_is_written_and_waits_for_its_flush_takes_no_room_in_the_queue() {
    let disk = SimDisk::new(12, Faults::none());
    let config = LogConfig {
        queue_bytes: LONG,
        ..config(NEVER)
    };
    let mut log = open(&disk, config);
    for offset in 0..200 {
        append(&mut log, offset, Urgency::Written).unwrap();
    }
    let before = log.stats().flushes;
    assert!(drive(&mut log, |log| log.has_queue_room(SHORT_BYTES)));
    assert_eq!(log.stats().flushes, before);
    assert!(log.pending_bytes() >= 100_000);
}

#[test]
fn a_failing_flush_closes_the_log_and_moves_nothing() {
    let disk = SimDisk::new(6, Faults::none());
    let mut log = open(&disk, config(Duration::from_millis(5)));
    let sequence = append(&mut log, 0, Urgency::Written).unwrap();
    assert!(drive(&mut log, |log| log.written() >= sequence));
    disk.set_faults(Faults {
        flush_error: 1.0,
        ..Faults::none()
    });
    disk.advance(Duration::from_millis(5));
    assert!(drive(&mut log, |log| log.failure().is_some()));
    assert!(log.durable() < sequence);
    assert_eq!(end(&log), Offset::ZERO);
    let refused = append(&mut log, 1, Urgency::Written).unwrap_err();
    assert!(matches!(refused, AppendError::Closed { .. }), "{refused}");
}

/// Appends at random, to a log whose writes complete out of order. Returns what was appended,
/// and the end of what was written and of what was durable at the end.
fn workload(disk: &SimDisk, log: &mut Log<SimIo>, seed: u64) -> (u64, u64, u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut sequences = Vec::new();
    let (mut written, mut durable) = (Sequence::NONE, Sequence::NONE);
    for offset in 0..200 {
        let urgent = next(20) == 0;
        let urgency = if urgent {
            Urgency::Durable
        } else {
            Urgency::Written
        };
        sequences.push(append(log, offset, urgency).unwrap());
        for _ in 0..next(3) {
            log.submit();
            disk.advance(Duration::from_micros(next(200)));
            log.poll(&mut Nobody);
            assert!(log.written() >= log.durable());
            assert!(log.written() >= written && log.durable() >= durable);
            (written, durable) = (log.written(), log.durable());
        }
    }
    let upto = |reached: Sequence| {
        let reached = sequences.iter().filter(|sequence| **sequence <= reached);
        reached.count() as u64
    };
    (200, upto(written), upto(durable))
}

#[test]
fn a_kill_keeps_everything_written_and_a_power_cut_everything_durable_both_without_gaps() {
    let (mut ahead, mut lost) = (0, 0);
    for seed in 0..60 {
        for kill in [true, false] {
            let disk = SimDisk::new(seed, Faults::power_cuts_only());
            let mut log = open(&disk, config(Duration::from_micros(400)));
            let (appended, written, durable) = workload(&disk, &mut log, seed);
            if kill {
                disk.kill();
            } else {
                disk.power_cut();
            }
            drop(log);
            let log = open(&disk, config(NEVER));
            // Offsets are dense by construction of the index: damage would be a gap.
            let found = end(&log).0;
            let promised = if kill { written } else { durable };
            assert!(
                found >= promised,
                "seed {seed}, kill {kill}: {found} of {promised}"
            );
            assert!(found <= appended);
            assert_eq!(log.stats().damaged_ranges, 0, "seed {seed}, kill {kill}");
            ahead += written - durable;
            lost += u64::from(!kill && found < written);
        }
    }
    assert!(ahead > 0, "some was written and not yet durable");
    assert!(
        lost > 0,
        "a power cut took some of it: the two promises differ"
    );
}
