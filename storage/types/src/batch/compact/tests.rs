//! Compaction beside the simplest thing that behaves the same: a map from key to value.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Offset;
use crate::batch::{
    BatchHeader, Builder, Compression, HEADER_BYTES, compress, decompress, records,
    set_base_offset, validate_compacted,
};

const LIMIT: usize = 1 << 20;

/// Key, value (none: a tombstone), both small.
type Record = (u8, Option<u8>);

fn rules(now_ms: i64) -> CompactionRules {
    CompactionRules {
        now_ms,
        delete_retention_ms: 1_000,
        most_keys: 1 << 20,
        opened_bytes: LIMIT,
        seed: 7,
    }
}

fn batch(base: u64, timestamp: i64, content: &[Record], codec: Compression) -> Vec<u8> {
    let mut builder = Builder::new().producer(5, 1, i32::try_from(base).unwrap());
    for (place, (key, value)) in (0..).zip(content) {
        let value = value.map(|value| vec![value; 20]);
        let at = timestamp + place;
        builder = builder.push(at, Some(&[*key]), value.as_deref(), &[("h", b"x")]);
    }
    let mut bytes = builder.build_compressed(codec, |plain| compress(codec, plain).unwrap());
    set_base_offset(&mut bytes, Offset(base));
    bytes
}

/// Offset, timestamp, key, value.
type Opened = (i64, i64, Vec<u8>, Option<Vec<u8>>);

/// Every record of a batch.
fn open(batch: &[u8]) -> Vec<Opened> {
    let header = validate_compacted(batch).expect("a sound batch");
    let codec = header.compression().unwrap();
    let plain = decompress(codec, &batch[HEADER_BYTES..], LIMIT).unwrap();
    let found: Vec<_> = records(&plain)
        .map(|record| {
            let record = record.expect("a sound record");
            assert_eq!(record.headers.len(), 1, "headers stay");
            (
                header.base_offset + i64::from(record.offset_delta),
                header.base_timestamp + record.timestamp_delta,
                record.key.unwrap().to_vec(),
                record.value.map(<[u8]>::to_vec),
            )
        })
        .collect();
    assert_eq!(found.len(), usize::try_from(header.record_count).unwrap());
    let latest = found.iter().map(|record| record.1).max();
    assert_eq!(latest, Some(header.max_timestamp), "the maximum timestamp");
    found
}

/// One pass over batches; what stays.
fn pass(batches: &[Vec<u8>], now_ms: i64) -> Vec<Vec<u8>> {
    let mut compaction = Compaction::new(rules(now_ms));
    assert!(batches.iter().all(|batch| compaction.note(batch)));
    let left = batches
        .iter()
        .filter_map(|batch| match compaction.rewrite(batch) {
            Rewritten::Same => Some(batch.clone()),
            Rewritten::Nothing => None,
            Rewritten::Batch(bytes) => Some(bytes),
        });
    left.collect()
}

fn codec() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        Just(Compression::Gzip),
        Just(Compression::Snappy),
        Just(Compression::Lz4),
        Just(Compression::Zstd),
    ]
}

fn content() -> impl Strategy<Value = Vec<(Vec<Record>, Compression)>> {
    let record = (0u8..12, proptest::option::weighted(0.8, any::<u8>()));
    let batch = (proptest::collection::vec(record, 1..8), codec());
    proptest::collection::vec(batch, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_last_record_of_each_key_stays_where_it_was_and_nothing_else(content in content()) {
        let (mut batches, mut base) = (Vec::new(), 100);
        let mut last = BTreeMap::new();
        for (records, codec) in &content {
            batches.push(batch(base, 5_000, records, *codec));
            for (place, (key, value)) in (0..).zip(records) {
                let place = i64::from(place);
                let value = value.map(|value| vec![value; 20]);
                last.insert(vec![*key], (base as i64 + place, 5_000 + place, value));
            }
            base += records.len() as u64;
        }
        let left = pass(&batches, 10_000);
        let found: Vec<_> = left.iter().flat_map(|batch| open(batch)).collect();
        let mut expected: Vec<_> = last
            .iter()
            .map(|(key, (offset, at, value))| (*offset, *at, key.clone(), value.clone()))
            .collect();
        expected.sort();
        prop_assert_eq!(&found, &expected);
        for bytes in &left {
            let header = BatchHeader::parse(bytes).unwrap();
            let was = batches.iter().find(|batch| batch[..8] == bytes[..8]).unwrap();
            let was = BatchHeader::parse(was).unwrap();
            prop_assert_eq!(header.last_offset_delta, was.last_offset_delta);
            prop_assert_eq!(
                (header.producer_id, header.producer_epoch, header.base_sequence),
                (was.producer_id, was.producer_epoch, was.base_sequence)
            );
            prop_assert_eq!(header.compression(), was.compression());
        }
        // Nothing is left to do before the tombstones' time is over.
        prop_assert_eq!(&pass(&left, 10_999), &left);
        let later: Vec<_> = pass(&left, 11_001).iter().flat_map(|batch| open(batch)).collect();
        expected.retain(|(_, _, _, value)| value.is_some());
        prop_assert_eq!(&later, &expected);
    }

    #[test]
    fn keys_that_have_no_room_keep_all_their_records(content in content(), most in 0usize..6) {
        let (mut batches, mut base) = (Vec::new(), 0);
        for (records, codec) in &content {
            batches.push(batch(base, 0, records, *codec));
            base += records.len() as u64;
        }
        let mut compaction = Compaction::new(CompactionRules { most_keys: most, ..rules(0) });
        let noted = batches.iter().take_while(|batch| compaction.note(batch)).count();
        prop_assert!(compaction.keys() <= most);
        let mut last: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        let mut after = BTreeMap::new();
        for (number, bytes) in batches.iter().enumerate() {
            let stays = match compaction.rewrite(bytes) {
                _ if number >= noted => Some(bytes.clone()),
                Rewritten::Same => Some(bytes.clone()),
                Rewritten::Nothing => None,
                Rewritten::Batch(bytes) => Some(bytes),
            };
            last.extend(open(bytes).into_iter().map(|(_, _, key, value)| (key, value)));
            let stays = stays.iter().flat_map(|bytes| open(bytes));
            after.extend(stays.map(|(_, _, key, value)| (key, value)));
        }
        prop_assert_eq!(after, last);
    }
}

#[test]
fn markers_transactions_and_batches_that_cannot_be_opened_stay_and_replace_nothing() {
    let old = batch(0, 0, &[(1, Some(1))], Compression::None);
    let mut torn = batch(1, 0, &[(1, Some(2))], Compression::Zstd);
    torn.truncate(torn.len() - 3);
    let length = i32::try_from(torn.len() - 12).unwrap();
    torn[8..12].copy_from_slice(&length.to_be_bytes());
    for bits in [16, 32, 48] {
        let marker = Builder::new()
            .attributes(bits)
            .push(0, Some(&[1]), Some(b"x"), &[])
            .build();
        let mut compaction = Compaction::new(rules(0));
        for bytes in [&old, &torn, &marker] {
            assert!(compaction.note(bytes));
        }
        for bytes in [&old, &torn, &marker] {
            assert_eq!(compaction.rewrite(bytes), Rewritten::Same);
        }
    }
}

#[test]
fn records_without_a_key_are_removed_as_kafka_does() {
    let bytes = Builder::new()
        .push(0, None, Some(b"lost"), &[])
        .push(0, Some(b"k"), Some(b"v"), &[("h", b"x")])
        .build();
    let mut compaction = Compaction::new(rules(0));
    assert!(compaction.note(&bytes));
    let Rewritten::Batch(left) = compaction.rewrite(&bytes) else {
        panic!("one record of two stays");
    };
    assert_eq!(open(&left), [(1, 0, b"k".to_vec(), Some(b"v".to_vec()))]);
}
