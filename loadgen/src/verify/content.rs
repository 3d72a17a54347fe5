//! One batch against the template it was made from.
//!
//! The fast path compares bytes: the tail with the template's (one pass of memory comparison,
//! which also proves its share of the checksum), the head field by field. A batch with other
//! bytes may still hold the same records (a broker may compress again): then both are unfolded
//! and compared record by record.

use anyhow::Context;
use ringlog_types::batch::{BatchHeader, HEADER_BYTES, crc32c, records};

use crate::batch::codec::records_plain;
use crate::batch::stamp::{STAMP_BYTES, Stamp};
use crate::batch::template::{BatchTemplate, CRC_FROM};

/// Attribute bit: the broker's clock gave the timestamp.
const LOG_APPEND_TIME: i16 = 0b1000;

/// What a batch turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Exactly what a generator of this shape sends.
    Intact(Stamp),
    /// A stamped batch whose records are not the template's.
    Altered(Stamp, &'static str),
    /// Nobody's stamp: not a generator's batch, or its first record is damaged.
    Foreign,
}

/// Examines one whole batch.
#[must_use]
pub fn examine(template: &BatchTemplate, header: &BatchHeader, batch: &[u8]) -> Content {
    let head_bytes = template.head_bytes();
    let expected = template.bytes();
    let same_bytes = batch.len() == expected.len()
        && batch[head_bytes..] == *template.tail()
        && batch[HEADER_BYTES..template.stamp_at()] == expected[HEADER_BYTES..template.stamp_at()];
    if same_bytes && let Some(stamp) = Stamp::parse(&batch[template.stamp_at()..]) {
        return match check_header(template, header, template.crc_of(&batch[..head_bytes])) {
            None => Content::Intact(stamp),
            Some(reason) => Content::Altered(stamp, reason),
        };
    }
    compare_records(template, header, batch)
}

fn check_header(template: &BatchTemplate, header: &BatchHeader, crc: u32) -> Option<&'static str> {
    let expected = BatchHeader::parse(template.bytes()).expect("a template has a header");
    if header.crc != crc {
        return Some("the batch's CRC does not match its bytes");
    }
    if header.record_count != expected.record_count
        || header.last_offset_delta != expected.last_offset_delta
    {
        return Some("the batch's record count is another");
    }
    // Control and transaction bits must be clear, the codec may not change under the same bytes.
    if header.attributes & !LOG_APPEND_TIME != expected.attributes {
        return Some("the batch's attributes are others");
    }
    None
}

/// The slow path: for batches whose bytes are not the template's.
fn compare_records(template: &BatchTemplate, header: &BatchHeader, batch: &[u8]) -> Content {
    let limit = 8 * template.total_bytes() + (64 << 20);
    let unfold = |attributes: i16, batch: &[u8]| {
        records_plain(attributes, &batch[HEADER_BYTES..], limit)
            .context("unfolding a batch")
            .ok()
    };
    let stamp_of = |plain: &[u8]| Stamp::parse(records(plain).next()?.ok()?.value?);
    let Some(found) = unfold(header.attributes, batch) else {
        return Content::Foreign;
    };
    let Some(stamp) = stamp_of(&found) else {
        return Content::Foreign;
    };
    if header.crc != crc32c(&batch[CRC_FROM..]) {
        return Content::Altered(stamp, "the batch's CRC does not match its bytes");
    }
    let expected_header = BatchHeader::parse(template.bytes()).expect("a template has a header");
    let expected = unfold(expected_header.attributes, template.bytes())
        .expect("a template unfolds, as its own tests show");
    match same_records(&found, &expected) {
        true if header.record_count == expected_header.record_count => Content::Intact(stamp),
        true => Content::Altered(stamp, "the batch's record count is another"),
        false => Content::Altered(stamp, "a record's key, value, header or place is another"),
    }
}

/// Whether both hold the same records, but for the stamp in the first.
fn same_records(found: &[u8], expected: &[u8]) -> bool {
    let (mut found, mut expected) = (records(found), records(expected));
    let mut first = true;
    loop {
        let (mut one, mut other) = match (found.next(), expected.next()) {
            (None, None) => return true,
            (Some(Ok(one)), Some(Ok(other))) => (one, other),
            _ => return false,
        };
        if first {
            one.value = one.value.and_then(|value| value.get(STAMP_BYTES..));
            other.value = other.value.and_then(|value| value.get(STAMP_BYTES..));
            first = false;
        }
        if one != other {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::codec::Compression;
    use crate::batch::stamp::RunId;
    use crate::batch::template::{BatchShape, Patch};
    use proptest::prelude::*;

    fn shape(compression: Compression) -> BatchShape {
        BatchShape {
            record_bytes: 100,
            batch_bytes: 4_000,
            max_records: u32::MAX,
            keys: 5,
            compression,
        }
    }

    fn patch() -> Patch {
        Patch {
            stamp: Stamp {
                run: RunId(9),
                connection: 1,
                partition: 2,
                number: 3,
                scheduled_ns: 4,
            },
            timestamp_ms: 1_700_000_000_000,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        }
    }

    const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    fn examined(template: &BatchTemplate, batch: &[u8]) -> Content {
        examine(template, &BatchHeader::parse(batch).unwrap(), batch)
    }

    #[test]
    fn what_the_broker_may_change_is_no_alteration() {
        for compression in ALL {
            let template = BatchTemplate::new(&shape(compression)).unwrap();
            let mut batch = template.patched(&patch());
            ringlog_types::batch::set_base_offset(&mut batch, ringlog_types::Offset(12_345));
            ringlog_types::batch::set_leader_epoch(&mut batch, 7);
            assert_eq!(examined(&template, &batch), Content::Intact(patch().stamp));
            ringlog_types::batch::set_log_append_time(&mut batch, 1_800_000_000_000);
            assert_eq!(examined(&template, &batch), Content::Intact(patch().stamp));
        }
    }

    #[test]
    fn records_packed_with_another_codec_are_the_same_records() {
        for from in ALL {
            for to in ALL {
                let template = BatchTemplate::new(&shape(from)).unwrap();
                let batch = BatchTemplate::new(&shape(to)).unwrap().patched(&patch());
                let mut batch = batch;
                // The number of records that fit is the same: shapes are filled before packing.
                let crc = crc32c(&batch[CRC_FROM..]);
                batch[17..21].copy_from_slice(&crc.to_be_bytes());
                let found = examined(&template, &batch);
                assert_eq!(found, Content::Intact(patch().stamp), "{from:?} to {to:?}");
            }
        }
    }

    /// The records of a batch without their codec.
    fn unfolded(batch: &[u8]) -> Vec<u8> {
        let header = BatchHeader::parse(batch).unwrap();
        records_plain(header.attributes, &batch[HEADER_BYTES..], 1 << 20).unwrap()
    }

    /// Flips one bit under the checksum, writes a fitting checksum when told to, and checks what
    /// is found.
    fn check_flip(codec: Compression, at: usize, bit: u8, mend_crc: bool) {
        let template = BatchTemplate::new(&shape(codec)).unwrap();
        let original = template.patched(&patch());
        let mut batch = original.clone();
        batch[at] ^= 1 << bit;
        if mend_crc {
            let crc = crc32c(&batch[CRC_FROM..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let Ok(header) = BatchHeader::parse(&batch) else {
            return; // found by the header's own checks
        };
        // A mended header may carry other times, producers or stamps: those are the patch's.
        let patchable = (27..57).contains(&at)
            || (template.stamp_at()..template.head_bytes()).contains(&at)
            || (at == 22 && bit == 3);
        if mend_crc && patchable {
            return;
        }
        if matches!(examine(&template, &header, &batch), Content::Intact(_)) {
            // A codec can say the same records in other bytes, and a checksum that fits those
            // bytes makes them a batch that nothing is wrong with.
            assert!(mend_crc, "{codec:?}: bit {bit} of byte {at} is not found");
            assert!(
                unfolded(&batch) == unfolded(&original),
                "{codec:?}: other records by bit {bit} of byte {at} are not found"
            );
        }
    }

    #[test]
    fn other_bytes_for_the_same_records_are_no_alteration() {
        // This bit lies in zstd's table of sequences: the match it moves finds the same bytes.
        check_flip(Compression::Zstd, 1_726, 2, true);
    }

    #[test]
    fn every_bit_flipped_in_an_uncompressed_batch_is_found() {
        let bytes = BatchTemplate::new(&shape(Compression::None))
            .unwrap()
            .bytes()
            .len();
        for at in CRC_FROM..bytes {
            check_flip(Compression::None, at, (at % 8) as u8, true);
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_anywhere_under_the_checksum_is_found(
            which in 0_usize..3, place in 0.0_f64..1.0, bit in 0_u8..8, mend_crc: bool
        ) {
            let bytes = BatchTemplate::new(&shape(ALL[which])).unwrap().bytes().len();
            let at = CRC_FROM + ((bytes - CRC_FROM) as f64 * place) as usize;
            check_flip(ALL[which], at, bit, mend_crc);
        }
    }
}
