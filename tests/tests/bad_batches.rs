//! Record batches that no proper client sends. Each is refused with the protocol's error over a
//! connection that goes on, a log line names the cause, and nothing of it is stored.

use anyhow::Result;
use ringlog_tests::record_batch::{
    Batch, CRC_AT, LAST_OFFSET_DELTA_AT, MAGIC_AT, RECORD_COUNT_AT, RECORDS_AT, seal,
};
use ringlog_tests::sound::{TOPIC, check_goes_on, good_batch, one_core};
use ringlog_tests::wire::{Connection, Fields, Produced, api, error};

/// Sends record bytes that are refused with the code, over a connection that goes on, with a log
/// line that holds the words.
fn check_refuses(records: &[u8], code: i16, words: &[&str]) -> Result<()> {
    let mut node = one_core()?;
    let from = node.log_position()?;
    let mut client = Connection::open(node.kafka(0))?;
    let answer = client.produce(TOPIC, 0, records)?;
    assert_eq!(
        answer,
        Produced {
            error: code,
            base_offset: -1
        }
    );
    println!("{}", node.log_line(from, &[&[TOPIC], words].concat())?);
    client.request(api::API_VERSIONS, 0, &[])?;
    check_goes_on(&mut node)
}

#[test]
fn a_wrong_checksum_is_refused() -> Result<()> {
    let mut batch = good_batch();
    batch[CRC_AT] ^= 1;
    check_refuses(&batch, error::CORRUPT_MESSAGE, &["checksum"])
}

#[test]
fn a_flipped_bit_anywhere_behind_the_checksum_is_refused() -> Result<()> {
    let mut node = one_core()?;
    let mut client = Connection::open(node.kafka(0))?;
    let good = good_batch();
    for at in CRC_AT..good.len() {
        let mut batch = good.clone();
        batch[at] ^= 0x10;
        let answer = client.produce(TOPIC, 0, &batch)?;
        assert_ne!(answer.error, error::NONE, "byte {at}");
    }
    check_goes_on(&mut node)
}

#[test]
fn a_record_count_that_lies_is_refused() -> Result<()> {
    for count in [2_i32, 4, 1_000_000, i32::MAX, -1] {
        let mut batch = good_batch();
        batch[RECORD_COUNT_AT..][..4].copy_from_slice(&count.to_be_bytes());
        seal(&mut batch);
        check_refuses(&batch, error::INVALID_RECORD, &["record"])?;
    }
    Ok(())
}

#[test]
fn a_record_count_that_lies_together_with_the_last_offset_is_refused() -> Result<()> {
    for count in [2_i32, 4] {
        let mut batch = good_batch();
        batch[RECORD_COUNT_AT..][..4].copy_from_slice(&count.to_be_bytes());
        batch[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&(count - 1).to_be_bytes());
        seal(&mut batch);
        check_refuses(&batch, error::INVALID_RECORD, &["record"])?;
    }
    Ok(())
}

#[test]
fn record_lengths_that_lie_are_refused() -> Result<()> {
    for (at, value) in [
        (RECORDS_AT, 0x7f_u8),
        (RECORDS_AT, 0x01),
        (RECORDS_AT + 3, 0x7e),
    ] {
        let mut batch = good_batch();
        batch[at] = value;
        seal(&mut batch);
        check_refuses(&batch, error::INVALID_RECORD, &["record"])?;
    }
    Ok(())
}

#[test]
fn an_empty_batch_is_refused() -> Result<()> {
    let mut batch = good_batch();
    batch.truncate(RECORDS_AT);
    batch[RECORD_COUNT_AT..][..4].copy_from_slice(&0_i32.to_be_bytes());
    batch[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&(-1_i32).to_be_bytes());
    seal(&mut batch);
    check_refuses(&batch, error::INVALID_RECORD, &["record"])
}

#[test]
fn no_batch_at_all_is_refused() -> Result<()> {
    check_refuses(&[], error::INVALID_RECORD, &[])
}

#[test]
fn a_batch_length_that_lies_is_refused() -> Result<()> {
    let with_length = |length: i32| {
        let mut batch = good_batch();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch
    };
    for length in [0, -1, i32::MIN, 48] {
        check_refuses(&with_length(length), error::CORRUPT_MESSAGE, &["length"])?;
    }
    for length in [1000, i32::MAX] {
        check_refuses(&with_length(length), error::INVALID_RECORD, &["cut off"])?;
    }
    Ok(())
}

#[test]
fn a_batch_cut_short_is_refused() -> Result<()> {
    let batch = good_batch();
    for length in [batch.len() - 1, RECORDS_AT, RECORDS_AT - 1, MAGIC_AT, 1] {
        check_refuses(&batch[..length], error::INVALID_RECORD, &[])?;
    }
    Ok(())
}

#[test]
fn several_batches_for_one_partition_are_refused() -> Result<()> {
    let mut two = good_batch();
    two.extend(good_batch());
    check_refuses(&two, error::INVALID_RECORD, &["batch"])
}

#[test]
fn an_unknown_codec_is_refused() -> Result<()> {
    let mut batch = good_batch();
    batch[CRC_AT + 5] = 7;
    seal(&mut batch);
    check_refuses(&batch, error::UNSUPPORTED_COMPRESSION_TYPE, &["codec 7"])
}

#[test]
fn a_control_batch_from_a_client_is_refused() -> Result<()> {
    let mut batch = good_batch();
    batch[CRC_AT + 5] = 0x20;
    seal(&mut batch);
    check_refuses(&batch, error::INVALID_RECORD, &["control"])
}

#[test]
fn old_message_formats_are_refused() -> Result<()> {
    // A message set of one message: offset, size, CRC-32, magic, attributes, (time,) key, value.
    for magic in [0_u8, 1] {
        let mut message = vec![magic, 0];
        if magic == 1 {
            message.extend(1_700_000_000_000_i64.to_be_bytes());
        }
        message.extend((-1_i32).to_be_bytes());
        message.extend(3_i32.to_be_bytes());
        message.extend(b"old");
        let mut set = Fields::new()
            .i64(0)
            .i32(i32::try_from(message.len() + 4)?)
            .finish();
        set.extend(crc32_of_old_formats(&message).to_be_bytes());
        set.extend(&message);
        assert_eq!(set[MAGIC_AT], magic);
        check_refuses(&set, error::INVALID_RECORD, &["old format"])?;
    }
    let mut future = good_batch();
    future[MAGIC_AT] = 3;
    check_refuses(&future, error::CORRUPT_MESSAGE, &["unknown format 3"])
}

/// CRC-32 as zip files have it, of which the old formats made use.
fn crc32_of_old_formats(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[test]
fn a_batch_above_the_topics_limit_is_refused() -> Result<()> {
    let mut node = one_core()?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("small", 1, &[("max.message.bytes", "1000")])?;
    let from = node.log_position()?;
    let answer = client.produce("small", 0, &Batch::of_values([vec![b'x'; 2000]]).encode())?;
    assert_eq!(answer.error, error::MESSAGE_TOO_LARGE);
    println!("{}", node.log_line(from, &["small", "1000"])?);
    let answer = client.produce("small", 0, &Batch::of_values([vec![b'x'; 500]]).encode())?;
    assert_eq!(answer.error, error::NONE);
    check_goes_on(&mut node)
}

#[test]
fn one_bad_partition_does_not_spoil_the_others_of_its_request() -> Result<()> {
    let mut node = one_core()?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("three", 3, &[])?;
    let mut bad = good_batch();
    bad[CRC_AT] ^= 1;
    let body = Fields::new()
        .string(None)
        .i16(-1)
        .i32(30_000)
        .i32(1)
        .string(Some("three"))
        .i32(3);
    let body = body
        .i32(0)
        .bytes(&good_batch())
        .i32(1)
        .bytes(&bad)
        .i32(2)
        .bytes(&good_batch());
    let mut answer = client.request(api::PRODUCE, 7, &body.finish())?;
    let (_topics, _name, count) = (answer.i32()?, answer.string()?, answer.i32()?);
    assert_eq!(count, 3);
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push((answer.i32()?, answer.i16()?));
        let (_offset, _append_time, _start) = (answer.i64()?, answer.i64()?, answer.i64()?);
    }
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            (0, error::NONE),
            (1, error::CORRUPT_MESSAGE),
            (2, error::NONE)
        ]
    );
    assert_eq!(client.read_all("three", 0)?.len(), 3);
    assert_eq!(client.read_all("three", 1)?.len(), 0);
    check_goes_on(&mut node)
}
