//! What a broker changes in a stored batch, in place. Offset and leader epoch lie outside the
//! checksum; timestamps inside, and the checksum is corrected by its algebra instead of being
//! taken again: the cost does not grow with the batch but for the bits of its length.

use crate::ids::Offset;

use super::checksum::{crc32c, replace_piece};
use super::header::{CRC_AT, CRC_FROM, HEADER_BYTES, LOG_APPEND_TIME_BIT};

const LEADER_EPOCH_AT: usize = 12;
const MAX_TIMESTAMP_AT: usize = 35;
const MAX_TIMESTAMP_END: usize = 43;

/// Gives the batch its offset.
///
/// # Panics
/// When the bytes are shorter than a header.
pub fn set_base_offset(batch: &mut [u8], offset: Offset) {
    assert_header(batch);
    batch[..8].copy_from_slice(&offset.as_i64().to_be_bytes());
}

/// Notes under which leader the batch was stored.
///
/// # Panics
/// When the bytes are shorter than a header.
pub fn set_leader_epoch(batch: &mut [u8], epoch: i32) {
    assert_header(batch);
    batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&epoch.to_be_bytes());
}

/// Stamps the batch with the broker's time: readers then take it as the time of every record.
/// `batch` is exactly the batch, with a checksum that is right.
///
/// # Panics
/// When the bytes are shorter than a header.
pub fn set_log_append_time(batch: &mut [u8], timestamp_ms: i64) {
    rewrite(batch, |batch| {
        let attributes = i16::from_be_bytes([batch[CRC_FROM], batch[CRC_FROM + 1]]);
        let attributes = attributes | LOG_APPEND_TIME_BIT;
        batch[CRC_FROM..CRC_FROM + 2].copy_from_slice(&attributes.to_be_bytes());
        put_max_timestamp(batch, timestamp_ms);
    });
}

/// Gives the batch the maximum timestamp that its producer left out. `batch` is exactly the
/// batch, with a checksum that is right.
///
/// # Panics
/// When the bytes are shorter than a header.
pub fn set_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    rewrite(batch, |batch| put_max_timestamp(batch, timestamp_ms));
}

fn put_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_END].copy_from_slice(&timestamp_ms.to_be_bytes());
}

/// Changes bytes between the attributes and the end of the maximum timestamp, and the checksum
/// with them. A checksum that was wrong stays wrong.
fn rewrite(batch: &mut [u8], change: impl FnOnce(&mut [u8])) {
    assert_header(batch);
    let before = crc32c(&batch[CRC_FROM..MAX_TIMESTAMP_END]);
    change(batch);
    let after = crc32c(&batch[CRC_FROM..MAX_TIMESTAMP_END]);
    let old = u32::from_be_bytes([
        batch[CRC_AT],
        batch[CRC_AT + 1],
        batch[CRC_AT + 2],
        batch[CRC_AT + 3],
    ]);
    let behind = (batch.len() - MAX_TIMESTAMP_END) as u64;
    let crc = replace_piece(old, before, after, behind);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn assert_header(batch: &[u8]) {
    assert!(batch.len() >= HEADER_BYTES, "only a whole batch is patched");
}
