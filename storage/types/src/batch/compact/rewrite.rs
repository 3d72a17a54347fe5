//! What stays of a batch, and the batch without the rest: base offset, last offset delta, producer
//! and sequence stay as they were, the records that stay keep their offsets and timestamps, and
//! the codec stays the same.
//!
//! A tombstone (a record without a value) stays until `delete.retention.ms` after compaction first
//! met it. When that is over is noted in the batch as Kafka does: a flag in the attributes says
//! that the base timestamp is that time, and the records' timestamps count from it.
//!
//! Batches of transactions and markers stay as they are.

use super::keys::Keys;
use crate::batch::checksum::crc32c;
use crate::batch::codec::{compress, decompress};
use crate::batch::header::{
    BatchHeader, CRC_AT, CRC_FROM, DELETE_HORIZON_BIT, HEADER_BYTES, LENGTH_FROM, TimestampType,
};
use crate::batch::records::{RecordView, records};
use crate::batch::varint;

/// How a partition is compacted.
#[derive(Clone, Copy, Debug)]
pub struct CompactionRules {
    /// The node's clock, milliseconds.
    pub now_ms: i64,
    /// How long a tombstone stays once it was met.
    pub delete_retention_ms: i64,
    /// Keys that are remembered: a bound for memory.
    pub most_keys: usize,
    /// Most bytes of a batch's records when decompressed: a batch with more stays as it is.
    pub opened_bytes: usize,
    /// Unpredictable.
    pub seed: u64,
}

/// What is to be done with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// It stays as it is.
    Same,
    /// Nothing of it stays.
    Nothing,
    /// This stays.
    Batch(Vec<u8>),
}

/// The compaction of a partition.
#[derive(Debug)]
pub struct Compaction {
    rules: CompactionRules,
    keys: Keys,
}

impl Compaction {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(rules: CompactionRules) -> Compaction {
        Compaction {
            rules,
            keys: Keys::new(rules.most_keys, rules.seed),
        }
    }

    /// Learns the keys of a batch, which comes behind all noted before. `false`: there is no room
    /// for all its keys; what lies from this batch on cannot be compacted in this pass.
    pub fn note(&mut self, batch: &[u8]) -> bool {
        let Some((header, plain)) = self.open(batch) else {
            return true; // It stays, and so does what it might have replaced.
        };
        let keyed = records(&plain).map_while(Result::ok);
        keyed
            .filter_map(|record| Some((record.key?, record.offset_delta)))
            .all(|(key, delta)| self.keys.note(key, header.base_offset + i64::from(delta)))
    }

    /// Keys known.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// What stays of a batch, which is one of those noted or lies before them.
    #[must_use]
    pub fn rewrite(&self, batch: &[u8]) -> Rewritten {
        let Some((header, plain)) = self.open(batch) else {
            return Rewritten::Same;
        };
        let mut kept: Vec<(RecordView<'_>, &[u8])> = Vec::new();
        let (mut count, mut tombstones) = (0, 0);
        let mut walk = records(&plain);
        loop {
            let before = walk.rest;
            let record = match walk.next() {
                None => break,
                Some(Err(_)) => return Rewritten::Same,
                Some(Ok(record)) => record,
            };
            count += 1;
            if self.stays(&header, &record) {
                tombstones += usize::from(record.value.is_none());
                kept.push((record, &before[..before.len() - walk.rest.len()]));
            }
        }
        if count != header.record_count {
            return Rewritten::Same;
        }
        if kept.is_empty() {
            return Rewritten::Nothing;
        }
        let horizon = header.delete_horizon_ms();
        let is_met_first = horizon.is_none() && tombstones > 0;
        if kept.len() == plain_count(count) && !is_met_first {
            return Rewritten::Same;
        }
        let horizon = is_met_first.then(|| {
            self.rules
                .now_ms
                .saturating_add(self.rules.delete_retention_ms)
        });
        close(&header, batch, &kept, horizon).map_or(Rewritten::Same, Rewritten::Batch)
    }

    fn stays(&self, header: &BatchHeader, record: &RecordView<'_>) -> bool {
        // Without a key nothing can be told of a record. A compacted topic takes none; those that
        // it had before it was compacted go, as in Kafka.
        let Some(key) = record.key else { return false };
        let offset = header.base_offset + i64::from(record.offset_delta);
        if self.keys.comes_after(key, offset) {
            return false;
        }
        let horizon = header.delete_horizon_ms();
        let is_over = horizon.is_some_and(|horizon| horizon < self.rules.now_ms);
        record.value.is_some() || !is_over
    }

    /// The header and the plain records of a batch that can be compacted.
    fn open(&self, batch: &[u8]) -> Option<(BatchHeader, Vec<u8>)> {
        let header = BatchHeader::parse(batch).ok()?;
        if header.is_control() || header.is_transactional() || header.total_bytes() != batch.len() {
            return None;
        }
        let payload = &batch[HEADER_BYTES..];
        let compression = header.compression().ok()?;
        let plain = decompress(compression, payload, self.rules.opened_bytes).ok()?;
        Some((header, plain))
    }
}

fn plain_count(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}

/// The batch with these records only; with a horizon, counted from it.
fn close(
    header: &BatchHeader,
    batch: &[u8],
    kept: &[(RecordView<'_>, &[u8])],
    horizon: Option<i64>,
) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    for (record, bytes) in kept {
        match horizon {
            None => plain.extend_from_slice(bytes),
            Some(horizon) => {
                let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
                put_moved(bytes, timestamp.wrapping_sub(horizon), &mut plain)?;
            }
        }
    }
    let packed = compress(header.compression().ok()?, &plain).ok()?;
    let total = HEADER_BYTES + packed.len();
    let timestamps = kept.iter().map(|(record, _)| record.timestamp_delta);
    let latest = timestamps.max()?;
    let own_clock = header.timestamp_type() == TimestampType::LogAppendTime;
    let mut changed = BatchHeader {
        batch_length: i32::try_from(total - LENGTH_FROM).ok()?,
        record_count: i32::try_from(kept.len()).ok()?,
        max_timestamp: if own_clock {
            header.max_timestamp
        } else {
            header.base_timestamp.wrapping_add(latest)
        },
        ..*header
    };
    if let Some(horizon) = horizon {
        changed.attributes |= DELETE_HORIZON_BIT;
        changed.base_timestamp = horizon;
    }
    let mut out = vec![0; total];
    out[HEADER_BYTES..].copy_from_slice(&packed);
    changed.write(&mut out);
    let crc = crc32c(&out[CRC_FROM..]);
    out[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    debug_assert_eq!(out[..8], batch[..8], "the base offset stays");
    Some(out)
}

/// A record with another timestamp delta.
fn put_moved(bytes: &[u8], timestamp_delta: i64, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = bytes;
    varint::take_i32(&mut rest)?;
    let (attributes, mut rest) = rest.split_first()?;
    varint::take_i64(&mut rest)?;
    let mut body = vec![*attributes];
    varint::put(&mut body, timestamp_delta);
    body.extend_from_slice(rest);
    varint::put(out, i64::try_from(body.len()).ok()?);
    out.extend(body);
    Some(())
}
