//! Why a batch is refused before it reaches the log.

/// Why a batch is refused. Nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// A batch before this one is missing, or the sequence does not continue what is there.
    #[error(
        "producer {producer_id} sent sequence {found} where {expected} is next: a batch before it is missing"
    )]
    OutOfOrderSequence {
        /// Who.
        producer_id: i64,
        /// The sequence that continues.
        expected: i32,
        /// The batch's first sequence.
        found: i32,
    },
    /// All records of the batch were appended, so long ago that their offsets are not known.
    #[error(
        "producer {producer_id} sent sequences {first} to {last} again: they were appended before the batches that are remembered"
    )]
    DuplicateSequence {
        /// Who.
        producer_id: i64,
        /// The batch's first sequence.
        first: i32,
        /// The batch's last sequence.
        last: i32,
    },
    /// A newer instance of the producer has written: this one is fenced.
    #[error(
        "producer {producer_id} has epoch {current}; a batch with epoch {found} came from an older instance"
    )]
    InvalidProducerEpoch {
        /// Who.
        producer_id: i64,
        /// The newest epoch seen.
        current: i16,
        /// The batch's.
        found: i16,
    },
    /// A header that no client may send.
    #[error("the batch is not one that a client may write: {0}")]
    InvalidRecord(#[from] InvalidRecord),
    /// The batch says that it belongs to a transaction.
    #[error("producer {producer_id} wrote in a transaction, but has none open")]
    NotInTransaction {
        /// Who.
        producer_id: i64,
    },
}

/// What is wrong with a batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRecord {
    /// Markers are written by brokers.
    #[error("it is a control batch")]
    ControlBatch,
    /// An idempotent producer counts from 0.
    #[error("its producer id is {producer_id}, but its first sequence {sequence}")]
    NegativeSequence {
        /// Who.
        producer_id: i64,
        /// The field.
        sequence: i32,
    },
    /// Epochs count from 0.
    #[error("its producer id is {producer_id}, but its epoch {epoch}")]
    NegativeEpoch {
        /// Who.
        producer_id: i64,
        /// The field.
        epoch: i16,
    },
    /// It covers no offset.
    #[error("it covers no offset")]
    NoOffsets,
}
