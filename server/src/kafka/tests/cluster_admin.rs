//! What administrators ask of a cluster, answered for one node that keeps one copy of each
//! partition.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ApiKey, BrokerId,
    CreateTopicsRequest, CreateTopicsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ringlog_types::batch::Builder;

use super::client::{Client, topic_name, with_node, with_node_in};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC_EXCEPTION: i16 = 17;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_REQUEST: i16 = 42;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;

fn create(client: &mut Client, name: &'static str, partitions: i32) {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let response: CreateTopicsResponse = client.call(ApiKey::CreateTopics, 7, &request);
    assert_eq!(response.topics[0].error_code, 0);
}

/// Index and size of each partition, by topic.
fn sizes(response: &DescribeLogDirsResponse) -> BTreeMap<String, Vec<(i32, i64)>> {
    let topics = response.results[0].topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
            (partition.partition_index, partition.partition_size)
        });
        (topic.name.to_string(), partitions.collect())
    });
    topics.collect()
}

#[test]
fn each_core_says_where_its_partitions_lie_and_how_large_they_are() {
    let dir = tempfile::tempdir().unwrap();
    with_node_in(dir.path(), &[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("sized", &[]);
        create(&mut any, "empty", 4);
        let batch = Builder::new().push(1, None, Some(&[7; 3000]), &[]).build();
        let bytes = batch.len() as i64;
        let mut client = Client::connect(cores[topic.leader]);
        for offset in 0..5 {
            assert_eq!(client.produce(9, &topic, batch.clone()), (0, offset));
        }
        for version in 1..=4 {
            let request = DescribeLogDirsRequest::default().with_topics(None);
            let mut indexes = Vec::new();
            for (core, address) in cores.iter().enumerate() {
                let mut client = Client::connect(*address);
                let response: DescribeLogDirsResponse =
                    client.call(ApiKey::DescribeLogDirs, version, &request);
                let [result] = &response.results[..] else {
                    panic!("one directory")
                };
                assert_eq!((response.error_code, result.error_code), (0, 0));
                assert_eq!(result.log_dir.as_str(), dir.path().to_str().unwrap());
                if version >= 4 {
                    assert!(result.total_bytes >= result.usable_bytes && result.usable_bytes > 0);
                }
                let sizes = sizes(&response);
                let sized = (core == topic.leader).then(|| vec![(0, 5 * bytes)]);
                assert_eq!(sizes.get("sized"), sized.as_ref());
                let empty = sizes.get("empty").cloned().unwrap_or_default();
                assert!(empty.iter().all(|(_, size)| *size == 0));
                indexes.extend(empty.into_iter().map(|(index, _)| index));
            }
            indexes.sort_unstable();
            assert_eq!(indexes, [0, 1, 2, 3], "each partition lies in one place");
        }
        let asked = |name, partitions| {
            DescribableLogDirTopic::default()
                .with_topic(topic_name(name))
                .with_partitions(partitions)
        };
        let topics = vec![
            asked("sized", vec![0, 0, 7, -1]),
            asked("absent", vec![0]),
            asked("sized", vec![0]),
        ];
        let request = DescribeLogDirsRequest::default().with_topics(Some(topics));
        let response: DescribeLogDirsResponse = client.call(ApiKey::DescribeLogDirs, 4, &request);
        let wanted = BTreeMap::from([("sized".to_owned(), vec![(0, 5 * bytes)])]);
        assert_eq!(sizes(&response), wanted, "what is not here is left out");
    });
}

fn page(
    client: &mut Client,
    topics: &[&'static str],
    limit: i32,
    cursor: Option<(&'static str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let topics = topics
        .iter()
        .map(|name| TopicRequest::default().with_name(topic_name(name)));
    let cursor = cursor.map(|(name, index)| {
        Cursor::default()
            .with_topic_name(topic_name(name))
            .with_partition_index(index)
    });
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(topics.collect())
        .with_response_partition_limit(limit)
        .with_cursor(cursor);
    client.call(ApiKey::DescribeTopicPartitions, 0, &request)
}

/// Each topic with its code and the indexes of its partitions, and the cursor.
type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

fn shown(response: &DescribeTopicPartitionsResponse) -> Page {
    let topics = response.topics.iter().map(|topic| {
        let indexes = topic.partitions.iter().map(|partition| {
            assert_eq!(partition.replica_nodes, [partition.leader_id]);
            assert_eq!(partition.isr_nodes, [partition.leader_id]);
            partition.partition_index
        });
        let name = topic.name.as_ref().unwrap().to_string();
        (name, topic.error_code, indexes.collect())
    });
    let cursor = response.next_cursor.as_ref();
    let cursor = cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
    (topics.collect(), cursor)
}

#[test]
fn partitions_are_described_page_by_page_in_the_order_of_names() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[1]);
        for (name, partitions) in [("b", 3), ("c", 1), ("a", 2)] {
            create(&mut client, name, partitions);
        }
        let topic = |name: &str, indexes: &[i32]| (name.to_owned(), 0, indexes.to_vec());
        let at = |name: &str, index| Some((name.to_owned(), index));
        let all = vec![
            topic("a", &[0, 1]),
            topic("b", &[0, 1, 2]),
            topic("c", &[0]),
        ];
        for limit in [2_000, 6, i32::MAX] {
            let found = page(&mut client, &[], limit, None);
            assert_eq!(shown(&found), (all.clone(), None), "limit {limit}");
            assert!(!found.topics[0].topic_id.is_nil());
        }
        let asked = page(&mut client, &["c", "a", "b", "a"], 2_000, None);
        assert_eq!(shown(&asked), (all, None), "sorted, each once");
        // Pages of two.
        let (first, second) = (
            page(&mut client, &[], 2, None),
            page(&mut client, &[], 2, Some(("b", 0))),
        );
        assert_eq!(shown(&first), (vec![topic("a", &[0, 1])], at("b", 0)));
        assert_eq!(shown(&second), (vec![topic("b", &[0, 1])], at("b", 2)));
        let third = page(&mut client, &[], 2, Some(("b", 2)));
        assert_eq!(
            shown(&third),
            (vec![topic("b", &[2]), topic("c", &[0])], None)
        );
        // A limit that cannot be is the least one; a cursor may name what is gone.
        let least = page(&mut client, &[], 0, Some(("aa", 5)));
        assert_eq!(shown(&least), (vec![topic("b", &[0])], at("b", 1)));
        let behind = page(&mut client, &[], 9, Some(("c", 1)));
        assert_eq!(shown(&behind), (vec![topic("c", &[])], None));
        let failed = |name: &str, code| (name.to_owned(), code, Vec::new());
        let mixed = page(&mut client, &["absent", "c", "not/a/name"], 9, None);
        let wanted = vec![
            failed("absent", UNKNOWN_TOPIC_OR_PARTITION),
            topic("c", &[0]),
            failed("not/a/name", INVALID_TOPIC_EXCEPTION),
        ];
        assert_eq!(shown(&mixed), (wanted, None));
        let wrong = page(&mut client, &["c"], 9, Some(("c", -1)));
        assert_eq!(shown(&wrong), (vec![failed("c", INVALID_REQUEST)], None));
    });
}

#[test]
fn no_leader_is_ever_to_be_elected() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[1]);
        create(&mut client, "led", 2);
        let asked = |name, partitions| {
            TopicPartitions::default()
                .with_topic(topic_name(name))
                .with_partitions(partitions)
        };
        let topics = vec![asked("led", vec![0, 1, 2, -1]), asked("absent", vec![0])];
        for version in 0..=2 {
            for election in 0..=i8::from(version > 0) {
                let request = ElectLeadersRequest::default()
                    .with_election_type(election)
                    .with_topic_partitions(Some(topics.clone()));
                let response: ElectLeadersResponse =
                    client.call(ApiKey::ElectLeaders, version, &request);
                assert_eq!(response.error_code, 0);
                let results = response.replica_election_results.iter();
                let codes = results.flat_map(|topic| {
                    let partitions = topic.partition_result.iter();
                    partitions.map(|partition| partition.error_code)
                });
                let wanted = [
                    ELECTION_NOT_NEEDED,
                    ELECTION_NOT_NEEDED,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    UNKNOWN_TOPIC_OR_PARTITION,
                    UNKNOWN_TOPIC_OR_PARTITION,
                ];
                assert_eq!(codes.collect::<Vec<_>>(), wanted);
            }
            let every = ElectLeadersRequest::default().with_topic_partitions(None);
            let response: ElectLeadersResponse = client.call(ApiKey::ElectLeaders, version, &every);
            assert_eq!(response.error_code, 0);
            assert_eq!(response.replica_election_results, [], "none is needed");
        }
        let unknown = ElectLeadersRequest::default().with_election_type(2);
        let response: ElectLeadersResponse = client.call(ApiKey::ElectLeaders, 2, &unknown);
        assert_eq!(response.error_code, INVALID_REQUEST);
    });
}

#[test]
fn a_partition_stays_where_it_is() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        create(&mut client, "staying", 1);
        let metadata = client.metadata("staying");
        let leader = metadata.topics[0].partitions[0].leader_id;
        let other = BrokerId(1 - leader.0);
        for version in 0..=1 {
            let mut code = |name, index, replicas: Option<&[BrokerId]>| {
                let partition = ReassignablePartition::default()
                    .with_partition_index(index)
                    .with_replicas(replicas.map(<[BrokerId]>::to_vec));
                let topic = ReassignableTopic::default()
                    .with_name(topic_name(name))
                    .with_partitions(vec![partition]);
                let request =
                    AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
                let response: AlterPartitionReassignmentsResponse =
                    client.call(ApiKey::AlterPartitionReassignments, version, &request);
                assert_eq!(response.error_code, 0);
                let partition = &response.responses[0].partitions[0];
                let is_refused = partition.error_message.is_some();
                assert_eq!(partition.error_code != 0, is_refused);
                partition.error_code
            };
            assert_eq!(code("staying", 0, Some(&[leader])), 0, "there it is");
            for replicas in [&[][..], &[other], &[BrokerId(9)], &[leader, other]] {
                let refused = code("staying", 0, Some(replicas));
                assert_eq!(refused, INVALID_REPLICA_ASSIGNMENT, "{replicas:?}");
            }
            assert_eq!(code("staying", 0, None), NO_REASSIGNMENT_IN_PROGRESS);
            assert_eq!(code("staying", 1, None), UNKNOWN_TOPIC_OR_PARTITION);
            assert_eq!(code("absent", 0, None), UNKNOWN_TOPIC_OR_PARTITION);
        }
        let request = ListPartitionReassignmentsRequest::default().with_topics(None);
        let response: ListPartitionReassignmentsResponse =
            client.call(ApiKey::ListPartitionReassignments, 0, &request);
        assert_eq!((response.error_code, response.topics.len()), (0, 0));
    });
}
