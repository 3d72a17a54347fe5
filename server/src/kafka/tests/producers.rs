//! Idempotent producers on the wire: repeats, gaps, epochs; what is remembered of them, for how
//! long, and who can see it.

use std::time::Instant;

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{
    ApiKey, DeleteRecordsRequest, DeleteRecordsResponse, DescribeProducersRequest,
    DescribeProducersResponse, InitProducerIdRequest, InitProducerIdResponse, ProduceResponse,
    ProducerId,
};
use ringlog_types::batch::Builder;

use super::client::{
    Client, PATIENCE, Topic, now_ms, produce_request, topic_name, with_node, with_node_in,
};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const INVALID_REQUEST: i16 = 42;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
const INVALID_PRODUCER_EPOCH: i16 = 47;

/// Two records of a producer.
fn batch(id: i64, epoch: i16, sequence: i32) -> Vec<u8> {
    Builder::new()
        .producer(id, epoch, sequence)
        .push(1000, None, Some(b"one"), &[])
        .push(1001, None, Some(b"two"), &[])
        .build()
}

fn new_id(client: &mut Client) -> i64 {
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let response: InitProducerIdResponse = client.call(ApiKey::InitProducerId, 4, &request);
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    response.producer_id.0
}

/// Code, and of each producer its id, epoch, last sequence and timestamp.
type Described = (i16, Vec<(i64, i32, i32, i64)>);

fn describe(client: &mut Client, name: &'static str, indexes: &[i32]) -> Vec<Described> {
    let topic = TopicRequest::default()
        .with_name(topic_name(name))
        .with_partition_indexes(indexes.to_vec());
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let response: DescribeProducersResponse = client.call(ApiKey::DescribeProducers, 0, &request);
    let partitions = response.topics[0].partitions.iter().map(|partition| {
        assert_eq!(partition.error_code != 0, partition.error_message.is_some());
        let producers = partition.active_producers.iter().map(|producer| {
            assert_eq!(producer.coordinator_epoch, -1);
            assert_eq!(producer.current_txn_start_offset, -1);
            let id = producer.producer_id.0;
            let (sequence, timestamp) = (producer.last_sequence, producer.last_timestamp);
            (id, producer.producer_epoch, sequence, timestamp)
        });
        (partition.error_code, producers.collect())
    });
    partitions.collect()
}

fn delete_all_records(client: &mut Client, topic: &Topic) {
    let partition = DeleteRecordsPartition::default().with_offset(-1);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name(topic.name))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
    let response: DeleteRecordsResponse = client.call(ApiKey::DeleteRecords, 2, &request);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

#[test]
fn the_last_five_batches_are_recognised_and_older_ones_named_duplicates() {
    with_node(&[], |cores| {
        let topic = Client::connect(cores[0]).create("window", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let id = new_id(&mut client);
        for n in 0..7 {
            assert_eq!(
                client.produce(9, &topic, batch(id, 0, 2 * n)),
                (0, 2 * i64::from(n))
            );
        }
        for n in 2..7 {
            let again = client.produce(9, &topic, batch(id, 0, 2 * n));
            assert_eq!(again, (0, 2 * i64::from(n)), "batch {n}");
        }
        for n in 0..2 {
            let (code, _) = client.produce(9, &topic, batch(id, 0, 2 * n));
            assert_eq!(code, DUPLICATE_SEQUENCE_NUMBER, "batch {n}");
        }
        // Other bounds than those of the batches that are remembered.
        let (code, _) = client.produce(9, &topic, batch(id, 0, 11));
        assert_eq!(code, OUT_OF_ORDER_SEQUENCE_NUMBER);
        let (code, _) = client.produce(9, &topic, batch(id, 0, 16));
        assert_eq!(code, OUT_OF_ORDER_SEQUENCE_NUMBER, "a gap");
        assert_eq!(client.produce(9, &topic, batch(id, 0, 14)), (0, 14));
    });
}

#[test]
fn a_repeat_gets_the_time_that_the_node_gave_the_first_copy_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut topic, mut stamps) = (None, Vec::new());
    let ask = |client: &mut Client, topic: &Topic, sequence| {
        let request = produce_request(9, topic, -1, batch(77, 0, sequence));
        let response: ProduceResponse = client.call(ApiKey::Produce, 9, &request);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0);
        (partition.base_offset, partition.log_append_time_ms)
    };
    with_node_in(dir.path(), &[], |cores| {
        let own = [("message.timestamp.type", "LogAppendTime")];
        let made = Client::connect(cores[0]).create("stamped", &own);
        let mut client = Client::connect(cores[made.leader]);
        for n in 0..3 {
            stamps.push(ask(&mut client, &made, 2 * n));
            // The next gets another time.
            let given = stamps.last().map_or(0, |(_, given_ms)| *given_ms);
            while now_ms() <= given {
                std::thread::yield_now();
            }
        }
        for (first, n) in stamps.iter().zip(0..) {
            assert_eq!(ask(&mut client, &made, 2 * n), *first);
        }
        topic = Some(made);
    });
    assert!(stamps.iter().all(|(_, ms)| *ms > 1_600_000_000_000));
    assert!(stamps[0].1 < stamps[2].1);
    let topic = topic.unwrap();
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[topic.leader]);
        for (first, n) in stamps.iter().zip(0..) {
            assert_eq!(ask(&mut client, &topic, 2 * n), *first);
        }
        // Where producers give the time, the node gives none, to the first and to its repeat.
        let made = Client::connect(cores[0]).create("by-producers", &[]);
        let mut client = Client::connect(cores[made.leader]);
        for _ in 0..2 {
            assert_eq!(ask(&mut client, &made, 0), (0, -1));
        }
    });
}

#[test]
fn a_bumped_epoch_begins_with_sequence_0_and_fences_the_one_before() {
    with_node(&[], |cores| {
        let topic = Client::connect(cores[0]).create("bumped", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let id = new_id(&mut client);
        assert_eq!(client.produce(9, &topic, batch(id, 0, 0)), (0, 0));
        let (code, _) = client.produce(9, &topic, batch(id, 1, 2));
        assert_eq!(code, OUT_OF_ORDER_SEQUENCE_NUMBER, "an epoch begins anew");
        assert_eq!(client.produce(9, &topic, batch(id, 1, 0)), (0, 2));
        for sequence in [0, 2] {
            let (code, _) = client.produce(9, &topic, batch(id, 0, sequence));
            assert_eq!(code, INVALID_PRODUCER_EPOCH, "a repeat too");
        }
        assert_eq!(client.produce(9, &topic, batch(id, 1, 2)), (0, 4));
        // An epoch that a client raised by itself any number of times.
        assert_eq!(client.produce(9, &topic, batch(id, i16::MAX, 0)), (0, 6));
    });
}

#[test]
fn a_producer_that_lost_its_place_gets_an_id_that_nobody_had() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        let id = new_id(&mut client);
        for version in 3..=5 {
            let ask = |id, epoch| {
                InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_producer_id(ProducerId(id))
                    .with_producer_epoch(epoch)
            };
            let mut call = |request| -> InitProducerIdResponse {
                client.call(ApiKey::InitProducerId, version, &request)
            };
            let fresh = call(ask(id, 3));
            assert_eq!((fresh.error_code, fresh.producer_epoch), (0, 0));
            assert_ne!(fresh.producer_id.0, id);
            for request in [ask(id, -1), ask(-1, 3)] {
                let refused = call(request);
                assert_eq!(refused.error_code, INVALID_REQUEST, "both or neither");
                assert_eq!(refused.producer_id.0, -1);
            }
        }
    });
}

#[test]
fn sequences_are_known_after_all_records_are_deleted_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut topic, mut id) = (None, 0);
    with_node_in(dir.path(), &[], |cores| {
        let made = Client::connect(cores[0]).create("trimmed", &[]);
        let mut client = Client::connect(cores[made.leader]);
        id = new_id(&mut client);
        for n in 0..3 {
            client.produce(9, &made, batch(id, 2, 2 * n));
        }
        delete_all_records(&mut client, &made);
        topic = Some(made);
    });
    let topic = topic.unwrap();
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[topic.leader]);
        let described = describe(&mut client, "trimmed", &[0]);
        assert_eq!(described, [(0, vec![(id, 2, 5, 1001)])]);
        assert_eq!(
            client.produce(9, &topic, batch(id, 2, 4)),
            (0, 4),
            "a repeat"
        );
        let (code, _) = client.produce(9, &topic, batch(id, 2, 8));
        assert_eq!(code, OUT_OF_ORDER_SEQUENCE_NUMBER);
        let (code, _) = client.produce(9, &topic, batch(id, 1, 6));
        assert_eq!(code, INVALID_PRODUCER_EPOCH);
        assert_eq!(client.produce(9, &topic, batch(id, 2, 6)), (0, 6));
    });
}

#[test]
fn a_producer_that_is_silent_for_too_long_is_forgotten_and_may_go_on_anywhere() {
    let expiry = ["--retention-check-ms", "20", "--producer-expiry-ms", "1"];
    with_node(&expiry, |cores| {
        let topic = Client::connect(cores[0]).create("silent", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let id = new_id(&mut client);
        assert_eq!(client.produce(9, &topic, batch(id, 0, 0)), (0, 0));
        let deadline = Instant::now() + PATIENCE;
        while describe(&mut client, "silent", &[0]) != [(0, Vec::new())] {
            assert!(Instant::now() < deadline, "it stays");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(client.produce(9, &topic, batch(id, 0, 70)), (0, 2));
    });
}

#[test]
fn a_producer_of_old_records_is_not_taken_for_silent_because_the_node_was_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut topics, mut id) = (None, 0);
    with_node_in(dir.path(), &[], |cores| {
        let mut any = Client::connect(cores[0]);
        let made = any.create("repeated", &[("retention.ms", "-1")]);
        // One of two lies on the same core.
        let short = [("retention.ms", "1")];
        let expiring = ["one", "other"].map(|name| any.create(name, &short));
        let expiring = expiring
            .into_iter()
            .find(|topic| topic.leader == made.leader);
        let mut client = Client::connect(cores[made.leader]);
        id = new_id(&mut client);
        assert_eq!(client.produce(9, &made, batch(id, 0, 0)), (0, 0));
        topics = Some((made, expiring));
    });
    let (topic, expiring) = topics.unwrap();
    with_node_in(dir.path(), &["--retention-check-ms", "20"], |cores| {
        let mut client = Client::connect(cores[topic.leader]);
        let expiring = expiring.expect("topics are spread over both cores");
        // When the second old record is gone, silent producers were looked for after the first.
        for offset in 0..2 {
            let old = Builder::new().push(1, None, Some(b"old"), &[]).build();
            assert_eq!(client.produce(9, &expiring, old), (0, offset));
            let deadline = Instant::now() + PATIENCE;
            while client.list_offset(7, &expiring, -2).1 == offset {
                assert!(Instant::now() < deadline, "the old record stays");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        assert_eq!(
            client.produce(9, &topic, batch(id, 0, 0)),
            (0, 0),
            "a repeat"
        );
        assert_eq!(client.list_offset(7, &topic, -1).1, 2, "it was added once");
    });
}

#[test]
fn producers_are_described_by_the_core_that_leads_the_partition() {
    with_node(&[], |cores| {
        let topic = Client::connect(cores[0]).create("described", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        assert_eq!(describe(&mut client, "described", &[0]), [(0, Vec::new())]);
        let (one, other) = (new_id(&mut client), new_id(&mut client));
        client.produce(9, &topic, batch(one, 0, 0));
        client.produce(9, &topic, batch(other, 3, 8));
        client.produce(9, &topic, batch(one, 0, 2));
        let plain = Builder::new().push(1, None, None, &[]).build();
        client.produce(9, &topic, plain);
        let wanted = vec![(other, 3, 9, 1001), (one, 0, 3, 1001)];
        let refused = |code| (code, Vec::new());
        let found = describe(&mut client, "described", &[0, 0, 1]);
        let unknown = refused(UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(
            found,
            [(0, wanted), refused(INVALID_REQUEST), unknown.clone()]
        );
        assert_eq!(describe(&mut client, "absent", &[0]), [unknown]);
        let mut elsewhere = Client::connect(cores[1 - topic.leader]);
        let found = describe(&mut elsewhere, "described", &[0]);
        assert_eq!(found, [refused(NOT_LEADER_OR_FOLLOWER)]);
    });
}
