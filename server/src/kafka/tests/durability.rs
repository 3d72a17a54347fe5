//! What an acknowledgement means, topic by topic.

use std::time::Instant;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, InitProducerIdRequest, InitProducerIdResponse,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_types::batch::Builder;

use super::client::{Client, PATIENCE, Topic, topic_name, with_node, with_node_in};

const LEVELS: [&str; 3] = ["flushed", "written", "buffered"];

fn batch(value: &[u8]) -> Builder {
    Builder::new().push(1000, None, Some(value), &[])
}

fn high_watermark(client: &mut Client, topic: &Topic) -> i64 {
    let response = client.fetch(12, topic, 0);
    response.responses[0].partitions[0].high_watermark
}

fn wait_for_high_watermark(client: &mut Client, topic: &Topic, wanted: i64) {
    let deadline = Instant::now() + PATIENCE;
    while high_watermark(client, topic) < wanted {
        assert!(Instant::now() < deadline, "{wanted} is not reached");
    }
}

fn durability(client: &mut Client, topic: &'static str) -> (String, i8) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(topic_name(topic).0)
        .with_configuration_keys(Some(vec![StrBytes::from_static_str("ringlog.durability")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response: DescribeConfigsResponse = client.call(ApiKey::DescribeConfigs, 4, &request);
    let entry = &response.results[0].configs[0];
    assert!(!entry.read_only);
    let value = entry.value.as_ref().map(|value| value.to_string());
    (value.unwrap_or_default(), entry.config_source)
}

#[test]
fn each_level_gives_dense_offsets_and_consumers_see_all_in_the_end() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        for level in LEVELS {
            let topic = any.create(level, &[("ringlog.durability", level)]);
            assert_eq!(durability(&mut any, level), (level.to_owned(), 1));
            let mut client = Client::connect(cores[topic.leader]);
            for offset in 0..50 {
                let small = batch(b"small").build();
                assert_eq!(client.produce(9, &topic, small), (0, offset), "{level}");
                if level == "flushed" {
                    // Acknowledged is on stable storage, and so it can be read.
                    assert_eq!(high_watermark(&mut client, &topic), offset + 1);
                }
            }
            // An extent of a block of its own.
            let large = batch(&vec![7; 900 << 10]).build();
            assert_eq!(client.produce(9, &topic, large), (0, 50), "{level}");
            wait_for_high_watermark(&mut client, &topic, 51);
        }
        let plain = any.create("default", &[]);
        assert_eq!(durability(&mut any, plain.name), ("flushed".to_owned(), 5));
    });
}

#[test]
fn a_request_for_topics_of_several_levels_is_answered_by_the_strongest() {
    use kafka_protocol::messages::ProduceResponse;
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        // Topics of one partition are spread over the cores: two of a core make a request.
        let strong = ["strong-0", "strong-1"].map(|name| any.create(name, &[]));
        let weak = any.create("weak", &[("ringlog.durability", "buffered")]);
        let strong = strong.into_iter().find(|topic| topic.leader == weak.leader);
        let strong = strong.expect("two topics lie on two cores");
        let mut client = Client::connect(cores[weak.leader]);
        for offset in 0..50 {
            let one = super::client::produce_request(9, &weak, -1, batch(b"weak").build());
            let other = super::client::produce_request(9, &strong, -1, batch(b"strong").build());
            let both = one.topic_data.into_iter().chain(other.topic_data).collect();
            let request = super::client::produce_request(9, &weak, -1, Vec::new());
            let request = request.with_topic_data(both);
            let response: ProduceResponse = client.call(ApiKey::Produce, 9, &request);
            for topic in &response.responses {
                let partition = &topic.partition_responses[0];
                assert_eq!((partition.error_code, partition.base_offset), (0, offset));
            }
            assert_eq!(high_watermark(&mut client, &strong), offset + 1);
        }
    });
}

#[test]
fn a_repeat_of_an_idempotent_batch_is_answered_by_the_level_and_stored_once() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        for level in LEVELS {
            let topic = any.create(level, &[("ringlog.durability", level)]);
            let mut client = Client::connect(cores[topic.leader]);
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            let granted: InitProducerIdResponse = client.call(ApiKey::InitProducerId, 4, &request);
            assert_eq!(granted.error_code, 0);
            let producer = (granted.producer_id.0, granted.producer_epoch);
            for sequence in 0..20 {
                let records = batch(b"once").producer(producer.0, producer.1, sequence);
                let records = records.build();
                let offset = i64::from(sequence);
                // The second one comes while the first is not durable yet, where it may.
                for _ in 0..2 {
                    let answer = client.produce(9, &topic, records.clone());
                    assert_eq!(answer, (0, offset), "{level}");
                }
            }
            wait_for_high_watermark(&mut client, &topic, 20);
            assert_eq!(high_watermark(&mut client, &topic), 20, "{level}");
        }
    });
}

#[test]
fn a_stop_in_order_keeps_what_was_only_buffered() {
    let dir = tempfile::tempdir().unwrap();
    let mut topic = None;
    with_node_in(dir.path(), &[], |cores| {
        let mut any = Client::connect(cores[0]);
        let made = any.create("kept", &[("ringlog.durability", "buffered")]);
        let mut client = Client::connect(cores[made.leader]);
        for offset in 0..200 {
            let answer = client.produce(9, &made, batch(b"kept").build());
            assert_eq!(answer, (0, offset));
        }
        topic = Some(made);
    });
    let topic = topic.unwrap();
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[topic.leader]);
        assert_eq!(high_watermark(&mut client, &topic), 200);
        assert_eq!(durability(&mut client, "kept").0, "buffered");
    });
}

#[test]
fn an_unknown_level_is_refused_with_those_that_there_are() {
    use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
    with_node(&[], |cores| {
        let config = CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("ringlog.durability"))
            .with_value(Some(StrBytes::from_static_str("synced")));
        let topic = CreatableTopic::default()
            .with_name(topic_name("unknown"))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(vec![config]);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let mut client = Client::connect(cores[0]);
        let response: CreateTopicsResponse = client.call(ApiKey::CreateTopics, 7, &request);
        let result = &response.topics[0];
        assert_eq!(result.error_code, 40);
        let message = result.error_message.as_ref().unwrap().to_string();
        assert!(message.contains("flushed, written, buffered"), "{message}");
    });
}
