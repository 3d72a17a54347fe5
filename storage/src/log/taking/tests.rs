//! Checkpoints taken while the log goes on, on a simulated disk.

use std::collections::BTreeMap;
use std::time::Duration;

use ringlog_types::{LogId, Offset, PartitionId};

use super::Phase;
use crate::io::Io;
use crate::io::random::Random;
use crate::io::sim::{Faults, SimDisk, SimIo};
use crate::log::{Entry, EntryKind, EntryMeta, Log, LogConfig, Machine, RecoveryReport, Taken};
use ringlog_types::snapshot::Pieces;

/// Counts the entries of each partition; takes its checkpoints whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally(BTreeMap<u64, u64>);

impl Machine for Tally {
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let words = checkpoint.chunks_exact(8);
        let words: Vec<u64> = words
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        self.0 = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) {
        if entry.meta.kind == EntryKind::PartitionDropped {
            self.0.remove(&entry.meta.partition.0);
        } else {
            *self.0.entry(entry.meta.partition.0).or_default() += 1;
        }
    }

    fn apply_damaged(&mut self, meta: &EntryMeta) {
        panic!("nothing is damaged: {meta:?}");
    }

    fn checkpoint(&self) -> Vec<u8> {
        let words = self
            .0
            .iter()
            .flat_map(|(partition, count)| [*partition, *count]);
        words.flat_map(u64::to_le_bytes).collect()
    }
}

fn partition(number: u64) -> PartitionId {
    PartitionId((1 << 32) + number)
}

fn config(checkpoint_step_rows: usize) -> LogConfig {
    LogConfig {
        segment_bytes: 128 << 10,
        pool_segments: 1,
        recycle_bytes: 256 << 10,
        target_block_bytes: 16 << 10,
        reserve_bytes: 0,
        checkpoint_bytes: u64::MAX,
        checkpoint_step_rows,
        ..LogConfig::default()
    }
}

fn open(disk: &SimDisk, config: &LogConfig) -> (Log<SimIo>, Tally, RecoveryReport) {
    let mut tally = Tally::default();
    let opened = Log::open(disk.io(), LogId(0), config.clone(), &mut tally);
    let (log, report) = opened.expect("a log on a sound disk");
    (log, tally, report)
}

fn append(log: &mut Log<SimIo>, partition: PartitionId, kind: EntryKind, at: u64, bytes: usize) {
    let meta = EntryMeta {
        partition,
        kind,
        machine: 0,
        base_offset: Offset(at),
        count: u32::from(kind == EntryKind::Records),
        max_timestamp: 7,
    };
    log.append(&[(meta, &vec![7; bytes])]).unwrap();
}

fn turn(log: &mut Log<SimIo>, tally: &mut Tally) {
    log.submit();
    log.io_mut().wait(Duration::from_millis(1));
    log.poll(tally);
}

fn settle(log: &mut Log<SimIo>, tally: &mut Tally) {
    for _ in 0..100_000 {
        if log.taking.is_none() && log.durable() >= log.appended() {
            return;
        }
        turn(log, tally);
    }
    panic!("the log does not come to rest");
}

/// What the log and the machine hold.
fn state(log: &Log<SimIo>, tally: &Tally) -> (Vec<(PartitionId, Offset, Offset, u64)>, Tally) {
    let mut partitions: Vec<PartitionId> = log.partitions().collect();
    partitions.sort();
    let row = |partition: &PartitionId| {
        let (start, end) = log.bounds(*partition);
        (*partition, start, end, log.partition_bytes(*partition))
    };
    (partitions.iter().map(row).collect(), tally.clone())
}

/// Something happens to a partition.
fn act(log: &mut Log<SimIo>, ends: &mut BTreeMap<u64, u64>, random: &mut Random) {
    let number = random.within(0..30);
    let end = ends.entry(number).or_default();
    match random.within(0..12) {
        0 => {
            append(log, partition(number), EntryKind::PartitionDropped, 0, 0);
            *end = 0;
        }
        1 | 2 if *end > 0 => {
            let start = random.within(0..*end + 1);
            append(log, partition(number), EntryKind::StartOffset, start, 0);
        }
        _ => {
            let bytes = 100 + random.within(0..3_000) as usize;
            append(log, partition(number), EntryKind::Records, *end, bytes);
            *end += 1;
        }
    }
}

#[test]
fn what_is_taken_in_steps_is_what_was_there_at_the_begin_and_recovers_to_the_same() {
    let (mut compared, mut from_checkpoint) = (0, 0);
    for seed in 0..40 {
        let disk = SimDisk::new(seed, Faults::power_cuts_only());
        let mut random = Random::new(seed);
        // One row in a step: the bytes can be looked at before they are appended.
        let config = config(1);
        let (mut log, mut tally, _) = open(&disk, &config);
        let (mut ends, mut wanted) = (BTreeMap::new(), None);
        for _ in 0..1_500 {
            act(&mut log, &mut ends, &mut random);
            if random.within(0..3) == 0 {
                turn(&mut log, &mut tally);
            }
            if log.taking.is_none() && random.within(0..40) == 0 {
                let mut bytes = Vec::new();
                log.manifest().encode(&tally.checkpoint(), &mut bytes);
                log.start_checkpoint(&mut tally);
                wanted = log.taking.is_some().then_some(bytes);
            }
            let phase = log.taking.as_ref().map(|taking| &taking.phase);
            if let Some(Phase::Blocks(blocks)) = phase
                && blocks.placed == 0
                && let Some(wanted) = wanted.take()
            {
                let pieces: Vec<&[u8]> = blocks.pieces.iter().map(Vec::as_slice).collect();
                assert!(pieces.concat() == wanted, "seed {seed}");
                compared += 1;
            }
        }
        settle(&mut log, &mut tally);
        let before = state(&log, &tally);
        disk.power_cut();
        drop(log);
        let (log, tally, report) = open(&disk, &config);
        assert!(before == state(&log, &tally), "seed {seed}");
        from_checkpoint += u32::from(report.from_checkpoint);
    }
    assert!(compared > 100, "{compared} checkpoints were compared");
    assert!(from_checkpoint > 30, "{from_checkpoint} came from one");
}

#[test]
fn a_large_one_is_a_group_of_several_blocks() {
    const PARTITIONS: u64 = 4_000;
    let disk = SimDisk::new(1, Faults::power_cuts_only());
    let config = config(100);
    let (mut log, mut tally, _) = open(&disk, &config);
    for number in 0..PARTITIONS {
        append(&mut log, partition(number), EntryKind::Records, 0, 10);
    }
    settle(&mut log, &mut tally);
    let blocks = log.stats().blocks;
    log.start_checkpoint(&mut tally);
    // Every partition changes while it is taken, and the last ones before their turn.
    for number in (0..PARTITIONS).rev() {
        append(&mut log, partition(number), EntryKind::Records, 1, 10);
        if number % 100 == 0 {
            turn(&mut log, &mut tally);
        }
    }
    settle(&mut log, &mut tally);
    assert_eq!(log.stats().checkpoints, 1);
    assert!(log.stats().blocks > blocks + 3);
    // The next segment's header names it.
    for number in 0..100 {
        append(&mut log, partition(number), EntryKind::Records, 2, 5_000);
    }
    settle(&mut log, &mut tally);
    let before = state(&log, &tally);
    disk.power_cut();
    drop(log);
    let (log, tally, report) = open(&disk, &config);
    assert!(report.from_checkpoint);
    assert!(before == state(&log, &tally));
}

#[test]
fn a_log_that_is_closed_meanwhile_ends_with_a_checkpoint_of_everything() {
    let disk = SimDisk::new(2, Faults::none());
    let config = config(1);
    let (mut log, mut tally, _) = open(&disk, &config);
    for number in 0..50 {
        append(&mut log, partition(number), EntryKind::Records, 0, 10);
    }
    settle(&mut log, &mut tally);
    log.start_checkpoint(&mut tally);
    turn(&mut log, &mut tally);
    append(&mut log, partition(7), EntryKind::Records, 1, 10);
    let wanted = log.bounds(partition(7)).1.plus(1);
    log.close(&mut tally).unwrap();
    let (log, again, report) = open(&disk, &config);
    assert_eq!(log.bounds(partition(7)).1, wanted);
    assert!(report.from_checkpoint);
    assert!(report.blocks_replayed <= 2, "{report:?}");
    assert_eq!(again, tally);
}

/// A machine that is never done with its first step would hold up every later checkpoint.
#[derive(Debug, Default)]
struct InSteps {
    left: u64,
    begun: u64,
}

impl Machine for InSteps {
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        self.begun = checkpoint.len() as u64;
        Ok(())
    }

    fn apply(&mut self, _: &Entry) {}

    fn apply_damaged(&mut self, _: &EntryMeta) {}

    fn checkpoint(&self) -> Vec<u8> {
        panic!("it is taken in steps")
    }

    fn begin_checkpoint(&mut self, out: &mut Pieces) -> Taken {
        (self.left, self.begun) = (10, self.begun + 1);
        out.add(|out| out.push(0));
        Taken::More
    }

    fn checkpoint_step(&mut self, _: usize, out: &mut Pieces) -> Taken {
        self.left -= 1;
        out.add(|out| out.push(1));
        if self.left == 0 {
            Taken::Whole
        } else {
            Taken::More
        }
    }
}

#[test]
fn a_machine_gives_its_state_in_steps_of_its_own() {
    let disk = SimDisk::new(3, Faults::none());
    let config = config(4);
    let mut machine = InSteps::default();
    let opened = Log::open(disk.io(), LogId(0), config.clone(), &mut machine);
    let (mut log, _) = opened.unwrap();
    append(&mut log, partition(1), EntryKind::Records, 0, 10);
    log.close(&mut machine).unwrap();
    assert_eq!((machine.left, machine.begun), (0, 1));
    let mut again = InSteps::default();
    Log::open(disk.io(), LogId(0), config, &mut again).unwrap();
    assert_eq!(again.begun, 11, "bytes of its state");
}
