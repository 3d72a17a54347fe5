//! A whole record batch made once, and the patch that makes each copy of it unlike the others.
//!
//! ```text
//!  0            21                61            stamp_at        head_bytes                len
//!  | outside CRC | rest of header | first record | stamp (40)   | tail: never changes      |
//!  └──────────── head: copied and patched per send (~120 B) ───┘└ sent from here, always ─┘
//! ```
//!
//! The CRC-32C of a patched batch is the head's, combined with the tail's, which is computed
//! once: about 100 bytes of checksum per batch however large the batch is.

use anyhow::ensure;
use ringlog_types::batch::{BatchHeader, HEADER_BYTES, crc32c, crc32c_combine};
use serde::{Deserialize, Serialize};

use crate::batch::codec::Compression;
use crate::batch::record::append_record;
use crate::batch::splice;
use crate::batch::stamp::{STAMP_BYTES, Stamp};

/// Where the checksummed part of a batch begins: the attributes.
pub const CRC_FROM: usize = 21;

/// What a batch is made of. Two generators with the same shape make the same template, byte for
/// byte: that is how a journal's reader knows what must be in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchShape {
    /// Length of each record's value. The first record's is at least a stamp.
    pub record_bytes: usize,
    /// The batch, header included, is filled up to this many bytes (before compression), with one
    /// record at least.
    pub batch_bytes: usize,
    /// At most this many records, whatever fits.
    pub max_records: u32,
    /// Number of distinct keys; 0: records without keys.
    pub keys: u32,
    /// Codec of the records.
    pub compression: Compression,
}

/// Fields that differ from send to send.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    /// Goes into the first record's value.
    pub stamp: Stamp,
    /// Base and maximum timestamp.
    pub timestamp_ms: i64,
    /// Idempotent producer: id, epoch and the batch's first sequence; −1 each without.
    pub producer_id: i64,
    /// See `producer_id`.
    pub producer_epoch: i16,
    /// See `producer_id`.
    pub base_sequence: i32,
}

/// A batch, ready to be patched and sent.
pub struct BatchTemplate {
    bytes: Vec<u8>,
    header: BatchHeader,
    stamp_at: usize,
    payload_bytes: u64,
    tail_crc: u32,
    behind_tail: CrcShift,
}

impl BatchTemplate {
    /// Makes the template of a shape.
    pub fn new(shape: &BatchShape) -> anyhow::Result<BatchTemplate> {
        ensure!(shape.max_records > 0, "a batch has one record at least");
        let mut content = Content::new();
        let mut first = Vec::new();
        let mut rest = Vec::new();
        let mut payload_bytes = 0;
        let mut records = 0_u32;
        let mut stamp_in_first = 0;
        while records < shape.max_records {
            let key = (shape.keys > 0).then(|| content.key(shape.keys));
            let minimum = if records == 0 { STAMP_BYTES } else { 0 };
            let value = content.value(records, shape.record_bytes.max(minimum));
            let out = if records == 0 { &mut first } else { &mut rest };
            let before = out.len();
            append_record(out, records, key.as_deref(), &value);
            let filled = HEADER_BYTES + first.len() + rest.len();
            if records > 0 && filled > shape.batch_bytes {
                rest.truncate(before);
                break;
            }
            if records == 0 {
                // The value is followed by one byte: the header count, zero.
                stamp_in_first = first.len() - 1 - value.len();
            }
            payload_bytes += (value.len() + key.map_or(0, |key| key.len())) as u64;
            records += 1;
        }
        let (body, first_at) = match shape.compression {
            Compression::None => ([first.as_slice(), &rest].concat(), 0),
            Compression::Lz4 => {
                let spliced = splice::lz4(&first, &rest)?;
                (spliced.bytes, spliced.first_at)
            }
            Compression::Zstd => {
                let spliced = splice::zstd(&first, &rest)?;
                (spliced.bytes, spliced.first_at)
            }
        };
        Self::assemble(
            shape,
            &body,
            HEADER_BYTES + first_at + stamp_in_first,
            records,
            payload_bytes,
        )
    }

    fn assemble(
        shape: &BatchShape,
        body: &[u8],
        stamp_at: usize,
        records: u32,
        payload_bytes: u64,
    ) -> anyhow::Result<BatchTemplate> {
        let total = HEADER_BYTES + body.len();
        ensure!(
            total <= 1 << 30,
            "a batch of {total} bytes: Kafka frames end at 1 GiB, choose smaller batches"
        );
        let record_count = i32::try_from(records)?;
        let header = BatchHeader {
            base_offset: 0,
            batch_length: i32::try_from(total - 12)?,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: shape.compression.attribute_bits(),
            last_offset_delta: record_count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count,
        };
        let mut bytes = vec![0; HEADER_BYTES];
        header.write(&mut bytes);
        bytes.extend_from_slice(body);
        let tail = &bytes[stamp_at + STAMP_BYTES..];
        let behind_tail = CrcShift::new(tail.len() as u64);
        let tail_crc = crc32c(tail);
        Ok(BatchTemplate {
            header,
            stamp_at,
            payload_bytes,
            tail_crc,
            behind_tail,
            bytes,
        })
    }

    /// Length of the part that is copied and patched.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.stamp_at + STAMP_BYTES
    }

    /// Length of the whole batch.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where the stamp lies.
    #[must_use]
    pub fn stamp_at(&self) -> usize {
        self.stamp_at
    }

    /// Records in the batch.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.header.record_count.cast_unsigned()
    }

    /// Bytes of keys and values in the batch, uncompressed.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The part that is the same in every batch.
    #[must_use]
    pub fn tail(&self) -> &[u8] {
        &self.bytes[self.head_bytes()..]
    }

    /// The template itself, with an empty stamp.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the head for one send into `out` (exactly [`Self::head_bytes`] long).
    pub fn patch_head(&self, patch: &Patch, out: &mut [u8]) {
        out.copy_from_slice(&self.bytes[..self.head_bytes()]);
        let mut stamp = [0; STAMP_BYTES];
        patch.stamp.write(&mut stamp);
        out[self.stamp_at..].copy_from_slice(&stamp);
        let mut header = BatchHeader {
            base_timestamp: patch.timestamp_ms,
            max_timestamp: patch.timestamp_ms,
            producer_id: patch.producer_id,
            producer_epoch: patch.producer_epoch,
            base_sequence: patch.base_sequence,
            ..self.header
        };
        header.write(out);
        header.crc = self.crc_of(out);
        header.write(out);
    }

    /// CRC-32C of a batch with this head and the template's tail.
    #[must_use]
    pub fn crc_of(&self, head: &[u8]) -> u32 {
        self.behind_tail.apply(crc32c(&head[CRC_FROM..])) ^ self.tail_crc
    }

    /// A whole batch, copied and patched: for tests and for single events.
    #[must_use]
    pub fn patched(&self, patch: &Patch) -> Vec<u8> {
        let mut batch = self.bytes.clone();
        let head_bytes = self.head_bytes();
        self.patch_head(patch, &mut batch[..head_bytes]);
        batch
    }
}

/// Appending a fixed number of bytes to a message moves its CRC by a linear map. Tabulated by
/// byte, it costs four lookups instead of the logarithm's worth of matrix squarings.
struct CrcShift {
    table: Box<[[u32; 256]; 4]>,
}

impl CrcShift {
    fn new(length: u64) -> CrcShift {
        let mut table = Box::new([[0; 256]; 4]);
        for (byte, row) in table.iter_mut().enumerate() {
            let basis: [u32; 8] =
                std::array::from_fn(|bit| crc32c_combine(1 << (8 * byte + bit), 0, length));
            for (value, slot) in row.iter_mut().enumerate() {
                *slot = (0..8)
                    .filter(|bit| value >> bit & 1 == 1)
                    .fold(0, |sum, bit| sum ^ basis[bit]);
            }
        }
        CrcShift { table }
    }

    fn apply(&self, crc: u32) -> u32 {
        let bytes = crc.to_le_bytes();
        self.table
            .iter()
            .zip(bytes)
            .fold(0, |sum, (row, byte)| sum ^ row[usize::from(byte)])
    }
}

/// Keys and values: printable, different in every record, about as compressible as log lines.
struct Content {
    state: u64,
}

impl Content {
    fn new() -> Content {
        Content {
            state: 0x5249_4e47_4c4f_4721,
        }
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn key(&mut self, keys: u32) -> Vec<u8> {
        format!("key-{:08}", self.next() % u64::from(keys)).into_bytes()
    }

    fn value(&mut self, record: u32, bytes: usize) -> Vec<u8> {
        let mut value = format!("event {record:08} ").into_bytes();
        while value.len() < bytes {
            value.extend_from_slice(format!("{:016x}", self.next()).as_bytes());
        }
        value.truncate(bytes);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::codec::records_plain;
    use crate::batch::stamp::RunId;
    use proptest::prelude::*;
    use ringlog_types::batch::records;

    fn shape() -> impl Strategy<Value = BatchShape> {
        (
            0_usize..3_000,
            0_usize..40_000,
            prop_oneof![Just(1_u32), Just(u32::MAX), 1_u32..50],
            0_u32..40,
            prop_oneof![
                Just(Compression::None),
                Just(Compression::Lz4),
                Just(Compression::Zstd)
            ],
        )
            .prop_map(
                |(record_bytes, batch_bytes, max_records, keys, compression)| BatchShape {
                    record_bytes,
                    batch_bytes,
                    max_records,
                    keys,
                    compression,
                },
            )
    }

    fn patch(number: u64) -> Patch {
        Patch {
            stamp: Stamp {
                run: RunId(number ^ 77),
                connection: 3,
                partition: 5,
                number,
                scheduled_ns: number.wrapping_mul(31),
            },
            timestamp_ms: 1_700_000_000_000,
            producer_id: 4711,
            producer_epoch: 2,
            base_sequence: 12,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_patched_batch_passes_the_brokers_own_validation(shape in shape(), number: u64) {
            let template = BatchTemplate::new(&shape).unwrap();
            let batch = template.patched(&patch(number));
            let header = ringlog_types::batch::validate(&batch).unwrap();
            prop_assert_eq!(header.crc, crc32c(&batch[CRC_FROM..]));
            prop_assert_eq!(header.record_count.cast_unsigned(), template.records());
            prop_assert_eq!(header.base_sequence, 12);
            prop_assert_eq!(header.producer_id, 4711);
        }

        #[test]
        fn the_stamp_is_the_start_of_the_first_value(shape in shape(), number: u64) {
            let template = BatchTemplate::new(&shape).unwrap();
            let batch = template.patched(&patch(number));
            let plain = records_plain(
                shape.compression.attribute_bits(), &batch[HEADER_BYTES..], 1 << 24).unwrap();
            let found: Vec<_> = records(&plain).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(Stamp::parse(found[0].value.unwrap()), Some(patch(number).stamp));
            prop_assert_eq!(found.len(), template.records() as usize);
            for (delta, record) in (0..).zip(&found) {
                prop_assert_eq!(record.offset_delta, delta);
                prop_assert_eq!(record.key.is_some(), shape.keys > 0);
            }
            for record in &found[1..] {
                prop_assert_eq!(record.value.unwrap().len(), shape.record_bytes);
            }
        }
    }

    #[test]
    fn a_template_fills_its_batch_and_not_more() {
        let shape = BatchShape {
            record_bytes: 100,
            batch_bytes: 1 << 20,
            max_records: u32::MAX,
            keys: 0,
            compression: Compression::None,
        };
        let template = BatchTemplate::new(&shape).unwrap();
        assert!(template.total_bytes() <= 1 << 20);
        assert!(template.total_bytes() > (1 << 20) - 120);
        assert!(template.records() > 9_000);
        assert!(template.head_bytes() < 128);
    }

    #[test]
    fn the_same_shape_makes_the_same_bytes() {
        let shape = BatchShape {
            record_bytes: 100,
            batch_bytes: 16 << 10,
            max_records: u32::MAX,
            keys: 10,
            compression: Compression::Lz4,
        };
        let one = BatchTemplate::new(&shape).unwrap();
        let other = BatchTemplate::new(&shape).unwrap();
        assert_eq!(one.bytes(), other.bytes());
    }
}
