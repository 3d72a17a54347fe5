//! Makes record batches: for load generators, benchmarks, tests, and a node's own events. A
//! client's batch is never rebuilt; it is stored as it came.

use super::checksum::crc32c;
use super::header::{BatchHeader, CRC_AT, CRC_FROM, Compression, HEADER_BYTES, LENGTH_FROM};
use super::varint;

/// Gathers records, then makes a batch of them.
///
/// ```
/// use ringlog_types::batch::{Builder, records, validate, HEADER_BYTES};
///
/// let batch = Builder::new()
///     .producer(7, 0, 0)
///     .push(1_000, Some(b"key"), Some(b"value"), &[("trace", b"1")])
///     .push(1_001, None, None, &[])
///     .build();
/// assert_eq!(validate(&batch).unwrap().record_count, 2);
/// assert_eq!(records(&batch[HEADER_BYTES..]).count(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    header: BatchHeader,
    records: Vec<u8>,
    body: Vec<u8>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// No records, no producer, base offset 0.
    #[must_use]
    pub fn new() -> Builder {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Builder {
            header,
            records: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The idempotent producer that writes the batch, and the sequence of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Builder {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Sets bits of the attributes beside the codec: 8 timestamps by the broker, 16
    /// transactional, 32 control.
    #[must_use]
    pub fn attributes(mut self, bits: i16) -> Builder {
        self.header.attributes |= bits;
        self
    }

    /// Adds a record. The first one's timestamp is the batch's base timestamp.
    ///
    /// # Panics
    /// When a length or the number of records passes `i32::MAX`, which Kafka's format cannot say.
    #[must_use]
    pub fn push(
        mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Builder {
        self.add(
            timestamp_ms,
            key,
            value,
            headers.iter().map(|(key, value)| (*key, Some(*value))),
        );
        self
    }

    /// The same in place, with headers that may have no value.
    ///
    /// # Panics
    /// As [`Builder::push`].
    pub fn add<'h>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let header = &mut self.header;
        if header.record_count == 0 {
            header.base_timestamp = timestamp_ms;
            header.max_timestamp = timestamp_ms;
        }
        header.max_timestamp = header.max_timestamp.max(timestamp_ms);
        let index = header.record_count;
        header.record_count = index
            .checked_add(1)
            .expect("a batch counts its records in i32");
        header.last_offset_delta = index;

        let body = &mut self.body;
        body.clear();
        body.push(0);
        // Readers add with the same wrap, so that any two timestamps fit.
        varint::put(body, timestamp_ms.wrapping_sub(header.base_timestamp));
        varint::put(body, i64::from(index));
        put_bytes(body, key);
        put_bytes(body, value);
        varint::put(body, length(headers.len()));
        for (key, value) in headers {
            put_bytes(body, Some(key.as_bytes()));
            put_bytes(body, value);
        }
        varint::put(&mut self.records, length(body.len()));
        self.records.extend_from_slice(body);
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// Length of the batch as it stands, if it stays uncompressed.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch, uncompressed. Without records it is an empty batch, which
    /// [`super::validate`] refuses.
    ///
    /// # Panics
    /// When it is longer than `i32::MAX`.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        finish(self.header, &self.records)
    }

    /// The batch, its records compressed by the caller's codec.
    ///
    /// # Panics
    /// When it is longer than `i32::MAX`.
    #[must_use]
    pub fn build_compressed(
        self,
        compression: Compression,
        compress: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut header = self.header;
        header.attributes |= compression as i16;
        finish(header, &compress(&self.records))
    }
}

fn finish(mut header: BatchHeader, records: &[u8]) -> Vec<u8> {
    let total = HEADER_BYTES + records.len();
    header.batch_length =
        i32::try_from(total - LENGTH_FROM).expect("a batch has its length in i32");
    let mut batch = vec![0; HEADER_BYTES];
    batch.reserve_exact(records.len());
    batch.extend_from_slice(records);
    header.write(&mut batch);
    let crc = crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

fn length(bytes: usize) -> i64 {
    i64::from(i32::try_from(bytes).expect("lengths in a record are i32"))
}
