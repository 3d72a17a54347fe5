//! Records in and out.

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, FetchResponse, ProduceResponse};
use ringlog_types::batch::{BatchHeader, Builder, Compression, HEADER_BYTES, validate};

use super::client::{Client, fetch_request, produce_request, with_node, with_node_in};

fn batch(value: &[u8]) -> Vec<u8> {
    Builder::new()
        .push(1000, Some(b"key"), Some(value), &[("h", b"1")])
        .build()
}

fn only(response: &FetchResponse) -> &PartitionData {
    assert_eq!(response.error_code, 0);
    &response.responses[0].partitions[0]
}

/// The batches in fetched bytes.
fn batches(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (one, rest) = bytes.split_at(BatchHeader::parse(bytes).unwrap().total_bytes());
        validate(one).unwrap();
        found.push(one.to_vec());
        bytes = rest;
    }
    found
}

/// What a client's batch looks like once it is stored: the same but for offset and epoch.
fn stored_as(sent: &[u8], stored: &[u8]) -> bool {
    sent[16..] == stored[16..] && sent[8..12] == stored[8..12]
}

#[test]
fn every_version_of_produce_and_fetch_carries_batches_byte_for_byte() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("versions", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let mut sent = Vec::new();
        for version in 3..=13 {
            let records = batch(format!("version {version}").as_bytes());
            let offset = i64::from(version) - 3;
            assert_eq!(
                client.produce(version, &topic, records.clone()),
                (0, offset)
            );
            sent.push(records);
        }
        // Larger than what is copied: an extent of the block.
        let large = batch(&vec![7; 900 << 10]);
        assert_eq!(client.produce(9, &topic, large.clone()), (0, 11));
        sent.push(large);
        for version in 4..=18 {
            let response = client.fetch(version, &topic, 0);
            let found = only(&response);
            assert_eq!((found.error_code, found.high_watermark), (0, 12));
            let stored = batches(found.records.as_ref().unwrap());
            assert_eq!(stored.len(), sent.len(), "version {version}");
            for (offset, (sent, stored)) in sent.iter().zip(&stored).enumerate() {
                assert!(
                    stored_as(sent, stored),
                    "offset {offset}, version {version}"
                );
                assert_eq!(
                    BatchHeader::parse(stored).unwrap().base_offset,
                    offset as i64
                );
            }
        }
    });
}

#[test]
fn many_partitions_in_one_large_request_are_all_stored() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("many", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let mut request = produce_request(9, &topic, -1, batch(&[1; 40 << 10]));
        let one = request.topic_data[0].partition_data[0].clone();
        let small = one.clone().with_records(Some(batch(b"small").into()));
        // The same partition again and again, and one that is not there.
        let partitions = &mut request.topic_data[0].partition_data;
        partitions.extend(std::iter::repeat_n(small.clone(), 700));
        partitions.push(small.with_index(9));
        let response: ProduceResponse = client.call(ApiKey::Produce, 9, &request);
        let answers = &response.responses[0].partition_responses;
        assert_eq!(answers.len(), 702);
        for (offset, answer) in answers[..701].iter().enumerate() {
            assert_eq!((answer.error_code, answer.base_offset), (0, offset as i64));
        }
        assert_eq!(answers[701].error_code, 3);
        let response = client.fetch(12, &topic, 0);
        assert_eq!(
            batches(only(&response).records.as_ref().unwrap()).len(),
            701
        );
    });
}

#[test]
fn requests_sent_without_waiting_are_answered_in_their_order() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("pipelined", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let mut all = Vec::new();
        for number in 0..300usize {
            let size = if number % 7 == 0 { 50_000 } else { 100 };
            let frame = match number % 10 {
                9 => client.frame(ApiKey::Fetch, 12, &fetch_request(12, &topic, 0, 0, 1)),
                _ => {
                    let request = produce_request(9, &topic, 1, batch(&vec![1; size]));
                    client.frame(ApiKey::Produce, 9, &request)
                }
            };
            all.extend_from_slice(&frame);
        }
        let mut reader = client;
        let mut next_offset = 0;
        reader.send(&all);
        for number in 0..300 {
            if number % 10 == 9 {
                let (id, _): (_, FetchResponse) = reader.receive(ApiKey::Fetch, 12);
                assert_eq!(id, number + 1);
            } else {
                let (id, response): (_, ProduceResponse) = reader.receive(ApiKey::Produce, 9);
                assert_eq!(id, number + 1);
                let answer = &response.responses[0].partition_responses[0];
                assert_eq!((answer.error_code, answer.base_offset), (0, next_offset));
                next_offset += 1;
            }
        }
    });
}

#[test]
fn a_fetch_waits_for_records_and_no_longer_than_it_may() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("waiting", &[]);
        let mut consumer = Client::connect(cores[topic.leader]);
        let began = Instant::now();
        let request = fetch_request(12, &topic, 0, 300, 1 << 20);
        let response: FetchResponse = consumer.call(ApiKey::Fetch, 12, &request);
        assert_eq!(only(&response).records.as_ref().unwrap().len(), 0);
        assert!(began.elapsed() >= Duration::from_millis(300));
        // A wait of a minute ends with the first record.
        let frame = consumer.frame(
            ApiKey::Fetch,
            12,
            &fetch_request(12, &topic, 0, 60_000, 1 << 20),
        );
        let began = Instant::now();
        consumer.send(&frame);
        let mut producer = Client::connect(cores[topic.leader]);
        assert_eq!(producer.produce(9, &topic, batch(b"now")), (0, 0));
        let (_, response): (_, FetchResponse) = consumer.receive(ApiKey::Fetch, 12);
        assert_eq!(batches(only(&response).records.as_ref().unwrap()).len(), 1);
        assert!(began.elapsed() < Duration::from_secs(50), "it was woken");
        // And with the end of the client's requests.
        let frame = consumer.frame(
            ApiKey::Fetch,
            12,
            &fetch_request(12, &topic, 1, 60_000, 1 << 20),
        );
        let began = Instant::now();
        consumer.send(&frame);
        consumer.finish_sending();
        let (_, response): (_, FetchResponse) = consumer.receive(ApiKey::Fetch, 12);
        assert_eq!(only(&response).records.as_ref().unwrap().len(), 0);
        assert!(
            began.elapsed() < Duration::from_secs(50),
            "nobody waits for it"
        );
        consumer.expect_closed();
    });
}

#[test]
fn a_node_that_stops_answers_who_waits() {
    let mut waiting = None;
    let began = Instant::now();
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("stopping", &[]);
        let mut consumer = Client::connect(cores[topic.leader]);
        let request = fetch_request(12, &topic, 0, 120_000, 1 << 20);
        let frame = consumer.frame(ApiKey::Fetch, 12, &request);
        consumer.send(&frame);
        // What follows on the connection is read while the first waits.
        let produce = produce_request(9, &topic, 1, Vec::new());
        let frame = consumer.frame(ApiKey::Produce, 9, &produce);
        consumer.send(&frame);
        // The node has the requests when it has answered a later one.
        let _ = Client::connect(cores[topic.leader]).produce(9, &topic, Vec::new());
        waiting = Some(consumer);
    });
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "the wait was cut short"
    );
    let mut consumer = waiting.unwrap();
    let (_, response): (_, FetchResponse) = consumer.receive(ApiKey::Fetch, 12);
    assert_eq!(only(&response).error_code, 0);
    let (_, response): (_, ProduceResponse) = consumer.receive(ApiKey::Produce, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 87);
    consumer.expect_closed();
}

#[test]
fn a_fetch_keeps_to_its_limits_but_always_brings_the_first_batch() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("limits", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        for _ in 0..4 {
            client.produce(9, &topic, batch(&[1; 10_000]));
        }
        let mut fetch = |from, max| {
            let request = fetch_request(12, &topic, from, 0, max);
            let response: FetchResponse = client.call(ApiKey::Fetch, 12, &request);
            batches(only(&response).records.as_ref().unwrap()).len()
        };
        assert_eq!(fetch(0, 1), 1);
        assert_eq!(fetch(0, 25_000), 2);
        assert_eq!(fetch(2, 100_000), 2);
        assert_eq!(fetch(4, 100_000), 0);
        let response = client.fetch(12, &topic, 5);
        let beyond = only(&response);
        assert_eq!(
            (
                beyond.error_code,
                beyond.high_watermark,
                beyond.log_start_offset
            ),
            (1, 4, 0)
        );
        let response = client.fetch(12, &topic, -1);
        assert_eq!(only(&response).error_code, 1);
    });
}

#[test]
fn a_fetch_session_tells_what_is_new_and_ends_with_its_connection() {
    with_node(&[], |cores| {
        for (version, name) in [(7, "seven"), (12, "twelve"), (17, "seventeen")] {
            let mut client = Client::connect(cores[0]);
            let topic = client.create(name, &[]);
            let mut producer = Client::connect(cores[topic.leader]);
            let mut client = Client::connect(cores[topic.leader]);
            let full = fetch_request(version, &topic, 0, 0, 1).with_session_epoch(0);
            let response: FetchResponse = client.call(ApiKey::Fetch, version, &full);
            assert_eq!(response.error_code, 0);
            assert_eq!(only(&response).high_watermark, 0);
            let id = response.session_id;
            assert!(id > 0);
            let next = |epoch| {
                let mut next = fetch_request(version, &topic, 0, 0, 1 << 20);
                next.topics.clear();
                next.with_session_id(id).with_session_epoch(epoch)
            };
            // Nothing is new.
            let response: FetchResponse = client.call(ApiKey::Fetch, version, &next(1));
            assert_eq!((response.error_code, response.session_id), (0, id));
            assert!(response.responses.is_empty());
            let produced: ProduceResponse = producer.call(
                ApiKey::Produce,
                10,
                &produce_request(10, &topic, -1, batch(b"news")),
            );
            let answer = &produced.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, 0);
            let response: FetchResponse = client.call(ApiKey::Fetch, version, &next(2));
            let news = only(&response);
            assert_eq!(news.high_watermark, 1);
            assert!(!news.records.as_ref().unwrap().is_empty());
            // The client says where it goes on, and nothing is new there.
            let mut on = fetch_request(version, &topic, 1, 0, 1);
            on = on.with_session_id(id).with_session_epoch(3);
            let response: FetchResponse = client.call(ApiKey::Fetch, version, &on);
            assert_eq!((response.error_code, response.responses.len()), (0, 0));
            let response: FetchResponse = client.call(ApiKey::Fetch, version, &next(3));
            assert_eq!((response.error_code, response.session_id), (71, 0));
            let mut other = Client::connect(cores[topic.leader]);
            let response: FetchResponse = other.call(ApiKey::Fetch, version, &next(4));
            assert_eq!((response.error_code, response.responses.len()), (70, 0));
            let response: FetchResponse = client.call(ApiKey::Fetch, version, &next(4));
            assert_eq!((response.error_code, response.session_id), (0, id));
        }
    });
}

#[test]
fn the_wrong_core_says_who_leads() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("elsewhere", &[]);
        let other = 1 - topic.leader;
        let mut client = Client::connect(cores[other]);
        let request = produce_request(10, &topic, -1, batch(b"x"));
        let response: ProduceResponse = client.call(ApiKey::Produce, 10, &request);
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(
            (answer.error_code, answer.current_leader.leader_id.0),
            (6, topic.leader as i32)
        );
        assert_eq!(
            response.node_endpoints[0].port,
            i32::from(cores[topic.leader].port())
        );
        let response = client.fetch(16, &topic, 0);
        assert_eq!(only(&response).error_code, 6);
        assert_eq!(
            only(&response).current_leader.leader_id.0,
            topic.leader as i32
        );
        assert_eq!(response.node_endpoints[0].node_id.0, topic.leader as i32);
        assert_eq!(client.list_offset(5, &topic, -1).0, 6);
    });
}

#[test]
fn a_stale_or_future_leader_epoch_is_refused() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("epochs", &[]);
        let epoch = any.metadata("epochs").topics[0].partitions[0].leader_epoch;
        let mut client = Client::connect(cores[topic.leader]);
        for (known, code) in [(epoch, 0), (epoch - 1, 74), (epoch + 1, 75)] {
            let mut request = fetch_request(12, &topic, 0, 0, 1);
            request.topics[0].partitions[0].current_leader_epoch = known;
            let response: FetchResponse = client.call(ApiKey::Fetch, 12, &request);
            assert_eq!(only(&response).error_code, if known < 0 { 0 } else { code });
        }
    });
}

#[test]
fn times_are_looked_up_to_the_exact_record_also_in_compressed_batches() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("times", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        for (first, compression) in [
            (1000, Compression::None),
            (2000, Compression::Zstd),
            (3000, Compression::Lz4),
        ] {
            let builder = (0..10).fold(Builder::new(), |builder, number| {
                builder.push(first + number * 10, None, Some(&[1; 100]), &[])
            });
            let records = builder.build_compressed(compression, |plain| match compression {
                Compression::Zstd => zstd::stream::encode_all(plain, 3).unwrap(),
                Compression::Lz4 => {
                    let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
                    std::io::Write::write_all(&mut out, plain).unwrap();
                    out.finish().unwrap()
                }
                _ => plain.to_vec(),
            });
            assert_eq!(client.produce(9, &topic, records).0, 0);
        }
        for version in 1..=10 {
            let mut find = |timestamp| client.list_offset(version, &topic, timestamp);
            assert_eq!(find(-2), (0, 0, -1));
            assert_eq!(find(-1), (0, 30, -1));
            assert_eq!(find(0), (0, 0, 1000));
            assert_eq!(find(1031), (0, 4, 1040));
            assert_eq!(find(2050), (0, 15, 2050));
            assert_eq!(find(3081), (0, 29, 3090));
            assert_eq!(find(3091), (0, -1, -1));
            let or_unsupported = |since, found| {
                if version >= since {
                    found
                } else {
                    (35, -1, -1)
                }
            };
            assert_eq!(find(-3), or_unsupported(7, (0, 29, 3090)));
            assert_eq!(find(-4), or_unsupported(8, (0, 0, -1)));
            assert_eq!(find(-5), or_unsupported(9, (0, -1, -1)));
            assert_eq!(find(-6), (35, -1, -1));
        }
    });
}

#[test]
fn a_maximum_timestamp_that_a_producer_left_out_is_filled_in() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("filled", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let builder = Builder::new()
            .push(5000, None, Some(b"a"), &[])
            .push(7000, None, Some(b"b"), &[])
            .push(6000, None, Some(b"c"), &[]);
        let mut records = builder.build_compressed(Compression::Zstd, |plain| {
            zstd::stream::encode_all(plain, 3).unwrap()
        });
        ringlog_types::batch::set_max_timestamp(&mut records, -1);
        assert_eq!(client.produce(9, &topic, records), (0, 0));
        let response = client.fetch(12, &topic, 0);
        let stored = batches(only(&response).records.as_ref().unwrap());
        assert_eq!(BatchHeader::parse(&stored[0]).unwrap().max_timestamp, 7000);
        assert_eq!(client.list_offset(7, &topic, -3), (0, 1, 7000));
    });
}

#[test]
fn a_topic_with_log_append_time_gets_the_time_of_the_node() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("stamped", &[("message.timestamp.type", "LogAppendTime")]);
        let mut client = Client::connect(cores[topic.leader]);
        let request = produce_request(9, &topic, -1, batch(b"x"));
        let response: ProduceResponse = client.call(ApiKey::Produce, 9, &request);
        let stamped = response.responses[0].partition_responses[0].log_append_time_ms;
        assert!(stamped > 1_600_000_000_000);
        let response = client.fetch(12, &topic, 0);
        let stored = batches(only(&response).records.as_ref().unwrap());
        let header = BatchHeader::parse(&stored[0]).unwrap();
        assert_eq!((header.max_timestamp, header.attributes & 8), (stamped, 8));
        assert_eq!(client.list_offset(5, &topic, stamped), (0, 0, stamped));
    });
}

#[test]
fn a_repeat_of_an_idempotent_producer_gets_the_first_answer() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("idempotent", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let numbered = |sequence| {
            Builder::new()
                .producer(77, 0, sequence)
                .push(1, None, Some(b"v"), &[])
                .build()
        };
        assert_eq!(client.produce(9, &topic, numbered(0)), (0, 0));
        assert_eq!(client.produce(9, &topic, numbered(1)), (0, 1));
        assert_eq!(client.produce(9, &topic, numbered(0)), (0, 0), "a repeat");
        assert_eq!(client.produce(9, &topic, numbered(3)), (45, -1), "a gap");
        assert_eq!(client.list_offset(5, &topic, -1), (0, 2, -1));
    });
}

#[test]
fn without_acknowledgement_there_is_no_answer_and_an_error_closes_the_connection() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("silent", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let request = produce_request(9, &topic, 0, batch(b"quiet"));
        let frame = client.frame(ApiKey::Produce, 9, &request);
        client.send(&frame);
        // The next answer is that of the next request.
        assert_eq!(client.produce(9, &topic, batch(b"loud")), (0, 1));
        let refused = produce_request(9, &topic, 0, batch(b"x")[..HEADER_BYTES].to_vec());
        let frame = client.frame(ApiKey::Produce, 9, &refused);
        client.send(&frame);
        client.expect_closed();
    });
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut topic = None;
    with_node_in(dir.path(), &[], |cores| {
        let created = Client::connect(cores[0]).create("kept", &[]);
        let mut client = Client::connect(cores[created.leader]);
        for number in 0..20 {
            let records = batch(&vec![number; 1000 << (number % 10)]);
            assert_eq!(client.produce(9, &created, records), (0, i64::from(number)));
        }
        topic = Some(created);
    });
    let topic = topic.unwrap();
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[topic.leader]);
        let mut next = 0;
        // From disk: what is not in memory is read first.
        while next < 20 {
            let response = client.fetch(13, &topic, next);
            let stored = batches(only(&response).records.as_ref().unwrap());
            assert!(!stored.is_empty(), "records from offset {next}");
            for one in stored {
                let header = BatchHeader::parse(&one).unwrap();
                assert_eq!(header.base_offset, next);
                assert!(stored_as(
                    &batch(&vec![next as u8; 1000 << (next % 10)]),
                    &one
                ));
                next += 1;
            }
        }
    });
}
