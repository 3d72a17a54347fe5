//! What a reader of a compacted partition meets: only what was appended, at its own offset, in
//! order; and of each key the last record at least, unless that is a tombstone whose retention
//! has passed.

use std::collections::BTreeMap;

use ringlog_types::batch::{HEADER_BYTES, decompress, records, validate_compacted};

use super::model::{Model, Partition, Record};
use super::rewriter::DELETE_RETENTION_MS;

/// Opened, a batch of a run is far smaller.
const OPENED_BYTES: usize = 1 << 20;

/// The records of a batch, and the offset behind it.
///
/// # Errors
/// It is not a batch that a client could read.
pub fn open(batch: &[u8]) -> Result<(Vec<Record>, u64), String> {
    let header = validate_compacted(batch).map_err(|error| error.to_string())?;
    let codec = header.compression().map_err(|error| error.to_string())?;
    let plain = decompress(codec, &batch[HEADER_BYTES..], OPENED_BYTES);
    let plain = plain.map_err(|error| error.to_string())?;
    let base = header.base_offset.unsigned_abs();
    let mut found = Vec::new();
    for record in records(&plain) {
        let record = record.map_err(|error| error.to_string())?;
        found.push(Record {
            offset: base + u64::from(record.offset_delta.unsigned_abs()),
            key: record.key.unwrap_or_default().to_vec(),
            value: record.value.map(<[u8]>::to_vec),
            timestamp_ms: header.base_timestamp.wrapping_add(record.timestamp_delta),
        });
    }
    Ok((found, base + u64::from(header.offsets())))
}

/// Compares what was read from `from` to before `end`, all of it, with what was appended. Returns
/// how many records were gone, as they may be.
///
/// # Errors
/// The first difference.
pub fn compare(
    model: &Model,
    partition: u64,
    (from, end): (u64, u64),
    found: &[Record],
) -> Result<u64, String> {
    let nothing = Partition::default();
    let state = model.partitions.get(&partition).unwrap_or(&nothing);
    let mut last: BTreeMap<&[u8], u64> = BTreeMap::new();
    for (_, record) in state.records.iter().filter(|(_, r)| r.offset < end) {
        last.insert(&record.key, record.offset);
    }
    let within = |record: &Record| from <= record.offset && record.offset < end;
    let mut found = found.iter().filter(|record| within(record)).peekable();
    let mut gone = 0;
    for (came_with, record) in state.records.iter().filter(|(_, r)| within(r)) {
        if found.peek().is_some_and(|next| **next == *record) {
            found.next();
            continue;
        }
        let comes_again = last[&*record.key] > record.offset;
        let is_over = || model.may_expire(partition, *came_with, DELETE_RETENTION_MS);
        if !comes_again && !(record.value.is_none() && is_over()) {
            return Err(format!(
                "partition {partition}: offset {} is the last of its key ({:?}, tombstone: {}) and \
                 is gone",
                record.offset,
                String::from_utf8_lossy(&record.key),
                record.value.is_none()
            ));
        }
        gone += 1;
    }
    match found.next() {
        None => Ok(gone),
        Some(record) => Err(format!(
            "partition {partition}: offset {} was not appended like that, or comes out of order \
             ({:?}, timestamp {})",
            record.offset,
            String::from_utf8_lossy(&record.key),
            record.timestamp_ms
        )),
    }
}
