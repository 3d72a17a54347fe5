//! What clients must not send: answered or closed, and the node goes on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, ProduceResponse};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use ringlog_types::batch::Builder;

use super::client::{Client, PATIENCE, Topic, fetch_request, produce_request, with_node};

/// The node still answers on this core.
fn still_answers(core: SocketAddr) {
    let request = ApiVersionsRequest::default();
    let response: ApiVersionsResponse =
        Client::connect(core).call(ApiKey::ApiVersions, 0, &request);
    assert_eq!(response.error_code, 0);
}

fn closes(core: SocketAddr, bytes: &[u8]) {
    let mut client = Client::connect(core);
    client.send(bytes);
    client.expect_closed();
    still_answers(core);
}

fn framed(body: &[u8]) -> Vec<u8> {
    [(body.len() as i32).to_be_bytes().as_slice(), body].concat()
}

/// Key, version, correlation id, no client id, and what follows.
fn request(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let mut body = [key.to_be_bytes(), version.to_be_bytes()].concat();
    body.extend_from_slice(&[0, 0, 0, 9, 0xff, 0xff]);
    body.extend_from_slice(rest);
    framed(&body)
}

#[test]
fn frames_that_cannot_be_are_closed() {
    with_node(&[], |cores| {
        for length in [i32::MAX, -1, 0, 3, i32::MIN] {
            closes(cores[0], &length.to_be_bytes());
        }
        closes(cores[0], b"GET / HTTP/1.1\r\nHost: here\r\n\r\n");
        closes(cores[0], &framed(&[0; 8]));
        // A header that is cut off, and one of an API that is not there.
        closes(cores[0], &framed(&[0, 3, 0, 0, 0, 0, 0, 1]));
        closes(cores[0], &request(999, 0, &[]));
        closes(cores[0], &request(10, 0, &[]));
        closes(cores[0], &request(3, 99, &[]));
        closes(cores[0], &request(1, -1, &[]));
    });
}

#[test]
fn a_truncated_frame_ends_with_its_connection() {
    with_node(&[], |cores| {
        for bytes in [
            &[0][..],
            &[0, 0, 0, 100, 1, 2, 3],
            &[0, 16, 0, 0, 0, 0, 0, 9],
        ] {
            let mut client = Client::connect(cores[0]);
            client.send(bytes);
            client.finish_sending();
            client.expect_closed();
        }
        still_answers(cores[0]);
    });
}

#[test]
fn an_unknown_version_of_api_versions_gets_the_list() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        client.send(&request(18, 99, &[1, 2, 3]));
        let (id, response): (_, ApiVersionsResponse) = client.receive(ApiKey::ApiVersions, 0);
        assert_eq!((id, response.error_code), (9, 35));
        assert!(!response.api_keys.is_empty());
        // On the same connection, in a version that is there.
        let _: ApiVersionsResponse =
            client.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    });
}

#[test]
fn counts_that_lie_are_closed_without_making_room() {
    with_node(&[], |cores| {
        let huge = i32::MAX.to_be_bytes();
        closes(cores[0], &request(3, 1, &huge));
        closes(cores[0], &request(19, 2, &huge));
        closes(cores[0], &request(2, 1, &[[0xff; 4], huge].concat()));
        closes(cores[0], &request(20, 1, &huge));
        closes(cores[0], &request(32, 1, &huge));
        closes(cores[0], &request(37, 0, &huge));
        // Produce: no transaction, acks, timeout, topics.
        let produce = [&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1][..], &huge].concat();
        closes(cores[0], &request(0, 3, &produce));
        // Fetch: replica, wait, least, most, isolation, topics.
        let fetch = [&[0; 17][..], &huge].concat();
        closes(cores[0], &request(1, 4, &fetch));
    });
}

fn sound() -> Builder {
    Builder::new()
        .push(1, Some(b"k"), Some(b"v"), &[])
        .push(2, None, Some(b"w"), &[])
}

fn recounted(count: i32) -> Vec<u8> {
    let mut records = sound().build();
    records[57..61].copy_from_slice(&count.to_be_bytes());
    records[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    let crc = ringlog_types::batch::crc32c(&records[21..]);
    records[17..21].copy_from_slice(&crc.to_be_bytes());
    records
}

#[test]
fn bad_batches_are_refused_with_the_right_code_and_a_reason() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("refusing", &[("max.message.bytes", "5000")]);
        let core = cores[topic.leader];
        let mut wrong_crc = sound().build();
        wrong_crc[70] ^= 0xff;
        let mut old = sound().build();
        old[16] = 1;
        let cases: [(&str, Vec<u8>, i16); 10] = [
            ("nothing", Vec::new(), 87),
            ("wrong CRC", wrong_crc, 2),
            ("old format", old, 87),
            ("empty batch", Builder::new().build(), 87),
            ("count too high", recounted(3), 87),
            ("count too low", recounted(1), 87),
            (
                "two batches",
                [sound().build(), sound().build()].concat(),
                87,
            ),
            (
                "too large",
                Builder::new().push(1, None, Some(&[0; 5000]), &[]).build(),
                10,
            ),
            ("control", sound().attributes(32).build(), 87),
            (
                "transaction",
                sound().producer(1, 0, 0).attributes(16).build(),
                48,
            ),
        ];
        let mut client = Client::connect(core);
        for (what, records, code) in cases {
            let request = produce_request(9, &topic, -1, records);
            let response: ProduceResponse = client.call(ApiKey::Produce, 9, &request);
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (code, -1),
                "{what}"
            );
            assert!(
                answer
                    .error_message
                    .as_ref()
                    .is_some_and(|text| !text.is_empty()),
                "{what}"
            );
        }
        let absent = Topic {
            name: "absent",
            ..topic
        };
        assert_eq!(client.produce(9, &absent, sound().build()), (3, -1));
        let absent = Topic {
            id: uuid::Uuid::from_u128(7),
            ..topic
        };
        assert_eq!(client.produce(13, &absent, sound().build()), (100, -1));
        let request = produce_request(9, &topic, 2, sound().build());
        let response: ProduceResponse = client.call(ApiKey::Produce, 9, &request);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 21);
        assert_eq!(
            client.produce(9, &topic, sound().build()),
            (0, 0),
            "the first that is sound"
        );
    });
}

#[test]
fn old_versions_of_produce_are_told_so_in_their_own_format() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        // acks 1, timeout, one topic "t", one partition without records.
        let mut body = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1];
        body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0]);
        client.send(&request(0, 0, &body));
        client.finish_sending();
        let (id, rest) = client.receive_raw();
        assert_eq!(id, 9);
        let mut expected = vec![0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 35];
        expected.extend_from_slice(&[0xff; 8]);
        assert_eq!(rest, expected);
    });
}

#[test]
fn what_was_asked_before_a_bad_request_is_answered() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("before", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let request = produce_request(9, &topic, -1, sound().build());
        let mut bytes = client.frame(ApiKey::Produce, 9, &request);
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        client.send(&bytes);
        let (_, response): (_, ProduceResponse) = client.receive(ApiKey::Produce, 9);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        client.expect_closed();
    });
}

#[test]
fn connections_that_stall_or_idle_are_closed() {
    let timeouts = ["--frame-timeout-ms", "200", "--connection-idle-ms", "400"];
    with_node(&timeouts, |cores| {
        for bytes in [
            &[][..],
            &[0, 0],
            &[0, 0, 0, 50, 0, 3],
            &[0, 16, 0, 0, 0, 0, 0, 9, 0, 0],
        ] {
            let began = Instant::now();
            let mut client = Client::connect(cores[0]);
            client.send(bytes);
            client.expect_closed();
            let waited = began.elapsed();
            let least = if bytes.is_empty() { 400 } else { 200 };
            assert!(
                waited >= Duration::from_millis(least - 50),
                "{bytes:?} after {waited:?}"
            );
            assert!(
                waited < Duration::from_secs(30),
                "{bytes:?} after {waited:?}"
            );
        }
        still_answers(cores[0]);
    });
}

#[test]
fn a_client_that_does_not_take_its_answers_is_given_up() {
    with_node(&["--frame-timeout-ms", "200"], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("untaken", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let records = || {
            Builder::new()
                .push(1, None, Some(&[7; 1_000_000]), &[])
                .build()
        };
        for _ in 0..12 {
            assert_eq!(client.produce(9, &topic, records()).0, 0);
        }
        // More than socket buffers hold, again and again.
        for _ in 0..8 {
            let request = fetch_request(12, &topic, 0, 0, 100 << 20);
            let frame = client.frame(ApiKey::Fetch, 12, &request);
            client.send(&frame);
        }
        let deadline = Instant::now() + PATIENCE;
        while client.try_send(&[0, 0, 0, 9]) {
            assert!(Instant::now() < deadline, "the connection is kept");
            std::thread::sleep(Duration::from_millis(20));
        }
        still_answers(cores[topic.leader]);
    });
}

#[test]
fn random_bytes_do_no_harm() {
    with_node(&[], |cores| {
        let mut runner = TestRunner::deterministic();
        let bytes = proptest::collection::vec(any::<u8>(), 0..300);
        let header = (0i16..70, 0i16..20);
        for round in 0..300 {
            let body = bytes.new_tree(&mut runner).unwrap().current();
            let (key, version) = header.new_tree(&mut runner).unwrap().current();
            let mut client = Client::connect(cores[round % 2]);
            let sent = if round % 3 == 0 {
                body
            } else {
                request(key, version, &body)
            };
            client.try_send(&sent);
            client.finish_sending();
            client.read_to_end();
        }
        for core in cores {
            still_answers(*core);
        }
    });
}
