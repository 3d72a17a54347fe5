//! The 61 bytes before the records. Read from the wire and from disk, written by builders.

use zerocopy::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::BatchError;

/// Length of a batch's header.
pub const HEADER_BYTES: usize = 61;

/// What the batch length field does not count: base offset and itself.
pub(super) const LENGTH_FROM: usize = 12;
/// Where the checksum stands.
pub(super) const CRC_AT: usize = 17;
/// Where what the checksum covers begins.
pub(super) const CRC_FROM: usize = 21;
const MAGIC_AT: usize = 16;
const MAGIC: i8 = 2;

const COMPRESSION_BITS: i16 = 0b111;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
pub(super) const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Records lie there plain.
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy in the framing of xerial's Java library.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

/// Whose clock the timestamps of a batch are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's; each record has its own.
    CreateTime,
    /// The broker's; the maximum timestamp stands for every record.
    LogAppendTime,
}

impl TimestampType {
    /// As topic configurations spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

/// A batch's header, field by field as it lies in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record. The broker's.
    pub base_offset: i64,
    /// Bytes behind this field.
    pub batch_length: i32,
    /// Epoch of the leader that stored the batch. The broker's.
    pub partition_leader_epoch: i32,
    /// Format: 2.
    pub magic: i8,
    /// CRC-32C of everything behind it.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: i16,
    /// Offset of the last record, counted from the base offset.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, milliseconds.
    pub base_timestamp: i64,
    /// Largest timestamp, milliseconds; −1 without one.
    pub max_timestamp: i64,
    /// Id of an idempotent producer, −1 without.
    pub producer_id: i64,
    /// Epoch of the producer id, −1 without.
    pub producer_epoch: i16,
    /// Sequence of the first record, −1 without.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of the bytes. Checks the format and that the length can
    /// hold a header; whether the bytes hold the whole batch is not looked at.
    ///
    /// # Errors
    /// Too few bytes, an old or unknown format, or an impossible length.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        // The format first: a message of an old one may be shorter than a header.
        match bytes.get(MAGIC_AT).map(|byte| *byte as i8) {
            Some(MAGIC) => {}
            Some(magic @ 0..MAGIC) => return Err(BatchError::OldFormat { magic }),
            Some(magic) => return Err(BatchError::UnknownMagic { magic }),
            None => return Err(BatchError::TooShort { bytes: bytes.len() }),
        }
        let Ok((raw, _)) = Raw::ref_from_prefix(bytes) else {
            return Err(BatchError::TooShort { bytes: bytes.len() });
        };
        let header = raw.header();
        if header.batch_length < (HEADER_BYTES - LENGTH_FROM) as i32 {
            return Err(BatchError::InvalidLength {
                batch_length: header.batch_length,
            });
        }
        Ok(header)
    }

    /// Writes the header at the start of the bytes.
    ///
    /// # Panics
    /// When there are fewer than [`HEADER_BYTES`].
    pub fn write(&self, bytes: &mut [u8]) {
        let raw = Raw {
            base_offset: self.base_offset.into(),
            batch_length: self.batch_length.into(),
            partition_leader_epoch: self.partition_leader_epoch.into(),
            magic: self.magic,
            crc: self.crc.into(),
            attributes: self.attributes.into(),
            last_offset_delta: self.last_offset_delta.into(),
            base_timestamp: self.base_timestamp.into(),
            max_timestamp: self.max_timestamp.into(),
            producer_id: self.producer_id.into(),
            producer_epoch: self.producer_epoch.into(),
            base_sequence: self.base_sequence.into(),
            record_count: self.record_count.into(),
        };
        bytes[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
    }

    /// Length of the whole batch.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        LENGTH_FROM + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// None of the five.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        match self.attributes & COMPRESSION_BITS {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            codec => Err(BatchError::UnknownCompression { codec: codec as u8 }),
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch is a marker that only brokers write.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When log compaction may remove the tombstones of the batch, milliseconds, once it has met
    /// them: the base timestamp then says that.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer wrote it.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// Whose clock its timestamps are from.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Offsets that the batch covers: last offset delta + 1.
    #[must_use]
    pub fn offsets(&self) -> u32 {
        u32::try_from(self.last_offset_delta).map_or(0, |last| last + 1)
    }

    /// Sequence of the last record. Sequences go on with 0 behind `i32::MAX`.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        let wrapped = if sum > i64::from(i32::MAX) {
            sum - (1 << 31)
        } else {
            sum
        };
        // Both summands are i32, and what passed i32::MAX came back by 2^31.
        wrapped as i32
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    base_offset: I64,
    batch_length: I32,
    partition_leader_epoch: I32,
    magic: i8,
    crc: U32,
    attributes: I16,
    last_offset_delta: I32,
    base_timestamp: I64,
    max_timestamp: I64,
    producer_id: I64,
    producer_epoch: I16,
    base_sequence: I32,
    record_count: I32,
}

const _: () = assert!(size_of::<Raw>() == HEADER_BYTES);

impl Raw {
    fn header(&self) -> BatchHeader {
        BatchHeader {
            base_offset: self.base_offset.get(),
            batch_length: self.batch_length.get(),
            partition_leader_epoch: self.partition_leader_epoch.get(),
            magic: self.magic,
            crc: self.crc.get(),
            attributes: self.attributes.get(),
            last_offset_delta: self.last_offset_delta.get(),
            base_timestamp: self.base_timestamp.get(),
            max_timestamp: self.max_timestamp.get(),
            producer_id: self.producer_id.get(),
            producer_epoch: self.producer_epoch.get(),
            base_sequence: self.base_sequence.get(),
            record_count: self.record_count.get(),
        }
    }
}
