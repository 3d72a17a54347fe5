//! All that is checked of a batch when it arrives from a client: whole, unaltered, and its
//! header true of its records. Produce calls it once per batch; nothing behind it looks at
//! record bytes again.

use super::checksum::crc32c;
use super::error::{BatchError, RecordError};
use super::header::{BatchHeader, CRC_FROM, Compression, HEADER_BYTES};
use super::varint;

/// A record has at least attributes, two deltas, two lengths and a header count.
const MINIMUM_RECORD_BYTES: usize = 6;

/// Checks that the bytes are exactly one whole v2 batch: format, length, CRC-32C, codec, at least
/// one record, record count and last offset delta in agreement. Of an uncompressed batch the
/// records are walked: as many as stated, each within the bytes, with offset deltas 0, 1, 2 ….
/// Compressed records are not opened.
///
/// Whether a client may write such a batch (control and transaction flags, sequences) is for the
/// caller. Costs one CRC-32C over the batch, and the walk a few nanoseconds per record; no
/// allocation.
///
/// # Errors
/// The first thing found wrong.
pub fn validate(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = unaltered(batch)?;
    check_counts(&header)?;
    if header.compression()? == Compression::None {
        walk(&batch[HEADER_BYTES..], header.record_count)?;
    }
    Ok(header)
}

/// The header of exactly one batch whose bytes are as they were sent.
fn unaltered(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.total_bytes() != batch.len() {
        let stated_bytes = header.total_bytes();
        return Err(BatchError::LengthMismatch {
            stated_bytes,
            bytes: batch.len(),
        });
    }
    let found = crc32c(&batch[CRC_FROM..]);
    if found != header.crc {
        return Err(BatchError::CrcMismatch {
            expected: header.crc,
            found,
        });
    }
    Ok(header)
}

/// Checks a batch that log compaction may have taken records from: as [`validate`] does, but
/// offset deltas may leave gaps.
///
/// # Errors
/// The first thing found wrong.
pub fn validate_compacted(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = unaltered(batch)?;
    let (count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if count < 0 {
        return Err(BatchError::NegativeCount { count });
    }
    if i64::from(count) > i64::from(last_offset_delta) + 1 {
        return Err(BatchError::OffsetDeltaMismatch {
            count,
            last_offset_delta,
        });
    }
    if header.compression()? == Compression::None {
        let mut rest = &batch[HEADER_BYTES..];
        let mut least = 0;
        for index in 0..count {
            let found = walk_record(&mut rest);
            let found = found.map_err(|error| BatchError::Record { index, error })?;
            if found < least || found > last_offset_delta {
                return Err(BatchError::RecordOffsetDelta { index, found });
            }
            least = found.saturating_add(1);
        }
        if !rest.is_empty() {
            return Err(BatchError::RecordCountMismatch {
                count,
                walked: count,
                rest_bytes: rest.len(),
            });
        }
    }
    Ok(header)
}

fn check_counts(header: &BatchHeader) -> Result<(), BatchError> {
    let BatchHeader {
        record_count: count,
        last_offset_delta,
        ..
    } = *header;
    match count {
        0 => Err(BatchError::EmptyBatch),
        ..0 => Err(BatchError::NegativeCount { count }),
        _ if count - 1 != last_offset_delta => Err(BatchError::OffsetDeltaMismatch {
            count,
            last_offset_delta,
        }),
        _ => Ok(()),
    }
}

fn walk(records: &[u8], count: i32) -> Result<(), BatchError> {
    let mut rest = records;
    for index in 0..count {
        if rest.is_empty() {
            return Err(BatchError::RecordCountMismatch {
                count,
                walked: index,
                rest_bytes: 0,
            });
        }
        let delta = walk_record(&mut rest).map_err(|error| BatchError::Record { index, error })?;
        if delta != index {
            return Err(BatchError::RecordOffsetDelta {
                index,
                found: delta,
            });
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(BatchError::RecordCountMismatch {
            count,
            walked: count,
            rest_bytes: rest.len(),
        })
    }
}

/// Steps over a record; its offset delta.
#[inline]
fn walk_record(rest: &mut &[u8]) -> Result<i32, RecordError> {
    let length = varint::take_i32(rest).ok_or(RecordError::BadVarint { field: "length" })?;
    let body_bytes = usize::try_from(length)
        .ok()
        .filter(|bytes| (MINIMUM_RECORD_BYTES..=rest.len()).contains(bytes))
        .ok_or(RecordError::BadLength {
            field: "length",
            length,
            available_bytes: rest.len(),
        })?;
    let (body, behind) = rest.split_at(body_bytes);
    // Attributes: no bit of a record's has a meaning.
    let mut body = &body[1..];
    varint::skip_i64(&mut body).ok_or(RecordError::BadVarint {
        field: "timestamp delta",
    })?;
    let delta = varint::take_i32(&mut body).ok_or(RecordError::BadVarint {
        field: "offset delta",
    })?;
    *rest = behind;
    Ok(delta)
}
