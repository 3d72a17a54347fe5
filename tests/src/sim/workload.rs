//! What a run asks of a log: appends of every shape, trims, drops and reads. What must come of
//! it stands in `model` and `check`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringlog_storage::io::Io;
use ringlog_storage::io::sim::SimDisk;
use ringlog_storage::log::{
    AppendError, EntryKind, EntryMeta, FRAME_HEADROOM_BYTES, FrameEntry, Log,
};
use ringlog_types::{Offset, PartitionId, Sequence};

use super::machine::Witness;
use super::model::{Batch, Effect, Model};
use super::random::Random;
use super::watch::Seen;

const PARTITIONS: u64 = 6;

/// The workload of a run, and what is known of it.
#[derive(Debug)]
pub struct Workload {
    /// The choices.
    pub random: Random,
    /// What must be true.
    pub model: Model,
    /// Groups appended so far.
    pub appended: u64,
    /// Groups acknowledged so far.
    pub acknowledged: u64,
    /// Reads compared.
    pub reads: u64,
    /// Print every step.
    pub trace: bool,
    /// Reads that named damage.
    pub damaged_reads: u64,
    /// A read may fail: the disk does, or the power goes.
    pub reads_may_fail: bool,
    /// The power may go at any operation.
    pub disk_may_be_gone: bool,
    /// What went to the disk.
    pub seen: Rc<RefCell<Seen>>,
    /// The disk, to ask what it corrupted; none that does when the engine is the real one.
    pub disk: Option<SimDisk>,
    next_partition: u64,
    partitions: Vec<u64>,
}

impl Workload {
    /// The workload of a seed.
    pub fn new(random: Random, trace: bool) -> Workload {
        Workload {
            random,
            model: Model::default(),
            appended: 0,
            acknowledged: 0,
            reads: 0,
            trace,
            damaged_reads: 0,
            reads_may_fail: false,
            disk_may_be_gone: false,
            seen: Rc::default(),
            disk: None,
            next_partition: PARTITIONS,
            partitions: (0..PARTITIONS).collect(),
        }
    }

    /// Prints what is done, if asked to.
    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("  {}", what());
        }
    }

    /// Notes what the disk has corrupted by now.
    pub fn note_corruption(&self) {
        if let Some(disk) = &self.disk {
            self.seen.borrow_mut().note(&disk.corrupted());
        }
    }

    /// Takes completions and notes what is acknowledged with them.
    pub fn poll<I: Io>(&mut self, log: &mut Log<I>, witness: &mut Witness) {
        log.poll(witness);
        self.acknowledged += self.model.acknowledge(log.durable());
    }

    /// Waits as the driver of a node does: also when nothing is in flight and the log has put
    /// something off.
    pub fn wait<I: Io>(&self, log: &mut Log<I>, time: Duration) {
        if log.io().in_flight() > 0 {
            log.io_mut().wait(time);
        } else if let Some(disk) = &self.disk {
            disk.advance(time);
        } else {
            std::thread::sleep(time);
        }
    }

    /// Reads somewhere within what is there.
    pub fn read_somewhere<I: Io>(
        &mut self,
        log: &mut Log<I>,
        witness: &mut Witness,
    ) -> Result<(), String> {
        let partitions: Vec<u64> = self.model.partitions.keys().copied().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let partition = partitions[self.random.below(partitions.len() as u64) as usize];
        let (start, end) = log.bounds(PartitionId(partition));
        if start == end {
            return Ok(());
        }
        let from = start.0 + self.random.below(end.0 - start.0);
        let bytes = self.random.below(100_000) as usize;
        self.check_read(log, witness, partition, from, bytes)
    }

    fn pick(&mut self) -> u64 {
        let at = self.random.below(self.partitions.len() as u64) as usize;
        self.partitions[at]
    }

    fn payload(&mut self, large: bool) -> Vec<u8> {
        let length = match self.random.below(10) {
            _ if large => 60_000 + self.random.below(40_000),
            0 => 40_000 + self.random.below(60_000),
            1..=3 => 4_000 + self.random.below(13_000),
            _ => 61 + self.random.below(600),
        };
        let mut word = self.random.bits();
        let words = (length as usize).div_ceil(8);
        let mut payload = Vec::with_capacity(words * 8);
        for _ in 0..words {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            payload.extend_from_slice(&word.to_be_bytes());
        }
        payload.truncate(length as usize);
        payload
    }

    /// Appends a group of batches, copied or by reference.
    pub fn append<I: Io>(&mut self, log: &mut Log<I>) -> Result<(), String> {
        let number = self.model.next_group();
        let by_reference = self.random.once_in(3);
        // One in 64 spans blocks: it is larger than a segment.
        let (batches, large) = match self.random.below(64) {
            0 => (9, true),
            1..=8 => (20, false),
            9..=31 => (3, false),
            _ => (1, false),
        };
        let mut effects = Vec::new();
        let mut metas = Vec::new();
        for _ in 0..batches {
            let partition = self.pick();
            let same = |effect: &Effect| match effect {
                Effect::Batch(batch) if batch.partition == partition => Some(batch.end()),
                _ => None,
            };
            let base = effects.iter().rev().find_map(same);
            let base = base.unwrap_or_else(|| self.model.pending_end(partition));
            let count = 1 + self.random.below(50) as u32;
            let payload = self.payload(large);
            metas.push(EntryMeta {
                partition: PartitionId(partition),
                kind: EntryKind::Records,
                machine: 0,
                base_offset: Offset(base),
                count,
                max_timestamp: number as i64,
            });
            effects.push(Effect::Batch(Batch::new(partition, base, count, payload)));
        }
        metas.push(group_meta(number));
        let payloads = effects.iter().map(|effect| match effect {
            Effect::Batch(batch) => &*batch.payload,
            _ => &[],
        });
        let payloads: Vec<&[u8]> = payloads.chain([&b"group"[..]]).collect();
        let result = if by_reference {
            append_by_reference(log, &metas, &payloads)
        } else {
            let entries: Vec<(EntryMeta, &[u8])> = metas.into_iter().zip(payloads).collect();
            log.append(&entries)
        };
        self.appended(number, effects, result)
    }

    /// Moves a partition's start, by retention or anywhere.
    pub fn trim<I: Io>(&mut self, log: &mut Log<I>) -> Result<(), String> {
        let partition = self.pick();
        let (start, end) = log.bounds(PartitionId(partition));
        let offset = if self.random.once_in(2) {
            match log.retention_start(PartitionId(partition), Some(100_000), None) {
                Ok(offset) => offset,
                // The index must be read first, which polling does.
                Err(_) => return Ok(()),
            }
        } else {
            Offset(start.0 + self.random.below(end.0 - start.0 + 1))
        };
        let gone =
            |effect: &Effect| matches!(effect, Effect::Dropped { partition: p } if *p == partition);
        if self
            .model
            .waiting()
            .iter()
            .any(|group| group.effects.iter().any(gone))
        {
            return Ok(());
        }
        let number = self.model.next_group();
        let meta = EntryMeta {
            partition: PartitionId(partition),
            kind: EntryKind::StartOffset,
            machine: 0,
            base_offset: offset,
            count: 0,
            max_timestamp: -1,
        };
        let result = log.append(&[(meta, b"".as_slice()), (group_meta(number), b"".as_slice())]);
        self.appended(
            number,
            vec![Effect::Start {
                partition,
                offset: offset.0,
            }],
            result,
        )
    }

    /// Drops a partition; another takes its place.
    pub fn drop_one<I: Io>(&mut self, log: &mut Log<I>) -> Result<(), String> {
        let at = self.random.below(self.partitions.len() as u64) as usize;
        let partition = self.partitions[at];
        self.partitions[at] = self.next_partition;
        self.next_partition += 1;
        let number = self.model.next_group();
        let meta = EntryMeta {
            partition: PartitionId(partition),
            kind: EntryKind::PartitionDropped,
            machine: 0,
            base_offset: Offset(0),
            count: 0,
            max_timestamp: -1,
        };
        let result = log.append(&[(meta, b"".as_slice()), (group_meta(number), b"".as_slice())]);
        self.appended(number, vec![Effect::Dropped { partition }], result)
    }

    fn appended(
        &mut self,
        number: u64,
        effects: Vec<Effect>,
        result: Result<Sequence, AppendError>,
    ) -> Result<(), String> {
        match result {
            Ok(sequence) => {
                self.trace(|| {
                    format!(
                        "group {number}: {} effects in block {sequence}",
                        effects.len()
                    )
                });
                self.appended += 1;
                self.model.append(sequence, effects);
                Ok(())
            }
            Err(AppendError::Busy | AppendError::Full { .. } | AppendError::Closed { .. }) => {
                Ok(())
            }
            Err(error) => Err(format!("append was refused: {error}")),
        }
    }
}

fn group_meta(number: u64) -> EntryMeta {
    EntryMeta {
        partition: PartitionId::NONE,
        kind: EntryKind::Machine,
        machine: 1,
        base_offset: Offset(number),
        count: 1,
        max_timestamp: -1,
    }
}

fn append_by_reference<I: Io>(
    log: &mut Log<I>,
    metas: &[EntryMeta],
    payloads: &[&[u8]],
) -> Result<Sequence, AppendError> {
    let bytes: usize = payloads.iter().map(|payload| payload.len() + 30).sum();
    let Some(mut frame) = log.pool().alloc(FRAME_HEADROOM_BYTES + bytes) else {
        return Err(AppendError::Busy);
    };
    let mut at = FRAME_HEADROOM_BYTES;
    let mut entries = Vec::new();
    for (meta, payload) in metas.iter().zip(payloads) {
        // A request's own bytes lie between the batches, unreferenced.
        frame[at..at + 30].fill(0xee);
        at += 30;
        frame[at..at + payload.len()].copy_from_slice(payload);
        entries.push(FrameEntry {
            meta: *meta,
            range: at..at + payload.len(),
        });
        at += payload.len();
    }
    log.append_frame(&entries, frame, at)
}
