//! Scrubbing: rot in sealed segments is found and named though nobody reads.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use std::ops::Range;
use std::time::Duration;

use ringlog_storage::io::sim::SimIo;
use ringlog_storage::log::{Log, LogConfig, Read};
use ringlog_types::{Offset, PartitionId};

use rig::files::{FilePlace, take_apart};
use rig::{Rig, small};

fn config(index_rows: usize, scrub_bytes_per_second: u64) -> LogConfig {
    LogConfig {
        index_rows,
        scrub_bytes_per_second,
        scrub_every: Duration::from_millis(50),
        ..small()
    }
}

/// A log with sealed segments, which have been looked at and found sound.
fn scrubbed(seed: u64, index_rows: usize) -> (Rig, Log<SimIo>) {
    let mut rig = Rig::new(seed, config(index_rows, 1 << 30));
    let (mut log, _) = rig.try_open().unwrap();
    rig.work(&mut log, 400);
    rig.settle(&mut log);
    assert!(log.stats().sealed > 3, "too little was written");
    pass(&mut rig, &mut log);
    assert_eq!(
        log.stats().scrub_damage,
        0,
        "sound segments were called damaged"
    );
    assert_eq!(log.stats().damaged_ranges, 0);
    (rig, log)
}

/// A millisecond in which nobody asks for anything.
fn quiet_turn(rig: &mut Rig, log: &mut Log<SimIo>) {
    rig.disk.advance(Duration::from_millis(1));
    rig.turn(log);
}

/// Lets a whole pass go by that begins from now on.
fn pass(rig: &mut Rig, log: &mut Log<SimIo>) {
    let passes = log.stats().scrub_passes + 2;
    for _ in 0..10_000 {
        if log.stats().scrub_passes >= passes {
            // What was found last may wait for the rows that name it.
            (0..20).for_each(|_| quiet_turn(rig, log));
            return;
        }
        quiet_turn(rig, log);
    }
    panic!("a pass never ends: {:?}", log.stats());
}

/// A sealed file and a block in it of which all records live.
fn live_block(rig: &Rig, log: &Log<SimIo>) -> (FilePlace, usize) {
    let files = take_apart(&rig.disk.current_image());
    let lives = |(partition, first, _): &(PartitionId, u64, u64)| {
        Offset(*first) >= log.bounds(*partition).0
    };
    for file in files.into_iter().filter(|file| file.seal.is_some()) {
        let number = file.blocks.iter().position(|block| {
            let records = block.records();
            !records.is_empty() && records.iter().all(lives)
        });
        if let Some(number) = number {
            return (file, number);
        }
    }
    panic!("no sealed segment has a live block");
}

/// Damages bytes of a file, waits, and asks for records without giving the disk time to answer.
fn find(
    seed: u64,
    index_rows: usize,
    place: impl Fn(&FilePlace, usize) -> Range<usize>,
    lost: impl Fn(&FilePlace, usize) -> Vec<(PartitionId, u64, u64)>,
) {
    let (mut rig, mut log) = scrubbed(seed, index_rows);
    let (file, number) = live_block(&rig, &log);
    let bytes = place(&file, number);
    rig.disk.corrupt(&file.name, bytes, |bytes| bytes[0] ^= 4);
    pass(&mut rig, &mut log);
    assert!(log.stats().scrub_damage > 0, "nothing was found");
    let lost = lost(&file, number);
    for (partition, first, _) in &lost {
        let read = log.read(*partition, Offset(*first), 100);
        assert!(
            matches!(read, Read::Damaged { .. }),
            "{partition} at {first}: nobody read it, and it is not known to be damaged: {read:?}"
        );
    }
    let damaged = rig.read_all(&mut log).unwrap();
    for (partition, first, end) in &damaged {
        let mut of_lost = lost.iter();
        assert!(
            of_lost.any(|(of, from, to)| of == partition && first < to && from < end),
            "{partition} {first}..{end} is called damaged and is not"
        );
    }
    assert_eq!(damaged.is_empty(), lost.is_empty());
}

fn records(file: &FilePlace, number: usize) -> Vec<(PartitionId, u64, u64)> {
    file.blocks[number].records()
}

#[test]
fn a_rotten_block_header_table_or_payload_is_named_before_anybody_reads() {
    for index_rows in [0, 100_000] {
        for seed in 0..3 {
            let header = |file: &FilePlace, number: usize| {
                let at = file.blocks[number].bytes.start + 20;
                at..at + 1
            };
            find(seed, index_rows, header, records);
            let table = |file: &FilePlace, number: usize| {
                let at = file.blocks[number].table.start + 3;
                at..at + 1
            };
            find(seed, index_rows, table, records);
            let payload = |file: &FilePlace, number: usize| {
                let block = &file.blocks[number];
                let entry = block.entries.iter().find(|entry| entry.length > 0);
                let at = block.bytes.start + entry.unwrap().range().end - 1;
                at..at + 1
            };
            let first = |file: &FilePlace, number: usize| {
                let block = &file.blocks[number];
                let entry = block.entries.iter().find(|entry| entry.length > 0);
                let meta = entry.unwrap().meta;
                let all = block.records();
                let hit = |(of, first, _): &(PartitionId, u64, u64)| {
                    (*of, *first) == (meta.partition, meta.base_offset.0)
                };
                all.into_iter().filter(hit).collect()
            };
            find(seed, index_rows, payload, first);
        }
    }
}

#[test]
fn a_rotten_segment_header_footer_or_trailer_is_found_and_costs_no_record() {
    let none = |_: &FilePlace, _: usize| Vec::new();
    for index_rows in [0, 100_000] {
        find(1, index_rows, |_, _| 70..71, none);
        let footer = |file: &FilePlace, _: usize| {
            let (footer, _) = file.seal.clone().unwrap();
            footer.start + 9..footer.start + 10
        };
        find(1, index_rows, footer, none);
        let trailer = |file: &FilePlace, _: usize| {
            let (_, trailer) = file.seal.clone().unwrap();
            trailer + 34..trailer + 35
        };
        find(1, index_rows, trailer, none);
    }
}

#[test]
fn scrubbing_keeps_to_its_rate_and_reads_nothing_when_it_is_off() {
    for rate in [0, 1 << 20, 8 << 20] {
        let mut rig = Rig::new(5, config(0, rate));
        let (mut log, _) = rig.try_open().unwrap();
        rig.work(&mut log, 400);
        rig.settle(&mut log);
        let (before, from) = (log.stats().scrubbed_bytes, rig.now(&log));
        while rig.now(&log) < from + Duration::from_millis(500) {
            quiet_turn(&mut rig, &mut log);
        }
        let read = log.stats().scrubbed_bytes - before;
        // One read may be ahead of the rate, and one allowance unused before.
        let most = rate / 2 + (if rate > 0 { 512 << 10 } else { 0 });
        assert!(
            read <= most,
            "{read} bytes in half a second at {rate} a second"
        );
        assert!(
            read >= rate / 5,
            "{read} bytes in half a second at {rate} a second"
        );
    }
}
