//! What no proper client sends. Each piece of bad input is answered with the protocol's error or
//! its connection is closed, a log line names the cause, and the node goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::random::Random;
use ringlog_tests::record_batch::{
    Batch, CRC_AT, LAST_OFFSET_DELTA_AT, MAGIC_AT, RECORD_COUNT_AT, RECORDS_AT, seal,
};
use ringlog_tests::wire::{Connection, Fields, Produced, api, error};

const TOPIC: &str = "sound";

fn one_core() -> Result<Node> {
    with_topic(NodeOptions::new(1))
}

fn with_topic(options: NodeOptions) -> Result<Node> {
    let node = Node::with(options)?;
    Connection::open(node.kafka(0))?.create_topic(TOPIC, 1, &[])?;
    Ok(node)
}

fn good_batch() -> Vec<u8> {
    Batch::of_values(["a", "b", "c"]).encode()
}

/// That a good client still gets its records in and out, and nothing else lies in the topic.
fn check_goes_on(node: &mut Node) -> Result<()> {
    node.check_running()?;
    let mut client = Connection::open(node.kafka(0))?;
    let before = client.read_all(TOPIC, 0)?;
    ensure!(
        before.is_empty(),
        "something of the bad input was stored: {before:?}"
    );
    let answer = client.produce(TOPIC, 0, &good_batch())?;
    assert_eq!(
        answer,
        Produced {
            error: error::NONE,
            base_offset: 0
        }
    );
    let values: Vec<_> = client
        .read_all(TOPIC, 0)?
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, [b"a", b"b", b"c"]);
    Ok(())
}

/// Sends bytes that make the node close the connection, with a log line that names this peer and
/// holds the words.
fn check_closes(node: &mut Node, bytes: &[u8], words: &[&str]) -> Result<()> {
    let from = node.log_position()?;
    let mut client = Connection::open(node.kafka(0))?;
    let peer = format!(":{}", client.local_port()?);
    client.send_bytes(bytes)?;
    client.closed()?;
    let line = node.log_line(from, &[&[peer.as_str()], words].concat())?;
    println!("{line}");
    Ok(())
}

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
fn random_bytes_close_the_connection() -> Result<()> {
    let mut node = one_core()?;
    let mut random = Random::from_environment("RINGLOG_RANDOM_SEED");
    // Few: a node limits how many such lines it writes in a while.
    for round in 0..12 {
        // Frames with a true length and nonsense inside: the decoders are reached.
        let length = 1 + usize::try_from(random.below(300))?;
        let mut frame = random.bytes(length);
        if round % 2 == 0 && frame.len() > 8 {
            // A request that exists, in a version that exists, with nonsense behind its header.
            frame[..2].copy_from_slice(&i16::try_from(random.below(4))?.to_be_bytes());
            frame[2..4].copy_from_slice(&5_i16.to_be_bytes());
        }
        let mut client = Connection::open(node.kafka(0))?;
        client.send_frame(&frame)?;
        client.shut_down_sending()?;
        // An answer with an error is as good as a closed connection; waiting for more is neither.
        while client.receive()?.is_some() {}
    }
    // Bytes without any frame: their first four are a length out of bounds.
    check_closes(&mut node, &[0xff; 64], &["length", "-1"])?;
    check_closes(
        &mut node,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &["1195725856"],
    )?;
    check_goes_on(&mut node)
}

#[test]
fn a_length_of_two_gigabytes_is_refused_before_anything_is_read() -> Result<()> {
    let mut node = one_core()?;
    check_closes(&mut node, &i32::MAX.to_be_bytes(), &["2147483647"])?;
    check_goes_on(&mut node)
}

#[test]
fn a_negative_length_is_refused() -> Result<()> {
    let mut node = one_core()?;
    check_closes(&mut node, &(-5_i32).to_be_bytes(), &["-5"])?;
    check_closes(&mut node, &i32::MIN.to_be_bytes(), &["-2147483648"])?;
    check_goes_on(&mut node)
}

#[test]
fn a_length_of_nothing_is_refused() -> Result<()> {
    let mut node = one_core()?;
    check_closes(&mut node, &0_i32.to_be_bytes(), &["0"])?;
    check_goes_on(&mut node)
}

#[test]
fn a_frame_cut_short_by_the_peer_is_logged() -> Result<()> {
    let mut node = one_core()?;
    let from = node.log_position()?;
    let mut client = Connection::open(node.kafka(0))?;
    let peer = format!(":{}", client.local_port()?);
    let body = Connection::produce_body(TOPIC, 0, -1, &good_batch());
    let frame = Fields::new()
        .i16(api::PRODUCE)
        .i16(7)
        .i32(1)
        .string(None)
        .raw(&body)
        .finish();
    let mut bytes = Fields::new().bytes(&frame).finish();
    bytes.truncate(bytes.len() - 10);
    client.send_bytes(&bytes)?;
    client.shut_down_sending()?;
    client.closed()?;
    println!("{}", node.log_line(from, &[&peer])?);
    check_goes_on(&mut node)
}

#[test]
fn a_request_that_ends_before_its_fields_do_closes_the_connection() -> Result<()> {
    let mut node = one_core()?;
    let body = Connection::produce_body(TOPIC, 0, -1, &good_batch());
    for cut in [body.len() - 1, body.len() / 2, 9, 1, 0] {
        let header = Fields::new()
            .i16(api::PRODUCE)
            .i16(7)
            .i32(1)
            .string(Some("cut"));
        let frame = header.raw(&body[..cut]).finish();
        check_closes(
            &mut node,
            &Fields::new().bytes(&frame).finish(),
            &["Produce"],
        )?;
    }
    check_goes_on(&mut node)
}

#[test]
fn counts_and_lengths_inside_a_request_that_lie_close_the_connection() -> Result<()> {
    let mut node = one_core()?;
    let produce = |body: Fields| {
        let header = Fields::new()
            .i16(api::PRODUCE)
            .i16(7)
            .i32(1)
            .string(Some("lies"));
        Fields::new()
            .bytes(&header.raw(&body.finish()).finish())
            .finish()
    };
    let begin = || Fields::new().string(None).i16(-1).i32(1000);
    let huge_topic_count = produce(begin().i32(i32::MAX));
    let negative_topic_count = produce(begin().i32(-7));
    let long_name = produce(begin().i32(1).i16(i16::MAX).raw(b"short"));
    let long_records = produce(
        begin()
            .i32(1)
            .string(Some(TOPIC))
            .i32(1)
            .i32(0)
            .i32(i32::MAX),
    );
    for bytes in [
        huge_topic_count,
        negative_topic_count,
        long_name,
        long_records,
    ] {
        check_closes(&mut node, &bytes, &["Produce"])?;
    }
    check_goes_on(&mut node)
}

#[test]
fn a_stalled_frame_times_out_and_an_idle_connection_does_not() -> Result<()> {
    let mut node = with_topic(NodeOptions::new(1).arguments(["--frame-timeout-ms", "300"]))?;
    let mut idle = Connection::open(node.kafka(0))?;
    let started = Instant::now();
    check_closes(&mut node, &[0, 0, 0, 100, 1, 2, 3], &["300"])?;
    ensure!(
        started.elapsed() >= Duration::from_millis(300),
        "closed too early"
    );
    // Half a length is a frame that has begun, too.
    check_closes(&mut node, &[0, 0], &["300"])?;
    idle.request(api::API_VERSIONS, 0, &[])?;
    check_goes_on(&mut node)
}

#[test]
fn a_connection_without_requests_is_closed_after_its_idle_time() -> Result<()> {
    let options = NodeOptions::new(1).arguments(["--connection-idle-ms", "300"]);
    let mut node = with_topic(options)?;
    let mut client = Connection::open(node.kafka(0))?;
    client.request(api::API_VERSIONS, 0, &[])?;
    client.closed()?;
    check_goes_on(&mut node)
}

#[test]
fn an_unknown_api_closes_the_connection() -> Result<()> {
    let mut node = one_core()?;
    for key in [9999_i16, -1, 500] {
        let frame = Fields::new()
            .i16(key)
            .i16(0)
            .i32(1)
            .string(Some("strange"))
            .finish();
        let words = key.to_string();
        check_closes(&mut node, &Fields::new().bytes(&frame).finish(), &[&words])?;
    }
    check_goes_on(&mut node)
}

#[test]
fn an_api_that_is_not_advertised_is_refused_with_a_log_line() -> Result<()> {
    let mut node = one_core()?;
    let mut client = Connection::open(node.kafka(0))?;
    let mut answer = client.request(api::API_VERSIONS, 0, &[])?;
    let (_code, count) = (answer.i16()?, answer.i32()?);
    let mut advertised = Vec::new();
    for _ in 0..count {
        advertised.push((answer.i16()?, answer.i16()?, answer.i16()?));
    }
    // WriteTxnMarkers: between brokers only, no client may count on it.
    const WRITE_TXN_MARKERS: i16 = 27;
    ensure!(
        !advertised.iter().any(|(key, ..)| *key == WRITE_TXN_MARKERS),
        "{advertised:?}"
    );
    let from = node.log_position()?;
    let peer = format!(":{}", client.local_port()?);
    client.send(WRITE_TXN_MARKERS, 0, &Fields::new().i32(0).finish())?;
    client.shut_down_sending()?;
    while client.receive()?.is_some() {}
    println!("{}", node.log_line(from, &[&peer, "API key 27"])?);
    check_goes_on(&mut node)
}

#[test]
fn an_unknown_version_of_a_known_api_is_refused() -> Result<()> {
    let mut node = one_core()?;
    for (key, name) in [
        (api::PRODUCE, "Produce"),
        (api::FETCH, "Fetch"),
        (api::METADATA, "Metadata"),
    ] {
        let frame = Fields::new()
            .i16(key)
            .i16(99)
            .i32(1)
            .string(Some("future"))
            .finish();
        let from = node.log_position()?;
        let mut client = Connection::open(node.kafka(0))?;
        let peer = format!(":{}", client.local_port()?);
        client.send_frame(&frame)?;
        client.shut_down_sending()?;
        while client.receive()?.is_some() {}
        println!("{}", node.log_line(from, &[&peer, name, "99"])?);
    }
    check_goes_on(&mut node)
}

#[test]
fn api_versions_in_a_future_version_is_answered_in_version_0_with_what_is_spoken() -> Result<()> {
    let mut node = one_core()?;
    let mut client = Connection::open(node.kafka(0))?;
    // No tagged fields in the header, two compact strings and something new: nobody knows what.
    let correlation = client.send(api::API_VERSIONS, 99, b"\x00\x07future\x031.\x01\x02\x03")?;
    let mut answer = client.answer(correlation)?;
    assert_eq!(answer.i16()?, error::UNSUPPORTED_VERSION);
    let count = answer.i32()?;
    let mut ranges = Vec::new();
    for _ in 0..count {
        ranges.push((answer.i16()?, answer.i16()?, answer.i16()?));
    }
    let own = ranges.iter().find(|(key, ..)| *key == api::API_VERSIONS);
    ensure!(
        own.is_some_and(|(_, least, most)| *least == 0 && *most >= 3),
        "{ranges:?}"
    );
    assert_eq!(answer.rest(), b"", "version 0 ends with the list");
    client.request(api::API_VERSIONS, 0, &[])?;
    check_goes_on(&mut node)
}

#[test]
fn an_unknown_topic_and_an_unknown_partition_are_answered() -> Result<()> {
    let mut node = with_topic(NodeOptions::new(1).arguments(["--auto-create-topics=false"]))?;
    let mut client = Connection::open(node.kafka(0))?;
    for (topic, partition) in [("nowhere", 0), (TOPIC, 7), (TOPIC, -1), (TOPIC, i32::MAX)] {
        let answer = client.produce(topic, partition, &good_batch())?;
        assert_eq!(
            answer.error,
            error::UNKNOWN_TOPIC_OR_PARTITION,
            "{topic}/{partition}"
        );
        let (code, ..) = client.fetch(topic, partition, 0)?;
        assert_eq!(
            code,
            error::UNKNOWN_TOPIC_OR_PARTITION,
            "{topic}/{partition}"
        );
    }
    check_goes_on(&mut node)
}

#[test]
fn a_fetch_out_of_range_is_answered() -> Result<()> {
    const OFFSET_OUT_OF_RANGE: i16 = 1;
    let mut node = one_core()?;
    let mut client = Connection::open(node.kafka(0))?;
    for offset in [1, -1, i64::MAX, i64::MIN] {
        let (code, ..) = client.fetch(TOPIC, 0, offset)?;
        assert_eq!(code, OFFSET_OUT_OF_RANGE, "offset {offset}");
    }
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
fn a_request_above_the_nodes_limit_closes_the_connection() -> Result<()> {
    let mut node = with_topic(NodeOptions::new(1).arguments(["--max-request-bytes", "1MiB"]))?;
    check_closes(
        &mut node,
        &(1_048_577_i32).to_be_bytes(),
        &["1048577", "1048576"],
    )?;
    check_goes_on(&mut node)
}

#[test]
fn unknown_acks_are_answered() -> Result<()> {
    const INVALID_REQUIRED_ACKS: i16 = 21;
    let mut node = one_core()?;
    let mut client = Connection::open(node.kafka(0))?;
    let body = Connection::produce_body(TOPIC, 0, 2, &good_batch());
    let correlation = client.send(api::PRODUCE, 7, &body)?;
    assert_eq!(client.produced(correlation)?.error, INVALID_REQUIRED_ACKS);
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

#[test]
fn answers_come_in_the_order_of_their_requests() -> Result<()> {
    let mut node = one_core()?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("pipelined", 1, &[])?;
    let body = Connection::produce_body("pipelined", 0, -1, &good_batch());
    let mut sent = Vec::new();
    for n in 0..200 {
        sent.push(match n % 3 {
            0 => (client.send(api::PRODUCE, 7, &body)?, true),
            _ => (client.send(api::API_VERSIONS, 0, &[])?, false),
        });
    }
    let mut expected_offset = 0;
    for (correlation, is_produce) in sent {
        if is_produce {
            let answer = client.produced(correlation)?;
            assert_eq!(
                answer,
                Produced {
                    error: error::NONE,
                    base_offset: expected_offset
                }
            );
            expected_offset += 3;
        } else {
            client.answer(correlation)?;
        }
    }
    check_goes_on(&mut node)
}
