//! Records are deleted up to an offset, durably; whatever is asked wrongly changes nothing.

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::{ApiKey, DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use ringlog_types::batch::Builder;

use super::client::{Client, Topic, now_ms, topic_name, with_node, with_node_in};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const INVALID_REQUEST: i16 = 42;

fn ask(
    client: &mut Client,
    version: i16,
    name: TopicName,
    wanted: &[(i32, i64)],
) -> Vec<(i16, i64)> {
    let partitions = wanted.iter().map(|(index, offset)| {
        DeleteRecordsPartition::default()
            .with_partition_index(*index)
            .with_offset(*offset)
    });
    let topic = DeleteRecordsTopic::default()
        .with_name(name)
        .with_partitions(partitions.collect());
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1000);
    let response: DeleteRecordsResponse = client.call(ApiKey::DeleteRecords, version, &request);
    let results = response.topics[0].partitions.iter().zip(wanted);
    results
        .map(|(result, (index, _))| {
            assert_eq!(result.partition_index, *index);
            (result.error_code, result.low_watermark)
        })
        .collect()
}

/// Error code and low watermark of partition 0.
fn delete(client: &mut Client, topic: &Topic, offset: i64) -> (i16, i64) {
    ask(client, 2, topic_name(topic.name), &[(0, offset)])[0]
}

/// Ten batches of three records; record n has timestamp 1000 + n.
fn fill(client: &mut Client, topic: &Topic) {
    for first in (0..30).step_by(3) {
        let builder = (first..first + 3).fold(Builder::new(), |builder, n| {
            builder.push(1000 + n, None, Some(b"value"), &[])
        });
        assert_eq!(client.produce(9, topic, builder.build()), (0, first));
    }
}

fn fetch_code(client: &mut Client, topic: &Topic, from: i64) -> (i16, i64) {
    let response = client.fetch(12, topic, from);
    let partition = &response.responses[0].partitions[0];
    (partition.error_code, partition.log_start_offset)
}

#[test]
fn every_version_moves_the_start_and_never_back() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("moved", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        fill(&mut client, &topic);
        for (version, offset) in [(0, 3), (1, 6), (2, 10)] {
            let name = topic_name(topic.name);
            assert_eq!(
                ask(&mut client, version, name, &[(0, offset)]),
                [(0, offset)]
            );
            assert_eq!(client.list_offset(7, &topic, -2).1, offset);
            assert_eq!(fetch_code(&mut client, &topic, offset), (0, offset));
            assert_eq!(
                fetch_code(&mut client, &topic, offset - 1).0,
                OFFSET_OUT_OF_RANGE
            );
        }
        assert_eq!(
            delete(&mut client, &topic, 4),
            (0, 10),
            "it starts behind that already"
        );
        assert_eq!(
            delete(&mut client, &topic, -1),
            (0, 30),
            "-1 is the high watermark"
        );
        assert_eq!(client.list_offset(7, &topic, -1).1, 30, "the end stays");
        let next = Builder::new().push(1, None, Some(b"next"), &[]).build();
        assert_eq!(client.produce(9, &topic, next), (0, 30));
        assert_eq!(fetch_code(&mut client, &topic, 30), (0, 30));
    });
}

#[test]
fn a_time_is_never_answered_with_a_deleted_record_of_a_batch_that_is_kept() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("within", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        fill(&mut client, &topic);
        // Within the batch of offsets 9 to 11.
        assert_eq!(delete(&mut client, &topic, 10), (0, 10));
        assert_eq!(client.list_offset(7, &topic, 1000), (0, 10, 1010));
        assert_eq!(client.list_offset(7, &topic, 1011), (0, 11, 1011));
        // The batch's largest timestamp belongs to a record that is deleted.
        let falling = Builder::new()
            .push(5000, None, Some(b"deleted"), &[])
            .push(4000, None, Some(b"kept"), &[])
            .build();
        assert_eq!(client.produce(9, &topic, falling), (0, 30));
        let behind = Builder::new()
            .push(6000, None, Some(b"behind"), &[])
            .build();
        assert_eq!(client.produce(9, &topic, behind), (0, 32));
        assert_eq!(delete(&mut client, &topic, 31), (0, 31));
        assert_eq!(client.list_offset(7, &topic, 4500), (0, 32, 6000));
        assert_eq!(client.list_offset(7, &topic, 4000), (0, 31, 4000));
    });
}

#[test]
fn what_is_deleted_stays_deleted_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut topic = None;
    with_node_in(dir.path(), &[], |cores| {
        let made = Client::connect(cores[0]).create("kept", &[]);
        let mut client = Client::connect(cores[made.leader]);
        fill(&mut client, &made);
        assert_eq!(delete(&mut client, &made, 17), (0, 17));
        topic = Some(made);
    });
    let topic = topic.unwrap();
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[topic.leader]);
        assert_eq!(client.list_offset(7, &topic, -2).1, 17);
        assert_eq!(fetch_code(&mut client, &topic, 16).0, OFFSET_OUT_OF_RANGE);
        assert_eq!(fetch_code(&mut client, &topic, 17), (0, 17));
    });
}

#[test]
fn what_cannot_be_deleted_is_refused_and_nothing_moves() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("refused", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        fill(&mut client, &topic);
        for offset in [31, i64::MAX, -2, i64::MIN] {
            let refused = (OFFSET_OUT_OF_RANGE, -1);
            assert_eq!(delete(&mut client, &topic, offset), refused, "{offset}");
        }
        let name = || topic_name("refused");
        let unknown = (UNKNOWN_TOPIC_OR_PARTITION, -1);
        for index in [1, -1, i32::MIN, i32::MAX] {
            assert_eq!(
                ask(&mut client, 2, name(), &[(index, 1)]),
                [unknown],
                "{index}"
            );
        }
        assert_eq!(
            ask(&mut client, 2, topic_name("nowhere"), &[(0, 1)]),
            [unknown]
        );
        let mut other = Client::connect(cores[1 - topic.leader]);
        assert_eq!(delete(&mut other, &topic, 1), (NOT_LEADER_OR_FOLLOWER, -1));
        assert_eq!(client.list_offset(7, &topic, -2).1, 0);
        // Named twice: the first counts.
        let twice = ask(&mut client, 2, name(), &[(0, 2), (0, 5)]);
        assert_eq!(twice, [(0, 2), (INVALID_REQUEST, -1)]);
        assert_eq!(client.list_offset(7, &topic, -2).1, 2);
    });
}

#[test]
fn records_expire_by_their_time_though_their_segment_is_still_written() {
    with_node(&["--retention-check-ms", "20"], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("expiring", &[("retention.ms", "3600000")]);
        let kept = any.create("unlimited", &[("retention.ms", "-1")]);
        for topic in [topic, kept] {
            let mut client = Client::connect(cores[topic.leader]);
            for (offset, timestamp_ms) in [(0, 1000), (1, now_ms())] {
                let batch = Builder::new().push(timestamp_ms, None, Some(b"value"), &[]);
                assert_eq!(client.produce(9, &topic, batch.build()), (0, offset));
            }
        }
        let mut client = Client::connect(cores[topic.leader]);
        let deadline = std::time::Instant::now() + super::client::PATIENCE;
        while client.list_offset(7, &topic, -2).1 == 0 {
            assert!(std::time::Instant::now() < deadline, "the old record stays");
        }
        assert_eq!(client.list_offset(7, &topic, -2).1, 1, "the new one stays");
        let mut client = Client::connect(cores[kept.leader]);
        assert_eq!(
            client.list_offset(7, &kept, -2).1,
            0,
            "without a limit both stay"
        );
    });
}
