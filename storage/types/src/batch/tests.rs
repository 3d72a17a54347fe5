use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ids::Offset;

/// A record as plain values, to be encoded by [`encode`] and compared with what is read.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

fn plain_record() -> impl Strategy<Value = Plain> {
    let bytes = || vec(any::<u8>(), 0..90);
    (
        0i64..4_000_000_000_000,
        proptest::option::of(bytes()),
        proptest::option::of(bytes()),
        vec(("[a-z]{0,8}", bytes()), 0..3),
    )
        .prop_map(|(timestamp_ms, key, value, headers)| Plain {
            timestamp_ms,
            key,
            value,
            headers,
        })
}

/// An integer the long way: every group of seven bits worked out by division.
fn varint(value: i64) -> Vec<u8> {
    let mut rest = if value >= 0 {
        value as u128 * 2
    } else {
        value.unsigned_abs() as u128 * 2 - 1
    };
    let mut out = Vec::new();
    loop {
        let group = (rest % 128) as u8;
        rest /= 128;
        if rest == 0 {
            out.push(group);
            return out;
        }
        out.push(group + 128);
    }
}

fn nullable(bytes: Option<&[u8]>) -> Vec<u8> {
    bytes.map_or_else(
        || varint(-1),
        |b| [varint(b.len() as i64), b.to_vec()].concat(),
    )
}

fn encode_record(index: usize, base_timestamp: i64, record: &Plain) -> Vec<u8> {
    let mut body = [
        vec![0],
        varint(record.timestamp_ms - base_timestamp),
        varint(index as i64),
        nullable(record.key.as_deref()),
        nullable(record.value.as_deref()),
        varint(record.headers.len() as i64),
    ]
    .concat();
    for (key, value) in &record.headers {
        body.extend(nullable(Some(key.as_bytes())));
        body.extend(nullable(Some(value)));
    }
    [varint(body.len() as i64), body].concat()
}

/// A batch, byte by byte as the format's table says, without the code under test but for the
/// CRC.
fn encode(records: &[Plain]) -> Vec<u8> {
    let base = records[0].timestamp_ms;
    let max = records.iter().map(|r| r.timestamp_ms).max().unwrap();
    let count = records.len() as i32;
    let mut covered = [
        &0i16.to_be_bytes()[..],
        &(count - 1).to_be_bytes(),
        &base.to_be_bytes(),
        &max.to_be_bytes(),
        &77i64.to_be_bytes(),
        &3i16.to_be_bytes(),
        &12i32.to_be_bytes(),
        &count.to_be_bytes(),
    ]
    .concat();
    for (index, record) in records.iter().enumerate() {
        covered.extend(encode_record(index, base, record));
    }
    [
        &0i64.to_be_bytes()[..],
        &(covered.len() as i32 + 9).to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &[2],
        &crc32c(&covered).to_be_bytes(),
        &covered,
    ]
    .concat()
}

/// The batch with its checksum taken again after a change.
fn resealed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn three_records() -> Vec<u8> {
    Builder::new()
        .push(1_000, Some(b"a"), Some(b"1"), &[])
        .push(1_001, None, Some(b"2"), &[("h", b"x")])
        .push(999, Some(b"c"), None, &[])
        .build()
}

#[test]
fn crc32c_gives_the_check_values_of_rfc_3720() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(b""), 0);
}

#[test]
fn a_length_beyond_memory_combines_like_its_parts() {
    // 2^40 bytes of zeros behind "a", as 2^20 times 2^20 of them.
    let million = vec![0u8; 1 << 20];
    let zeros = crc32c(&million);
    let mut parts = crc32c(b"a");
    let mut all_zeros = 0;
    for _ in 0..1 << 20 {
        parts = crc32c_combine(parts, zeros, 1 << 20);
        all_zeros = crc32c_combine(all_zeros, zeros, 1 << 20);
    }
    assert_eq!(crc32c_combine(crc32c(b"a"), all_zeros, 1 << 40), parts);
}

proptest! {
    #[test]
    fn the_checksum_of_two_pieces_is_combined_from_theirs(
        a in vec(any::<u8>(), 0..300),
        b in vec(any::<u8>(), 0..5000),
    ) {
        let whole = crc32c(&[&a[..], &b[..]].concat());
        prop_assert_eq!(crc32c_combine(crc32c(&a), crc32c(&b), b.len() as u64), whole);
        let theirs = crc_fast::checksum_combine(
            crc_fast::CrcAlgorithm::Crc32Iscsi,
            crc32c(&a).into(),
            crc32c(&b).into(),
            b.len() as u64,
        );
        prop_assert_eq!(u64::from(whole), theirs);
    }

    #[test]
    fn a_true_batch_is_valid_and_read_back(records in vec(plain_record(), 1..40)) {
        let batch = encode(&records);
        let header = validate(&batch).unwrap();
        prop_assert_eq!(header.record_count as usize, records.len());
        prop_assert_eq!(header.total_bytes(), batch.len());
        prop_assert_eq!(header.offsets() as usize, records.len());
        prop_assert_eq!(
            (header.producer_id, header.producer_epoch, header.base_sequence), (77, 3, 12)
        );
        let mut written = batch.clone();
        written[..HEADER_BYTES].fill(0);
        header.write(&mut written);
        prop_assert_eq!(&written, &batch);

        let read: Vec<Plain> = super::records(&batch[HEADER_BYTES..])
            .enumerate()
            .map(|(index, record)| {
                let record = record.unwrap();
                assert_eq!(record.offset_delta as usize, index);
                Plain {
                    timestamp_ms: header.base_timestamp + record.timestamp_delta,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record
                        .headers
                        .map(|h| {
                            let key = String::from_utf8(h.key.to_vec()).unwrap();
                            (key, h.value.unwrap().to_vec())
                        })
                        .collect(),
                }
            })
            .collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn the_builder_writes_what_the_format_says(records in vec(plain_record(), 1..40)) {
        let mut builder = Builder::new().producer(77, 3, 12);
        for record in &records {
            let headers: Vec<(&str, &[u8])> =
                record.headers.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
            builder = builder.push(
                record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers,
            );
        }
        prop_assert_eq!(builder.total_bytes(), encode(&records).len());
        prop_assert_eq!(builder.build(), encode(&records));
    }

    #[test]
    fn any_flipped_byte_under_the_checksum_is_refused(
        records in vec(plain_record(), 1..10),
        place in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let mut batch = encode(&records);
        let at = 21 + place.index(batch.len() - 21);
        batch[at] ^= flip;
        let refused = validate(&batch).unwrap_err();
        prop_assert!(matches!(refused, BatchError::CrcMismatch { .. }), "{refused}");
    }

    #[test]
    fn a_cut_batch_is_refused_at_every_length(records in vec(plain_record(), 1..5)) {
        let batch = encode(&records);
        for length in 0..batch.len() {
            prop_assert!(validate(&batch[..length]).is_err());
        }
        let mut longer = batch;
        longer.push(0);
        let refused = validate(&longer).unwrap_err();
        prop_assert!(matches!(refused, BatchError::LengthMismatch { .. }), "{refused}");
    }

    #[test]
    fn cut_and_random_records_end_in_an_error_and_never_in_a_panic(
        records in vec(plain_record(), 1..5),
        noise in vec(any::<u8>(), 0..200),
        count in 1i32..20,
    ) {
        let batch = encode(&records);
        let payload = &batch[HEADER_BYTES..];
        let mut boundaries = vec![0];
        let mut end = 0;
        for (index, record) in records.iter().enumerate() {
            end += encode_record(index, records[0].timestamp_ms, record).len();
            boundaries.push(end);
        }
        for cut in 0..payload.len() {
            let clean = super::records(&payload[..cut]).all(|record| record.is_ok());
            prop_assert_eq!(clean, boundaries.contains(&cut), "cut at {}", cut);
        }
        let _ = super::records(&noise).count();

        let mut header = BatchHeader::parse(&batch).unwrap();
        header.batch_length = 49 + noise.len() as i32;
        header.record_count = count;
        header.last_offset_delta = count - 1;
        let mut lie = vec![0; HEADER_BYTES];
        header.write(&mut lie);
        lie.extend_from_slice(&noise);
        let _ = validate(&resealed(lie));
    }

    #[test]
    fn what_the_broker_writes_leaves_the_batch_valid(
        records in vec(plain_record(), 1..20),
        timestamp_ms in -1i64..i64::MAX,
        offset in 0u64..i64::MAX as u64,
        epoch in any::<i32>(),
    ) {
        let before = encode(&records);
        let mut batch = before.clone();
        set_base_offset(&mut batch, Offset(offset));
        set_leader_epoch(&mut batch, epoch);
        prop_assert_eq!(&batch[16..], &before[16..]);

        set_max_timestamp(&mut batch, timestamp_ms);
        let header = validate(&batch).unwrap();
        prop_assert_eq!(header.max_timestamp, timestamp_ms);
        prop_assert_eq!(header.timestamp_type(), TimestampType::CreateTime);

        set_log_append_time(&mut batch, 5);
        let header = validate(&batch).unwrap();
        prop_assert_eq!(header.max_timestamp, 5);
        prop_assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        prop_assert_eq!(header.base_offset, offset as i64);
        prop_assert_eq!(header.partition_leader_epoch, epoch);
        prop_assert_eq!(&batch[HEADER_BYTES..], &before[HEADER_BYTES..]);
    }

    #[test]
    fn variable_length_integers_survive(value in any::<i64>()) {
        let mut out = Vec::new();
        super::varint::put(&mut out, value);
        prop_assert_eq!(&out, &varint(value));
        let mut rest = &out[..];
        prop_assert_eq!(super::varint::take_i64(&mut rest), Some(value));
        prop_assert!(rest.is_empty());
        let mut skipped = &out[..];
        prop_assert_eq!(super::varint::skip_i64(&mut skipped), Some(()));
        prop_assert!(skipped.is_empty());
        let mut narrow = &out[..];
        prop_assert_eq!(super::varint::take_i32(&mut narrow), i32::try_from(value).ok());
    }
}

#[test]
fn the_ends_of_the_integer_ranges_survive() {
    let beyond_32_bits = [
        1 << 31,
        -(1 << 31) - 1,
        1 << 32,
        1 << 34,
        i64::MIN,
        i64::MAX,
    ];
    let within = [i32::MIN.into(), i32::MAX.into(), 0, -1, 63, 64, -64, -65];
    for value in beyond_32_bits.into_iter().chain(within) {
        let mut out = Vec::new();
        super::varint::put(&mut out, value);
        assert_eq!(super::varint::take_i64(&mut &out[..]), Some(value));
        assert_eq!(
            super::varint::take_i32(&mut &out[..]),
            i32::try_from(value).ok()
        );
    }
    assert_eq!(super::varint::take_i64(&mut &[0x80; 11][..]), None);
    assert_eq!(
        super::varint::take_i32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]),
        None
    );
}

#[test]
fn a_corrupted_checksum_field_is_refused() {
    for at in 17..21 {
        let mut batch = three_records();
        batch[at] ^= 1;
        assert!(matches!(
            validate(&batch),
            Err(BatchError::CrcMismatch { .. })
        ));
    }
}

#[test]
fn old_and_unknown_formats_are_named() {
    let mut batch = three_records();
    for magic in [0, 1] {
        batch[16] = magic as u8;
        assert_eq!(validate(&batch), Err(BatchError::OldFormat { magic }));
        // A message set with one empty message of format 0 is shorter than a v2 header.
        assert_eq!(validate(&batch[..26]), Err(BatchError::OldFormat { magic }));
    }
    batch[16] = 3;
    assert_eq!(validate(&batch), Err(BatchError::UnknownMagic { magic: 3 }));
    batch[16] = 0xff;
    assert_eq!(
        validate(&batch),
        Err(BatchError::UnknownMagic { magic: -1 })
    );
}

#[test]
fn impossible_lengths_are_refused_by_name() {
    for length in [i32::MIN, -1, 0, 48] {
        let mut batch = three_records();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let expected = Err(BatchError::InvalidLength {
            batch_length: length,
        });
        assert_eq!(validate(&batch), expected);
    }
    let mut batch = three_records();
    batch[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(matches!(
        validate(&batch),
        Err(BatchError::LengthMismatch { .. })
    ));
    assert_eq!(validate(&[]), Err(BatchError::TooShort { bytes: 0 }));
    assert_eq!(
        validate(&three_records()[..60]),
        Err(BatchError::TooShort { bytes: 60 })
    );
}

fn with_counts(count: i32, last_offset_delta: i32) -> Vec<u8> {
    let mut batch = three_records();
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
    resealed(batch)
}

#[test]
fn a_record_count_that_lies_is_refused() {
    assert!(validate(&with_counts(3, 2)).is_ok());
    assert_eq!(validate(&with_counts(0, -1)), Err(BatchError::EmptyBatch));
    assert_eq!(
        validate(&with_counts(-1, -2)),
        Err(BatchError::NegativeCount { count: -1 })
    );
    assert_eq!(
        validate(&with_counts(i32::MIN, i32::MAX)),
        Err(BatchError::NegativeCount { count: i32::MIN })
    );
    assert_eq!(
        validate(&with_counts(3, 5)),
        Err(BatchError::OffsetDeltaMismatch {
            count: 3,
            last_offset_delta: 5
        })
    );
    assert!(matches!(
        validate(&with_counts(2, 1)),
        Err(BatchError::RecordCountMismatch {
            count: 2,
            walked: 2,
            ..
        })
    ));
    assert_eq!(
        validate(&with_counts(4, 3)),
        Err(BatchError::RecordCountMismatch {
            count: 4,
            walked: 3,
            rest_bytes: 0
        })
    );
    assert!(matches!(
        validate(&with_counts(i32::MAX, i32::MAX - 1)),
        Err(BatchError::RecordCountMismatch { walked: 3, .. })
    ));
    assert_eq!(
        validate(&Builder::new().build()),
        Err(BatchError::EmptyBatch)
    );
}

#[test]
fn records_with_wrong_offset_deltas_or_lengths_are_refused() {
    let batch = three_records();
    // The first record: length at 61, attributes, timestamp delta, offset delta at 64.
    let mut shifted = batch.clone();
    shifted[64] = 2;
    assert_eq!(
        validate(&resealed(shifted)),
        Err(BatchError::RecordOffsetDelta { index: 0, found: 1 })
    );
    // The second record begins at 70: its delta is that of the first again.
    let mut repeated = batch.clone();
    assert_eq!((repeated[61], repeated[73]), (16, 2));
    repeated[73] = 0;
    assert_eq!(
        validate(&resealed(repeated)),
        Err(BatchError::RecordOffsetDelta { index: 1, found: 0 })
    );
    let mut negative = batch.clone();
    negative[61] = 1;
    assert!(matches!(
        validate(&resealed(negative)),
        Err(BatchError::Record {
            index: 0,
            error: RecordError::BadLength { length: -1, .. }
        })
    ));
    let mut beyond = batch;
    beyond[61] = 0x7e;
    assert!(matches!(
        validate(&resealed(beyond)),
        Err(BatchError::Record {
            index: 0,
            error: RecordError::BadLength { length: 63, .. }
        })
    ));
}

#[test]
fn a_record_with_bad_inner_lengths_is_refused_when_it_is_read() {
    // length 10, attributes, deltas, key length 40 in a body without that many bytes.
    let cut = [20, 0, 0, 0, 80, 1, 0, 0, 0, 0, 0];
    assert!(matches!(
        records(&cut).next().unwrap(),
        Err(RecordError::BadLength {
            field: "key length",
            length: 40,
            ..
        })
    ));
    // A header count of a billion is refused before anything loops over it.
    let mut bomb = vec![0, 0, 0, 1, 1];
    bomb.extend(varint(1_000_000_000));
    let bomb = [varint(bomb.len() as i64), bomb].concat();
    assert!(matches!(
        records(&bomb).next().unwrap(),
        Err(RecordError::BadLength {
            field: "header count",
            ..
        })
    ));
    let trailing = [16, 0, 0, 0, 1, 1, 0, 9, 9];
    let mut iterator = records(&trailing);
    assert_eq!(
        iterator.next().unwrap(),
        Err(RecordError::TrailingBytes { bytes: 2 })
    );
    assert!(iterator.next().is_none(), "nothing follows an error");
    assert!(records(&[0]).next().unwrap().is_err());
}

#[test]
fn compressed_batches_are_not_opened_and_unknown_codecs_refused() {
    let batch = Builder::new()
        .push(1, None, Some(b"v"), &[])
        .build_compressed(Compression::Zstd, |records| {
            records.iter().map(|b| !b).collect()
        });
    let header = validate(&batch).unwrap();
    assert_eq!(header.compression(), Ok(Compression::Zstd));
    for codec in 5..=7u8 {
        let batch = Builder::new()
            .attributes(codec.into())
            .push(1, None, None, &[])
            .build();
        assert_eq!(
            validate(&batch),
            Err(BatchError::UnknownCompression { codec })
        );
    }
}

#[test]
fn flags_are_read_from_the_attributes() {
    let header = |bits| {
        let batch = Builder::new()
            .attributes(bits)
            .push(1, None, None, &[])
            .build();
        validate(&batch).unwrap()
    };
    assert!(header(1 << 4).is_transactional() && !header(1 << 4).is_control());
    assert!(header(1 << 5).is_control() && !header(1 << 5).is_transactional());
    assert_eq!(
        header(1 << 3).timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert!(!header(0).has_producer_id());
}

#[test]
fn sequences_wrap_to_zero_behind_the_largest() {
    let mut header = BatchHeader::parse(&three_records()).unwrap();
    header.base_sequence = i32::MAX - 2;
    assert_eq!(header.last_sequence(), i32::MAX);
    header.base_sequence = i32::MAX - 1;
    assert_eq!(header.last_sequence(), 0);
    header.base_sequence = i32::MAX;
    assert_eq!(header.last_sequence(), 1);
    header.base_sequence = i32::MAX;
    header.last_offset_delta = i32::MAX;
    assert_eq!(header.last_sequence(), i32::MAX - 1);
}
