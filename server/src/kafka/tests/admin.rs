//! Topics, brokers, configurations and producer ids.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, CreatePartitionsRequest,
    CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest,
    MetadataResponse, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{Client, PATIENCE, topic_name, with_node};

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

#[test]
fn clients_learn_what_is_spoken_and_where_the_brokers_are() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[1]);
        for version in 0..=4 {
            let mut request = ApiVersionsRequest::default();
            if version >= 3 {
                request = request
                    .with_client_software_name(text("test"))
                    .with_client_software_version(text("1.0"));
            }
            let response: ApiVersionsResponse = client.call(ApiKey::ApiVersions, version, &request);
            assert_eq!(response.error_code, 0);
            assert!(
                response
                    .api_keys
                    .iter()
                    .any(|api| api.api_key == 0 && api.min_version == 0)
            );
        }
        for version in 0..=2 {
            let request = DescribeClusterRequest::default();
            let response: DescribeClusterResponse =
                client.call(ApiKey::DescribeCluster, version, &request);
            assert_eq!((response.error_code, response.controller_id.0), (0, 0));
            let ports: Vec<i32> = response.brokers.iter().map(|broker| broker.port).collect();
            let expected: Vec<i32> = cores.iter().map(|core| i32::from(core.port())).collect();
            assert_eq!(ports, expected);
        }
        // A node that starts for the first time tells its name to the other cores meanwhile.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = DescribeClusterRequest::default();
            let response: DescribeClusterResponse =
                client.call(ApiKey::DescribeCluster, 0, &request);
            if !response.cluster_id.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "no cluster id");
            std::thread::sleep(Duration::from_millis(5));
        }
        let controllers = DescribeClusterRequest::default().with_endpoint_type(2);
        let response: DescribeClusterResponse =
            client.call(ApiKey::DescribeCluster, 1, &controllers);
        assert_eq!(response.error_code, 114);
    });
}

#[test]
fn every_version_of_metadata_describes_and_creates_topics() {
    with_node(&["--num-partitions", "4"], |cores| {
        let mut client = Client::connect(cores[1]);
        for version in 0..=13 {
            let asked = MetadataRequestTopic::default().with_name(Some(topic_name("made")));
            let request = MetadataRequest::default().with_topics(Some(vec![asked.clone(), asked]));
            let response: MetadataResponse = client.call(ApiKey::Metadata, version, &request);
            assert_eq!(response.brokers.len(), 2);
            assert_eq!(response.topics.len(), 1, "once, however often it was named");
            let topic = &response.topics[0];
            assert_eq!(
                (topic.error_code, topic.partitions.len()),
                (0, 4),
                "version {version}"
            );
            let leaders: HashSet<i32> = topic.partitions.iter().map(|p| p.leader_id.0).collect();
            assert_eq!(leaders, HashSet::from([0, 1]), "spread over the cores");
            let one = &topic.partitions[0];
            assert_eq!((one.replica_nodes.len(), one.isr_nodes.len()), (1, 1));
        }
        let every = MetadataRequest::default().with_topics(None);
        let response: MetadataResponse = client.call(ApiKey::Metadata, 12, &every);
        let id = response.topics[0].topic_id;
        let by_id = |id| {
            let topic = MetadataRequestTopic::default()
                .with_name(None)
                .with_topic_id(id);
            MetadataRequest::default().with_topics(Some(vec![topic]))
        };
        let response: MetadataResponse = client.call(ApiKey::Metadata, 12, &by_id(id));
        assert_eq!(response.topics[0].name.as_ref().unwrap().as_str(), "made");
        let unknown = uuid::Uuid::from_u128(12345);
        let response: MetadataResponse = client.call(ApiKey::Metadata, 12, &by_id(unknown));
        assert_eq!(response.topics[0].error_code, 100);
    });
}

#[test]
fn topics_are_not_made_when_client_or_settings_forbid_it() {
    let ask = |client: &mut Client, name: &'static str, allowed| {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(allowed);
        let response: MetadataResponse = client.call(ApiKey::Metadata, 9, &request);
        response.topics[0].error_code
    };
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        assert_eq!(ask(&mut client, "absent", false), 3);
        assert_eq!(ask(&mut client, "not/a/name", false), 17);
        assert_eq!(ask(&mut client, "not/a/name", true), 17);
        assert_eq!(ask(&mut client, "absent", true), 0);
    });
    with_node(&["--auto-create-topics=false"], |cores| {
        let mut client = Client::connect(cores[0]);
        assert_eq!(ask(&mut client, "absent", true), 3);
    });
}

fn creatable(name: &'static str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(3)
        .with_replication_factor(2)
}

#[test]
fn topics_are_created_enlarged_and_deleted_in_every_version() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[1]);
        let names = ["v2", "v3", "v4", "v5", "v6", "v7"];
        for (version, name) in (2..=7).zip(names) {
            let request = CreateTopicsRequest::default().with_topics(vec![creatable(name)]);
            let request = request.with_timeout_ms(1000);
            let response: CreateTopicsResponse =
                client.call(ApiKey::CreateTopics, version, &request);
            let result = &response.topics[0];
            assert_eq!(result.error_code, 0, "{:?}", result.error_message);
            if version >= 5 {
                assert_eq!((result.num_partitions, result.replication_factor), (3, 1));
                assert!(
                    result
                        .configs
                        .as_ref()
                        .unwrap()
                        .iter()
                        .any(|c| c.name.as_str() == "retention.ms")
                );
            }
            assert_eq!(result.topic_id.is_nil(), version < 7);
            let again: CreateTopicsResponse = client.call(ApiKey::CreateTopics, version, &request);
            assert_eq!(again.topics[0].error_code, 36);
        }
        for version in 0..=3 {
            let topic = CreatePartitionsTopic::default()
                .with_name(topic_name("v2"))
                .with_count(4 + i32::from(version))
                .with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
            let mut call = || -> i16 {
                let response: CreatePartitionsResponse =
                    client.call(ApiKey::CreatePartitions, version, &request);
                response.results[0].error_code
            };
            assert_eq!(
                (call(), call()),
                (0, 37),
                "fewer or as many are no increase"
            );
        }
        assert_eq!(client.metadata("v2").topics[0].partitions.len(), 7);
        for (version, name) in (1..=5).zip(names) {
            let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]);
            let mut call = || -> i16 {
                let response: DeleteTopicsResponse =
                    client.call(ApiKey::DeleteTopics, version, &request);
                response.responses[0].error_code
            };
            assert_eq!((call(), call()), (0, 3), "version {version}");
        }
        let id = client.metadata("v7").topics[0].topic_id;
        let by_id = DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(id);
        let request = DeleteTopicsRequest::default().with_topics(vec![by_id]);
        let response: DeleteTopicsResponse = client.call(ApiKey::DeleteTopics, 6, &request);
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(response.responses[0].name.as_ref().unwrap().as_str(), "v7");
        let response: DeleteTopicsResponse = client.call(ApiKey::DeleteTopics, 6, &request);
        assert_eq!(response.responses[0].error_code, 100);
    });
}

#[test]
fn what_cannot_be_created_is_refused_with_the_reason() {
    with_node(&["--replication-policy", "refuse"], |cores| {
        let mut client = Client::connect(cores[0]);
        let mut code = |topic: CreatableTopic| {
            let request = CreateTopicsRequest::default().with_topics(vec![topic]);
            let response: CreateTopicsResponse = client.call(ApiKey::CreateTopics, 7, &request);
            let result = &response.topics[0];
            assert!(result.error_code == 0 || result.error_message.is_some());
            result.error_code
        };
        assert_eq!(code(creatable("a")), 38, "a second replica");
        let one = |name| creatable(name).with_replication_factor(1);
        assert_eq!(code(one("a").with_replication_factor(0)), 38);
        assert_eq!(code(one("a").with_num_partitions(0)), 37);
        assert_eq!(
            code(one("a").with_num_partitions(-1)),
            0,
            "the node's default"
        );
        assert_eq!(code(one("not/a/name")), 17);
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(0)]);
        assert_eq!(code(one("b").with_assignments(vec![assignment])), 39);
        let config = |name, value| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        };
        assert_eq!(
            code(one("b").with_configs(vec![config("no.such", "1")])),
            40
        );
        let request = CreateTopicsRequest::default()
            .with_topics(vec![one("tried")])
            .with_validate_only(true);
        let response: CreateTopicsResponse = client.call(ApiKey::CreateTopics, 7, &request);
        assert_eq!(response.topics[0].error_code, 0);
        let request = CreateTopicsRequest::default().with_topics(vec![one("x"), one("x")]);
        let response: CreateTopicsResponse = client.call(ApiKey::CreateTopics, 7, &request);
        assert!(
            response.topics.iter().all(|topic| topic.error_code == 42),
            "named twice"
        );
        let every = MetadataRequest::default().with_topics(None);
        let response: MetadataResponse = client.call(ApiKey::Metadata, 12, &every);
        assert_eq!(response.topics.len(), 1, "only the one that was created");
    });
}

#[test]
fn configurations_of_topics_and_brokers_are_described() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        client.create("configured", &[("retention.ms", "12345")]);
        for version in 1..=4 {
            let resource = |kind, name| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            let keys = Some(vec![text("retention.ms")]);
            let request = DescribeConfigsRequest::default()
                .with_resources(vec![
                    resource(2, "configured").with_configuration_keys(keys),
                    resource(2, "configured"),
                    resource(4, "1"),
                    resource(4, ""),
                    resource(4, "7"),
                    resource(2, "absent"),
                    resource(8, "0"),
                ])
                .with_include_synonyms(true)
                .with_include_documentation(version >= 3);
            let response: DescribeConfigsResponse =
                client.call(ApiKey::DescribeConfigs, version, &request);
            let codes: Vec<i16> = response.results.iter().map(|r| r.error_code).collect();
            assert_eq!(codes, [0, 0, 0, 0, 42, 3, 42]);
            let [retention] = &response.results[0].configs[..] else {
                panic!("one entry")
            };
            assert_eq!(retention.value.as_ref().unwrap(), "12345");
            assert_eq!((retention.config_source, retention.synonyms.len()), (1, 2));
            let documentation = retention.documentation.as_deref().unwrap_or_default();
            assert_eq!(!documentation.is_empty(), version >= 3);
            assert!(response.results[1].configs.len() > 20);
            let broker = &response.results[2].configs;
            let create = broker
                .iter()
                .find(|c| c.name.as_str() == "auto.create.topics.enable")
                .unwrap();
            assert_eq!(create.value.as_ref().unwrap(), "true");
            assert!(create.read_only);
        }
    });
}

#[test]
fn producer_ids_are_given_once_and_not_for_transactions() {
    with_node(&[], |cores| {
        let mut given = HashSet::new();
        for core in cores {
            let mut client = Client::connect(*core);
            for version in 0..=5 {
                let request = InitProducerIdRequest::default().with_transactional_id(None);
                let response: InitProducerIdResponse =
                    client.call(ApiKey::InitProducerId, version, &request);
                assert_eq!((response.error_code, response.producer_epoch), (0, 0));
                assert!(given.insert(response.producer_id.0), "given twice");
                let id = Some(TransactionalId(text("transaction")));
                let request = InitProducerIdRequest::default().with_transactional_id(id);
                let response: InitProducerIdResponse =
                    client.call(ApiKey::InitProducerId, version, &request);
                assert_eq!((response.error_code, response.producer_id.0), (35, -1));
            }
        }
    });
}
