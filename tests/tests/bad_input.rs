//! What no proper client sends: frames and requests. Each piece of bad input is answered with the
//! protocol's error or its connection is closed, a log line names the cause, and the node goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ringlog_tests::deadline::until;
use ringlog_tests::http;
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::random::Random;
use ringlog_tests::record_batch::Batch;
use ringlog_tests::sound::{TOPIC, check_goes_on, good_batch, one_core, with_topic};
use ringlog_tests::wire::{Connection, Fields, Produced, api, error};

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

/// With so many connections at the most by an option: one more is refused, said with the setting's name
/// and counted, the others go on, and a place that is given back can be taken again.
fn check_connections(option: &str, most: usize, kind: &str) -> Result<()> {
    let mut node = Node::with(NodeOptions::new(1).arguments([option, &most.to_string()]))?;
    let from = node.log_position()?;
    let mut clients: Vec<_> = (0..most)
        .map(|_| Connection::open(node.kafka(0)))
        .collect::<Result<_>>()?;
    for client in &mut clients {
        client.request(api::API_VERSIONS, 0, &[])?;
    }
    let mut beyond = Connection::open(node.kafka(0))?;
    beyond.closed()?;
    let setting = option.trim_start_matches("--").replace('-', "_");
    let named = [&*format!(":{}", beyond.local_port()?), &setting];
    println!("{}", node.log_line(from, &named)?);
    let refused = format!(r#"ringlog_errors_total{{core="0",kind="{kind}"}}"#);
    assert!(http::metric(node.http(), &refused)? >= 1.0);
    clients[0].create_topic(TOPIC, 1, &[])?;
    clients.clear();
    until("a free place", || {
        let mut client = Connection::open(node.kafka(0))?;
        Ok(client.request(api::API_VERSIONS, 0, &[]).ok())
    })?;
    check_goes_on(&mut node)
}

#[test]
fn a_connection_beyond_the_limit_is_refused_and_the_others_go_on() -> Result<()> {
    check_connections("--max-connections", 4, "too_many_connections")
}

#[test]
fn a_connection_too_many_of_one_address_is_refused() -> Result<()> {
    let kind = "too_many_connections_of_address";
    check_connections("--max-connections-per-address", 2, kind)
}

#[test]
fn a_client_that_does_not_take_its_answers_is_disconnected() -> Result<()> {
    const VALUE_BYTES: usize = 500_000;
    let mut node = with_topic(NodeOptions::new(1).arguments(["--frame-timeout-ms", "300"]))?;
    let mut client = Connection::open(node.kafka(0))?;
    client.create_topic("large", 1, &[])?;
    for _ in 0..20 {
        let answer = client.produce(
            "large",
            0,
            &Batch::of_values([vec![0; VALUE_BYTES]]).encode(),
        )?;
        assert_eq!(answer.error, error::NONE);
    }
    let from = node.log_position()?;
    // Ten megabytes each: more than the sockets hold between the two.
    for _ in 0..20 {
        client.send(api::FETCH, 4, &Connection::fetch_body("large", 0, 0))?;
    }
    let peer = format!(":{}", client.local_port()?);
    println!("{}", node.log_line(from, &[&peer])?);
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
