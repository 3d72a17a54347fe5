//! Partitions that change their log: logs retire, others are made of their segment files, and
//! whatever moment a crash chooses, every batch is there as it was appended.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use ringlog_storage::format::origin::Origin;
use ringlog_storage::format::segment_header::SegmentHeader;
use ringlog_storage::fsck::{CheckOptions, check};
use ringlog_storage::io::Io;
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::random::Random;
use ringlog_storage::io::sim::{Faults, SimDisk, SimIo};
use ringlog_storage::log::clean::Lasting;
use ringlog_storage::log::{
    Entry, EntryKind, EntryMeta, Import, Log, LogConfig, Machine, Read, RecoveryReport, Retired,
};
use ringlog_types::batch::{Builder, set_base_offset};
use ringlog_types::{LogId, Offset, PartitionId};

use rig::{partition, small};

const PARTITIONS: u64 = 6;
const STATE: &[u8] = b"what the machines remember";

/// Keeps what it was restored from, and gives it to each checkpoint.
#[derive(Debug, Default)]
struct Keeper(Vec<u8>);

impl Machine for Keeper {
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        self.0 = checkpoint.to_vec();
        Ok(())
    }

    fn apply(&mut self, _: &Entry) {}

    fn apply_damaged(&mut self, _: &EntryMeta) {}

    fn checkpoint(&self) -> Vec<u8> {
        self.0.clone()
    }
}

/// Batches of a partition: base offset, behind the last, bytes.
type Batches = Vec<(u64, u64, Vec<u8>)>;

/// Some logs, each on a disk of its own, and what must be in them.
struct World {
    disks: BTreeMap<u32, SimDisk>,
    /// Which log has a partition.
    owners: BTreeMap<PartitionId, u32>,
    batches: BTreeMap<PartitionId, Batches>,
    random: Random,
    seed: u64,
    /// Whether the cleaner works as well, and how often it did.
    cleans: bool,
    runs: u64,
}

/// A log whose cleaner rewrites nearly everything.
fn eager() -> LogConfig {
    LogConfig {
        pool_segments: 2,
        clean_bytes_per_second: 1 << 30,
        clean_live_share: 0.9,
        clean_amplification: 1.5,
        ..small()
    }
}

fn disk(seed: u64, image: Image) -> SimDisk {
    SimDisk::from_image(seed, Faults::power_cuts_only(), image)
}

fn open(disk: &SimDisk, id: u32) -> (Log<SimIo>, RecoveryReport, Keeper) {
    let mut keeper = Keeper::default();
    let (log, report) = Log::open(disk.io(), LogId(id), eager(), &mut keeper).unwrap();
    (log, report, keeper)
}

fn turn(log: &mut Log<SimIo>, keeper: &mut Keeper) {
    if let Some(task) = log.take_clean_task() {
        log.finish_clean_task(task.run());
    }
    log.submit();
    log.io_mut().wait(Duration::from_millis(1));
    log.poll(keeper);
}

fn settle(log: &mut Log<SimIo>, keeper: &mut Keeper) {
    while log.durable() < log.appended() {
        turn(log, keeper);
    }
}

/// Lets the cleaner work until nothing is worth it, or for long.
fn clean(log: &mut Log<SimIo>, keeper: &mut Keeper) -> u64 {
    for _ in 0..8 {
        let plans = |_| {
            turn(log, keeper);
            log.plan_cleaning(&|_| Lasting::Long)
        };
        if !(0..40).any(plans) {
            break;
        }
        for _ in 0..2_000 {
            turn(log, keeper);
            if !log.stats().cleaning {
                break;
            }
        }
    }
    log.stats().clean_runs
}

fn meta(partition: PartitionId, kind: EntryKind, base: u64, count: u32) -> EntryMeta {
    EntryMeta {
        partition,
        kind,
        machine: 0,
        base_offset: Offset(base),
        count,
        max_timestamp: 1_700_000_000_000,
    }
}

fn read(log: &mut Log<SimIo>, keeper: &mut Keeper, partition: PartitionId, at: u64) -> Read {
    loop {
        match log.read(partition, Offset(at), 32 << 10) {
            Read::Pending(ticket) => {
                while log.reads_done() <= ticket {
                    turn(log, keeper);
                }
            }
            read => return read,
        }
    }
}

impl World {
    /// One log that holds all partitions.
    fn new(seed: u64) -> World {
        World {
            disks: BTreeMap::from([(0, disk(seed, Image::new()))]),
            owners: (0..PARTITIONS).map(|n| (partition(n), 0)).collect(),
            batches: BTreeMap::new(),
            random: Random::new(seed),
            seed,
            cleans: false,
            runs: 0,
        }
    }

    fn partitions_of(&self, id: u32) -> Vec<PartitionId> {
        let owned = self.owners.iter().filter(|(_, owner)| **owner == id);
        owned.map(|(partition, _)| *partition).collect()
    }

    /// Appends to all logs, in several lives each, and moves starts.
    fn work(&mut self) {
        for (id, disk) in self.disks.clone() {
            let partitions = self.partitions_of(id);
            for _ in 0..2 {
                let (mut log, _, mut keeper) = open(&disk, id);
                for _ in 0..60 {
                    self.append(&mut log, &partitions);
                    if self.random.within(0..3) == 0 {
                        turn(&mut log, &mut keeper);
                    }
                }
                if let Some(trimmed) = partitions.first() {
                    let (start, end) = log.bounds(*trimmed);
                    let start = start.0 + self.random.within(0..end.0 - start.0 + 1) / 2;
                    let moved = meta(*trimmed, EntryKind::StartOffset, start, 0);
                    log.append(&[(moved, &[])]).unwrap();
                }
                settle(&mut log, &mut keeper);
                if self.cleans {
                    self.runs += clean(&mut log, &mut keeper);
                }
                match self.random.within(0..3) {
                    0 => disk.kill(),
                    1 => disk.power_cut(),
                    _ => log.close(&mut keeper).unwrap(),
                }
            }
        }
    }

    fn append(&mut self, log: &mut Log<SimIo>, partitions: &[PartitionId]) {
        let Some(last) = partitions.len().checked_sub(1) else {
            return;
        };
        let at = self.random.within(0..last as u64 + 1) as usize;
        let batches = self.batches.entry(partitions[at]).or_default();
        let base = batches.last().map_or(0, |(_, end, _)| *end);
        let value: Vec<u8> = (0..400 + self.random.within(0..4000))
            .map(|_| self.random.within(0..256) as u8)
            .collect();
        let one = Builder::new().push(1_700_000_000_000, None, Some(&value), &[]);
        let mut bytes = one.build();
        set_base_offset(&mut bytes, Offset(base));
        let records = meta(partitions[at], EntryKind::Records, base, 1);
        log.append(&[(records, &bytes)]).unwrap();
        batches.push((base, base + 1, bytes));
    }

    /// Every log holds its partitions, byte for byte, and a checker finds nothing.
    fn check(&self) {
        for (id, disk) in &self.disks {
            let found = check(&disk.current_image(), LogId(*id), CheckOptions::default()).unwrap();
            assert!(!found.is_damaged(), "{:?}", found.findings);
            let (mut log, report, mut keeper) = open(disk, *id);
            assert!(report.damage.is_empty(), "{report}");
            for partition in self.partitions_of(*id) {
                self.check_partition(&mut log, &mut keeper, partition);
            }
            let strangers = log.partitions();
            let strangers = strangers.filter(|found| self.owners.get(found) != Some(id));
            assert_eq!(strangers.count(), 0, "log {id} has partitions of others");
            log.close(&mut keeper).unwrap();
        }
    }

    fn check_partition(&self, log: &mut Log<SimIo>, keeper: &mut Keeper, partition: PartitionId) {
        let Some(batches) = self.batches.get(&partition) else {
            return;
        };
        let (start, end) = log.bounds(partition);
        assert_eq!(Some(end.0), batches.last().map(|(_, end, _)| *end));
        let mut at = start.0;
        while at < end.0 {
            match read(log, keeper, partition, at) {
                Read::Batches(found) if !found.is_empty() => {
                    for bytes in found {
                        let known = batches.iter().find(|(base, _, _)| *base == at);
                        let (_, end, known) = known.unwrap();
                        assert!(known[..] == bytes[..], "{partition} differs at {at}");
                        at = *end;
                    }
                }
                other => panic!("{partition} at {at}: {other:?}"),
            }
        }
    }

    fn retire(&self) -> BTreeMap<u32, Retired> {
        let logs = self.disks.iter();
        logs.map(|(id, disk)| {
            let (log, _, mut keeper) = open(disk, *id);
            (*id, log.retire(&mut keeper).unwrap())
        })
        .collect()
    }

    /// What each of the new logs takes in, and its directory with the files.
    fn split(&self, retired: &BTreeMap<u32, Retired>, new: &[u32]) -> Vec<(u32, Import, Image)> {
        let owner = |partition: PartitionId| new[partition.index() as usize % new.len()];
        let images: BTreeMap<u32, Image> = self
            .disks
            .iter()
            .map(|(id, disk)| (*id, disk.current_image()))
            .collect();
        let mut split = Vec::new();
        for id in new {
            let mut import = Import {
                state: STATE.to_vec(),
                ..Import::default()
            };
            let mut image = Image::new();
            for (old, retired) in retired {
                import.epoch = import.epoch.max(retired.epoch);
                let own = retired.partitions.iter();
                let own = own.filter(|row| owner(row.partition) == *id);
                import.partitions.extend(own.cloned());
                for file in &retired.segments {
                    let mut row = file.row.clone();
                    row.ranges.retain(|range| owner(range.partition) == *id);
                    if row.ranges.is_empty() {
                        continue;
                    }
                    let name = row.origin.unwrap().file_name();
                    image.insert(name, images[old][&file.name].clone());
                    import.segments.push(row);
                }
            }
            split.push((*id, import, image));
        }
        split
    }

    /// Moves every partition to new logs.
    fn migrate(&mut self, new: &[u32]) {
        let retired = self.retire();
        let split = self.split(&retired, new);
        self.disks.clear();
        for (id, import, image) in split {
            let disk = disk(self.seed ^ u64::from(id), image);
            Log::import(disk.io(), LogId(id), small(), import.clone()).unwrap();
            // What it says is done, a power cut does not undo.
            disk.power_cut();
            for row in &import.partitions {
                self.owners.insert(row.partition, id);
            }
            let (log, _, mut keeper) = open(&disk, id);
            assert_eq!(keeper.0, STATE, "the machines' state came along");
            assert!(log.epoch() > import.epoch, "leader epochs rise");
            log.close(&mut keeper).unwrap();
            self.disks.insert(id, disk);
        }
        for (n, owner) in &mut self.owners {
            *owner = new[n.index() as usize % new.len()];
        }
    }
}

#[test]
fn partitions_go_from_one_log_to_three_to_two_to_one_and_every_batch_comes_along() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.work();
        world.check();
        for new in [&[1, 2, 3][..], &[4, 5], &[6]] {
            world.migrate(new);
            world.check();
            world.work();
            world.check();
        }
    }
}

#[test]
fn what_the_cleaner_wrote_comes_along_and_what_came_along_is_cleaned() {
    for seed in 20..26 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.cleans = true;
        world.work();
        world.check();
        for new in [&[1, 2, 3][..], &[4, 5], &[6]] {
            let before = world.runs;
            world.migrate(new);
            world.check();
            world.work();
            world.check();
            assert!(world.runs > before, "nothing was cleaned");
        }
    }
}

#[test]
fn a_log_that_is_cut_off_anywhere_while_it_retires_is_as_it_was() {
    let mut world = World::new(3);
    world.work();
    for operations in 0.. {
        let disk = &world.disks[&0];
        disk.power_cut_after(operations);
        let mut keeper = Keeper::default();
        let opened = Log::open(disk.io(), LogId(0), small(), &mut keeper);
        let retired = opened
            .map_err(|error| error.to_string())
            .and_then(|(log, _)| log.retire(&mut keeper));
        disk.power_cut();
        world.check();
        if retired.is_ok() {
            assert!(operations > 10, "{operations} operations");
            return;
        }
    }
}

#[test]
fn a_log_that_is_cut_off_anywhere_while_it_is_made_is_whole_or_not_reported_done() {
    let mut world = World::new(4);
    world.work();
    world.migrate(&[1, 2, 3]);
    world.work();
    let retired = world.retire();
    let (id, import, image) = world.split(&retired, &[4, 5]).remove(0);
    for operations in 0.. {
        let disk = disk(operations, image.clone());
        disk.power_cut_after(operations);
        let made = Log::import(disk.io(), LogId(id), small(), import.clone());
        disk.power_cut();
        for (name, content) in &image {
            let now = disk.current_image();
            assert!(now[name] == *content, "{name} was written to");
        }
        if made.is_ok() {
            assert!(operations > 10, "{operations} operations");
            let (mut log, report, mut keeper) = open(&disk, id);
            assert!(report.damage.is_empty(), "{report}");
            for row in &import.partitions {
                world.check_partition(&mut log, &mut keeper, row.partition);
            }
            return;
        }
    }
}

fn foreign_files(disk: &SimDisk) -> Vec<String> {
    let files = disk.files().into_iter().map(|(name, _)| name);
    files
        .filter(|name| Origin::of_file_name(name).is_some())
        .collect()
}

#[test]
fn segments_of_other_logs_go_when_nothing_in_them_is_wanted_any_more() {
    let mut world = World::new(5);
    world.work();
    world.migrate(&[1, 2]);
    let disk = world.disks[&1].clone();
    let before = foreign_files(&disk);
    assert!(before.len() > 3, "{before:?}");
    let (mut log, _, mut keeper) = open(&disk, 1);
    let owned = world.partitions_of(1);
    let (dropped, trimmed) = owned.split_at(1);
    for partition in dropped {
        let end = meta(*partition, EntryKind::PartitionDropped, 0, 0);
        log.append(&[(end, &[])]).unwrap();
    }
    for partition in trimmed {
        let end = log.bounds(*partition).1;
        let moved = meta(*partition, EntryKind::StartOffset, end.0, 0);
        log.append(&[(moved, &[])]).unwrap();
    }
    settle(&mut log, &mut keeper);
    for _ in 0..1_000 {
        turn(&mut log, &mut keeper);
    }
    assert_eq!(foreign_files(&disk), [] as [String; 0]);
    // The removed names may come back with the power: the next start removes them again.
    disk.power_cut();
    let (mut log, report, mut keeper) = open(&disk, 1);
    assert!(report.damage.is_empty(), "{report}");
    for _ in 0..1_000 {
        turn(&mut log, &mut keeper);
    }
    assert_eq!(foreign_files(&disk), [] as [String; 0]);
    let (start, end) = log.bounds(trimmed[0]);
    assert_eq!(start, end);
    assert!(end > Offset::ZERO);
}

/// A log of two, with its largest segment of another log: one that this log's cleaner wrote, or
/// one as it was.
fn with_foreign(seed: u64, is_cold: bool) -> (World, SimDisk, String) {
    let mut world = World::new(seed);
    world.cleans = is_cold;
    world.work();
    world.migrate(&[1, 2]);
    let disk = world.disks[&1].clone();
    let image = disk.current_image();
    let files = foreign_files(&disk).into_iter().filter(|name| {
        let header = SegmentHeader::decode(&image[name]).unwrap();
        header.is_cold == is_cold
    });
    let largest = files.max_by_key(|name| image[name].len()).unwrap();
    (world, disk, largest)
}

#[test]
fn a_damaged_trailer_or_footer_of_another_logs_segment_costs_nothing() {
    for (seed, from_end, is_cold) in [
        (6, 4096, false),
        (7, 8192, false),
        (30, 4096, true),
        (31, 8192, true),
    ] {
        let (world, disk, file) = with_foreign(seed, is_cold);
        let length = disk.current_image()[&file].len();
        let at = length - from_end;
        disk.corrupt(&file, at..at + 64, |bytes| bytes.fill(0xee));
        let damaged = disk.current_image()[&file].clone();
        // Twice: what the first start makes of it is found by the second.
        for _ in 0..2 {
            let (mut log, report, mut keeper) = open(&disk, 1);
            assert!(report.damage.is_empty(), "{report}");
            for partition in world.partitions_of(1) {
                world.check_partition(&mut log, &mut keeper, partition);
            }
            log.close(&mut keeper).unwrap();
        }
        assert!(
            disk.current_image()[&file] == damaged,
            "it is not written to"
        );
    }
}

#[test]
fn what_a_lost_segment_of_another_log_held_is_named() {
    let (world, disk, file) = with_foreign(8, false);
    disk.corrupt(&file, 0..4096, |bytes| bytes.fill(0xee));
    let found = check(&disk.current_image(), LogId(1), CheckOptions::default()).unwrap();
    assert!(found.is_damaged());
    let (mut log, report, mut keeper) = open(&disk, 1);
    assert_eq!(report.damaged_headers, [file]);
    let lost = &report.damage[0].offsets;
    assert!(!lost.is_empty());
    for (partition, first, end) in lost {
        let read = read(&mut log, &mut keeper, *partition, *first);
        assert!(
            matches!(read, Read::Damaged { first: f, end: e } if f.0 == *first && e.0 == *end),
            "{read:?}"
        );
        let last = world.batches[partition].last().unwrap().1;
        assert_eq!(log.bounds(*partition).1.0, last, "the end stands");
    }
}

#[test]
fn without_a_checkpoint_nothing_is_taken_for_an_empty_log() {
    let (_, disk, _) = with_foreign(9, false);
    let files = disk.files().into_iter().map(|(name, _)| name);
    for own in files.filter(|name| Origin::of_file_name(name).is_none()) {
        let length = disk.current_image()[&own].len();
        if length > 0 {
            disk.corrupt(&own, 0..length, |bytes| bytes.fill(0));
        }
    }
    let opened = Log::open(disk.io(), LogId(1), small(), &mut Keeper::default());
    let refused = opened.unwrap_err().to_string();
    assert!(refused.contains("written by another log"), "{refused}");
    let found = check(&disk.current_image(), LogId(1), CheckOptions::default()).unwrap();
    assert!(found.is_damaged(), "the checker says so as well");
}

#[test]
fn a_file_that_is_missing_or_another_one_is_refused() {
    let mut world = World::new(10);
    world.work();
    let retired = world.retire();
    let (id, import, image) = world.split(&retired, &[1]).remove(0);
    let refused = |image: Image| {
        let disk = disk(1, image);
        let made = Log::import(disk.io(), LogId(id), small(), import.clone());
        made.unwrap_err().to_string()
    };
    let names: Vec<String> = image.keys().cloned().collect();
    let mut missing = image.clone();
    missing.remove(&names[0]);
    assert!(refused(missing).contains("is not there"));
    let mut exchanged = image.clone();
    exchanged.insert(names[0].clone(), image[&names[1]].clone());
    assert!(refused(exchanged).contains("of log 0"));
}
