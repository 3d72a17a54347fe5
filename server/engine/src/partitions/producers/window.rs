//! What is remembered of one producer in one partition, and the rules for its next batch: those
//! of Kafka's broker since KIP-360.
//!
//! - A batch with exactly the sequences of a remembered one, of the same epoch, is a repeat.
//! - An older epoch is fenced; a newer one begins with sequence 0.
//! - Within an epoch sequences continue without a gap; 0 follows `i32::MAX`.
//! - A producer of whom nothing is known may begin with any sequence: it may be one that was
//!   forgotten.
//!
//! One rule is kinder than Kafka's: sequences that provably were all appended in this epoch, yet
//! before the remembered batches, are named as duplicates instead of out of order. Clients take
//! that for the success it is.

use ringlog_types::Offset;
use ringlog_types::batch::BatchHeader;

use crate::limits::BATCHES_PER_PRODUCER;

use super::super::error::ProduceError;

/// How many sequences there are before they begin again with 0.
const SEQUENCES: i64 = 1 << 31;

/// A batch of a producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::partitions) struct Written {
    pub(in crate::partitions) first_sequence: i32,
    pub(in crate::partitions) last_sequence: i32,
    pub(in crate::partitions) base_offset: Offset,
    /// The largest of its records; −1: not known.
    pub(in crate::partitions) max_timestamp: i64,
}

impl Written {
    fn repeats(&self, header: &BatchHeader) -> bool {
        self.first_sequence == header.base_sequence && self.last_sequence == header.last_sequence()
    }
}

/// Where a producer stands: after its newest batch, pending or committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::partitions) struct Standing {
    pub(in crate::partitions) epoch: i16,
    pub(in crate::partitions) last_sequence: i32,
    /// How many sequences up to the last one are known to have been appended without a gap.
    pub(in crate::partitions) unbroken: u64,
}

impl Standing {
    /// Where the producer stands after one more batch.
    pub(in crate::partitions) fn after(before: Option<Standing>, header: &BatchHeader) -> Standing {
        let unbroken = before.filter(|before| before.is_continued_by(header));
        Standing {
            epoch: header.producer_epoch,
            last_sequence: header.last_sequence(),
            unbroken: unbroken
                .map_or(0, |before| before.unbroken)
                .saturating_add(header.offsets().into()),
        }
    }

    fn is_continued_by(&self, header: &BatchHeader) -> bool {
        self.epoch == header.producer_epoch && next(self.last_sequence) == header.base_sequence
    }

    /// Whether a batch that repeats none of the remembered ones may follow. `oldest` is the
    /// first sequence remembered of the epoch.
    pub(in crate::partitions) fn check(
        &self,
        header: &BatchHeader,
        oldest: Option<i32>,
    ) -> Result<(), ProduceError> {
        let BatchHeader {
            producer_id,
            producer_epoch,
            base_sequence: found,
            ..
        } = *header;
        if producer_epoch < self.epoch {
            let current = self.epoch;
            return Err(ProduceError::InvalidProducerEpoch {
                producer_id,
                current,
                found: producer_epoch,
            });
        }
        let expected = if producer_epoch == self.epoch {
            next(self.last_sequence)
        } else {
            0
        };
        if found == expected {
            Ok(())
        } else if producer_epoch == self.epoch && self.has_all_before(header, expected, oldest) {
            let (first, last) = (found, header.last_sequence());
            Err(ProduceError::DuplicateSequence {
                producer_id,
                first,
                last,
            })
        } else {
            Err(ProduceError::OutOfOrderSequence {
                producer_id,
                expected,
                found,
            })
        }
    }

    /// Whether all sequences of the batch were appended, and before the oldest remembered one.
    fn has_all_before(&self, header: &BatchHeader, expected: i32, oldest: Option<i32>) -> bool {
        let Some(oldest) = oldest else { return false };
        let back = distance(header.base_sequence, expected);
        // More than half way round is ahead, not behind.
        let seen = i64::try_from(self.unbroken)
            .unwrap_or(i64::MAX)
            .min(SEQUENCES / 2);
        back <= seen && back - i64::from(header.offsets()) >= distance(oldest, expected)
    }
}

/// The sequence behind this one.
fn next(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

/// How many sequences from one to the other, counted upwards.
fn distance(from: i32, to: i32) -> i64 {
    (i64::from(to) - i64::from(from)).rem_euclid(SEQUENCES)
}

/// The newest committed batches of a producer in a partition, of one epoch and without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::partitions) struct Window {
    epoch: i16,
    length: u8,
    /// Oldest first.
    batches: [Written; BATCHES_PER_PRODUCER],
    unbroken: u64,
}

impl Window {
    /// A committed batch. One that does not continue the window begins a new one: of a newer
    /// epoch, or of a producer that was forgotten meanwhile (replay may still know it).
    pub(in crate::partitions) fn push(&mut self, base_offset: Offset, header: &BatchHeader) {
        let before = self.standing();
        let standing = Standing::after(before, header);
        if !before.is_some_and(|before| before.is_continued_by(header)) {
            self.length = 0;
        }
        self.epoch = standing.epoch;
        self.unbroken = standing.unbroken;
        let (first_sequence, last_sequence) = (header.base_sequence, header.last_sequence());
        self.keep(Written {
            first_sequence,
            last_sequence,
            base_offset,
            max_timestamp: header.max_timestamp,
        });
    }

    fn keep(&mut self, batch: Written) {
        let length = usize::from(self.length);
        if length == BATCHES_PER_PRODUCER {
            self.batches.rotate_left(1);
            self.batches[length - 1] = batch;
        } else {
            self.batches[length] = batch;
            self.length += 1;
        }
    }

    /// Where the producer stands; none before its first committed batch.
    pub(in crate::partitions) fn standing(&self) -> Option<Standing> {
        let last = self.batches().last()?;
        let (epoch, unbroken) = (self.epoch, self.unbroken);
        Some(Standing {
            epoch,
            last_sequence: last.last_sequence,
            unbroken,
        })
    }

    /// The remembered batches, oldest first.
    pub(in crate::partitions) fn batches(&self) -> &[Written] {
        &self.batches[..usize::from(self.length)]
    }

    /// The first remembered sequence of an epoch.
    pub(in crate::partitions) fn oldest_sequence(&self, epoch: i16) -> Option<i32> {
        self.batches()
            .first()
            .filter(|_| self.epoch == epoch)
            .map(|batch| batch.first_sequence)
    }

    /// The remembered batch that this one repeats.
    pub(in crate::partitions) fn repeated(&self, header: &BatchHeader) -> Option<&Written> {
        let mut batches = self.batches().iter();
        batches.find(|batch| self.epoch == header.producer_epoch && batch.repeats(header))
    }

    /// Largest timestamp of the newest batch.
    pub(in crate::partitions) fn max_timestamp(&self) -> i64 {
        self.batches().last().map_or(0, |batch| batch.max_timestamp)
    }

    /// The parts that a checkpoint holds beside the batches: epoch, unbroken sequences.
    pub(in crate::partitions) fn parts(&self) -> (i16, u64) {
        (self.epoch, self.unbroken)
    }

    /// Puts together what [`Window::parts`] and [`Window::batches`] gave. None when it has no
    /// batch or too many.
    pub(in crate::partitions) fn from_parts(
        (epoch, unbroken): (i16, u64),
        batches: &[Written],
    ) -> Option<Window> {
        if batches.is_empty() || batches.len() > BATCHES_PER_PRODUCER {
            return None;
        }
        let mut window = Window {
            epoch,
            unbroken,
            ..Window::default()
        };
        batches.iter().for_each(|batch| window.keep(*batch));
        Some(window)
    }
}

/// Whether a pending batch of the same epoch is repeated.
pub(in crate::partitions) fn repeats(
    pending: &Written,
    pending_epoch: i16,
    header: &BatchHeader,
) -> bool {
    pending_epoch == header.producer_epoch && pending.repeats(header)
}
