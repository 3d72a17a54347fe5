//! Lives of a log with compacted partitions on a simulated disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ringlog_storage::io::Io;
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::sim::{SimDisk, SimIo};
use ringlog_storage::log::clean::{CleanTask, Lasting};
use ringlog_storage::log::{
    AppendError, Entry, EntryKind, EntryMeta, Log, LogConfig, Machine, OpenError, Read,
};
use ringlog_types::batch::{Builder, Compression, compress, set_base_offset};
use ringlog_types::{LogId, Offset, PartitionId};

use super::check::{compare, open};
use super::model::{Act, Model, Record};
use super::rewriter::{Batches, CompactionMistake};
use crate::sim::life::{Failure, Settings, failure_of_panic, random_config};
use crate::sim::random::Random;

const PARTITIONS: u64 = 3;
/// Keys that come again and again, and keys that come seldom: a record of these is often the last
/// of its key where a pass meets it.
const HOT_KEYS: u64 = 6;
const COLD_KEYS: u64 = 300;
/// Reads that may fail one after the other before it counts.
const READ_ATTEMPTS: u32 = 20;
/// Waits for a read before it counts as one that never ends.
const PATIENCE: u32 = 10_000;

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compacted {
    /// Times the log was opened.
    pub starts: u64,
    /// Records appended.
    pub appended: u64,
    /// Batches and trims acknowledged.
    pub acknowledged: u64,
    /// Passes of compaction that came to their end.
    pub passes: u64,
    /// Batches of which such a pass left nothing, or not all.
    pub compacted_batches: u64,
    /// Runs of the cleaner, of compaction or not, that came to their switch.
    pub switches: u64,
    /// Partitions read through.
    pub reads: u64,
    /// Records that were gone, as they may be, summed over these.
    pub gone: u64,
}

impl Compacted {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Compacted) {
        self.starts += other.starts;
        self.appended += other.appended;
        self.acknowledged += other.acknowledged;
        self.passes += other.passes;
        self.compacted_batches += other.compacted_batches;
        self.switches += other.switches;
        self.reads += other.reads;
        self.gone += other.gone;
    }
}

/// Runs a seed. The disk of the settings must not lie, as for the machines.
///
/// # Errors
/// The first promise found broken, or the assertion that did not hold.
pub fn run_compaction(
    seed: u64,
    settings: &Settings,
    mistake: Option<CompactionMistake>,
) -> Result<Compacted, Failure> {
    let lived = catch_unwind(AssertUnwindSafe(|| lives(seed, settings, mistake)));
    lived.unwrap_or_else(|panic| Err(failure_of_panic(seed, &*panic)))
}

/// Counts what was logged.
#[derive(Debug, Default)]
struct Counter(u64);

impl Machine for Counter {
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let bytes = checkpoint.try_into();
        self.0 = u64::from_le_bytes(bytes.map_err(|_| "no counter in the checkpoint")?);
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) {
        let counts = matches!(entry.meta.kind, EntryKind::Records | EntryKind::StartOffset);
        self.0 += u64::from(counts);
    }

    fn apply_damaged(&mut self, _: &EntryMeta) {}

    fn checkpoint(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
}

struct Run<'a> {
    settings: &'a Settings,
    mistake: Option<CompactionMistake>,
    random: Random,
    config: LogConfig,
    disk: SimDisk,
    model: Model,
    /// The helper plays what it works on in place, now at once, now later.
    task: Option<CleanTask>,
    /// The clock by which tombstones age.
    now_ms: i64,
    may_fail: bool,
    done: Compacted,
}

fn lives(
    seed: u64,
    settings: &Settings,
    mistake: Option<CompactionMistake>,
) -> Result<Compacted, Failure> {
    let mut random = Random::new(seed);
    let mut config = random_config(&mut random, settings.bug);
    config.clean_bytes_per_second = [1 << 30, 8 << 30][random.below(2) as usize];
    config.clean_live_share = [0.5, 0.9][random.below(2) as usize];
    config.checkpoint_bytes = (128 << 10) + random.below(512 << 10);
    let disk = SimDisk::from_image(random.bits(), settings.faults.clone(), Image::new());
    let mut run = Run {
        settings,
        mistake,
        random,
        config,
        disk,
        model: Model::default(),
        task: None,
        now_ms: 1_000_000,
        may_fail: false,
        done: Compacted::default(),
    };
    for life in 0..settings.lives {
        run.live(life)
            .map_err(|what| Failure { seed, life, what })?;
    }
    Ok(run.done)
}

impl Run<'_> {
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.settings.trace {
            println!("  {}", what());
        }
    }

    fn live(&mut self, life: u32) -> Result<(), String> {
        self.trace(|| format!("life {life}"));
        let cut_armed = life > 0 && self.random.once_in(3);
        if cut_armed {
            // Later than in other runs: a pass is to be under way.
            let operations = 1 + self.random.below(600);
            self.disk.power_cut_after(operations);
        }
        self.may_fail = self.settings.may_fail() || cut_armed;
        self.task = None;
        let mut counter = Counter::default();
        let opened = Log::open(self.disk.io(), LogId(0), self.config.clone(), &mut counter);
        let (mut log, report) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Io { .. } | OpenError::NotWritable { .. }) if self.may_fail => {
                self.end();
                return Ok(());
            }
            Err(error) => return Err(format!("opening failed without a fault: {error}")),
        };
        self.trace(|| format!("opened: {report}"));
        if !report.damage.is_empty() || !report.damaged_headers.is_empty() {
            return Err(format!("nothing was corrupted: {report}"));
        }
        self.done.starts += 1;
        let kept = usize::try_from(counter.0).map_err(|error| error.to_string())?;
        self.model.keep(kept)?;
        for partition in 0..PARTITIONS {
            let (start, end) = log.bounds(PartitionId(partition));
            let state = self.model.partitions.get(&partition);
            let expected = state.map_or((0, 0), |state| (state.start, state.end));
            if (start.0, end.0) != expected {
                return Err(format!(
                    "partition {partition}: {start}..{end}, expected {expected:?}"
                ));
            }
            self.read_through(&mut log, &mut counter, partition)?;
        }
        let steps = 1 + self.random.below(u64::from(self.settings.steps));
        for _ in 0..steps {
            self.step(&mut log, &mut counter)?;
        }
        let stats = log.stats();
        if stats.unreadable_blocks > 0 {
            let unreadable = stats.unreadable_blocks;
            return Err(format!(
                "{unreadable} blocks are called damaged on a disk that corrupts nothing"
            ));
        }
        self.done.passes += stats.compaction_passes;
        self.done.compacted_batches += stats.compacted_batches;
        self.done.switches += stats.clean_runs;
        if self.random.once_in(4) && log.failure().is_none() {
            self.trace(|| "close".to_owned());
            match log.close(&mut counter) {
                Ok(()) => self.done.acknowledged += self.model.acknowledge(u64::MAX),
                Err(cause) => self.trace(|| format!("close failed: {cause}")),
            }
        } else {
            drop(log);
        }
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        if self.random.once_in(3) {
            self.trace(|| "kill".to_owned());
            self.disk.kill();
        } else {
            self.trace(|| "power cut".to_owned());
            self.disk.power_cut();
        }
    }

    fn step(&mut self, log: &mut Log<SimIo>, counter: &mut Counter) -> Result<(), String> {
        self.now_ms += self.random.below(100).cast_signed();
        match self.random.below(40) {
            0..=25 => self.append(log)?,
            26..=31 => {
                log.submit();
                log.io_mut().wait(Duration::from_millis(2));
            }
            32 | 33 => self.compact(log),
            34 | 35 => {
                for _ in 0..self.random.below(30) {
                    log.submit();
                    log.io_mut().wait(Duration::from_millis(1));
                    self.poll(log, counter);
                }
            }
            36 => {
                let partition = self.random.below(PARTITIONS);
                self.read_through(log, counter, partition)?;
            }
            37 if self.random.once_in(6) => self.trim(log)?,
            _ => log.io_mut().wait(Duration::from_millis(20)),
        }
        self.poll(log, counter);
        Ok(())
    }

    fn poll(&mut self, log: &mut Log<SimIo>, counter: &mut Counter) {
        log.poll(counter);
        self.done.acknowledged += self.model.acknowledge(log.durable().0);
        if self.task.is_none() {
            self.task = log.take_clean_task();
        }
        if self.random.once_in(2)
            && let Some(task) = self.task.take()
        {
            log.finish_clean_task(task.run());
        }
    }

    fn append(&mut self, log: &mut Log<SimIo>) -> Result<(), String> {
        let partition = self.random.below(PARTITIONS);
        let base = self.model.next_offset(partition);
        let codec = [Compression::None, Compression::Lz4][self.random.below(2) as usize];
        let mut builder = Builder::new();
        let mut records = Vec::new();
        for offset in base..=base + self.random.below(8) {
            let keys = [HOT_KEYS, COLD_KEYS][usize::from(self.random.once_in(3))];
            let key = format!("key-{}", self.random.below(keys)).into_bytes();
            let length = 100 + self.random.below(3_000);
            let mut word = self.random.bits();
            // Every value is another, and none gets shorter by compression.
            let value = std::iter::repeat_with(|| {
                word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                word.to_be_bytes()[0]
            });
            let value: Vec<u8> = value.take(length as usize).collect();
            let value = (!self.random.once_in(6)).then_some(value);
            builder = builder.push(self.now_ms, Some(&key), value.as_deref(), &[]);
            records.push(Record {
                offset,
                key,
                value,
                timestamp_ms: self.now_ms,
            });
        }
        let mut bytes = builder.build_compressed(codec, |plain| {
            compress(codec, plain).expect("a batch is far below every limit")
        });
        set_base_offset(&mut bytes, Offset(base));
        let meta = EntryMeta {
            partition: PartitionId(partition),
            kind: EntryKind::Records,
            machine: 0,
            base_offset: Offset(base),
            count: u32::try_from(records.len()).expect("a batch has few records"),
            max_timestamp: self.now_ms,
        };
        let count = records.len() as u64;
        let act = Act::Batch { partition, records };
        if self.log(log, &meta, &bytes, act)? {
            self.done.appended += count;
        }
        Ok(())
    }

    fn trim(&mut self, log: &mut Log<SimIo>) -> Result<(), String> {
        let partition = self.random.below(PARTITIONS);
        let (start, end) = log.bounds(PartitionId(partition));
        let offset = start.0 + self.random.below((end.0 - start.0) / 2 + 1);
        let meta = EntryMeta {
            partition: PartitionId(partition),
            kind: EntryKind::StartOffset,
            machine: 0,
            base_offset: Offset(offset),
            count: 0,
            max_timestamp: -1,
        };
        let act = Act::Start { partition, offset };
        self.log(log, &meta, &[], act).map(|_| ())
    }

    /// Whether it was taken.
    fn log(
        &mut self,
        log: &mut Log<SimIo>,
        meta: &EntryMeta,
        bytes: &[u8],
        act: Act,
    ) -> Result<bool, String> {
        match log.append(&[(*meta, bytes)]) {
            Ok(sequence) => {
                self.model.push(sequence.0, act);
                Ok(true)
            }
            Err(AppendError::Busy | AppendError::Full { .. } | AppendError::Closed { .. }) => {
                Ok(false)
            }
            Err(error) => Err(format!("append was refused: {error}")),
        }
    }

    /// Begins a pass, or now and then a run of the cleaner.
    fn compact(&mut self, log: &mut Log<SimIo>) {
        if self.random.once_in(4) {
            log.plan_cleaning(&|_| Lasting::Long);
            return;
        }
        let partition = self.random.below(PARTITIONS);
        let Ok(found) = log.compactable(PartitionId(partition), i64::MAX) else {
            return; // Index pages are on their way.
        };
        let most_keys = [HOT_KEYS as usize, 1 << 20][usize::from(!self.random.once_in(4))];
        let rewriter = Batches::new(self.now_ms, most_keys, self.mistake);
        if log.compact(PartitionId(partition), &found, Box::new(rewriter)) {
            self.trace(|| format!("compacting partition {partition}: {found:?}"));
            self.model.pass_begins(partition, self.now_ms);
        }
    }

    /// Reads a partition through, from its start to what is its end now, and compares.
    fn read_through(
        &mut self,
        log: &mut Log<SimIo>,
        counter: &mut Counter,
        partition: u64,
    ) -> Result<(), String> {
        let id = PartitionId(partition);
        let end = log.bounds(id).1.0;
        let (mut at, mut records, mut failures, mut patience) = (0, Vec::new(), 0, PATIENCE);
        loop {
            let start = log.bounds(id).0.0;
            at = at.max(start);
            if at >= end {
                break;
            }
            match log.read(id, Offset(at), 100_000) {
                Read::Batches(batches) if !batches.is_empty() => {
                    for batch in batches {
                        let (found, next) = open(&batch)
                            .map_err(|what| format!("partition {partition} at {at}: {what}"))?;
                        if next <= at {
                            return Err(format!("partition {partition}: {next} comes after {at}"));
                        }
                        records.extend(found);
                        at = next;
                    }
                }
                Read::Pending(ticket) => {
                    while log.reads_done() <= ticket {
                        log.submit();
                        log.io_mut().wait(Duration::from_millis(10));
                        self.poll(log, counter);
                        patience -= 1;
                        if patience == 0 {
                            return Err(format!(
                                "a read of partition {partition} at {at} never ends"
                            ));
                        }
                    }
                }
                Read::Failed(_) if self.may_fail => {
                    failures += 1;
                    if failures > READ_ATTEMPTS {
                        // The disk is gone; the next life looks again.
                        return Ok(());
                    }
                    log.io_mut().wait(Duration::from_millis(1));
                }
                other => return Err(format!("reading partition {partition} at {at}: {other:?}")),
            }
        }
        let start = log.bounds(id).0.0;
        self.done.gone += compare(&self.model, partition, (start, end), &records)?;
        self.done.reads += 1;
        Ok(())
    }
}
