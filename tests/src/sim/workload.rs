//! What a run asks of a log and what it checks: appends of every shape, trims, drops and reads
//! against the model.

use std::time::Duration;

use ringlog_storage::buffer::Buf;
use ringlog_storage::io::Io;
use ringlog_storage::log::{
    AppendError, EntryKind, EntryMeta, FRAME_HEADROOM_BYTES, FrameEntry, Log, Read,
};
use ringlog_types::{Offset, PartitionId, Sequence};

use super::machine::Witness;
use super::model::{Effect, Group, Model};
use super::random::Random;

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
    /// A read may fail: the disk does, or the power goes.
    pub reads_may_fail: bool,
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
            reads_may_fail: false,
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

    /// Takes completions and notes what is acknowledged with them.
    pub fn poll<I: Io>(&mut self, log: &mut Log<I>, witness: &mut Witness) {
        log.poll(witness);
        let before = self.model.acknowledged;
        self.model.acknowledge(log.durable());
        self.acknowledged += (self.model.acknowledged - before) as u64;
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

    /// After a start: nothing acknowledged is lost, groups are whole, order is kept.
    pub fn check_start<I: Io>(
        &mut self,
        log: &mut Log<I>,
        witness: &mut Witness,
    ) -> Result<(), String> {
        if let Some((expected, found)) = witness.out_of_order {
            return Err(format!(
                "group {found} was applied where {expected} was due"
            ));
        }
        let acknowledged = self.model.settled + self.model.acknowledged as u64;
        let appended = self.model.next_group() - 1;
        if witness.last_group < acknowledged {
            let found = witness.last_group;
            return Err(format!(
                "group {acknowledged} was acknowledged, {found} is the last found"
            ));
        }
        if witness.last_group > appended {
            let found = witness.last_group;
            return Err(format!("group {found} was found, {appended} were appended"));
        }
        self.model.settle(witness.last_group);
        let expected = self.model.witness();
        if *witness != expected {
            return Err(format!(
                "the machine holds {witness:?}, expected {expected:?}"
            ));
        }
        for (partition, state) in &self.model.partitions {
            let bounds = log.bounds(PartitionId(*partition));
            if bounds != (Offset(state.start), Offset(state.end)) {
                let (start, end) = (state.start, state.end);
                return Err(format!(
                    "partition {partition}: {bounds:?}, expected {start}..{end}"
                ));
            }
        }
        for partition in self.model.partitions.keys().copied().collect::<Vec<_>>() {
            let from = self.model.partitions[&partition].start;
            self.check_read(log, witness, partition, from, usize::MAX)?;
        }
        Ok(())
    }

    fn pick(&mut self) -> u64 {
        let at = self.random.below(self.partitions.len() as u64) as usize;
        self.partitions[at]
    }

    fn payload(&mut self) -> Vec<u8> {
        let length = match self.random.below(10) {
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
        let batches = match self.random.below(8) {
            0 => 20,
            1..=3 => 3,
            _ => 1,
        };
        let mut effects = Vec::new();
        let mut metas = Vec::new();
        for _ in 0..batches {
            let partition = self.pick();
            let same = |effect: &&Effect| match effect {
                Effect::Batch { partition: p, .. } => *p == partition,
                _ => false,
            };
            let base = match effects.iter().rev().find(same) {
                Some(Effect::Batch { base, count, .. }) => base + u64::from(*count),
                _ => self.model.pending_end(partition),
            };
            let count = 1 + self.random.below(50) as u32;
            let payload = self.payload();
            metas.push(EntryMeta {
                partition: PartitionId(partition),
                kind: EntryKind::Records,
                machine: 0,
                base_offset: Offset(base),
                count,
                max_timestamp: number as i64,
            });
            effects.push(Effect::Batch {
                partition,
                base,
                count,
                payload,
            });
        }
        metas.push(group_meta(number));
        let payloads = effects.iter().map(|effect| match effect {
            Effect::Batch { payload, .. } => payload.as_slice(),
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
            log.retention_start(PartitionId(partition), Some(100_000), None)
        } else {
            Offset(start.0 + self.random.below(end.0 - start.0 + 1))
        };
        let gone =
            |effect: &Effect| matches!(effect, Effect::Dropped { partition: p } if *p == partition);
        if self
            .model
            .waiting
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
                self.model.waiting.push(Group {
                    number,
                    sequence,
                    effects,
                });
                Ok(())
            }
            Err(AppendError::Busy | AppendError::Full { .. } | AppendError::Closed { .. }) => {
                Ok(())
            }
            Err(error) => Err(format!("append was refused: {error}")),
        }
    }

    /// Reads from `from` to the end of what is durable (or `max_bytes`, once) and compares.
    pub fn check_read<I: Io>(
        &mut self,
        log: &mut Log<I>,
        witness: &mut Witness,
        partition: u64,
        from: u64,
        max_bytes: usize,
    ) -> Result<(), String> {
        let mut at = from;
        let mut patience = 10_000;
        loop {
            // A trim or drop may have been applied since the last round.
            let (start, end) = log.bounds(PartitionId(partition));
            at = at.max(start.0);
            if at >= end.0 {
                return Ok(());
            }
            match log.read(PartitionId(partition), Offset(at), max_bytes.min(200_000)) {
                Read::Batches(found) => {
                    self.reads += 1;
                    at = self.compare(partition, at, &found)?;
                    if max_bytes != usize::MAX {
                        return Ok(());
                    }
                }
                Read::Pending(ticket) => {
                    while log.reads_done() <= ticket {
                        log.submit();
                        log.io_mut().wait(Duration::from_millis(10));
                        self.poll(log, witness);
                        patience -= 1;
                        if patience == 0 {
                            return Err(format!("a read of partition {partition} never ends"));
                        }
                    }
                }
                Read::Failed(_) if self.reads_may_fail => return Ok(()),
                other => return Err(format!("reading partition {partition} at {at}: {other:?}")),
            }
        }
    }

    /// The batches must be the appended ones, whole, from the one that holds `at`.
    fn compare(&self, partition: u64, at: u64, found: &[Buf]) -> Result<u64, String> {
        let settled = self.model.partitions.get(&partition);
        let settled = settled.into_iter().flat_map(|state| state.batches.iter());
        let settled = settled.map(|(base, count, bytes)| (*base, *count, bytes.as_slice()));
        let waiting = self.model.waiting.iter().flat_map(|group| &group.effects);
        let waiting = waiting.filter_map(|effect| match effect {
            Effect::Batch {
                partition: p,
                base,
                count,
                payload,
            } if *p == partition => Some((*base, *count, payload.as_slice())),
            _ => None,
        });
        let mut expected = settled
            .chain(waiting)
            .filter(|(base, count, _)| base + u64::from(*count) > at);
        let mut next = at;
        if found.is_empty() {
            return Err(format!(
                "partition {partition} at {at}: nothing read before the end"
            ));
        }
        for bytes in found {
            let Some((base, count, payload)) = expected.next() else {
                return Err(format!(
                    "partition {partition} at {next}: a batch nobody appended"
                ));
            };
            if **bytes != *payload {
                return Err(format!(
                    "partition {partition} at {base}: other bytes than appended"
                ));
            }
            next = base + u64::from(count);
        }
        Ok(next)
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
