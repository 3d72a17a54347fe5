//! Log compaction on a simulated disk: readers meet the last record of each key at its own offset,
//! gaps are no damage, and all that after restarts and power cuts at any operation.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use std::collections::BTreeMap;

use ringlog_storage::io::sim::SimIo;
use ringlog_storage::log::clean::{Compactable, Fate, Rewriter};
use ringlog_storage::log::{EntryKind, EntryMeta, Log, LogConfig, Read};
use ringlog_types::batch::compact::{Compaction, CompactionRules, Rewritten};
use ringlog_types::batch::{
    Builder, Compression, HEADER_BYTES, compress, decompress, records, set_base_offset,
    validate_compacted,
};
use ringlog_types::{Offset, PartitionId};

use rig::{Bystander, Rig, small};

const LIMIT: usize = 1 << 20;
const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[derive(Debug)]
struct Batches(Compaction);

impl Rewriter for Batches {
    fn note(&mut self, batch: &[u8]) -> bool {
        self.0.note(batch)
    }

    fn rewrite(&self, batch: &[u8]) -> Fate {
        match self.0.rewrite(batch) {
            Rewritten::Same => Fate::Same,
            Rewritten::Nothing => Fate::Nothing,
            Rewritten::Batch(bytes) => Fate::Batch(bytes),
        }
    }
}

/// Offset and value of the last record of each key.
type Latest = BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>;

struct Compacted {
    rig: Rig,
    partition: PartitionId,
    latest: Latest,
    end: u64,
    most_keys: usize,
}

impl Compacted {
    fn new(seed: u64) -> Compacted {
        let config = LogConfig {
            pool_segments: 2,
            clean_bytes_per_second: 1 << 30,
            ..small()
        };
        Compacted {
            rig: Rig::new(seed, config),
            partition: rig::partition(100),
            latest: Latest::new(),
            end: 0,
            most_keys: 1 << 20,
        }
    }

    fn append(&mut self, log: &mut Log<SimIo>) {
        let codec = CODECS[self.rig.below(5) as usize];
        let count = 1 + self.rig.below(4);
        let mut builder = Builder::new();
        for number in 0..count {
            let key = vec![b'k', self.rig.below(30) as u8];
            let is_tombstone = self.rig.below(12) == 0;
            let value = vec![self.rig.below(256) as u8; 300];
            let value = (!is_tombstone).then_some(value);
            builder = builder.push(1_000, Some(&key), value.as_deref(), &[]);
            self.latest.insert(key, (self.end + number, value));
        }
        let mut bytes = builder.build_compressed(codec, |plain| compress(codec, plain).unwrap());
        set_base_offset(&mut bytes, Offset(self.end));
        let meta = EntryMeta {
            partition: self.partition,
            kind: EntryKind::Records,
            machine: 0,
            base_offset: Offset(self.end),
            count: u32::try_from(count).unwrap(),
            max_timestamp: 1_000,
        };
        log.append(&[(meta, &bytes)]).unwrap();
        self.end += count;
    }

    /// Appends much, among records of other partitions.
    fn fill(&mut self, log: &mut Log<SimIo>) {
        for _ in 0..400 {
            self.append(log);
            if self.rig.below(4) == 0 {
                let other = rig::partition(self.rig.below(3));
                self.rig.append(log, other, 300);
            }
            self.rig.turn(log);
        }
        self.rig.settle(log);
    }

    /// What can be compacted, when all that has to be read for it was.
    fn compactable(&mut self, log: &mut Log<SimIo>, newest_ms: i64) -> Compactable {
        for _ in 0..2_000 {
            match log.compactable(self.partition, newest_ms) {
                Ok(found) => return found,
                Err(_) => self.rig.turn(log),
            }
        }
        panic!("index pages never come");
    }

    fn begin(&mut self, log: &mut Log<SimIo>, now_ms: i64) -> bool {
        let found = self.compactable(log, i64::MAX);
        let compaction = Compaction::new(CompactionRules {
            now_ms,
            delete_retention_ms: 1_000,
            most_keys: self.most_keys,
            opened_bytes: LIMIT,
            seed: 3,
        });
        log.compact(self.partition, &found, Box::new(Batches(compaction)))
    }

    fn turn(&mut self, log: &mut Log<SimIo>) {
        if let Some(task) = log.take_clean_task() {
            log.finish_clean_task(task.run());
        }
        self.rig.turn(log);
    }

    fn finish(&mut self, log: &mut Log<SimIo>) {
        for _ in 0..20_000 {
            if !log.stats().cleaning {
                return;
            }
            self.turn(log);
        }
        panic!("a pass never ends");
    }

    /// All records that a reader meets from the beginning: offset, key, value.
    fn read(&self, log: &mut Log<SimIo>) -> Vec<(u64, Vec<u8>, Option<Vec<u8>>)> {
        let (start, end) = log.bounds(self.partition);
        assert_eq!(end.0, self.end, "the end never moves");
        let (mut at, mut found) = (start.0, Vec::new());
        while at < end.0 {
            let Read::Batches(batches) = self.rig.read(log, self.partition, at) else {
                panic!("nothing can be read at {at}");
            };
            assert!(!batches.is_empty(), "nothing at {at}, before {end}");
            for batch in batches {
                let header = validate_compacted(&batch).unwrap();
                let base = header.base_offset.cast_unsigned();
                assert!(
                    base + u64::from(header.offsets()) > at,
                    "a reader goes forward"
                );
                let codec = header.compression().unwrap();
                let plain = decompress(codec, &batch[HEADER_BYTES..], LIMIT).unwrap();
                for record in records(&plain) {
                    let record = record.unwrap();
                    let offset = base + u64::try_from(record.offset_delta).unwrap();
                    let value = record.value.map(<[u8]>::to_vec);
                    found.push((offset, record.key.unwrap().to_vec(), value));
                }
                at = base + u64::from(header.offsets());
            }
        }
        found
    }

    /// The last record of each key is there, at its offset. Returns how many records are.
    fn check(&self, log: &mut Log<SimIo>, context: &str) -> usize {
        let found = self.read(log);
        let mut latest = Latest::new();
        for (offset, key, value) in &found {
            let before = latest.insert(key.clone(), (*offset, value.clone()));
            assert!(before.is_none_or(|before| before.0 < *offset), "{context}");
        }
        // A tombstone may be gone, with all it stood for.
        for (key, (offset, value)) in &self.latest {
            match latest.remove(key) {
                Some(there) => assert_eq!(there, (*offset, value.clone()), "{context}"),
                None => assert_eq!(*value, None, "{context}: a value is lost"),
            }
        }
        assert_eq!(latest, Latest::new(), "{context}");
        found.len()
    }

    fn reopen(&mut self, context: &str) -> Log<SimIo> {
        let check = self.rig.check();
        let findings: Vec<String> = check.findings.iter().map(ToString::to_string).collect();
        assert!(!check.is_damaged(), "{context}:\n{}", findings.join("\n"));
        let (log, report) = self.rig.try_open().expect(context);
        assert!(report.damage.is_empty(), "{context}: {report}");
        log
    }
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset_in_this_life_and_the_next() {
    for seed in 0..6 {
        let mut test = Compacted::new(seed);
        let (mut log, _) = test.rig.try_open().unwrap();
        test.fill(&mut log);
        let before = test.check(&mut log, "before");
        for pass in 0..3 {
            let context = format!("seed {seed}, pass {pass}");
            assert!(test.begin(&mut log, 2_000 + pass * 5_000), "{context}");
            test.finish(&mut log);
            let after = test.check(&mut log, &context);
            assert!(
                after < before / 2 + 400,
                "{context}: {before} to {after} records"
            );
            assert!(log.stats().compacted_batches > 0, "{context}");
            test.fill(&mut log);
            test.rig.disk.power_cut();
            drop(log);
            log = test.reopen(&context);
            test.check(&mut log, &context);
        }
        log.close(&mut Bystander).unwrap();
        let mut log = test.reopen("closed");
        test.check(&mut log, "closed");
    }
}

#[test]
fn without_room_for_all_keys_a_pass_covers_what_it_can() {
    let mut test = Compacted::new(9);
    test.most_keys = 10;
    let (mut log, _) = test.rig.try_open().unwrap();
    test.fill(&mut log);
    for _ in 0..3 {
        let from = test.compactable(&mut log, i64::MAX).from;
        test.begin(&mut log, 2_000);
        test.finish(&mut log);
        test.check(&mut log, "ten keys");
        assert!(test.compactable(&mut log, i64::MAX).from >= from);
    }
}

#[test]
fn what_is_younger_than_the_lag_is_not_compactable() {
    let mut test = Compacted::new(4);
    let (mut log, _) = test.rig.try_open().unwrap();
    test.fill(&mut log);
    let found = test.compactable(&mut log, 999);
    assert_eq!((found.dirty_bytes, found.from), (0, found.end));
    let found = test.compactable(&mut log, 1_000);
    assert!(found.dirty_bytes > 0 && found.end.0 < test.end);
}

#[test]
fn a_power_cut_at_any_operation_of_a_pass_loses_nothing() {
    let mut operations = 1;
    loop {
        let context = format!("the power goes after {operations} operations");
        let mut test = Compacted::new(1);
        let (mut log, _) = test.rig.try_open().unwrap();
        test.fill(&mut log);
        assert!(test.begin(&mut log, 2_000));
        test.rig.disk.power_cut_after(operations);
        for _ in 0..400 {
            test.turn(&mut log);
        }
        let is_over = log.stats().compaction_passes > 0;
        test.rig.disk.power_cut();
        drop(log);
        let mut log = test.reopen(&context);
        test.check(&mut log, &context);
        if is_over {
            break;
        }
        operations += 2;
        assert!(operations < 1_000, "{context}: a pass never ends");
    }
}
