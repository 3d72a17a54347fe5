//! Record batches into the log: sequence and offsets from the partitions machine, the broker's
//! fields patched in place, then one append. The only way records get into a log.
//!
//! Invariant: a reservation of the machine is followed by an entry in the log, or given back.
//! Batches arrive here checked (CRC and structure), with topic limits enforced by the adapter.

use std::ops::Range;

use ringlog_engine::partitions::{Prepared, ProduceError};
use ringlog_engine::topics::{Durability, TimestampType};
use ringlog_storage::buffer::BufMut;
use ringlog_storage::log::{AppendError, EntryKind, EntryMeta, FrameEntry, Urgency};
use ringlog_types::batch::{self, BatchHeader};
use ringlog_types::{Offset, PartitionId, Sequence};

use super::core::Core;

/// A batch of a request.
#[derive(Clone, Debug)]
pub struct BatchRange {
    /// Which partition it goes to; this core owns it.
    pub partition: PartitionId,
    /// Where its bytes lie, counted from the start of the frame or the slice.
    pub range: Range<usize>,
    /// Its header, validated.
    pub header: BatchHeader,
}

/// The bytes of a request's batches.
#[derive(Debug)]
pub enum FrameOrCopy<'a> {
    /// The frame itself becomes an extent of the block: for large batches. A frame longer
    /// than [`ringlog_storage::log::Log::max_frame_bytes`] is copied all the same.
    Frame {
        /// What was received, behind the headroom.
        frame: BufMut,
        /// Where it ends in the buffer.
        end: usize,
    },
    /// The batches are copied into the open block: for small ones. They are patched here first.
    Copy(&'a mut [u8]),
}

/// What became of a batch that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The time that the broker gave its records, for topics with `LogAppendTime`.
    pub log_append_time_ms: Option<i64>,
    /// First offset of the partition.
    pub log_start_offset: Offset,
    /// The block that it is in.
    pub sequence: Sequence,
    /// What its acknowledgement means.
    pub durability: Durability,
    /// A repeat of an idempotent producer: nothing was added.
    pub duplicate: bool,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ProduceFailure {
    /// The producer is out of sequence, fenced or unknown.
    #[error(transparent)]
    Producer(#[from] ProduceError),
    /// The log did not take it. [`super::core::CoreHandle::room`] before the append keeps
    /// [`AppendError::Busy`] away.
    #[error(transparent)]
    Log(#[from] AppendError),
}

/// A batch whose offsets are reserved.
struct Reserved {
    index: usize,
    appended: Appended,
    meta: EntryMeta,
    partition: PartitionId,
}

impl Core {
    /// Appends the batches in their order. The answer has one result per batch, in the same
    /// order. After a batch that the log refused none of the later ones is tried.
    ///
    /// With [`FrameOrCopy::Frame`] all batches become one atomic group, taken or refused
    /// together (but for those that the producers' rules refuse); with [`FrameOrCopy::Copy`]
    /// each is a group of its own.
    ///
    /// # Panics
    /// When a range lies outside the bytes.
    pub fn append_records(
        &mut self,
        batches: &[BatchRange],
        bytes: FrameOrCopy<'_>,
    ) -> Vec<Result<Appended, ProduceFailure>> {
        match bytes {
            FrameOrCopy::Frame { frame, end } => self.append_as_frame(batches, frame, end),
            FrameOrCopy::Copy(bytes) => self.append_copies(batches, bytes),
        }
    }

    fn append_copies(
        &mut self,
        batches: &[BatchRange],
        bytes: &mut [u8],
    ) -> Vec<Result<Appended, ProduceFailure>> {
        let now_ms = self.now_ms();
        let mut results = Vec::with_capacity(batches.len());
        let mut refused: Option<AppendError> = None;
        for (index, batch) in batches.iter().enumerate() {
            if let Some(error) = &refused {
                results.push(Err(ProduceFailure::Log(error.clone())));
                continue;
            }
            let bytes = &mut bytes[batch.range.clone()];
            let result = match self.reserve(index, batch, bytes, now_ms) {
                Err(error) => Err(error.into()),
                Ok(Taken::Repeat(appended)) => Ok(appended),
                Ok(Taken::New(reserved)) => match self.log.append_with(
                    &[(reserved.meta, &*bytes)],
                    urgency_of(reserved.appended.durability),
                ) {
                    Ok(sequence) => Ok(Appended {
                        sequence,
                        ..reserved.appended
                    }),
                    Err(error) => {
                        self.partitions
                            .abandon(reserved.partition, reserved.appended.base_offset);
                        refused = Some(error.clone());
                        Err(error.into())
                    }
                },
            };
            results.push(result);
        }
        results
    }

    fn append_as_frame(
        &mut self,
        batches: &[BatchRange],
        mut frame: BufMut,
        end: usize,
    ) -> Vec<Result<Appended, ProduceFailure>> {
        if end > self.log.max_frame_bytes() {
            return self.append_copies(batches, &mut frame);
        }
        let now_ms = self.now_ms();
        let mut results: Vec<Result<Appended, ProduceFailure>> = Vec::with_capacity(batches.len());
        let mut reserved = Vec::with_capacity(batches.len());
        let mut entries = Vec::with_capacity(batches.len());
        let mut repeats = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            match self.reserve(index, batch, &mut frame[batch.range.clone()], now_ms) {
                Err(error) => results.push(Err(error.into())),
                Ok(Taken::Repeat(appended)) => {
                    // The first copy may be in this very frame, and share its fate.
                    let first = reserved.iter().any(|new: &Reserved| {
                        let base_offset = new.appended.base_offset;
                        new.partition == batch.partition && base_offset == appended.base_offset
                    });
                    if first {
                        repeats.push(index);
                    }
                    results.push(Ok(appended));
                }
                Ok(Taken::New(new)) => {
                    entries.push(FrameEntry {
                        meta: new.meta,
                        range: batch.range.clone(),
                    });
                    results.push(Ok(new.appended));
                    reserved.push(new);
                }
            }
        }
        if entries.is_empty() {
            return results;
        }
        let strongest = reserved.iter().map(|new| new.appended.durability).max();
        let urgency = strongest.map_or(Urgency::Durable, urgency_of);
        match self.log.append_frame_with(&entries, frame, end, urgency) {
            Ok(sequence) => {
                for new in reserved {
                    results[new.index] = Ok(Appended {
                        sequence,
                        ..new.appended
                    });
                }
                for index in repeats {
                    if let Ok(appended) = &mut results[index] {
                        appended.sequence = sequence;
                    }
                }
            }
            Err(error) => {
                for index in repeats {
                    results[index] = Err(error.clone().into());
                }
                for new in reserved.into_iter().rev() {
                    self.partitions
                        .abandon(new.partition, new.appended.base_offset);
                    results[new.index] = Err(error.clone().into());
                }
            }
        }
        results
    }

    /// Reserves offsets for a batch and patches it.
    fn reserve(
        &mut self,
        index: usize,
        range: &BatchRange,
        bytes: &mut [u8],
        now_ms: i64,
    ) -> Result<Taken, ProduceError> {
        let partition = range.partition;
        debug_assert!(
            self.owns(partition),
            "the adapter asks the partition's owner"
        );
        let (durability, stamps_append_time) = self.topic_rules(partition);
        let mut appended = Appended {
            base_offset: Offset::ZERO,
            log_append_time_ms: None,
            log_start_offset: self.partitions.start_offset(partition),
            sequence: Sequence::NONE,
            durability,
            duplicate: false,
        };
        match self.partitions.prepare(partition, &range.header, now_ms)? {
            Prepared::Duplicate {
                base_offset,
                pending,
            } => {
                // Which block holds the first copy is not kept: all that is appended is enough.
                let sequence = if pending {
                    self.log.appended()
                } else {
                    Sequence::NONE
                };
                let first_ms = || self.partitions.time_of_first(partition, &range.header);
                appended = Appended {
                    base_offset,
                    log_append_time_ms: stamps_append_time.then(first_ms).flatten(),
                    sequence,
                    duplicate: true,
                    ..appended
                };
                Ok(Taken::Repeat(appended))
            }
            Prepared::Append { base_offset } => {
                appended.base_offset = base_offset;
                batch::set_base_offset(bytes, base_offset);
                batch::set_leader_epoch(bytes, self.leader_epoch());
                let mut max_timestamp = range.header.max_timestamp;
                if stamps_append_time {
                    batch::set_log_append_time(bytes, now_ms);
                    appended.log_append_time_ms = Some(now_ms);
                    max_timestamp = now_ms;
                }
                let meta = EntryMeta {
                    partition,
                    kind: EntryKind::Records,
                    machine: 0,
                    base_offset,
                    count: range.header.offsets(),
                    max_timestamp,
                };
                Ok(Taken::New(Reserved {
                    index,
                    appended,
                    meta,
                    partition,
                }))
            }
        }
    }

    /// What an acknowledgement of the partition's topic means, and whether the node gives its
    /// records their time.
    fn topic_rules(&self, partition: PartitionId) -> (Durability, bool) {
        self.topics
            .by_number(partition.topic())
            .map_or((Durability::Flushed, false), |topic| {
                let own_clock = topic.config.timestamp_type() == TimestampType::LogAppendTime;
                (topic.config.durability(), own_clock)
            })
    }

    /// The wall clock of this core's log.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        use ringlog_storage::io::Io;
        self.log.io().wall_ms()
    }

    /// Leader epoch of this core's partitions.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        i32::try_from(self.log.epoch()).unwrap_or(i32::MAX)
    }
}

/// What the log has to do before a batch of this durability is acknowledged.
fn urgency_of(durability: Durability) -> Urgency {
    match durability {
        Durability::Flushed => Urgency::Durable,
        Durability::Written | Durability::Buffered => Urgency::Written,
    }
}

enum Taken {
    New(Reserved),
    Repeat(Appended),
}
