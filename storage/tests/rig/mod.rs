//! A log on a simulated disk with a model beside it: what was appended, what was acknowledged,
//! and what every read must give. Shared by the tests of this folder.

pub mod files;

use std::collections::BTreeMap;
use std::time::Duration;

use ringlog_storage::fsck::{CheckOptions, LogCheck, check};
use ringlog_storage::io::Io;
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::random::Random;
use ringlog_storage::io::sim::{Faults, SimDisk, SimIo};
use ringlog_storage::log::{
    Entry, EntryKind, EntryMeta, FRAME_HEADROOM_BYTES, FrameEntry, Log, LogConfig, Machine, Read,
    RecoveryReport,
};
use ringlog_types::batch::{Builder, set_base_offset};
use ringlog_types::{LogId, Offset, PartitionId, Sequence, TopicNumber};

/// The log under test.
pub const LOG: LogId = LogId(0);

/// Stands on the log and keeps nothing.
#[derive(Debug, Default)]
pub struct Bystander;

impl Machine for Bystander {
    fn restore(&mut self, _checkpoint: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, _entry: &Entry) {}

    fn apply_damaged(&mut self, _meta: &EntryMeta) {}

    fn checkpoint(&self) -> Vec<u8> {
        b"state".to_vec()
    }
}

/// Small segments and blocks, so that little data makes many of both.
pub fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 128 << 10,
        pool_segments: 1,
        recycle_bytes: 256 << 10,
        target_block_bytes: 16 << 10,
        checkpoint_bytes: 160 << 10,
        cache_bytes: 64 << 10,
        cold_cache_bytes: 64 << 10,
        reserve_bytes: 0,
        index_rows: 64,
        ..LogConfig::default()
    }
}

/// A batch that was appended.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Its first offset.
    pub base: u64,
    /// Behind its last.
    pub end: u64,
    /// Its bytes, as they must come back.
    pub bytes: Vec<u8>,
    block: Sequence,
}

/// What is known of a partition.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Batches in offset order; those behind the acknowledged ones may be lost in a crash.
    pub batches: Vec<Appended>,
    start: u64,
}

/// A log with its model.
pub struct Rig {
    /// The disk.
    pub disk: SimDisk,
    /// What is known of each partition.
    pub models: BTreeMap<PartitionId, Model>,
    config: LogConfig,
    random: Random,
    acknowledged: Sequence,
}

/// A partition of the rig.
pub fn partition(number: u64) -> PartitionId {
    PartitionId::new(TopicNumber(1), u32::try_from(number).unwrap())
}

impl Rig {
    /// An empty disk under a seed.
    pub fn new(seed: u64, config: LogConfig) -> Rig {
        Rig {
            disk: SimDisk::new(seed, Faults::power_cuts_only()),
            models: BTreeMap::new(),
            config,
            random: Random::new(seed ^ 0x5eed),
            acknowledged: Sequence::NONE,
        }
    }

    /// A number below another.
    pub fn below(&mut self, below: u64) -> u64 {
        self.random.within(0..below)
    }

    /// Opens the log, or says why it cannot be.
    pub fn try_open(&mut self) -> Result<(Log<SimIo>, RecoveryReport), String> {
        let opened = Log::open(self.disk.io(), LOG, self.config.clone(), &mut Bystander);
        opened.map_err(|error| error.to_string())
    }

    /// Appends a batch to a partition.
    pub fn append(&mut self, log: &mut Log<SimIo>, partition: PartitionId, value_bytes: usize) {
        let records = 1 + self.random.within(0..3);
        let mut builder = Builder::new();
        for _ in 0..records {
            let value: Vec<u8> = (0..value_bytes)
                .map(|_| self.random.within(0..256) as u8)
                .collect();
            builder = builder.push(1_700_000_000_000, None, Some(&value), &[]);
        }
        let mut bytes = builder.build();
        let model = self.models.entry(partition).or_default();
        let base = model.batches.last().map_or(0, |last| last.end);
        let base = base.max(model.start);
        set_base_offset(&mut bytes, Offset(base));
        let meta = EntryMeta {
            partition,
            kind: EntryKind::Records,
            machine: 0,
            base_offset: Offset(base),
            count: u32::try_from(records).unwrap(),
            max_timestamp: 1_700_000_000_000,
        };
        let by_reference = bytes.len() > 6_000;
        let added = if by_reference {
            let end = FRAME_HEADROOM_BYTES + bytes.len();
            let mut frame = log.pool().alloc(end.next_multiple_of(4096)).unwrap();
            frame[FRAME_HEADROOM_BYTES..end].copy_from_slice(&bytes);
            let range = FRAME_HEADROOM_BYTES..end;
            log.append_frame(&[FrameEntry { meta, range }], frame, end)
        } else {
            log.append(&[(meta, &bytes)])
        };
        let Ok(block) = added else { return };
        model.batches.push(Appended {
            base,
            end: base + records,
            bytes,
            block,
        });
    }

    /// Moves a partition's start to somewhere within what is acknowledged.
    pub fn trim(&mut self, log: &mut Log<SimIo>, partition: PartitionId) {
        let (start, end) = log.bounds(partition);
        if start == end {
            return;
        }
        let start = start.0 + self.random.within(0..end.0 - start.0);
        self.trim_to(log, partition, start);
    }

    /// Moves a partition's start.
    pub fn trim_to(&mut self, log: &mut Log<SimIo>, partition: PartitionId, start: u64) {
        let meta = EntryMeta {
            partition,
            kind: EntryKind::StartOffset,
            machine: 0,
            base_offset: Offset(start),
            count: 0,
            max_timestamp: -1,
        };
        let _ = log.append(&[(meta, &[])]);
    }

    /// Moves a partition's start to its end.
    pub fn trim_to_end(&mut self, log: &mut Log<SimIo>, partition: PartitionId) {
        let meta = EntryMeta {
            partition,
            kind: EntryKind::StartOffset,
            machine: 0,
            base_offset: log.bounds(partition).1,
            count: 0,
            max_timestamp: -1,
        };
        let _ = log.append(&[(meta, &[])]);
    }

    /// The same rig on a disk with other content.
    #[must_use]
    pub fn on_image(mut self, image: Image) -> Rig {
        self.disk = SimDisk::from_image(1, Faults::power_cuts_only(), image);
        self
    }

    /// The simulated time.
    pub fn now(&self, log: &Log<SimIo>) -> Duration {
        log.io().monotonic()
    }

    /// Lets the log work for a while.
    pub fn turn(&mut self, log: &mut Log<SimIo>) {
        log.submit();
        log.io_mut().wait(Duration::from_millis(1));
        log.poll(&mut Bystander);
        self.acknowledged = self.acknowledged.max(log.durable());
    }

    /// Lets the log work until everything appended is acknowledged.
    pub fn settle(&mut self, log: &mut Log<SimIo>) {
        for _ in 0..10_000 {
            if log.durable() >= log.appended() || log.failure().is_some() {
                break;
            }
            self.turn(log);
        }
    }

    /// Works on an open log: appends of every size to several partitions, trims now and then.
    pub fn work(&mut self, log: &mut Log<SimIo>, steps: u64) {
        for _ in 0..steps {
            let partition = partition(self.random.within(0..5));
            match self.random.within(0..24) {
                0 => self.trim(log, partition),
                1..4 => self.append(log, partition, 6_000),
                _ => self.append(log, partition, 300),
            }
            if self.random.within(0..3) == 0 {
                self.turn(log);
            }
        }
    }

    /// After a crash: what was not acknowledged may be gone, what was must be there.
    pub fn forget_unacknowledged(&mut self, log: &Log<SimIo>) {
        for (partition, model) in &mut self.models {
            let (start, end) = log.bounds(*partition);
            let promised = model.batches.iter().rev();
            let mut promised = promised.filter(|batch| batch.block <= self.acknowledged);
            let promised = promised.next().map_or(0, |batch| batch.end);
            assert!(
                end.0 >= promised,
                "{partition}: {promised} promised, {end} there"
            );
            model.batches.retain(|batch| batch.end <= end.0);
            model.start = start.0;
        }
        self.acknowledged = log.durable();
    }

    /// The log as a checker without it sees it.
    pub fn check(&self) -> LogCheck {
        check_image(&self.disk.current_image())
    }

    /// Reads a partition from `offset` as far as one answer goes.
    pub fn read(&self, log: &mut Log<SimIo>, partition: PartitionId, offset: u64) -> Read {
        for _ in 0..1_000 {
            match log.read(partition, Offset(offset), 64 << 10) {
                Read::Pending(ticket) => {
                    while log.reads_done() <= ticket {
                        log.submit();
                        log.io_mut().wait(Duration::from_millis(10));
                        log.poll(&mut Bystander);
                    }
                }
                read => return read,
            }
        }
        Read::Failed("asked again and again, and never answered".to_owned())
    }

    /// Reads everything there is. Every offset comes back as it was appended or is called
    /// damaged: returns the damaged ones, with `Err` for what must never happen.
    pub fn read_all(&self, log: &mut Log<SimIo>) -> Result<Vec<(PartitionId, u64, u64)>, String> {
        let mut damaged = Vec::new();
        for (partition, model) in &self.models {
            let (start, end) = log.bounds(*partition);
            let whole = model.batches.last().map_or(model.start, |last| last.end);
            if end.0 < whole {
                let lost = format!("{partition}: ends at {end}, {whole} was promised");
                return Err(format!("silently lost: {lost}"));
            }
            let mut at = start.0;
            while at < end.0 {
                match self.read(log, *partition, at) {
                    Read::Batches(batches) if batches.is_empty() => {
                        return Err(format!("{partition}: nothing at {at} below {end}"));
                    }
                    Read::Batches(batches) => {
                        for bytes in batches {
                            let mut known = model.batches.iter();
                            let batch = known.find(|b| b.base <= at && at < b.end);
                            let batch =
                                batch.ok_or(format!("{partition}: {at} was not appended"))?;
                            if batch.bytes[..] != bytes[..] {
                                return Err(format!("{partition}: wrong bytes at {at}"));
                            }
                            at = batch.end;
                        }
                    }
                    Read::Damaged { first, end } => {
                        if first.0 != at && !damaged.is_empty() || end.0 <= at {
                            return Err(format!("{partition}: damage {first}..{end} told at {at}"));
                        }
                        damaged.push((*partition, at, end.0));
                        at = end.0;
                    }
                    other => return Err(format!("{partition}: {other:?} at {at}")),
                }
            }
        }
        Ok(damaged)
    }
}

/// Checks the log whose files an image holds.
pub fn check_image(image: &Image) -> LogCheck {
    check(image, LOG, CheckOptions::default()).unwrap()
}
