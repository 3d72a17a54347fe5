//! The machine of partitions: gives offsets to batches, keeps what is committed and what is
//! pending apart, and holds producers to their sequences.
//!
//! Cost per batch, prepare and apply each: one look-up of the partition, one or two of the
//! producer, no allocation once the queues have grown to what is in flight.

use std::collections::BTreeSet;
use std::ops::Bound;

use ringlog_types::batch::BatchHeader;
use ringlog_types::snapshot::{Next, Pieces, Rows};
use ringlog_types::{NumberMap, Offset, PartitionId};

use crate::little_endian::put;

use super::checkpoint;
use super::epochs::Epochs;
use super::error::{InvalidRecord, ProduceError};
use super::pending::{Pending, ProducerReservation, Reservation};
use super::producers::{
    ProducerCounts, ProducerLimits, ProducerPlace, ProducerView, Producers, Standing,
};

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// It is to be appended, with this offset.
    Append {
        /// Offset of its first record.
        base_offset: Offset,
    },
    /// It was appended before: the answer is that of the first time.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// The first copy is not durable yet: the answer must wait for it.
        pending: bool,
    },
}

/// Partitions of one log.
#[derive(Clone, Debug)]
pub struct Partitions {
    partitions: NumberMap<u64, Partition>,
    /// Those that ever had a record.
    written: BTreeSet<u64>,
    producers: Producers,
    /// A checkpoint that is being taken: the bounds, then the producers.
    taking: Option<Taking>,
}

#[derive(Clone, Debug)]
enum Taking {
    Bounds {
        /// How many partitions there are, until it is written.
        head: Option<usize>,
        rows: Rows<u64, checkpoint::Bounds>,
        /// How many producers follow.
        producers: usize,
    },
    Producers,
}

#[derive(Clone, Debug, Default)]
struct Partition {
    start: Offset,
    end: Offset,
    /// End of what is reserved.
    next: Offset,
    pending: Pending,
    epochs: Epochs,
}

impl Default for Partitions {
    fn default() -> Partitions {
        Partitions::new()
    }
}

impl Partitions {
    /// Without any partition: one is there from its first batch.
    #[must_use]
    pub fn new() -> Partitions {
        Partitions::with_limits(ProducerLimits::default())
    }

    /// Likewise, with other limits than those of [`crate::limits`].
    ///
    /// # Panics
    /// When a limit is 0.
    #[must_use]
    pub fn with_limits(limits: ProducerLimits) -> Partitions {
        Partitions {
            partitions: NumberMap::default(),
            written: BTreeSet::new(),
            producers: Producers::new(limits),
            taking: None,
        }
    }

    /// Checks a client's batch and reserves offsets and sequences for it. After
    /// [`Prepared::Append`] the batch must be appended to the log with this offset, in the order
    /// of reservation, or given back with [`Partitions::abandon`], newest first. `now_ms` counts
    /// for [`Partitions::expire_producers`] only.
    ///
    /// # Errors
    /// Why it is refused; nothing is reserved.
    pub fn prepare(
        &mut self,
        partition: PartitionId,
        batch: &BatchHeader,
        now_ms: i64,
    ) -> Result<Prepared, ProduceError> {
        check_header(batch)?;
        let state = self.partitions.entry(partition.0).or_default();
        let base_offset = state.next;
        let mut producer = None;
        if batch.has_producer_id() {
            let standing = match sequence(&self.producers, &state.pending, partition, batch)? {
                Sequenced::Repeats {
                    base_offset,
                    pending,
                } => {
                    return Ok(Prepared::Duplicate {
                        base_offset,
                        pending,
                    });
                }
                Sequenced::Follows(standing) => standing,
            };
            let slot = self.producers.find_or_take(partition, batch.producer_id);
            let previous = state
                .pending
                .if_pending(self.producers.newest_pending(slot));
            let first_sequence = batch.base_sequence;
            producer = Some(ProducerReservation {
                slot,
                standing,
                first_sequence,
                previous,
                now_ms,
            });
        }
        state.next = base_offset.plus(batch.offsets().into());
        let number = state.pending.push(Reservation {
            base_offset,
            producer,
        });
        if let Some(producer) = producer {
            self.producers
                .set_newest_pending(producer.slot, Some(number));
        }
        Ok(Prepared::Append { base_offset })
    }

    /// Of a batch that [`Partitions::prepare`] found to be a repeat: the time of its first copy, ms
    /// since the Unix epoch. While that is pending, when it was reserved, which is the time that the
    /// node gives to records where it does; then the largest timestamp that lies in the log. None
    /// where it is not known: checkpoints before version 3 have it of the newest batch alone.
    #[must_use]
    pub fn time_of_first(&self, partition: PartitionId, repeat: &BatchHeader) -> Option<i64> {
        let slot = self.producers.find(partition, repeat.producer_id)?;
        let pending = &self.partitions.get(&partition.0)?.pending;
        let chain = pending.chain(self.producers.newest_pending(slot), repeat);
        if let Some((_, reserved_ms)) = chain.repeated {
            return Some(reserved_ms);
        }
        let first = self.producers.window(slot).repeated(repeat)?;
        Some(first.max_timestamp).filter(|ms| *ms >= 0)
    }

    /// Gives back the newest reservation of the partition, because the log refused the batch.
    ///
    /// # Panics
    /// When the newest reservation is another one: a batch behind it has offsets that count on
    /// it.
    pub fn abandon(&mut self, partition: PartitionId, base_offset: Offset) {
        let state = self.partitions.get_mut(&partition.0);
        let newest = state.and_then(|s| s.pending.pop_newest().map(|newest| (s, newest)));
        let (state, newest) = newest.expect("what is given back was reserved");
        assert_eq!(
            newest.base_offset, base_offset,
            "the newest reservation is given back first"
        );
        state.next = base_offset;
        if let Some(producer) = newest.producer {
            let previous = state.pending.if_pending(producer.previous);
            self.producers.set_newest_pending(producer.slot, previous);
        }
    }

    /// A batch is durable. `header` is the batch's, as it lies in the log.
    ///
    /// # Panics
    /// When batches of a partition come in another order than they were reserved in.
    pub fn apply_records(
        &mut self,
        partition: PartitionId,
        base_offset: Offset,
        header: &BatchHeader,
    ) {
        let reserved = self.change(partition, |state| {
            let reserved = state.pending.pop_oldest();
            state.advance(base_offset, header.offsets());
            state
                .epochs
                .note(header.partition_leader_epoch, base_offset);
            reserved
        });
        let mut slot = None;
        if let Some((number, reservation)) = reserved {
            let reserved_offset = reservation.base_offset;
            assert_eq!(
                reserved_offset, base_offset,
                "batches become durable in order"
            );
            if let Some(producer) = reservation.producer {
                self.producers
                    .settle(producer.slot, number, producer.now_ms);
                slot = Some(producer.slot);
            }
        }
        if header.has_producer_id() {
            let id = header.producer_id;
            let slot = slot.unwrap_or_else(|| self.producers.find_or_take(partition, id));
            self.producers.commit(slot, base_offset, header);
        }
    }

    /// In replay: a batch is durable, but its bytes are damaged. Its offsets stay taken; of its
    /// producer and its leader epoch nothing is known.
    pub fn apply_damaged(&mut self, partition: PartitionId, base_offset: Offset, count: u32) {
        self.change(partition, |state| state.advance(base_offset, count));
    }

    /// Records below this offset are gone. Never moves back.
    pub fn apply_start_offset(&mut self, partition: PartitionId, start: Offset) {
        self.change(partition, |state| {
            state.start = state.start.max(start);
            state.end = state.end.max(start);
            state.next = state.next.max(start);
            state.epochs.cut(state.start);
        });
    }

    /// The partition is gone, with its producers.
    pub fn apply_dropped(&mut self, partition: PartitionId) {
        self.keep(partition);
        self.written.remove(&partition.0);
        let Some(mut state) = self.partitions.remove(&partition.0) else {
            return;
        };
        while let Some(reservation) = state.pending.pop_newest() {
            if let Some(producer) = reservation.producer {
                let previous = state.pending.if_pending(producer.previous);
                self.producers.set_newest_pending(producer.slot, previous);
            }
        }
        self.producers.drop_partition(partition);
    }

    /// The high watermark: end of what is committed.
    #[must_use]
    pub fn end_offset(&self, partition: PartitionId) -> Offset {
        self.partitions
            .get(&partition.0)
            .map_or(Offset::ZERO, |state| state.end)
    }

    /// The first offset that is still there.
    #[must_use]
    pub fn start_offset(&self, partition: PartitionId) -> Offset {
        self.partitions
            .get(&partition.0)
            .map_or(Offset::ZERO, |state| state.start)
    }

    /// The offset that the next batch gets: end of what is committed or pending.
    #[must_use]
    pub fn next_offset(&self, partition: PartitionId) -> Offset {
        self.partitions
            .get(&partition.0)
            .map_or(Offset::ZERO, |state| state.next)
    }

    /// The newest leader epoch up to `asked` in which something was written, and where it ended,
    /// while the partition is led under `current`. None for an epoch that is still to come.
    #[must_use]
    pub fn epoch_end(
        &self,
        partition: PartitionId,
        asked: i32,
        current: i32,
    ) -> Option<(i32, Offset)> {
        match self.partitions.get(&partition.0) {
            Some(state) => state.epochs.end_of(asked, current, state.end),
            None => Epochs::default().end_of(asked, current, Offset::ZERO),
        }
    }

    /// The leader epoch under which an offset was written, if it is known.
    #[must_use]
    pub fn epoch_at(&self, partition: PartitionId, offset: Offset) -> Option<i32> {
        self.partitions.get(&partition.0)?.epochs.at(offset)
    }

    /// Producers of all partitions that are remembered.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.producers.length()
    }

    /// The same, and how many were forgotten and why.
    #[must_use]
    pub fn producer_counts(&self) -> ProducerCounts {
        self.producers.counts()
    }

    /// The producers of a partition, longest idle first, to be looked at one by one: there may be
    /// [`crate::limits::PRODUCERS_PER_PARTITION`].
    #[must_use]
    pub fn producers_of(&self, partition: PartitionId) -> Vec<ProducerPlace> {
        self.producers.of_partition(partition)
    }

    /// A producer of the partition, if it is still there.
    #[must_use]
    pub fn producer_at(
        &self,
        partition: PartitionId,
        place: ProducerPlace,
    ) -> Option<ProducerView> {
        self.producers.view(partition, place)
    }

    /// A start: from `now_ms` on producers are taken for silent, whatever timestamps their records
    /// have. One that wrote just before a crash, records of years ago, repeats its last batch
    /// after it.
    pub fn resume(&mut self, now_ms: i64) {
        self.producers.resume(now_ms);
    }

    /// Forgets producers that wrote nothing since `before_ms`: by the node's clock where they
    /// wrote since the start, by that start or the timestamps of their records otherwise. One call looks at
    /// [`crate::limits::PRODUCERS_PER_EXPIRY_STEP`] of those idle for longest, at most.
    ///
    /// Not logged: after a restart a forgotten producer may be remembered again, which is
    /// harmless. Returns how many were forgotten: where there are any, there may be more.
    pub fn expire_producers(&mut self, before_ms: i64) -> usize {
        self.producers.expire(before_ms)
    }

    /// Committed state.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        checkpoint::encode(&self.bounds(), &self.producers)
    }

    /// Begins a checkpoint of what is committed now, to be taken by
    /// [`Partitions::checkpoint_step`] while more is applied. Another one before is forgotten.
    pub fn begin_checkpoint(&mut self) {
        self.taking = Some(Taking::Bounds {
            head: Some(self.written.len()),
            rows: Rows::default(),
            producers: self.producers.length(),
        });
        self.producers.begin_rows();
    }

    /// Writes so many further rows of the checkpoint that was begun. Whether there are more.
    pub fn checkpoint_step(&mut self, rows: usize, out: &mut Pieces) -> bool {
        for _ in 0..rows {
            match &mut self.taking {
                None => return false,
                Some(Taking::Bounds {
                    head,
                    rows: bounds,
                    producers,
                }) => {
                    if let Some(partitions) = head.take() {
                        put(out, |out| checkpoint::put_head(out, partitions));
                    }
                    let behind = |taken: Option<u64>| {
                        let from = taken.map_or(Bound::Unbounded, Bound::Excluded);
                        self.written.range((from, Bound::Unbounded)).next().copied()
                    };
                    let row = |partition: u64| self.partitions[&partition].bounds(partition);
                    match bounds.take(behind, row) {
                        Next::Row(bounds) => put(out, |out| checkpoint::put_bounds(out, &bounds)),
                        Next::Passed => {}
                        Next::End => {
                            put(out, |out| out.count(*producers));
                            self.taking = Some(Taking::Producers);
                        }
                    }
                }
                Some(Taking::Producers) => match self.producers.take_row() {
                    Next::Row((partition, id, window)) => {
                        put(out, |out| {
                            checkpoint::put_producer(out, partition, id, &window)
                        });
                    }
                    Next::Passed => {}
                    Next::End => self.taking = None,
                },
            }
        }
        self.taking.is_some()
    }

    /// Whether a checkpoint was begun and is not at its end.
    #[must_use]
    pub fn takes_checkpoint(&self) -> bool {
        self.taking.is_some()
    }

    /// Changes what is committed of a partition.
    fn change<T>(&mut self, partition: PartitionId, how: impl FnOnce(&mut Partition) -> T) -> T {
        self.keep(partition);
        let state = self.partitions.entry(partition.0).or_default();
        let was_written = state.end > Offset::ZERO;
        let result = how(state);
        if !was_written && state.end > Offset::ZERO {
            self.written.insert(partition.0);
        }
        result
    }

    /// What is committed of the partition is about to change.
    fn keep(&mut self, partition: PartitionId) {
        if let Some(Taking::Bounds { rows, .. }) = &mut self.taking {
            rows.keep(partition.0, || {
                let state = self.partitions.get(&partition.0);
                let written = state.filter(|state| state.end > Offset::ZERO);
                written.map(|state| state.bounds(partition.0))
            });
        }
    }

    /// Every partition that ever had a record, in order.
    pub(super) fn bounds(&self) -> Vec<checkpoint::Bounds> {
        let mut bounds: Vec<checkpoint::Bounds> = self
            .partitions
            .iter()
            .filter(|(_, state)| state.end > Offset::ZERO)
            .map(|(partition, state)| state.bounds(*partition))
            .collect();
        bounds.sort_unstable_by_key(|bounds| bounds.partition);
        bounds
    }

    pub(super) fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Starts from a checkpoint: whatever was there before is gone.
    ///
    /// # Errors
    /// What is wrong with it; nothing is changed.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let (bounds, producers) = checkpoint::decode(checkpoint, self.producers.limits())
            .map_err(|error| error.to_string())?;
        *self = Partitions::of(bounds, producers);
        Ok(())
    }

    /// Nothing pending, and this committed.
    pub(super) fn of(bounds: Vec<checkpoint::Bounds>, producers: Producers) -> Partitions {
        let mut partitions = NumberMap::default();
        let written = bounds.iter().map(|bounds| bounds.partition.0).collect();
        for bounds in bounds {
            let state = Partition {
                start: bounds.start,
                end: bounds.end,
                next: bounds.end,
                pending: Pending::default(),
                epochs: bounds.epochs,
            };
            partitions.insert(bounds.partition.0, state);
        }
        Partitions {
            partitions,
            written,
            producers,
            taking: None,
        }
    }
}

impl Partition {
    fn bounds(&self, partition: u64) -> checkpoint::Bounds {
        checkpoint::Bounds {
            partition: PartitionId(partition),
            start: self.start,
            end: self.end,
            epochs: self.epochs.clone(),
        }
    }

    fn advance(&mut self, base_offset: Offset, offsets: u32) {
        debug_assert!(base_offset >= self.end, "offsets are committed once");
        self.end = self.end.max(base_offset.plus(offsets.into()));
        self.next = self.next.max(self.end);
    }
}

/// How a batch stands to what its producer wrote before.
enum Sequenced {
    Follows(Standing),
    Repeats { base_offset: Offset, pending: bool },
}

fn sequence(
    producers: &Producers,
    pending: &Pending,
    partition: PartitionId,
    batch: &BatchHeader,
) -> Result<Sequenced, ProduceError> {
    let Some(slot) = producers.find(partition, batch.producer_id) else {
        return Ok(Sequenced::Follows(Standing::after(None, batch)));
    };
    let window = producers.window(slot);
    let chain = pending.chain(producers.newest_pending(slot), batch);
    if let Some((base_offset, _)) = chain.repeated {
        return Ok(Sequenced::Repeats {
            base_offset,
            pending: true,
        });
    }
    let Some(standing) = chain.standing.or_else(|| window.standing()) else {
        return Ok(Sequenced::Follows(Standing::after(None, batch)));
    };
    let mut oldest = chain.oldest_sequence;
    if !chain.begins_epoch && batch.producer_epoch == standing.epoch {
        if let Some(first) = window.repeated(batch) {
            return Ok(Sequenced::Repeats {
                base_offset: first.base_offset,
                pending: false,
            });
        }
        oldest = window.oldest_sequence(standing.epoch).or(oldest);
    }
    standing.check(batch, oldest)?;
    Ok(Sequenced::Follows(Standing::after(Some(standing), batch)))
}

fn check_header(batch: &BatchHeader) -> Result<(), ProduceError> {
    let (producer_id, epoch) = (batch.producer_id, batch.producer_epoch);
    if batch.is_control() {
        return Err(InvalidRecord::ControlBatch.into());
    }
    if batch.offsets() == 0 {
        return Err(InvalidRecord::NoOffsets.into());
    }
    if batch.has_producer_id() && batch.base_sequence < 0 {
        let sequence = batch.base_sequence;
        return Err(InvalidRecord::NegativeSequence {
            producer_id,
            sequence,
        }
        .into());
    }
    if batch.has_producer_id() && epoch < 0 {
        return Err(InvalidRecord::NegativeEpoch { producer_id, epoch }.into());
    }
    if batch.is_transactional() {
        return Err(ProduceError::NotInTransaction { producer_id });
    }
    Ok(())
}
