//! What can be wrong with a record batch, and with a record in it.

/// Why bytes are not a record batch that can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than a header.
    #[error("a record batch was expected, found {bytes} bytes: its header alone has 61")]
    TooShort {
        /// Bytes there are.
        bytes: usize,
    },
    /// The batch length field cannot be true of any batch.
    #[error(
        "the record batch says that it has {batch_length} bytes behind the length field; a header has 49"
    )]
    InvalidLength {
        /// The field.
        batch_length: i32,
    },
    /// The batch length field is not that of the bytes given.
    #[error("the record batch says that it has {stated_bytes} bytes in all, found {bytes}")]
    LengthMismatch {
        /// By the field, its own 12 bytes included.
        stated_bytes: usize,
        /// Bytes there are.
        bytes: usize,
    },
    /// A message set of before Kafka 0.11.
    #[error(
        "records in the old format {magic} are not supported: the client must write format 2 (Kafka 0.11 or newer)"
    )]
    OldFormat {
        /// 0 or 1.
        magic: i8,
    },
    /// A format that nobody knows.
    #[error("records in the unknown format {magic}: known is 2")]
    UnknownMagic {
        /// The field.
        magic: i8,
    },
    /// Bytes were altered on the way.
    #[error(
        "the record batch is corrupt: its checksum says {expected:#010x}, its bytes have {found:#010x}"
    )]
    CrcMismatch {
        /// The header's field.
        expected: u32,
        /// What the bytes have.
        found: u32,
    },
    /// A batch without records.
    #[error("the record batch has no records")]
    EmptyBatch,
    /// A record count below zero.
    #[error("the record batch counts {count} records")]
    NegativeCount {
        /// The field.
        count: i32,
    },
    /// Record count and last offset delta contradict each other.
    #[error(
        "the record batch counts {count} records, but its last offset delta is {last_offset_delta}"
    )]
    OffsetDeltaMismatch {
        /// Records by the header.
        count: i32,
        /// The field.
        last_offset_delta: i32,
    },
    /// The codec is none of the five.
    #[error("the record batch is compressed with codec {codec}: known are 0 to 4")]
    UnknownCompression {
        /// Bits 0 to 2 of the attributes.
        codec: u8,
    },
    /// The records do not end where the batch ends: more or fewer than it counts.
    #[error(
        "the record batch counts {count} records, but after {walked} of them {rest_bytes} bytes are left"
    )]
    RecordCountMismatch {
        /// Records by the header.
        count: i32,
        /// Records walked.
        walked: i32,
        /// Bytes behind them.
        rest_bytes: usize,
    },
    /// A record is malformed.
    #[error("record {index} of the batch is malformed: {error}")]
    Record {
        /// Which, from 0.
        index: i32,
        /// What is wrong.
        error: RecordError,
    },
    /// A record's offset delta is not its place.
    #[error("record {index} of the batch has the offset delta {found}")]
    RecordOffsetDelta {
        /// Which, from 0.
        index: i32,
        /// Its field.
        found: i32,
    },
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A variable-length integer ends outside the bytes, or has more bytes than its type.
    #[error("its {field} is not a variable-length integer")]
    BadVarint {
        /// Which field.
        field: &'static str,
    },
    /// A length reaches beyond what holds it, or is negative.
    #[error("its {field} says {length} where {available_bytes} bytes are left")]
    BadLength {
        /// Which field.
        field: &'static str,
        /// The length.
        length: i32,
        /// Bytes that could have been meant.
        available_bytes: usize,
    },
    /// Bytes are left behind the last header.
    #[error("{bytes} bytes are left behind its last header")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
}
