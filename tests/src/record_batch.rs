//! Record batches of format 2, made by hand, so that a test can also make wrong ones.
//!
//! ```text
//!  0 base offset i64 │ 8 length i32 │ 12 leader epoch i32 │ 16 magic i8 │ 17 CRC-32C u32
//! 21 attributes i16 │ 23 last offset delta i32 │ 27 base timestamp i64 │ 35 max timestamp i64
//! 43 producer id i64 │ 51 producer epoch i16 │ 53 base sequence i32 │ 57 record count i32 │ 61 records
//! ```

/// Where the magic byte is.
pub const MAGIC_AT: usize = 16;
/// Where the checksum is; it covers everything behind it.
pub const CRC_AT: usize = 17;
/// Where the last offset delta is.
pub const LAST_OFFSET_DELTA_AT: usize = 23;
/// Where the record count is.
pub const RECORD_COUNT_AT: usize = 57;
/// Where records begin.
pub const RECORDS_AT: usize = 61;

/// A batch to be made.
#[derive(Clone, Debug)]
pub struct Batch {
    /// One record for each; none has a key or headers.
    pub values: Vec<Vec<u8>>,
    /// −1: not idempotent.
    pub producer_id: i64,
    /// −1 without a producer id.
    pub producer_epoch: i16,
    /// −1 without a producer id.
    pub base_sequence: i32,
    /// Of the first record and of all others.
    pub timestamp_ms: i64,
}

impl Batch {
    /// Values without keys.
    #[must_use]
    pub fn of_values<V: Into<Vec<u8>>>(values: impl IntoIterator<Item = V>) -> Batch {
        Batch {
            values: values.into_iter().map(Into::into).collect(),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            timestamp_ms: 1_700_000_000_000,
        }
    }

    /// The same from an idempotent producer.
    #[must_use]
    pub fn from_producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Batch {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = i32::try_from(self.values.len()).expect("a test makes few records");
        let mut bytes = Vec::new();
        bytes.extend(0_i64.to_be_bytes());
        bytes.extend(0_i32.to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        bytes.push(2);
        bytes.extend(0_u32.to_be_bytes());
        bytes.extend(0_i16.to_be_bytes());
        bytes.extend((count - 1).to_be_bytes());
        bytes.extend(self.timestamp_ms.to_be_bytes());
        bytes.extend(self.timestamp_ms.to_be_bytes());
        bytes.extend(self.producer_id.to_be_bytes());
        bytes.extend(self.producer_epoch.to_be_bytes());
        bytes.extend(self.base_sequence.to_be_bytes());
        bytes.extend(count.to_be_bytes());
        for (value, delta) in self.values.iter().zip(0_i64..) {
            let mut record = vec![0_u8];
            varint(&mut record, 0);
            varint(&mut record, delta);
            varint(&mut record, -1);
            varint(
                &mut record,
                i64::try_from(value.len()).expect("a short value"),
            );
            record.extend(value);
            varint(&mut record, 0);
            varint(
                &mut bytes,
                i64::try_from(record.len()).expect("a short record"),
            );
            bytes.extend(record);
        }
        seal(&mut bytes);
        bytes
    }
}

/// Makes length and checksum true again after a change.
pub fn seal(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - 12).expect("a test makes small batches");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[CRC_AT + 4..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

/// The values of the uncompressed batches in a fetched record set, with their offsets. A last
/// batch that was cut short does not count.
#[must_use]
pub fn values(mut records: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    while records.len() >= RECORDS_AT {
        let number = |at: usize| i32::from_be_bytes(records[at..at + 4].try_into().expect("four"));
        let base = i64::from_be_bytes(records[..8].try_into().expect("eight"));
        let total = usize::try_from(number(8)).expect("a batch's length") + 12;
        if records.len() < total {
            break;
        }
        let mut rest = &records[RECORDS_AT..total];
        for _ in 0..number(RECORD_COUNT_AT) {
            let length = usize::try_from(read_varint(&mut rest)).expect("a record's length");
            let (mut record, behind) = rest.split_at(length);
            rest = behind;
            record = &record[1..];
            read_varint(&mut record);
            let offset = base + read_varint(&mut record);
            let key = usize::try_from(read_varint(&mut record)).unwrap_or(0);
            record = &record[key..];
            let value = usize::try_from(read_varint(&mut record)).unwrap_or(0);
            found.push((offset, record[..value].to_vec()));
        }
        records = &records[total..];
    }
    found
}

fn varint(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = value.cast_unsigned() << 1 ^ (value >> 63).cast_unsigned();
    while zigzag >= 0x80 {
        into.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

fn read_varint(bytes: &mut &[u8]) -> i64 {
    let mut zigzag = 0_u64;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a whole varint");
        *bytes = rest;
        zigzag |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
}

/// CRC-32C, bit by bit: nothing shared with the implementation under test.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_made_batch_reads_back() {
        let batch = Batch::of_values((0..200).map(|n| vec![b'x'; n])).encode();
        let read = values(&batch);
        assert_eq!(read.len(), 200);
        assert_eq!(read[199], (199, vec![b'x'; 199]));
        assert!(values(&batch[..batch.len() - 1]).is_empty());
    }
}
