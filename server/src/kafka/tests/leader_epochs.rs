//! Where a leader epoch ended is known over restarts, in every version that asks for it.

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    ApiKey, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, TopicName,
};
use ringlog_types::batch::Builder;

use super::client::{Client, Topic, topic_name, with_node, with_node_in};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const INVALID_REQUEST: i16 = 42;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

const UNDEFINED: (i16, i32, i64) = (0, -1, -1);

/// Code, epoch and end for each asked partition, current epoch and epoch.
fn ask(
    client: &mut Client,
    version: i16,
    name: TopicName,
    asked: &[(i32, i32, i32)],
) -> Vec<(i16, i32, i64)> {
    let partitions = asked.iter().map(|(index, current, epoch)| {
        OffsetForLeaderPartition::default()
            .with_partition(*index)
            .with_current_leader_epoch(*current)
            .with_leader_epoch(*epoch)
    });
    let topic = OffsetForLeaderTopic::default()
        .with_topic(name)
        .with_partitions(partitions.collect());
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    let response: OffsetForLeaderEpochResponse =
        client.call(ApiKey::OffsetForLeaderEpoch, version, &request);
    let partitions = response.topics[0].partitions.iter();
    partitions
        .map(|found| (found.error_code, found.leader_epoch, found.end_offset))
        .collect()
}

fn leader_epoch(client: &mut Client, topic: &Topic) -> i32 {
    client.metadata(topic.name).topics[0].partitions[0].leader_epoch
}

fn write(client: &mut Client, topic: &Topic, from: i64, to: i64) {
    for offset in from..to {
        let batch = Builder::new().push(1000, None, Some(b"value"), &[]).build();
        assert_eq!(client.produce(9, topic, batch), (0, offset));
    }
}

/// The epoch that goes with the first offset.
fn epoch_of_earliest(client: &mut Client, topic: &Topic) -> i32 {
    let partition = ListOffsetsPartition::default().with_timestamp(-2);
    let wanted = ListOffsetsTopic::default()
        .with_name(topic_name(topic.name))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![wanted]);
    let response: ListOffsetsResponse = client.call(ApiKey::ListOffsets, 7, &request);
    response.topics[0].partitions[0].leader_epoch
}

#[test]
fn an_epoch_ended_where_the_next_one_wrote_first_also_after_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut topic, mut first) = (None, 0);
    with_node_in(dir.path(), &[], |cores| {
        let made = Client::connect(cores[0]).create("epochs", &[]);
        let mut client = Client::connect(cores[made.leader]);
        first = leader_epoch(&mut client, &made);
        let name = || topic_name("epochs");
        assert_eq!(
            ask(&mut client, 4, name(), &[(0, -1, first)]),
            [(0, first, 0)]
        );
        write(&mut client, &made, 0, 3);
        assert_eq!(
            ask(&mut client, 4, name(), &[(0, -1, first)]),
            [(0, first, 3)]
        );
        topic = Some(made);
    });
    let topic = topic.unwrap();
    // A start in which nothing is written leaves no trace.
    with_node_in(dir.path(), &[], |_| {});
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[topic.leader]);
        write(&mut client, &topic, 3, 5);
    });
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[topic.leader]);
        let current = leader_epoch(&mut client, &topic);
        assert_eq!(current, first + 3, "an epoch for each start");
        for version in 2..=4 {
            let mut end = |asked| {
                ask(
                    &mut client,
                    version,
                    topic_name("epochs"),
                    &[(0, -1, asked)],
                )[0]
            };
            assert_eq!(end(first), (0, first, 3));
            assert_eq!(end(first + 1), (0, first, 3), "nothing was written in it");
            assert_eq!(end(first + 2), (0, first + 2, 5));
            assert_eq!(end(current), (0, current, 5), "it goes on");
            assert_eq!(end(current + 1), UNDEFINED, "it is still to come");
            assert_eq!(end(-1), UNDEFINED);
        }
        write(&mut client, &topic, 5, 6);
        let ends = ask(
            &mut client,
            4,
            topic_name("epochs"),
            &[(0, current, first + 2)],
        );
        assert_eq!(ends, [(0, first + 2, 5)]);
        assert_eq!(epoch_of_earliest(&mut client, &topic), first);
    });
}

#[test]
fn what_is_asked_wrongly_is_refused_partition_by_partition() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("asked", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let current = leader_epoch(&mut client, &topic);
        let name = || topic_name("asked");
        let refused = |code| (code, -1, -1);
        let asked = [
            (0, current - 1, current),
            (1, -1, current),
            (-1, -1, current),
            (0, -1, current),
        ];
        let wanted = [
            refused(FENCED_LEADER_EPOCH),
            refused(UNKNOWN_TOPIC_OR_PARTITION),
            refused(UNKNOWN_TOPIC_OR_PARTITION),
            refused(INVALID_REQUEST),
        ];
        assert_eq!(
            ask(&mut client, 4, name(), &asked),
            wanted,
            "the last is named twice"
        );
        let newer = ask(&mut client, 4, name(), &[(0, current + 1, current)]);
        assert_eq!(newer, [refused(UNKNOWN_LEADER_EPOCH)]);
        let absent = ask(&mut client, 4, topic_name("absent"), &[(0, -1, 0)]);
        assert_eq!(absent, [refused(UNKNOWN_TOPIC_OR_PARTITION)]);
        let mut other = Client::connect(cores[1 - topic.leader]);
        let elsewhere = ask(&mut other, 4, name(), &[(0, -1, current)]);
        assert_eq!(elsewhere, [refused(NOT_LEADER_OR_FOLLOWER)]);
    });
}
